"""Every byte of every pack: what is whole, what is spoilt, and what can be saved of a torn pack.

Knows packs and objects; knows nothing of what refers to what.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress

from msgspec import Struct, field

from clew.base.errors import Corrupt
from clew.store import packs
from clew.store.catalog import Catalog, load, objects_of
from clew.store.chunks import CHUNKS
from clew.store.digests import split
from clew.store.marking import Fetch, children
from clew.store.nodes import EMPTY_TREE, TREE, Load
from clew.store.packs import Pack, PackBuilder
from clew.store.shelf import Shelf

SPOILT = ".spoilt"

Progress = Callable[[int, int], None]
"""Told how many bytes were read, of how many."""


class Fault(Struct, frozen=True, kw_only=True):
    """Something that is not as it was written. ``pack`` is where, ``digest`` which object."""

    code: str
    message: str
    hint: str
    pack: str
    digest: str = ""


class Examined(Struct):
    """What was read. ``whole`` are the keys of objects of which a good copy was seen."""

    packs: int = 0
    objects: int = 0
    size_bytes: int = 0
    whole: set[bytes] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)


def examine(
    shelf: Shelf,
    seen: Progress = lambda _done, _total: None,
    *,
    without: Collection[str] = (),
) -> Examined:
    """Read and verify all packs, but those ``without``; others may write and merge meanwhile."""
    catalog = Catalog(shelf)  # of its own: nothing that is kept elsewhere counts
    found = Examined()
    checked = set(without)
    while new := [pack for pack in catalog.packs() if pack.name not in checked]:
        for pack in new:  # and then those that others have published or merged meanwhile
            checked.add(pack.name)
            total = sum(one.size_bytes for one in catalog.packs())
            try:
                _examine_pack(shelf, pack, found)
            except FileNotFoundError:
                continue  # merged away: its heir comes
            seen(found.size_bytes, max(total, found.size_bytes))
    faults = [_fault_of(error) for error in catalog.damaged()]
    found.faults += [fault for fault in faults if fault.pack not in without]
    return found


def _examine_pack(shelf: Shelf, pack: Pack, found: Examined) -> None:
    data = shelf.read(pack.name, 0, pack.size_bytes)
    found.packs += 1
    found.size_bytes += pack.size_bytes
    try:
        packs.check_header(pack.name, data)
    except Corrupt as error:
        found.faults.append(_fault_of(error, pack.name))
    for key, place, _, payload in objects_of(pack, data):
        found.objects += 1
        name = f"{place.tag}:{key.hex()}"
        head = packs.record_head(key, place)
        if payload is None:
            found.faults.append(
                Fault(
                    code="object.corrupt",
                    message=f"The bytes of {name} in {pack.name} are not what was stored.",
                    hint="Put the same file again to heal it, or restore the pack from a backup.",
                    pack=pack.name,
                    digest=name,
                )
            )
            continue
        found.whole.add(key)
        if data[place.offset - len(head) : place.offset] != head:
            found.faults.append(
                Fault(
                    code="pack.record",
                    message=f"The record of {name} in {pack.name} does not agree with the index.",
                    hint="`clew fsck --repair` writes the pack anew.",
                    pack=pack.name,
                )
            )


def _fault_of(error: Corrupt, pack: str = "") -> Fault:
    named = pack or next((word for word in error.message.split() if packs.SUFFIX in word), "")
    return Fault(code=error.code, message=error.message, hint=error.hint, pack=named)


class Sound:
    """Tells whether objects are whole with all that is below them; each is read once."""

    def __init__(self, examined: Examined, load: Load, fetch: Fetch) -> None:
        self._whole = examined.whole
        self._load = load
        self._fetch = fetch
        self._known: dict[bytes, bool] = {}

    def there(self, digest: str) -> bool:
        """Whether a good copy of an object itself was seen."""
        return digest == EMPTY_TREE or split(digest)[1] in self._whole

    def whole(self, digest: str) -> bool:
        """Whether an object and all below it are whole."""
        return digest == EMPTY_TREE or self._sound(*split(digest))

    def broken(self, tree: str) -> Iterator[str]:
        """Paths of a tree whose content is not whole; ``/`` where nodes of it are missing."""
        stack = [tree]
        while stack:
            one = stack.pop()
            if self.whole(one):
                continue
            if not self.there(one):
                yield "/"
                continue
            node = self._load(one)
            for at in range(len(node)):
                if node.level:
                    stack.append(f"{TREE}:{node.key(at).hex()}")
                elif not self.whole(node.entry(at).digest):
                    yield node.entry(at).path

    def _sound(self, tag: str, key: bytes) -> bool:
        told = self._known.get(key)
        if told is None:
            told = key in self._whole
            if told and tag in {TREE, CHUNKS}:
                below = children(tag, key, self._fetch(tag, key))
                told = all(self._sound(*one) for one in below)
            self._known[key] = told
        return told


def salvage(shelf: Shelf, catalog: Catalog, names: Iterable[str]) -> None:
    """Write anew, durably, what is good of damaged packs and stands nowhere else.

    The caller is alone with the shelf. The packs themselves stay.
    """
    for name in names:
        builder = PackBuilder()
        for key, tag, encoding, size_bytes, stored in _good(shelf, name):
            if not any(pack.name != name and pack.find(key) for pack in catalog.packs()):
                builder.add(key, tag, encoding, size_bytes, stored)
        if len(builder):
            builder.salt()  # or it could have the name of the pack that it stands for
            catalog.publish(builder)


def set_aside(shelf: Shelf, catalog: Catalog, names: Iterable[str]) -> None:
    """Take damaged packs out of use; their bytes stay, as evidence, under another suffix.

    What was in them and spoilt is missing then, for every process: putting it again heals it.
    """
    for name in names:
        with suppress(FileNotFoundError):
            _, size_bytes = shelf.tail(name, 0)
            shelf.put(name.removesuffix(packs.SUFFIX) + SPOILT, [shelf.read(name, 0, size_bytes)])
        catalog.let_go([name])


def _good(shelf: Shelf, name: str) -> Iterator[tuple[bytes, str, int, int, bytes]]:
    """The good objects of a pack, by its index where that can be read, else record by record."""
    try:
        _, size_bytes = shelf.tail(name, 0)
        data = shelf.read(name, 0, size_bytes)
        pack = load(shelf, name)
    except FileNotFoundError:
        return
    except Corrupt:
        for key, tag, encoding, size_bytes, stored, good in packs.records(data):
            if good:
                yield key, tag, encoding, size_bytes, stored
        return
    for key, place, stored, payload in objects_of(pack, data):
        if payload is not None:
            yield key, place.tag, place.encoding, place.size_bytes, stored
