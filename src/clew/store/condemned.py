"""The condemned: objects that nothing refers to, written down for every writer to see.

Knows the bytes of the list and what it says of an object; who writes it and acts on it is
``collecting``. To a writer what is condemned is absent: it puts it again.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct, field

from clew.base.errors import Corrupt
from clew.store.digests import canonical, key_of
from clew.store.packs import Pack

SUFFIX = ".condemned"
_FORM = 1


class Condemned(Struct, frozen=True, kw_only=True):
    """One list. ``packs``: for every pack that was looked at, a bit for each of its keys, sorted.

    An object of such a pack whose bit is not set was reachable, and so was all below it.
    """

    at_us: int = 0
    packs: Mapping[str, bytes] = field(default_factory=dict)

    def looked_at(self, pack: str) -> bool:
        """Whether the pack was there when reachable objects were marked."""
        return pack in self.packs

    def has(self, pack: Pack, key: bytes) -> bool:
        """Whether the copy of an object that a pack holds is condemned."""
        bits = self.packs.get(pack.name)
        if not bits:
            return False
        number = pack.number(key)
        return number is not None and bool(bits[number >> 3] >> (number & 7) & 1)


NOBODY = Condemned()


def encode(condemned: Condemned) -> tuple[str, bytes]:
    """Name and bytes of a list."""
    payload = canonical([_FORM, condemned.at_us, dict(condemned.packs)])
    return key_of("condemned", payload).hex() + SUFFIX, payload


def decode(name: str, payload: bytes) -> Condemned:
    """The list again.

    Raises:
        Corrupt: ``condemned.corrupt``.
    """
    try:
        form, at_us, packs = msgspec.msgpack.decode(payload, type=tuple[int, int, dict[str, bytes]])
    except msgspec.MsgspecError as error:
        raise _corrupt(name) from error
    if form != _FORM or name != key_of("condemned", payload).hex() + SUFFIX:
        raise _corrupt(name)
    return Condemned(at_us=at_us, packs=packs)


def bits_of(numbers: list[int], count: int) -> bytes:
    """A bit for each of ``count`` keys; set for those of ``numbers``. Empty: none is."""
    if not numbers:
        return b""
    bits = bytearray((count + 7) // 8)
    for number in numbers:
        bits[number >> 3] |= 1 << (number & 7)
    return bytes(bits)


def _corrupt(name: str) -> Corrupt:
    return Corrupt(
        "condemned.corrupt",
        f"The list {name} of what is to be collected is damaged.",
        hint="Remove that file: the next `clew gc` writes another, and nothing is lost.",
    )
