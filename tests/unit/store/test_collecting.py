"""Garbage collection of the store: what nothing refers to goes, everything else stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clew.base.errors import Conflict, Corrupt, NotFound
from clew.base.records.keeping import Collected
from clew.store import EMPTY_TREE, Entry, Store, digest
from clew.store.collecting import Terms
from clew.store.leases import Leases, ShelfBoard
from clew.store.local import Disk, LocalShelf

NOW = Terms(wait_s=0)
SOON = Terms(wait_s=20)
THOROUGH = Terms(wait_s=0, thorough=True)


def tree(store: Store, *contents: bytes, base: str = EMPTY_TREE) -> str:
    """A durable tree with a file for each content."""
    with store.writer() as writer:
        entries = []
        for content in contents:
            name, size = writer.put(content)
            entries.append(Entry(path=f"/{name[-8:]}", digest=name, size_bytes=size))
        return writer.tree(base, entries)


def settle(store: Store) -> None:
    """As if the time that leases linger had passed."""
    store._leases.linger_s = 0.0


def opened(home: Path) -> Store:
    store = Store.open(home)
    settle(store)
    return store


def whole(store: Store, root: str) -> list[bytes]:
    return [store.read(entry.digest) for entry in store.entries(root)]


def size(home: Path) -> int:
    return sum(path.stat().st_size for path in (home / "packs").iterdir())


@pytest.fixture(autouse=True)
def settled(store: Store) -> None:
    settle(store)


def test_what_is_reachable_stays_and_the_rest_really_frees_disk(store: Store, home: Path) -> None:
    kept, gone = os.urandom(300_000), os.urandom(900_000)
    root = tree(store, kept)
    tree(store, gone)
    before = size(home)
    report = store.collect(lambda: [root], SOON)
    assert report.objects == 2
    assert report.freed_bytes > 900_000
    assert size(home) <= before - report.freed_bytes + 1000  # the list of the condemned
    assert whole(store, root) == [kept]
    with pytest.raises(NotFound, match="not in the store"):
        store.read(digest("file", gone))
    assert Store.open(home).fsck() == []


def test_a_dry_run_says_what_would_go_and_changes_nothing(store: Store, home: Path) -> None:
    root = tree(store, b"kept" * 1000)
    tree(store, os.urandom(200_000))
    before = {path: path.read_bytes() for path in (home / "packs").iterdir()}
    said = store.collect(lambda: [root], Terms(dry_run=True))
    assert {path: path.read_bytes() for path in (home / "packs").iterdir()} == before
    did = store.collect(lambda: [root], SOON)
    assert said.dry_run
    assert (said.objects, said.packs_removed) == (did.objects, did.packs_removed) == (2, 1)
    assert said.freed_bytes == did.freed_bytes


def test_a_pack_more_than_half_garbage_is_rewritten(store: Store, home: Path) -> None:
    contents = [os.urandom(100_000) for _ in range(10)]
    root = tree(store, *contents[:3])
    whole_root = tree(store, *contents, base=root)
    (one, *_) = contents
    with store.writer() as writer:  # all in one pack
        writer._catalog = Store.open(home)._catalog
        writer._catalog.contains = lambda key: False
        for content in contents:
            writer.put(content)
    for path in (home / "packs").iterdir():
        if path.stat().st_size < 900_000:
            path.unlink()
    store = opened(home)
    small = tree(store, *contents[:3])
    report = store.collect(lambda: [small], NOW)
    assert report.packs_rewritten == 1
    assert report.freed_bytes > 650_000
    assert size(home) < 350_000
    assert sorted(whole(store, small)) == sorted(contents[:3])
    assert store.read(digest("file", one)) == one
    assert whole_root != small


def test_less_than_half_garbage_stays_unless_asked_for(store: Store, home: Path) -> None:
    contents = [os.urandom(100_000) for _ in range(10)]
    with store.writer() as writer:
        names = [writer.put(content)[0] for content in contents]
    report = store.collect(lambda: names[:7], NOW)
    assert report.objects == report.freed_bytes == 0
    assert report.kept_bytes > 300_000
    assert store.read(names[9]) == contents[9]
    report = store.collect(lambda: names[:7], THOROUGH)
    assert report.objects == 3
    assert 300_000 < report.freed_bytes < 302_000
    assert [store.read(name) for name in names[:7]] == contents[:7]
    assert size(home) < 705_000


def test_large_files_keep_the_chunks_that_they_share(store: Store) -> None:
    base = os.urandom(6_000_000)
    other = base[:4_000_000] + os.urandom(3_000_000)
    kept, gone = tree(store, base), tree(store, other)
    report = store.collect(lambda: [kept], THOROUGH)
    assert 2_000_000 < report.freed_bytes < 4_500_000
    assert whole(store, kept) == [base]
    with pytest.raises(NotFound):
        whole(store, gone)


def test_other_objects_are_roots_of_their_own(store: Store) -> None:
    with store.writer() as writer:
        kept = writer.put_object("commit", b"kept")
        gone = writer.put_object("commit", b"gone")
    store.collect(lambda: [kept], THOROUGH)
    assert store.read(kept) == b"kept"
    with pytest.raises(NotFound):
        store.read(gone)


def test_an_empty_store_and_the_empty_tree_are_no_trouble(store: Store) -> None:
    assert store.collect(lambda: [EMPTY_TREE], NOW).objects == 0


def test_collecting_twice_finds_nothing_more_and_leaves_no_list(store: Store, home: Path) -> None:
    root = tree(store, b"kept")
    tree(store, b"gone")
    assert store.collect(lambda: [root], SOON).objects == 2
    assert store.collect(lambda: [root], SOON).objects == 0
    assert not list((home / "packs").glob("*.condemned"))


def test_small_packs_are_merged_up_to_the_limit(store: Store, home: Path) -> None:
    contents = [os.urandom(5_000_000) for _ in range(8)]
    roots = [tree(store, content) for content in contents]
    before = len(list((home / "packs").iterdir()))
    report = store.collect(lambda: roots, NOW)
    assert report.packs_merged >= 4
    assert len(list((home / "packs").iterdir())) < before
    assert [whole(store, root) for root in roots] == [[content] for content in contents]
    assert store.fsck() == []


def test_a_damaged_tree_stops_the_collection_before_anything_goes(store: Store, home: Path) -> None:
    roots = [tree(store, b"one"), tree(store, b"two")]
    tree(store, b"garbage")
    missing = digest("tree", b"never stored")
    with pytest.raises(Corrupt) as caught:
        store.collect(lambda: [*roots, missing], NOW)
    assert caught.value.code == "gc.damaged"
    assert store.read(digest("file", b"garbage")) == b"garbage"
    assert not list((home / "packs").glob("*.condemned"))


def test_only_one_collects_at_a_time(store: Store, home: Path) -> None:
    with Store.open(home)._shelf.alone() as mine:
        assert mine
        with pytest.raises(Conflict) as caught:
            store.collect(lambda: [], NOW)
    assert caught.value.code == "gc.running"


# writers ------------------------------------------------------------------------------------------


def test_what_a_writer_leans_on_is_waited_for(store: Store, home: Path) -> None:
    gone = tree(store, b"garbage, for now")
    other = opened(home)
    writer = other.writer()
    name, length = writer.put(b"garbage, for now")  # it is there already: nothing is written
    report = store.collect(lambda: [], NOW)
    assert report.waiting
    assert report.freed_bytes == 0
    assert report.condemned_objects == 2
    again = writer.tree(EMPTY_TREE, [Entry(path="/a", digest=name, size_bytes=length)])
    writer.flush()
    del writer
    assert whole(store, again) == [b"garbage, for now"]
    report = store.collect(lambda: [again], SOON)  # by now a row names it
    assert not report.waiting
    assert whole(Store.open(home), again) == [b"garbage, for now"]
    with pytest.raises(NotFound):
        whole(store, gone)


def between(store: Store, moment: str, act: Callable[[], object]) -> Collected:
    """A collection without any row, in which others do something at one moment."""

    def step(name: str) -> None:
        if name == moment:
            act()

    return store.collect(lambda: [], SOON, step=step)


def test_what_is_condemned_is_put_again_by_those_who_come_later(store: Store, home: Path) -> None:
    root = tree(store, b"garbage, for now")
    swept = between(store, "condemned", lambda: tree(opened(home), b"garbage, for now"))
    assert swept.objects == 2  # not even now does a row name the tree: its copy is fresh
    assert whole(Store.open(home), root) == [b"garbage, for now"]


def test_a_pack_of_the_very_same_bytes_gets_another_name(store: Store, home: Path) -> None:
    content = os.urandom(50_000)

    def put() -> str:
        with opened(home).writer() as writer:
            return writer.put(content)[0]

    name = put()
    assert between(store, "condemned", put).objects == 1
    assert Store.open(home).read(name) == content


def test_a_tree_that_others_put_is_held_as_a_whole(store: Store, home: Path) -> None:
    contents = [b"%d" % number * 100 for number in range(300)]
    contents.append(os.urandom(3_000_000))
    root = tree(store, *contents)

    def hold() -> None:
        with opened(home).writer() as writer:
            writer.hold(root)

    assert between(store, "condemned", hold).objects > 300
    assert sorted(whole(Store.open(home), root)) == sorted(contents)


def test_a_tree_of_which_a_part_has_gone_cannot_be_held(store: Store, home: Path) -> None:
    root = tree(store, b"garbage")
    early = opened(home).writer()
    assert store.collect(lambda: [], NOW).waiting
    assert early is not None
    late = opened(home)
    writer = late.writer()
    for pack in (home / "packs").glob("*.pack"):
        pack.unlink()
    late._catalog.refresh()
    with pytest.raises(NotFound):
        writer.hold(root)


def test_a_collection_that_died_after_condemning_is_ended_by_the_next(
    store: Store, home: Path
) -> None:
    root = tree(store, b"kept")
    tree(store, os.urandom(10_000))

    class Died(Exception):
        pass

    def die(step: str) -> None:
        if step == "condemned":
            raise Died

    with pytest.raises(Died):
        store.collect(lambda: [root], SOON, step=die)
    assert list((home / "packs").glob("*.condemned"))
    tree(store, os.urandom(20_000))  # and more of it
    report = store.collect(lambda: [root], SOON)
    assert report.objects == 4
    assert report.freed_bytes > 30_000
    assert whole(Store.open(home), root) == [b"kept"]


def test_grace_is_the_least_time_between_condemning_and_removing(store: Store) -> None:
    tree(store, b"gone")
    assert store.collect(lambda: [], Terms(wait_s=0, grace_s=3600)).waiting == ("grace",)
    assert store.read(digest("file", b"gone")) == b"gone"
    assert store.collect(lambda: [], Terms(wait_s=0)).objects == 2


# leases -------------------------------------------------------------------------------------------


def test_the_lease_of_a_process_that_died_is_gone(store: Store, home: Path) -> None:
    child = os.fork()
    if child == 0:
        writer = Store.open(home).writer()
        os._exit(0 if writer is not None else 1)
    os.waitpid(child, 0)
    assert len(list((home / "leases").iterdir())) == 1
    assert store._leases.board.standing() == set()
    assert not list((home / "leases").iterdir())


def test_a_lease_lingers_after_its_work_and_then_ends_by_itself(home: Path) -> None:
    store, looking = Store.open(home), Store.open(home)
    store._leases.linger_s = 0.05
    with store.writer() as writer:
        writer.put(b"x")
    (token,) = looking._leases.others()
    keeper = store._leases._keeper
    assert keeper is not None
    keeper.join(timeout=60)
    assert token not in looking._leases.others()
    assert store._leases._keeper is None


def test_work_under_a_lease_is_never_over_before_its_end(home: Path) -> None:
    store, looking = Store.open(home), Store.open(home)
    settle(store)
    with store.lease() as first, store.lease():
        first.end()
        assert len(looking._leases.others()) == 1
        assert len(store._leases.others()) == 1  # a thread of the same process counts as well
    assert store._leases.others() == set()


def shelf_at(home: Path) -> LocalShelf:
    for name in ("packs", "tmp"):
        (home / name).mkdir(parents=True, exist_ok=True)
    return LocalShelf(home / "packs", home / "tmp", Disk())


def test_on_a_bucket_tokens_are_renewed_and_expire(home: Path) -> None:
    time_s = [1000.0]
    board = ShelfBoard(shelf_at(home), now=lambda: time_s[0])
    other = ShelfBoard(shelf_at(home), now=lambda: time_s[0])
    board.post("abc.lease")
    assert other.standing() == {"abc.lease"}
    time_s[0] += 400
    assert not board.lapsed("abc.lease")
    board.renew("abc.lease")
    time_s[0] += 600
    assert other.standing() == {"abc.lease"}
    assert board.lapsed("abc.lease")  # long before others take it for dead
    board.renew("abc.lease")
    assert board.lapsed("abc.lease")  # and what happened in between nobody knows
    time_s[0] += 1000
    assert other.standing() == set()
    board.take_down("abc.lease")
    assert not list((home / "packs").iterdir())


def test_a_writer_whose_lease_has_lapsed_does_not_flush(home: Path) -> None:
    time_s = [1000.0]
    shelf = shelf_at(home)
    store = Store(shelf, home, board=ShelfBoard(shelf, now=lambda: time_s[0]))
    writer = store.writer()
    writer.put(b"x")
    time_s[0] += 10_000
    with pytest.raises(Exception, match="held up") as caught:
        writer.flush()
    assert caught.value.code == "store.lease_lost"
    assert isinstance(store._leases, Leases)


def test_a_store_without_leases_directory_can_be_collected(store: Store, home: Path) -> None:
    root = tree(store, b"kept")
    tree(store, b"gone")
    while (home / "leases").exists():  # a lease that ends goes by itself, perhaps now
        shutil.rmtree(home / "leases", ignore_errors=True)
    assert Store.open(home).collect(lambda: [root], NOW).objects == 2
