"""Many packs from one writer: children before parents, failures, and bounded memory."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import blake3
import pytest

from clew.base.errors import Unavailable
from clew.base.progress import Amount
from clew.store import EMPTY_TREE, Entry, Store
from clew.store import gathering as module
from clew.store.chunks import CHUNK, FILE
from clew.store.digests import key_of
from clew.store.gathering import Gathering
from clew.store.packs import PackBuilder


def noise(size: int, seed: bytes = b"gathering") -> bytes:
    return blake3.blake3(seed).digest(length=size)


class Shelf:
    """Publishes into a list, and fails when it is told to."""

    def __init__(self) -> None:
        self.packs: list[list[bytes]] = []
        self.failing = False
        self.lock = threading.Lock()

    def publish(self, builder: PackBuilder) -> str:
        if self.failing:
            raise Unavailable("disk.full", "Full.", hint="Make room.")
        with self.lock:
            self.packs.append(builder.keys())
        return "name"


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACK_LIMIT", 1000)


def add(gathering: Gathering, tag: str, payload: bytes) -> bytes:
    key = key_of(tag, payload)
    gathering.add(key, tag, 0, len(payload), payload)
    return key


@pytest.mark.usefixtures("small_packs")
def test_what_names_others_is_published_after_all_of_them() -> None:
    shelf = Shelf()
    gathering = Gathering(shelf.publish)
    parents = [add(gathering, "tree", b"node %d" % number) for number in range(3)]
    children = [add(gathering, FILE, noise(300, b"%d" % number)) for number in range(20)]
    gathering.publish()
    order = [key for pack in shelf.packs for key in pack]
    assert sorted(order) == sorted(children + parents)
    assert set(order[-3:]) == set(parents)
    assert len(shelf.packs) > 4
    assert len(gathering) == 0


def test_what_is_small_is_one_pack_with_children_first() -> None:
    shelf = Shelf()
    gathering = Gathering(shelf.publish)
    parent = add(gathering, "commit", b"commit")
    child = add(gathering, CHUNK, b"chunk")
    gathering.publish()
    assert shelf.packs == [[child, parent]]


@pytest.mark.usefixtures("small_packs")
def test_packs_that_could_not_be_written_are_written_by_the_next_try() -> None:
    shelf = Shelf()
    gathering = Gathering(shelf.publish)
    shelf.failing = True
    keys = []

    def add_many() -> None:
        for number in range(30):
            keys.append(key_of(FILE, noise(300, b"%d" % number)))
            add(gathering, FILE, noise(300, b"%d" % number))

    with pytest.raises(Unavailable):
        add_many()
    with pytest.raises(Unavailable):
        gathering.publish()
    assert all(key in gathering for key in keys)
    shelf.failing = False
    gathering.publish()
    assert {key for pack in shelf.packs for key in pack} == set(keys)


def test_a_large_file_holds_a_few_packs_in_memory_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACK_LIMIT", 4 << 20)
    store = Store.open(tmp_path / "store")
    most = 0
    writer = store.writer()

    class Endless:
        left = 80 << 20

        def read(self, size: int) -> bytes:
            nonlocal most
            most = max(most, sum(map(len, writer._builder._children._parts)))
            size = min(size, self.left)
            Endless.left -= size
            return os.urandom(size)

    with writer:
        digest, size = writer.put(Endless())
    assert size == 80 << 20
    assert most < 16 << 20
    assert len(list((tmp_path / "store" / "packs").iterdir())) >= 15
    with store.open_file(digest) as stream:
        assert len(stream.read()) == size
    assert store.fsck() == []


def test_many_files_come_back_and_tell_of_their_progress(tmp_path: Path) -> None:
    source = tmp_path / "source"
    sizes = [0, 1, 65_535, 65_536, 65_537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]
    paths = []
    for number, size in enumerate(sizes * 3):
        path = source / f"{number % 3}" / f"{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(size, b"%d" % number))
        paths.append(path)
    paths.sort()
    store = Store.open(tmp_path / "store")
    told: list[Amount] = []
    with store.writer() as writer:
        found = writer.put_many(paths, seen=told.append)
        files = [
            Entry(path=f"/{path.relative_to(source)}", digest=digest, size_bytes=size)
            for path, (digest, size) in zip(paths, found, strict=True)
        ]
        tree = writer.tree(EMPTY_TREE, files)
    assert told[-1] == Amount(len(paths), sum(sizes) * 3)
    with Store.open(tmp_path / "other").writer() as other:
        assert [other.put(path) for path in paths] == found
    told.clear()
    target = tmp_path / "target"
    written = store.export_tree(tree, "/", target, seen=told.append)
    assert written == [target / path.relative_to(source) for path in paths]
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in paths]
    assert told[-1] == Amount(len(paths), sum(sizes) * 3)


def test_a_directory_that_was_not_there_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with store.writer() as writer:
        digest, size = writer.put(b"content")
        there = Entry(path="/a", digest=digest, size_bytes=size)
        lost = Entry(path="/b", digest="file:" + "00" * 32, size_bytes=1)
        broken, whole = writer.tree(EMPTY_TREE, [there, lost]), writer.tree(EMPTY_TREE, [there])
    with pytest.raises(Exception, match="not in the store"):
        store.export_tree(broken, "/", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_bytes(b"before")
    (tmp_path / "old" / "other").write_bytes(b"stays")
    store.export_tree(whole, "/", tmp_path / "old")
    assert (tmp_path / "old" / "a").read_bytes() == b"content"
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == ["a", "other"]
