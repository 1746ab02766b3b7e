"""Which object lies in which pack, and the objects themselves, verified.

Knows packs and the shelf; knows nothing of what objects mean.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from clew.base.errors import ClewError, Corrupt, NotFound, Unavailable
from clew.store import packs
from clew.store.packs import Pack, PackBuilder, Place
from clew.store.shelf import Shelf

PACK_LIMIT = 32 * 1024 * 1024
_SMALL_PACK = 4096  # objects; the keys of smaller packs stand in one table, larger ones are asked
_TIERS_BYTES = (64 * 1024, 1024 * 1024, 4 * 1024 * 1024)
_MERGE_AT = 32  # packs of one tier
_MERGED_LIMIT = 2 * PACK_LIMIT
_ATTEMPTS = 5


class Catalog:
    """The packs of one shelf. Thread-safe; other processes may add and merge at the same time.

    Look-ups take no lock: a miss takes it, lists the shelf again and looks once more.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.RLock()
        self._loaded = False
        self._packs: dict[str, Pack] = {}
        self._table: dict[bytes, Pack] = {}
        self._large: tuple[Pack, ...] = ()
        self._damaged: dict[str, Corrupt] = {}
        self._spoilt: set[bytes] = set()

    def contains(self, key: bytes) -> bool:
        """Whether an object is known to be stored, so that it need not be written again."""
        if not self._loaded:
            self.refresh()
        return self._holder(key) is not None and key not in self._spoilt

    def fetch(self, tag: str, key: bytes) -> bytes:
        """The payload, verified.

        Raises:
            NotFound: ``object.missing``.
            Corrupt: ``object.corrupt`` or ``pack.corrupt``.
        """
        pack = self._holder(key)
        if pack is not None:
            try:
                payload = self._read(pack, tag, key)
            except FileNotFoundError:
                payload = None  # merged away by another process
            if payload is not None:
                return payload
        return self._search(tag, key)

    def refresh(self) -> bool:
        """Learn which packs there are now; whether that was news."""
        with self._lock:
            before = set(self._packs)
            for _ in range(_ATTEMPTS):
                names = {name for name in self._shelf.list() if name.endswith(packs.SUFFIX)}
                if self._admit_all(names - self._packs.keys()):
                    break  # else one was merged away in between: its heir is listed now
            self._drop(self._packs.keys() - names)
            for name in self._damaged.keys() - names:
                del self._damaged[name]
            self._loaded = True
            return self._packs.keys() != before

    def publish(self, builder: PackBuilder) -> str:
        """Make the objects of a builder durable and visible to every process; the pack's name."""
        name, parts, pack = builder.build()
        self._shelf.put(name, parts)
        with self._lock:
            self._spoilt.difference_update(builder.keys())
            self._damaged.pop(name, None)
            self._admit(pack)
        return name

    def settle(self) -> None:
        """Return when everything that :meth:`contains` has said yes to would survive power loss."""
        self._shelf.settle()

    def tidy(self) -> None:
        """Merge small packs where there are many, unless another process is at it.

        What stands in the way (a full disk) is no error here: the next call tries again.
        """
        if not self._mergeable():
            return
        try:
            with self._shelf.alone() as mine:
                if mine:
                    self.refresh()
                    self._merge(self._mergeable())
        except (Unavailable, FileNotFoundError):
            return

    def packs(self) -> list[Pack]:
        """All packs that can be used, by name, as they stand now."""
        self.refresh()
        with self._lock:
            return [self._packs[name] for name in sorted(self._packs)]

    def damaged(self) -> list[Corrupt]:
        """What is wrong with the packs that cannot be used, by name of pack."""
        with self._lock:
            return [self._damaged[name] for name in sorted(self._damaged)]

    def _search(self, tag: str, key: bytes) -> bytes:
        spoilt = None
        for attempt in range(_ATTEMPTS):
            news = self.refresh()
            try:
                for pack in self._holders(key):
                    payload = self._read_anew(pack, tag, key)
                    if payload is not None:
                        return payload
                    spoilt = pack
            except FileNotFoundError:
                continue  # merged away between look-up and read
            # A listing beside a merge may miss both the old packs (gone by then) and the new one
            # (not there yet), so that absence is believed when a second one brings no news.
            if attempt and not news:
                break
        raise self._absent(f"{tag}:{key.hex()}", key, spoilt)

    def _absent(self, digest: str, key: bytes, spoilt: Pack | None) -> ClewError:
        if spoilt is not None:
            self._spoilt.add(key)
            return Corrupt(
                "object.corrupt",
                f"The bytes of {digest} in {spoilt.name} are not what was stored.",
                hint="Put the same file again to heal it, or restore the pack from a backup.",
            )
        for error in self.damaged():
            return Corrupt(
                error.code, f"{digest} cannot be found. {error.message}", hint=error.hint
            )
        return NotFound(
            "object.missing",
            f"{digest} is not in the store.",
            hint="Put the file that held it again, or restore the store from a backup.",
        )

    def _holder(self, key: bytes) -> Pack | None:
        pack = self._table.get(key)
        if pack is not None:
            return pack
        return next((pack for pack in self._large if pack.find(key)), None)

    def _holders(self, key: bytes) -> list[Pack]:
        with self._lock:
            return [pack for pack in self._packs.values() if pack.find(key)]

    def _read(self, pack: Pack, tag: str, key: bytes) -> bytes | None:
        place = pack.find(key)
        if place is None or place.tag != tag:
            return None
        stored = self._shelf.read(pack.name, place.offset, place.stored_bytes)
        return packs.payload_of(key, place, stored)

    def _read_anew(self, pack: Pack, tag: str, key: bytes) -> bytes | None:
        """Read from the file that has the name now: somebody may have put it again, whole."""
        self._shelf.tail(pack.name, 0)
        return self._read(pack, tag, key)

    def _admit_all(self, names: set[str]) -> bool:
        """Take in packs by name; whether all were still there."""
        complete = True
        for name in names:
            try:
                self._admit(load(self._shelf, name))
                self._damaged.pop(name, None)
            except FileNotFoundError:
                complete = False
            except Corrupt as error:
                self._damaged[name] = error
        return complete

    def _admit(self, pack: Pack) -> None:
        if pack.name in self._packs:
            return
        self._packs[pack.name] = pack
        if pack.count <= _SMALL_PACK:
            self._table.update(dict.fromkeys(pack.sorted_keys(), pack))
        else:
            self._large = (*self._large, pack)

    def _drop(self, names: set[str]) -> None:
        self._large = tuple(pack for pack in self._large if pack.name not in names)
        for pack in [self._packs.pop(name) for name in names & self._packs.keys()]:
            for key in pack.sorted_keys():
                if self._table.get(key) is pack:
                    del self._table[key]

    def _mergeable(self) -> list[Pack]:
        with self._lock:
            known = sorted(self._packs.values(), key=lambda pack: (pack.size_bytes, pack.name))
        low = 0
        for high in _TIERS_BYTES:
            tier = [pack for pack in known if low <= pack.size_bytes < high]
            if len(tier) >= _MERGE_AT:
                return _fitting(tier)
            low = high
        return []

    def _merge(self, group: list[Pack]) -> None:
        builder = PackBuilder()
        for pack in group:
            data = self._shelf.read(pack.name, 0, pack.size_bytes)
            for key, place, stored, payload in objects_of(pack, data):
                if payload is None:  # stays where it is, as evidence; another copy may be whole
                    continue
                builder.add(key, place.tag, place.encoding, place.size_bytes, stored)
        if len(builder) == 0:
            return
        merged = set(builder.keys())
        heir = self.publish(builder)
        whole = [
            pack for pack in group if pack.name != heir and merged.issuperset(pack.sorted_keys())
        ]
        with self._lock:
            self._drop({pack.name for pack in whole})
        for pack in whole:
            self._shelf.remove(pack.name)


