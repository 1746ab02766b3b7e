"""The laws of Shelf, Exclusive and Store as tests that every implementation passes.

Knows nothing of any implementation. Subclass ``ShelfConformance``, ``ExclusiveConformance`` or
``StoreConformance`` in a test module, with a name that begins with ``Test``, and say how the thing
is made.
"""

# ruff: noqa: D102 - a test's name is its sentence

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from clew.base.errors import ClewError, Corrupt, NotFound
from clew.store import EMPTY_TREE, Entry, Store, digest
from clew.store.chunks import WHOLE_BELOW
from clew.store.collecting import Terms
from clew.store.locking import Exclusive
from clew.store.shelf import Shelf

LARGE = 20 * 1024 * 1024
"""More than what goes into a bucket in one piece."""


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same ones every time."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - the same every time


def fails_as_missing(act: Callable[[], Any]) -> bool:
    """Whether ``act`` says that there is no such name."""
    try:
        act()
    except FileNotFoundError:
        return True
    return False


class ShelfConformance:
    """Immutable named bytes, for many threads and processes."""

    def make(self, directory: Path) -> Shelf:
        """A shelf; the same ``directory`` gives another one over the same place."""
        raise NotImplementedError

    def test_what_is_put_comes_back_from_any_offset(self, tmp_path: Path) -> None:
        shelf = self.make(tmp_path)
        shelf.put("a.pack", [b"0123", b"", b"456789"])
        assert shelf.read("a.pack", 0, 10) == b"0123456789"
        assert shelf.read("a.pack", 3, 2) == b"34"
        assert shelf.read("a.pack", 9, 1) == b"9"

    def test_a_read_gives_fewer_bytes_only_at_the_end(self, tmp_path: Path) -> None:
        shelf = self.make(tmp_path)
        shelf.put("a.pack", [b"0123456789"])
        assert shelf.read("a.pack", 0, 1000) == b"0123456789"
        assert shelf.read("a.pack", 8, 1000) == b"89"
        assert self.make(tmp_path).read("a.pack", 8, 1000) == b"89"
        assert shelf.read("a.pack", 10, 5) == b""
        assert self.make(tmp_path).read("a.pack", 500, 5) == b""

    def test_the_tail_comes_with_the_size_of_all(self, tmp_path: Path) -> None:
        shelf = self.make(tmp_path)
        shelf.put("a.pack", [b"0123456789"])
        assert shelf.tail("a.pack", 3) == (b"789", 10)
        assert shelf.tail("a.pack", 10) == (b"0123456789", 10)
        assert shelf.tail("a.pack", 8192) == (b"0123456789", 10)
        assert shelf.tail("a.pack", 0) == (b"", 10)

    def test_no_bytes_are_bytes_as_well(self, tmp_path: Path) -> None:
        shelf = self.make(tmp_path)
        shelf.put("empty", [])
        assert shelf.tail("empty", 8192) == (b"", 0)
        assert shelf.read("empty", 0, 10) == b""
        assert shelf.list() == {"empty"}

    def test_a_name_that_is_missing_is_said_to_be(self, tmp_path: Path) -> None:
        shelf = self.make(tmp_path)
        assert fails_as_missing(lambda: shelf.read("a.pack", 0, 10))
        assert fails_as_missing(lambda: shelf.tail("a.pack", 10))
        assert fails_as_missing(lambda: shelf.tail("a.pack", 0))
        shelf.remove("a.pack")

    def test_names_are_listed_as_they_stand_now(self, tmp_path: Path) -> None:
        shelf, other = self.make(tmp_path), self.make(tmp_path)
        assert shelf.list() == set()
        names = {f"{n:064x}.pack" for n in range(20)}
        for name in names:
            shelf.put(name, [name.encode()])
        assert shelf.list() == names
        assert other.list() == names
        gone = names.pop()
        other.remove(gone)
        assert shelf.list() == names
        assert fails_as_missing(lambda: self.make(tmp_path).read(gone, 0, 1))

    def test_others_see_at_once_what_was_put(self, tmp_path: Path) -> None:
        shelf, other = self.make(tmp_path), self.make(tmp_path)
        for n in range(10):
            shelf.put(f"{n}.pack", [b"%d" % n])
            shelf.settle()
            assert other.tail(f"{n}.pack", 8) == (b"%d" % n, 1)

    def test_putting_a_name_again_is_harmless(self, tmp_path: Path) -> None:
        shelf = self.make(tmp_path)
        for _ in range(3):
            shelf.put("a.pack", [b"the same"])
        assert shelf.tail("a.pack", 100) == (b"the same", 8)

    def test_after_a_look_at_the_tail_later_reads_see_what_has_the_name_now(
        self, tmp_path: Path
    ) -> None:
        shelf, other = self.make(tmp_path), self.make(tmp_path)
        other.put("a.pack", [b"spoilt bytes"])
        assert shelf.read("a.pack", 0, 6) == b"spoilt"
        other.put("a.pack", [b"whole, again"])
        shelf.tail("a.pack", 0)
        assert shelf.read("a.pack", 0, 5) == b"whole"

    def test_large_ones_come_back_whole_and_in_ranges(self, tmp_path: Path) -> None:
        shelf, data = self.make(tmp_path), noise(LARGE)
        shelf.put("large.pack", [data[:100], data[100:]])
        assert shelf.read("large.pack", 0, len(data)) == data
        again = self.make(tmp_path)
        assert again.tail("large.pack", 8192) == (data[-8192:], len(data))
        for at in (8 << 20, 16 << 20):  # where parts of an upload may meet
            assert again.read("large.pack", at - 1000, 2000) == data[at - 1000 : at + 1000]

    def test_reads_in_any_order_give_the_bytes_that_are_there(self, tmp_path: Path) -> None:
        shelf, data = self.make(tmp_path), noise(3 << 20)
        chance = random.Random(1)  # noqa: S311 - the same every time
        shelf.put("a.pack", [data])
        at = 0
        for _ in range(300):
            size = chance.choice([1, 100, 5000, 70_000, 400_000])
            if chance.random() < 0.3 or at >= len(data):
                at = chance.randrange(len(data))
            assert shelf.read("a.pack", at, size) == data[at : at + size]
            at += size + chance.choice([0, 0, 60, 90_000])

    def test_many_threads_may_put_and_read(self, tmp_path: Path) -> None:
        shelf = self.make(tmp_path)

        def one(n: int) -> bool:
            data = noise(50_000, n)
            shelf.put(f"{n}.pack", [data])
            parts = [shelf.read(f"{n}.pack", at, 1000) for at in range(0, 50_000, 1000)]
            return b"".join(parts) == data

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(one, range(16)))
        assert len(shelf.list()) == 16

    def test_one_is_alone_or_is_told_that_it_is_not(self, tmp_path: Path) -> None:
        shelf, other = self.make(tmp_path), self.make(tmp_path)
        with shelf.alone() as mine:
            assert mine
            with other.alone() as theirs:
                assert not theirs
            assert mine
        with other.alone() as theirs:
            assert theirs

    def test_of_many_that_want_to_be_alone_one_is(self, tmp_path: Path) -> None:
        shelves = [self.make(tmp_path) for _ in range(6)]
        done = threading.Barrier(len(shelves))

        def one(shelf: Shelf) -> bool:
            with shelf.alone() as mine:
                had = bool(mine)
                done.wait(60)
                return had

        with ThreadPoolExecutor(len(shelves)) as pool:
            assert sum(pool.map(one, shelves)) == 1

    def test_who_fails_while_alone_lets_go(self, tmp_path: Path) -> None:
        shelf = self.make(tmp_path)
        with pytest.raises(ZeroDivisionError), shelf.alone():
            raise ZeroDivisionError
        with self.make(tmp_path).alone() as mine:
            assert mine

    def test_how_many_reads_pay_is_said(self, tmp_path: Path) -> None:
        assert self.make(tmp_path).parallel >= 1


