"""Many packs, threads and processes at once on one store."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clew.store import EMPTY_TREE, Entry, Store, digest
from clew.store.catalog import _MERGE_AT, _SMALL_PACK
from clew.store.local import Disk, LocalShelf

WRITE = """
import sys
from pathlib import Path
from clew.store import EMPTY_TREE, Entry, Store
store = Store.open(Path(sys.argv[1]))
tree = EMPTY_TREE
for number in range(int(sys.argv[3])):
    with store.writer() as writer:
        name, size = writer.put(f"{sys.argv[2]} {number}".encode())
        tree = writer.tree(tree, [Entry(path=f"/{number}", digest=name, size_bytes=size)])
    print(name, tree, flush=True)
"""


def start(home: Path, word: str, count: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITE, str(home), word, str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def packs(home: Path) -> int:
    return len(list((home / "packs").iterdir()))


def test_what_another_process_has_flushed_is_seen_at_once(store: Store, home: Path) -> None:
    store.writer()
    with start(home, "far", 5) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            name, tree = line.split()
            assert store.read(name) == f"far {number}".encode()
            assert store.summary(tree).files == number + 1
    assert process.returncode == 0


def test_processes_that_write_and_merge_at_once_lose_nothing(store: Store, home: Path) -> None:
    started = [start(home, word, 120) for word in ("one", "two", "same", "same")]
    found: dict[str, bytes] = {}
    for process, word in zip(started, ("one", "two", "same", "same"), strict=True):
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            name, tree = line.split()
            found[name] = f"{word} {number}".encode()
            assert store.read(name) == found[name]
            assert store.summary(tree).files == number + 1
        process.stdout.close()
        assert process.wait() == 0
    for reader in (store, Store.open(home)):
        assert {name: reader.read(name) for name in found} == found
    assert store.fsck() == []
    assert packs(home) < 4 * _MERGE_AT


def test_threads_read_while_others_write(store: Store) -> None:
    names: list[tuple[str, bytes]] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def write(word: int) -> None:
        for number in range(60):
            data = b"%d %d" % (word, number)
            with store.writer() as writer:
                name, _ = writer.put(data)
            names.append((name, data))

    def read() -> None:
        rng = random.Random(1)
        while not done.is_set():
            for name, data in rng.sample(names, min(len(names), 20)):
                if store.read(name) != data:
                    errors.append(AssertionError(name))

    def guard(act: object, *arguments: object) -> None:
        try:
            act(*arguments)
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=guard, args=(read,)) for _ in range(3)]
    writers = [threading.Thread(target=guard, args=(write, word)) for word in range(3)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert errors == []
    assert len(names) == 180
    assert store.fsck() == []


def test_many_small_flushes_become_few_packs(store: Store, home: Path) -> None:
    data = [b"%d" % number for number in range(300)]
    for item in data:
        with store.writer() as writer:
            writer.put(item)
        assert packs(home) < 2 * _MERGE_AT
    for reader in (store, Store.open(home)):
        assert [reader.read(digest("file", item)) for item in data] == data
    assert store.fsck() == []


def test_a_store_that_was_open_before_a_merge_finds_what_was_merged(
    store: Store, home: Path
) -> None:
    apart = Store.open(home)
    with apart.writer() as writer:
        name, _ = writer.put(b"first")
    assert store.read(name) == b"first"
    for number in range(_MERGE_AT):
        with apart.writer() as writer:
            writer.put(b"%d" % number)
    apart._shelf._open.clear()
    store._shelf._open.clear()
    assert packs(home) < _MERGE_AT
    assert store.read(name) == b"first"
    assert store.read(digest("file", b"7")) == b"7"


class TornShelf(LocalShelf):
    """Lists nothing, once: as a listing may that runs beside a merge."""

    torn = False

    def list(self) -> set[str]:
        self.torn, torn = False, self.torn
        return set() if torn else super().list()


def test_a_listing_torn_by_a_merge_makes_nothing_missing(store: Store, home: Path) -> None:
    with store.writer() as writer:
        name, _ = writer.put(b"content")
    shelf = TornShelf(home / "packs", home / "tmp", Disk())
    torn = Store(shelf, home)
    for _ in range(2):  # before anything is known, and after
        shelf.torn = True
        assert torn.read(name) == b"content"
        torn._catalog.refresh()
    shelf.torn = True
    torn._catalog.refresh()
    assert torn.read(name) == b"content"


def test_packs_that_repeat_one_another_merge_into_one(store: Store, home: Path) -> None:
    sets = [[b"%d" % n for n in range(number + 1)] for number in range(_MERGE_AT)]
    for items in sets:
        writer = store.writer()
        writer._catalog = Store.open(home)._catalog
        writer._catalog.contains = lambda key: False
        for item in items:
            writer.put(item)
        writer._builder.publish()
    assert packs(home) == _MERGE_AT
    store._catalog.refresh()
    store._catalog.tidy()
    assert packs(home) == 1
    for reader in (store, Store.open(home)):
        assert [reader.read(digest("file", item)) for item in sets[-1]] == sets[-1]
    assert store.fsck() == []


def test_a_spoilt_pack_is_left_out_of_a_merge(store: Store, home: Path) -> None:
    with store.writer() as writer:
        name, _ = writer.put(b"spoilt content")
    (pack,) = (home / "packs").iterdir()
    data = bytearray(pack.read_bytes())
    data[data.index(b"spoilt")] ^= 1
    pack.write_bytes(data)
    for number in range(_MERGE_AT):
        with store.writer() as writer:
            writer.put(b"%d" % number)
    assert pack.exists()
    assert packs(home) < _MERGE_AT
    assert len(store.fsck()) == 1
    assert name in store.fsck()[0]


def test_packs_of_many_objects_are_found_as_well(store: Store, home: Path) -> None:
    data = [b"%d" % number for number in range(_SMALL_PACK + 10)]
    with store.writer() as writer:
        for item in data:
            writer.put(item)
    again = Store.open(home)
    writer = again.writer()
    for item in data:
        writer.put(item)
    writer.flush()
    assert packs(home) == 1
    assert [again.read(digest("file", item)) for item in data] == data


def test_small_packs_may_merge_into_one_of_many_objects(store: Store, home: Path) -> None:
    data = [b"%d" % number for number in range(_SMALL_PACK * 2)]
    step = len(data) // _MERGE_AT
    for start_at in range(0, len(data), step):
        with store.writer() as writer:
            for item in data[start_at : start_at + step]:
                writer.put(item)
    assert packs(home) < _MERGE_AT
    for reader in (store, Store.open(home)):
        assert all(reader.read(digest("file", item)) == item for item in data)


def test_two_stores_may_be_made_at_once(tmp_path: Path) -> None:
    stores: list[Store] = []
    threads = [
        threading.Thread(target=lambda: stores.append(Store.open(tmp_path / "a" / "store")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 4


def test_a_tree_may_stand_on_one_that_is_not_flushed(store: Store) -> None:
    writer = store.writer()
    entry = Entry(path="/a", digest=digest("file", b""), size_bytes=0)
    first = writer.tree(EMPTY_TREE, [entry])
    second = writer.tree(first, [Entry(path="/b", digest=entry.digest, size_bytes=0)])
    writer.put(b"")
    writer.flush()
    assert [item.path for item in store.entries(second)] == ["/a", "/b"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_flush_of_nothing_writes_nothing(store: Store, home: Path, times: int) -> None:
    writer = store.writer()
    for _ in range(times):
        writer.flush()
    assert packs(home) == 0