def load(shelf: Shelf, name: str) -> Pack:
    """Read and verify the index of a pack.

    Raises:
        Corrupt: ``pack.corrupt``.
        FileNotFoundError: the pack is gone.
    """
    tail, size_bytes = shelf.tail(name, packs.TAIL_BYTES)
    trailer = packs.read_trailer(name, tail, size_bytes)
    start = trailer.index_offset - (size_bytes - len(tail))
    if start >= 0:
        index = tail[start : start + trailer.index_bytes]
    else:
        index = shelf.read(name, trailer.index_offset, trailer.index_bytes)
    return packs.read_index(name, trailer, index, size_bytes)


def objects_of(pack: Pack, data: bytes) -> Iterator[tuple[bytes, Place, bytes, bytes | None]]:
    """Every object of a pack of bytes ``data``: key, place, stored bytes, payload.

    The payload is None where the bytes are spoilt.
    """
    for key, place in pack.objects():
        stored = data[place.offset : place.offset + place.stored_bytes]
        yield key, place, stored, packs.payload_of(key, place, stored)


def _fitting(tier: list[Pack]) -> list[Pack]:
    chosen: list[Pack] = []
    total = 0
    for pack in tier:
        total += pack.size_bytes
        if total > _MERGED_LIMIT:
            break
        chosen.append(pack)
    return chosen