class ExclusiveConformance:
    """At most one holder of a name."""

    def make(self, directory: Path) -> Exclusive:
        """A lock; the same ``directory`` gives another one over the same names."""
        raise NotImplementedError

    def test_one_holds_a_name_and_the_next_one_after_it(self, tmp_path: Path) -> None:
        one, other = self.make(tmp_path), self.make(tmp_path)
        for _ in range(3):
            with one.hold("merge") as mine:
                assert mine
                with other.hold("merge") as theirs:
                    assert not theirs
                with one.hold("merge") as again:
                    assert not again
                assert mine
            one, other = other, one

    def test_names_do_not_meet(self, tmp_path: Path) -> None:
        lock = self.make(tmp_path)
        with lock.hold("one") as first, lock.hold("two") as second:
            assert first
            assert second

    def test_of_many_one_holds(self, tmp_path: Path) -> None:
        locks = [self.make(tmp_path) for _ in range(6)]
        done = threading.Barrier(len(locks))

        def one(lock: Exclusive) -> bool:
            with lock.hold("merge") as mine:
                had = bool(mine)
                done.wait(60)
                return had

        for _ in range(3):
            with ThreadPoolExecutor(len(locks)) as pool:
                assert sum(pool.map(one, locks)) == 1

    def test_who_fails_lets_go(self, tmp_path: Path) -> None:
        lock = self.make(tmp_path)
        with pytest.raises(ZeroDivisionError), lock.hold("merge"):
            raise ZeroDivisionError
        with lock.hold("merge") as mine:
            assert mine


