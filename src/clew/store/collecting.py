"""Garbage collection beside writers: mark, condemn, wait, mark again, sweep.

Knows packs and leases; what is a root it is told. Why no order of events loses anything that a row
names stands in design/0013-garbage-collection.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct, field
from msgspec.structs import replace

from clew.base import clock
from clew.base.errors import Conflict, Corrupt, NotFound
from clew.base.records.keeping import Collected
from clew.store import condemned
from clew.store.catalog import PACK_LIMIT, Catalog, objects_of
from clew.store.condemned import Condemned, bits_of
from clew.store.leases import Leases
from clew.store.marking import Marks
from clew.store.packs import Pack, PackBuilder, Place
from clew.store.shelf import Hold, Shelf

Roots = Callable[[], Iterable[str]]
"""Digests of all that must stay, as rows name them when it is called."""

Step = Callable[[str], None]
"""Told of every step that was done; a test may act in between, or die."""

_OVERHEAD = 92  # bytes of record and index that an object takes beside its own and its tag
_POLL_S = 0.05
_FEWEST_TO_MERGE = 4
_MERGE_BELOW = PACK_LIMIT // 2


class Terms(Struct, frozen=True, kw_only=True):
    """How to collect.

    ``thorough``: rewrite every pack that holds garbage, not only those that are more than half
    garbage. ``wait_s``: how long to wait for those who may lean on what was condemned; then it is
    left to the next collection. ``grace_s``: the least time from condemning to removing.
    """

    dry_run: bool = False
    thorough: bool = False
    wait_s: float = 60.0
    grace_s: float = 0.0


class _Dead(Struct):
    """What is garbage in one pack."""

    pack: Pack
    numbers: list[int] = field(default_factory=list)
    size_bytes: int = 0


class Collector:
    """One collection at a time over all processes. ``step`` is told what was done."""

    def __init__(
        self, shelf: Shelf, catalog: Catalog, leases: Leases, step: Step = lambda _: None
    ) -> None:
        self._shelf = shelf
        self._catalog = catalog
        self._leases = leases
        self._step = step
        self._hold: Hold = False

    def run(self, roots: Roots, terms: Terms) -> Collected:
        """Remove what cannot be reached from ``roots``; see :class:`Collected`.

        Raises:
            Conflict: ``gc.running`` where another process is at it.
            Corrupt: ``gc.damaged`` where a tree cannot be read: then nothing is removed.
        """
        if terms.dry_run:
            return self._look(roots, terms)
        with alone(self._shelf, max(1.0, terms.wait_s)) as self._hold:
            packs = self._catalog.packs()
            left = self._standing(packs)
            if left is None:
                return self._round(roots, terms, None)
            first = self._round(roots, terms, left)
            return first if first.waiting else _sum(first, self._round(roots, terms, None))

    # --------------------------------------------------------------------------------------------

    def _round(self, roots: Roots, terms: Terms, left: tuple[str, Condemned] | None) -> Collected:
        """A collection; with ``left``, the end of one that was begun."""
        packs = self._catalog.packs()
        self._step("packs listed")
        marks = self._marked(Marks(self._catalog.fetch), roots)
        self._step("marked")
        found = _found(packs, marks, terms)
        name, listed = left or self._condemn(packs, found)
        self._step("condemned")
        report = _report(packs, found, marks, terms)
        if name is None:
            self._forget(None, self._leases.others())
            return replace(report, packs_merged=self._merge_small())
        waiting = self._wait(listed, terms)
        if waiting:
            return _sentenced(replace(report, waiting=tuple(sorted(waiting))), packs, listed)
        self._step("waited")
        self._marked(marks, roots)
        self._step("marked again")
        report = self._sweep(report, listed, marks)
        self._forget(name, set())
        return replace(report, packs_merged=self._merge_small())

    def _look(self, roots: Roots, terms: Terms) -> Collected:
        packs = self._catalog.packs()
        marks = self._marked(Marks(self._catalog.fetch), roots)
        found = _found(packs, marks, terms)
        report = _report(packs, found, marks, terms)
        whole = [dead for dead in found if len(dead.numbers) == dead.pack.count]
        return replace(
            report,
            dry_run=terms.dry_run,
            objects=sum(len(dead.numbers) for dead in found),
            freed_bytes=sum(
                dead.pack.size_bytes if dead in whole else dead.size_bytes for dead in found
            ),
            packs_removed=len(whole),
            packs_rewritten=len(found) - len(whole),
        )

    def _marked(self, marks: Marks, roots: Roots) -> Marks:
        try:
            marks.add(roots())
        except (NotFound, Corrupt) as error:
            raise Corrupt(
                "gc.damaged",
                f"What is in use cannot be told, and nothing was collected: {error.message}",
                hint="`clew fsck` says which commits are hit and how to mend them.",
            ) from error
        return marks

    def _standing(self, packs: Sequence[Pack]) -> tuple[str, Condemned] | None:
        """A list that was written by a collection which did not come to its end."""
        names = {pack.name for pack in packs}
        for name, one in sorted(self._catalog.condemned().items()):
            if any(bits and pack in names for pack, bits in one.packs.items()):
                return name, one
        return None

    def _condemn(
        self, packs: Sequence[Pack], found: Sequence[_Dead]
    ) -> tuple[str | None, Condemned]:
        if not found:
            return None, condemned.NOBODY
        bits = {pack.name: b"" for pack in packs}
        bits |= {dead.pack.name: bits_of(dead.numbers, dead.pack.count) for dead in found}
        listed = Condemned(at_us=clock.to_us(clock.now()), packs=bits)
        name, payload = condemned.encode(listed)
        self._shelf.put(name, [payload])
        self._catalog.refresh()
        return name, listed

    def _wait(self, listed: Condemned, terms: Terms) -> set[str]:
        """Who may still lean on what is on the list, when the time is up; nobody: go on."""
        deadline = time.monotonic() + terms.wait_s
        due_us = listed.at_us + int(terms.grace_s * 1e6)
        names = self._leases.others()  # after the list was written: who comes later has read it
        self._step("waiting")
        while names or clock.to_us(clock.now()) < due_us:
            if time.monotonic() >= deadline:
                return names or {"grace"}
            _pause()
            names &= self._leases.others()
        return set()

    def _sweep(self, report: Collected, listed: Condemned, marks: Marks) -> Collected:
        """Remove the copies on the list that nobody has reached since."""
        removed: list[Pack] = []
        rewritten: list[Pack] = []
        heirs: list[int] = []
        objects = 0
        builder = PackBuilder()
        for pack in self._catalog.packs():
            if not listed.packs.get(pack.name):
                continue
            keys = pack.sorted_keys()
            stay = {key for key in keys if key in marks.keys or not listed.has(pack, key)}
            if stay and not self._copy(pack, stay, builder):
                continue
            objects += len(keys) - len(stay)
            (rewritten if stay else removed).append(pack)
            if builder.size_bytes >= PACK_LIMIT:
                heirs.append(self._publish(builder))
                builder = PackBuilder()
        if len(builder):
            heirs.append(self._publish(builder))
        self._step("rewritten")
        for pack in (*removed, *rewritten):
            if not self._hold:
                raise _busy()
            self._catalog.let_go([pack.name])
            self._step("removed")
        gone = sum(pack.size_bytes for pack in (*removed, *rewritten))
        return replace(
            report,
            objects=objects,
            freed_bytes=gone - sum(heirs),
            packs_removed=len(removed),
            packs_rewritten=len(rewritten),
        )

    def _copy(self, pack: Pack, stay: set[bytes], builder: PackBuilder) -> bool:
        """Take over what stays of a pack; not where it is spoilt: then the pack is evidence."""
        data = self._shelf.read(pack.name, 0, pack.size_bytes)
        found = [one for one in objects_of(pack, data) if one[0] in stay]
        if any(payload is None for _, _, _, payload in found):
            return False
        for key, place, stored, _ in found:
            builder.add(key, place.tag, place.encoding, place.size_bytes, stored)
        return True

    def _publish(self, builder: PackBuilder) -> int:
        name = self._catalog.publish(builder)
        return next(pack.size_bytes for pack in self._catalog.packs() if pack.name == name)

    def _forget(self, but: str | None, waiting: set[str]) -> None:
        """Take away lists that were acted on before the last wait: nobody can have missed them."""
        if waiting:
            return
        for name in self._catalog.condemned().keys() - {but}:
            self._shelf.remove(name)
        self._catalog.refresh()

    def _merge_small(self) -> int:
        """Join packs that are far from full, many at a time; how many there were."""
        merged = 0
        while len(group := self._small()) >= _FEWEST_TO_MERGE:
            before = {pack.name for pack in group}
            self._catalog.merge(group)
            left = before & {pack.name for pack in self._catalog.packs()}
            merged += len(before) - len(left)
            self._step("merged")
            if left:
                break
        return merged

    def _small(self) -> list[Pack]:
        known = sorted(self._catalog.packs(), key=lambda pack: (pack.size_bytes, pack.name))
        chosen: list[Pack] = []
        total = 0
        for pack in known:
            total += pack.size_bytes
            if pack.size_bytes >= _MERGE_BELOW or total > PACK_LIMIT:
                break
            if not self._catalog.is_condemned(pack):
                chosen.append(pack)
        return chosen


@contextmanager
def alone(shelf: Shelf, wait_s: float) -> Iterator[Hold]:
    """Be the only one who may merge and remove, as soon as that is possible.

    Raises:
        Conflict: ``gc.running`` where another process is at it for too long.
    """
    deadline = time.monotonic() + wait_s
    while True:
        with shelf.alone() as mine:
            if mine:
                yield mine
                return
        if time.monotonic() > deadline:
            raise _busy()
        _pause()


def _busy() -> Conflict:
    return Conflict(
        "gc.running",
        "Another process is collecting or merging in this store.",
        hint="Wait until it is done, then do this again.",
    )


def cost(place: Place) -> int:
    """How many bytes of its pack an object takes."""
    return place.stored_bytes + len(place.tag) + _OVERHEAD


def _found(packs: Sequence[Pack], marks: Marks, terms: Terms) -> list[_Dead]:
    """The packs to act on, with what is garbage in them."""
    return [dead for dead in _dead(packs, marks) if terms.thorough or _mostly(dead)]


def _dead(packs: Sequence[Pack], marks: Marks) -> Iterator[_Dead]:
    for pack in packs:
        dead = _Dead(pack)
        for number, key in enumerate(pack.sorted_keys()):
            if key not in marks.keys:
                dead.numbers.append(number)
                dead.size_bytes += cost(pack.place(number))
        if dead.numbers:
            yield dead


def _mostly(dead: _Dead) -> bool:
    return len(dead.numbers) == dead.pack.count or 2 * dead.size_bytes > dead.pack.size_bytes


def _report(packs: Sequence[Pack], found: Sequence[_Dead], marks: Marks, terms: Terms) -> Collected:
    """What there is, with nothing removed."""
    all_dead = sum(dead.size_bytes for dead in _dead(packs, marks))
    acted_on = sum(dead.size_bytes for dead in found)
    total = sum(pack.size_bytes for pack in packs)
    return Collected(
        dry_run=terms.dry_run,
        objects=0,
        freed_bytes=0,
        packs_removed=0,
        packs_rewritten=0,
        packs_merged=0,
        live_objects=len(marks.keys),
        live_bytes=total - all_dead,
        kept_bytes=all_dead - acted_on,
    )


def _sentenced(report: Collected, packs: Sequence[Pack], listed: Condemned) -> Collected:
    objects = size_bytes = 0
    for pack in packs:
        for number, key in enumerate(pack.sorted_keys()):
            if listed.has(pack, key):
                objects += 1
                size_bytes += cost(pack.place(number))
    return replace(report, condemned_objects=objects, condemned_bytes=size_bytes)


def _sum(first: Collected, second: Collected) -> Collected:
    return replace(
        second,
        objects=first.objects + second.objects,
        freed_bytes=first.freed_bytes + second.freed_bytes,
        packs_removed=first.packs_removed + second.packs_removed,
        packs_rewritten=first.packs_rewritten + second.packs_rewritten,
        packs_merged=first.packs_merged + second.packs_merged,
    )


def _pause() -> None:
    threading.Event().wait(_POLL_S)
