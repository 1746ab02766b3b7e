"""A writer and a collection, in every order of their steps: what a row names is always whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from clew.store import EMPTY_TREE, Entry, Store, Terms
from clew.store.local import Disk

MOMENTS = (
    "before", "packs listed", "marked", "condemned", "waiting", "waited", "marked again",
    "rewritten", "removed", "after",
)  # fmt: skip
CONTENTS = [b"%d" % number * 200 for number in range(40)]


class Quick(Disk):
    """Does not wait for the medium."""

    def sync(self, descriptor: int) -> None:
        pass

    def sync_directory(self, directory: Path) -> None:
        pass


def opened(home: Path) -> Store:
    store = Store.open(home, disk=Quick())
    store._leases.linger_s = 0.0
    return store


def tree_of(store: Store, contents: list[bytes]) -> str:
    with store.writer() as writer:
        entries = []
        for number, content in enumerate(contents):
            name, size = writer.put(content)
            entries.append(Entry(path=f"/{number}", digest=name, size_bytes=size))
        return writer.tree(EMPTY_TREE, entries)


def putting(store: Store, rows: list[str], _tree: str) -> Iterator[None]:
    """Puts content that is garbage so far, names it in a row, and is done; a step at a time."""
    writer = store.writer()
    yield
    entries = []
    for number, content in enumerate(CONTENTS):
        name, size = writer.put(content)
        entries.append(Entry(path=f"/{number}", digest=name, size_bytes=size))
    yield
    tree = writer.tree(EMPTY_TREE, entries)
    writer.flush()
    yield
    rows.append(tree)
    yield
    del writer


def holding(store: Store, rows: list[str], tree: str) -> Iterator[None]:
    """Commits a tree that it was told of by its digest."""
    writer = store.writer()
    yield
    writer.hold(tree)
    yield
    writer.flush()
    yield
    rows.append(tree)
    yield
    del writer


SCHEDULES = list(combinations_with_replacement(MOMENTS, 5))


def play(home: Path, kind: Callable[..., Iterator[None]], schedule: tuple[str, ...]) -> None:
    collecting, writing = opened(home), opened(home)
    rows = [tree_of(collecting, [b"always in use", *CONTENTS[:3]])]
    garbage = tree_of(collecting, CONTENTS)
    steps = kind(writing, rows, garbage)
    left = list(schedule)

    def moment(name: str) -> None:
        while left and left[0] == name:
            left.pop(0)
            next(steps, None)

    moment("before")
    try:
        held = schedule[0] in MOMENTS[: MOMENTS.index("waiting") + 1]
        ends_late = MOMENTS.index(schedule[4]) > MOMENTS.index("waiting")
        wait_s = 0 if held and ends_late else 20
        collecting.collect(lambda: rows, Terms(wait_s=wait_s, thorough=True), step=moment)
    finally:
        for name in MOMENTS:  # steps that the collection had no moment for
            moment(name)
        for _ in steps:
            pass
    looking = opened(home)
    for root in rows:
        assert sum(len(looking.read(entry.digest)) for entry in looking.entries(root)) > 0
    assert len(rows) == 2
    collecting.collect(lambda: rows, Terms(wait_s=20, thorough=True))
    looking = opened(home)
    contents = [looking.read(entry.digest) for entry in looking.entries(rows[1])]
    assert sorted(contents) == sorted(CONTENTS)
    sound = looking.sound(looking.examine())
    assert all(sound.whole(root) for root in rows)


def early(schedule: tuple[str, ...]) -> bool:
    """Whether one who only knows a digest begins while the tree is there still."""
    return MOMENTS.index(schedule[1]) <= MOMENTS.index("marked again")


@pytest.mark.parametrize("kind", [putting, holding])
def test_some_orders_of_a_writer_and_a_collection(
    tmp_path: Path, kind: Callable[..., Iterator[None]]
) -> None:
    chosen = [one for one in SCHEDULES if kind is putting or early(one)]
    for number, schedule in enumerate(random.Random(7).sample(chosen, 25)):
        play(tmp_path / f"{number}", kind, schedule)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [putting, holding])
def test_every_order_of_a_writer_and_a_collection(
    tmp_path: Path, kind: Callable[..., Iterator[None]]
) -> None:
    chosen = [one for one in SCHEDULES if kind is putting or early(one)]
    assert len(chosen) > 500
    for number, schedule in enumerate(chosen):
        play(tmp_path / f"{number}", kind, schedule)