class StoreConformance:
    """Content by digest: what was flushed comes back, and nothing else ever does."""

    def make(self, directory: Path) -> Store:
        """A store; the same ``directory`` gives another one over the same place."""
        raise NotImplementedError

    @pytest.mark.parametrize(
        "size", [0, 1, 1000, WHOLE_BELOW - 1, WHOLE_BELOW, WHOLE_BELOW + 1, 5_000_000]
    )
    def test_content_comes_back_to_every_process(self, tmp_path: Path, size: int) -> None:
        data = noise(size)
        with self.make(tmp_path).writer() as writer:
            name, told = writer.put(data)
        store = self.make(tmp_path)
        assert told == size
        assert store.read(name) == data
        with store.open_file(name) as stream:
            stream.seek(size // 2)
            assert stream.read() == data[size // 2 :]

    def test_its_address_is_enough_to_see_it_from_another_process(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        with store.writer() as writer:
            name, _ = writer.put(b"from the first")
        other = Store.attach(store.address)
        assert other.read(name) == b"from the first"
        with other.writer() as writer:
            back, _ = writer.put(b"from the second")
        assert store.read(back) == b"from the second"

    def test_a_tree_of_many_files_is_listed_read_and_exported(self, tmp_path: Path) -> None:
        store = self.make(tmp_path / "place")
        tree, contents = put_tree(store, 2000)
        again = self.make(tmp_path / "place")
        found = {entry.path: again.read(entry.digest) for entry in again.entries(tree)}
        assert found == contents
        entry = again.get(tree, "/d1/f1500.txt")
        assert entry is not None
        again.export(entry.digest, tmp_path / "out" / "file")
        assert (tmp_path / "out" / "file").read_bytes() == contents["/d1/f1500.txt"]

    def test_what_was_not_flushed_is_not_there(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        name, _ = store.writer().put(b"never flushed")
        with pytest.raises(NotFound) as refused:
            self.make(tmp_path).read(name)
        assert refused.value.code == "object.missing"

    def test_many_flushes_become_few_packs_under_open_readers(self, tmp_path: Path) -> None:
        store, reader = self.make(tmp_path), self.make(tmp_path)
        contents = [b"%d" % n for n in range(45)]
        for data in contents:
            with store.writer() as writer:
                writer.put(data)
            assert reader.read(digest("file", data)) == data
        assert len(packs_of(store)) < 32
        for one in (reader, self.make(tmp_path)):
            assert [one.read(digest("file", data)) for data in contents] == contents
        assert self.make(tmp_path).fsck() == []

    def test_writers_side_by_side_lose_nothing(self, tmp_path: Path) -> None:
        stores = [self.make(tmp_path) for _ in range(3)]

        def one(number: int) -> list[str]:
            names = []
            for n in range(12):
                with stores[number].writer() as writer:
                    names.append(writer.put(b"%d of %d" % (n, number))[0])
            return names

        with ThreadPoolExecutor(3) as pool:
            names = [name for found in pool.map(one, range(3)) for name in found]
        fresh = self.make(tmp_path)
        assert len({fresh.read(name) for name in names}) == 36
        assert fresh.fsck() == []

    def test_garbage_is_collected_and_what_is_in_use_stays(self, tmp_path: Path) -> None:
        store, reader = self.make(tmp_path), self.make(tmp_path)
        store._leases.linger_s = 0.0
        root, contents = put_tree(store, 50)
        with store.writer() as writer:
            garbage, _ = writer.put(noise(100_000))
        assert reader.read(garbage) == noise(100_000)
        found = store.collect(lambda: [root], Terms(wait_s=20))
        assert found.freed_bytes > 100_000
        for one in (store, self.make(tmp_path)):
            assert {e.path: one.read(e.digest) for e in one.entries(root)} == contents
            with pytest.raises(NotFound):
                one.read(garbage)
        assert self.make(tmp_path).fsck() == []

    @pytest.mark.parametrize("where", [0.0, 0.001, 0.05, 0.3, 0.6, 0.8, 0.95, 0.99, 1.0])
    def test_a_flipped_bit_is_never_returned_and_always_found(
        self, tmp_path: Path, where: float
    ) -> None:
        store = self.make(tmp_path)
        tree, contents = put_tree(store, 40)
        (pack,) = packs_of(store)
        data = bytearray(bytes_of(store, pack))
        data[int(where * (len(data) - 1))] ^= 0x10
        store._shelf.put(pack, [bytes(data)])
        fresh = self.make(tmp_path)
        assert fresh.fsck()
        assert right_or_refused(fresh, tree, contents)

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
    def test_a_truncated_pack_is_damaged_and_named(self, tmp_path: Path, share: float) -> None:
        store = self.make(tmp_path)
        tree, contents = put_tree(store, 40)
        (pack,) = packs_of(store)
        data = bytes_of(store, pack)
        store._shelf.put(pack, [data[: int(share * len(data))]])
        fresh = self.make(tmp_path)
        assert any(pack in problem for problem in fresh.fsck())
        assert right_or_refused(fresh, tree, contents)
        with pytest.raises(Corrupt) as refused:
            self.make(tmp_path).read(digest("file", contents["/d0/f1.txt"]))
        assert pack in refused.value.message
        assert refused.value.hint

    def test_a_pack_that_is_gone_makes_its_objects_missing(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        tree, contents = put_tree(store, 40)
        (pack,) = packs_of(store)
        store._shelf.remove(pack)
        with pytest.raises(NotFound) as refused:
            self.make(tmp_path).read(digest("file", contents["/d0/f1.txt"]))
        assert refused.value.code == "object.missing"
        assert right_or_refused(self.make(tmp_path), tree, contents)

    def test_swapped_packs_are_found_out(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        with store.writer() as writer:
            one, _ = writer.put(b"the content of the one")
        with store.writer() as writer:
            two, _ = writer.put(b"the content of the two")
        first, second = packs_of(store)
        data = bytes_of(store, first), bytes_of(store, second)
        store._shelf.put(first, [data[1]])
        store._shelf.put(second, [data[0]])
        fresh = self.make(tmp_path)
        problems = " ".join(fresh.fsck())
        assert first in problems
        assert second in problems
        for name in (one, two):
            with pytest.raises(Corrupt):
                self.make(tmp_path).read(name)

    def test_a_pack_under_another_name_is_not_used(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        with store.writer() as writer:
            name, _ = writer.put(b"content")
        (pack,) = packs_of(store)
        store._shelf.put("0" * 64 + ".pack", [bytes_of(store, pack)])
        store._shelf.remove(pack)
        fresh = self.make(tmp_path)
        assert any("0" * 64 in problem for problem in fresh.fsck())
        with pytest.raises(Corrupt):
            fresh.read(name)

    def test_a_pack_that_is_spoilt_under_an_open_reader_is_noticed_and_healed(
        self, tmp_path: Path
    ) -> None:
        store, reader = self.make(tmp_path), self.make(tmp_path)
        data = noise(300_000)
        with store.writer() as writer:
            name, _ = writer.put(data)
        reader.fsck()
        (pack,) = packs_of(store)
        spoilt = bytearray(bytes_of(store, pack))
        spoilt[150_000] ^= 1
        store._shelf.put(pack, [bytes(spoilt)])
        fresh = self.make(tmp_path)
        for one in (reader, fresh):
            with pytest.raises(Corrupt) as refused:
                one.read(name)
            assert name in refused.value.message
        with fresh.writer() as writer:
            writer.put(data)
        assert fresh.read(name) == data
        assert reader.read(name) == data


def put_tree(store: Store, files: int) -> tuple[str, dict[str, bytes]]:
    """A tree of small files in one flush, and what they hold."""
    contents = {
        f"/d{n // 1000}/f{n}.txt": b"content of %d " % n * (n % 7 + 1) for n in range(files)
    }
    with store.writer() as writer:
        entries = [
            Entry(path=path, digest=writer.put(data)[0], size_bytes=len(data))
            for path, data in contents.items()
        ]
        tree = writer.tree(EMPTY_TREE, entries)
    return tree, contents


def packs_of(store: Store) -> list[str]:
    """The names of the packs that are there."""
    return sorted(name for name in store._shelf.list() if name.endswith(".pack"))


def bytes_of(store: Store, pack: str) -> bytes:
    """All bytes of a pack."""
    _, size = store._shelf.tail(pack, 0)
    return store._shelf.read(pack, 0, size)


def right_or_refused(store: Store, tree: str, contents: dict[str, bytes]) -> bool:
    """Whether the tree, and each of some files, comes right or not at all."""
    try:
        listed = [entry.path for entry in store.entries(tree)]
    except ClewError as error:
        listed = sorted(contents) if error.hint else []
    return sorted(listed) == sorted(contents) and all(
        right_or_nothing(store, data) for data in list(contents.values())[::5]
    )


def right_or_nothing(store: Store, data: bytes) -> bool:
    """Whether a read of ``data`` gives just that, or refuses with a next step."""
    try:
        return store.read(digest("file", data)) == data
    except ClewError as error:
        return bool(error.hint)
