"""Which object lies in which pack, and the objects themselves, verified.

Knows packs and the shelf; knows nothing of what objects mean.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from clew.base.errors import ClewError, Corrupt, NotFound, Unavailable
from clew.store import condemned, packs
from clew.store.condemned import Condemned
from clew.store.keeping import Keep
from clew.store.packs import Pack, PackBuilder, Place
from clew.store.shelf import Shelf
from clew.store.sieve import Sieve

PACK_LIMIT = 32 * 1024 * 1024
_SMALL_PACK = 4096  # objects; the keys of smaller packs stand in one table, larger ones are asked
_TIERS_BYTES = (64 * 1024, 1024 * 1024, 4 * 1024 * 1024)
_MERGE_AT = 32  # packs of one tier
_MERGED_LIMIT = 2 * PACK_LIMIT
_ATTEMPTS = 5
_FAR_TAIL_BYTES = 64 * 1024  # a second request costs more than bytes that were not needed
_ASKED_OFTEN = 1000  # look-ups in large packs, before a sieve is worth its making


class Catalog:
    """The packs of one shelf. Thread-safe; other processes may add and merge at the same time.

    Look-ups take no lock: a miss takes it, lists the shelf again and looks once more.
    """

    def __init__(self, shelf: Shelf, keep: Keep | None = None) -> None:
        """``keep`` remembers here what a shelf far away has told."""
        self._shelf = shelf
        self._keep = keep
        self._lock = threading.RLock()
        self._loaded = False
        self._packs: dict[str, Pack] = {}
        self._table: dict[bytes, Pack] = {}
        self._large: tuple[Pack, ...] = ()
        self._latest: Pack | None = None
        """The large pack that was last read of: the next object often lies there too."""
        self._sieve: Sieve | None = None
        self._asked = 0
        self._damaged: dict[str, Corrupt] = {}
        self._spoilt: set[bytes] = set()
        self._lists: dict[str, Condemned] = {}
        self._lent: Mapping[tuple[str, bytes], bytes] = {}

    def lend(self, objects: Mapping[tuple[str, bytes], bytes]) -> None:
        """Have objects at hand for :meth:`fetch`, by tag and key, in place of those before."""
        self._lent = objects

    def contains(self, key: bytes) -> bool:
        """Whether an object is known to be stored, and to stay, so that it need not be written."""
        if not self._loaded:
            self.refresh()
        pack = self._holder(key)
        if pack is None or key in self._spoilt:
            return False
        if not any(one.has(pack, key) for one in self._lists.values()):
            return True
        return self.fate(key) != "condemned"

    @property
    def condemning(self) -> bool:
        """Whether a list of condemned objects stands."""
        return bool(self._lists)

    def condemned(self) -> dict[str, Condemned]:
        """The lists that stand, by name."""
        return dict(self._lists)

    def fate(self, key: bytes) -> str:
        """What the lists of condemned objects say of one that is stored.

        ``marked``: when the objects of its pack were marked it was reachable, and all below it.
        ``fresh``: it lies in a pack that came later. ``condemned``: no copy of it will stay.
        ``absent``: it is not stored.
        """
        found = "absent"
        lists = self._lists.values()
        for pack in self._holders(key):
            if any(one.has(pack, key) for one in lists):
                found = "condemned" if found == "absent" else found
            elif any(one.looked_at(pack.name) for one in lists):
                return "marked"
            else:
                found = "fresh"
        return found

    def fetch(self, tag: str, key: bytes) -> bytes:
        """The payload, verified.

        Raises:
            NotFound: ``object.missing``.
            Corrupt: ``object.corrupt`` or ``pack.corrupt``.
        """
        lent = self._lent.get((tag, key))
        if lent is not None:
            return lent
        kept = self._keep.payload(tag, key) if self._keep is not None else None
        if kept is not None:
            return kept
        payload = self._fetch(tag, key)
        if self._keep is not None:
            self._keep.put_payload(tag, key, payload)
        return payload

    def _fetch(self, tag: str, key: bytes) -> bytes:
        pack = self._holder(key)
        if pack is not None:
            try:
                payload = self._read(pack, tag, key)
            except FileNotFoundError:
                payload = None  # merged away by another process
            if payload is not None:
                return payload
        return self._search(tag, key)

    def require(self, tag: str, key: bytes) -> None:
        """Refuse to go on without an object, whatever is remembered of it elsewhere.

        Raises:
            NotFound: ``object.missing``.
        """
        self.refresh()
        if self._holder(key) is None:
            raise self._absent(f"{tag}:{key.hex()}", key, None)

    def refresh(self) -> bool:
        """Learn which packs there are now; whether that was news."""
        with self._lock:
            before = set(self._packs)
            for _ in range(_ATTEMPTS):
                listed = self._shelf.list()
                lists = self._heed({name for name in listed if name.endswith(condemned.SUFFIX)})
                names = {name for name in listed if name.endswith(packs.SUFFIX)}
                if self._admit_all(names - self._packs.keys()):
                    break  # else one was merged away in between: its heir is listed now
            self._drop(self._packs.keys() - names)
            self._lists = lists  # those that are gone count until the packs that they named are
            for name in self._damaged.keys() - names:
                del self._damaged[name]
            self._loaded = True
            return self._packs.keys() != before

    def publish(self, builder: PackBuilder) -> str:
        """Make the objects of a builder durable and visible to every process; the pack's name."""
        name, parts, pack = builder.build()
        if any(one.packs.get(name) for one in self._lists.values()):
            builder.salt()  # a pack of these very bytes is about to be removed by its name
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
                    self.merge(self._mergeable())
        except (Unavailable, FileNotFoundError):
            return

    def let_go(self, names: Collection[str]) -> None:
        """Remove packs whose objects are not needed any more, or have copies elsewhere."""
        with self._lock:
            self._drop(set(names))
        for name in names:
            self._shelf.remove(name)

    def packs(self) -> list[Pack]:
        """All packs that can be used, by name, as they stand now."""
        self.refresh()
        with self._lock:
            return [self._packs[name] for name in sorted(self._packs)]

    def keys_of(self, tag: str) -> set[bytes]:
        """The keys of all objects of a tag."""
        found = set()
        for pack in self.packs():
            found |= {key for key, place in pack.objects_of(tag)}
        return found

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
        latest = self._latest
        if latest is not None and latest.number(key) is not None and latest in self._large:
            return latest
        if self._sieve is None:
            self._asked += 1
            if self._asked == _ASKED_OFTEN:
                self._make_sieve()
        elif not self._sieve.passes(key):
            return None
        for pack in self._large:
            if pack.number(key) is not None:
                self._latest = pack
                return pack
        return None

    def _make_sieve(self) -> None:
        """Many look-ups come: from now on large packs are asked for what they may have alone."""
        sieve = Sieve()
        with self._lock:
            for pack in self._large:
                sieve.add(pack.sorted_keys())
            self._sieve = sieve

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
        for name, found in self._load_all(sorted(names)):
            if found is None:
                complete = False
            elif isinstance(found, Corrupt):
                self._damaged[name] = found
            else:
                self._admit(found)
                self._damaged.pop(name, None)
        return complete

    def _load_all(self, names: list[str]) -> Iterator[tuple[str, Pack | Corrupt | None]]:
        """Packs by name: what is wrong with one that is damaged, None for one that is gone."""
        if len(names) < 2 or self._shelf.parallel < 2:
            yield from ((name, self._load(name)) for name in names)
            return
        with ThreadPoolExecutor(min(len(names), self._shelf.parallel)) as pool:
            yield from zip(names, pool.map(self._load, names), strict=True)

    def _load(self, name: str) -> Pack | Corrupt | None:
        try:
            return load(self._shelf, name, self._keep)
        except FileNotFoundError:
            return None
        except Corrupt as error:
            return error

    def _heed(self, names: set[str]) -> dict[str, Condemned]:
        """The lists of these names. From now on what is on them is condemned."""
        lists = {name: one for name, one in self._lists.items() if name in names}
        for name in names - lists.keys():
            with suppress(FileNotFoundError):  # acted on in between
                _, size_bytes = self._shelf.tail(name, 0)
                lists[name] = condemned.decode(name, self._shelf.read(name, 0, size_bytes))
        self._lists = self._lists | lists
        return lists

    def _admit(self, pack: Pack) -> None:
        if pack.name in self._packs:
            return
        self._packs[pack.name] = pack
        if pack.count <= _SMALL_PACK:
            self._table.update(dict.fromkeys(pack.sorted_keys(), pack))
        else:
            if self._sieve is not None:
                self._sieve.add(pack.sorted_keys())
            self._large = (*self._large, pack)

    def _drop(self, names: set[str]) -> None:
        self._large = tuple(pack for pack in self._large if pack.name not in names)
        for pack in [self._packs.pop(name) for name in names & self._packs.keys()]:
            for key in pack.sorted_keys():
                if self._table.get(key) is pack:
                    del self._table[key]

    def _mergeable(self) -> list[Pack]:
        with self._lock:
            if len(self._packs) < _MERGE_AT:
                return []
            known = sorted(self._packs.values(), key=lambda pack: (pack.size_bytes, pack.name))
            if self._lists:
                known = [pack for pack in known if not self.is_condemned(pack)]
        low = 0
        for high in _TIERS_BYTES:
            tier = [pack for pack in known if low <= pack.size_bytes < high]
            if len(tier) >= _MERGE_AT:
                return _fitting(tier)
            low = high
        return []

    def is_condemned(self, pack: Pack) -> bool:
        """Whether objects of a pack are condemned: it is left alone until they are collected."""
        return any(one.packs.get(pack.name) for one in self._lists.values())

    def merge(self, group: Sequence[Pack]) -> None:
        """Put what several packs hold into one. The caller is alone with the shelf.

        Objects that are spoilt stay where they are, as evidence.
        """
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
        self.let_go([pack.name for pack in whole])


def load(shelf: Shelf, name: str, keep: Keep | None = None) -> Pack:
    """Read and verify the index of a pack; what is kept of it here spares the reading.

    Raises:
        Corrupt: ``pack.corrupt``.
        FileNotFoundError: the pack is gone.
    """
    kept = keep.pack(name) if keep is not None else None
    if kept is not None:
        return kept
    near = shelf.parallel < 2
    tail, size_bytes = shelf.tail(name, packs.TAIL_BYTES if near else _FAR_TAIL_BYTES)
    trailer = packs.read_trailer(name, tail, size_bytes)
    start = trailer.index_offset - (size_bytes - len(tail))
    if start >= 0:
        index = tail[start : start + trailer.index_bytes]
    else:
        index = shelf.read(name, trailer.index_offset, trailer.index_bytes)
    pack = packs.read_index(name, trailer, index, size_bytes)
    if keep is not None:
        keep.put_pack(name, size_bytes, index)
    return pack


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
