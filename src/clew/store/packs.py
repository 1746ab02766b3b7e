"""The pack: many objects in one immutable file, with its index at the end.

Knows the layout of bytes (design/0003-on-disk-format.md); knows nothing of disks. All numbers are
little-endian. A pack is named by the digest of its index, so equal packs have equal names.
"""

from __future__ import annotations

import re
import secrets
import struct
from collections.abc import Iterator
from typing import NamedTuple, cast

from clew.base.errors import Corrupt
from clew.store.digests import KEY_BYTES, key_of
from clew.store.squeeze import RAW, expand

VERSION = 1
MAGIC = b"clewpack"
SUFFIX = ".pack"
SALT = "salt"
TAIL_BYTES = 8192  # what is read first of a pack: trailer and, where it is small, the whole index

_HEADER = struct.Struct("<8sB7x")
_RECORD = struct.Struct("<32sIIBB")  # key, size, stored size, encoding, length of the tag
_INDEX = struct.Struct("<II")  # objects, tags
_PLACE = struct.Struct("<QIIBB")  # offset of the stored bytes, stored size, size, encoding, tag
_TRAILER = struct.Struct("<QQ32sB7x8s")  # index offset, index size, index digest, version, magic
_FANOUT = struct.Struct("<256I")
_TWO = struct.Struct("<II")
_SALT_BYTES = 16
_TAG = re.compile(rb"[a-z][a-z0-9-]*")


class Place(NamedTuple):
    """Where an object lies in its pack, and in what form."""

    offset: int
    stored_bytes: int
    size_bytes: int
    encoding: int
    tag: str


class Pack:
    """The index of one pack, read into memory: about 50 bytes an object. Immutable."""

    __slots__ = ("_fanout", "_keys", "_places", "_tags", "count", "name", "size_bytes")

    def __init__(self, name: str, size_bytes: int, index: bytes) -> None:
        """``index`` is what :func:`read_index` has found whole."""
        self.name = name
        self.size_bytes = size_bytes
        self.count, tags = _INDEX.unpack_from(index)
        self._tags, at = _read_tags(index, _INDEX.size, tags)
        self._fanout = index[at : at + _FANOUT.size]
        at += _FANOUT.size
        self._keys = index[at : at + self.count * KEY_BYTES]
        self._places = index[at + self.count * KEY_BYTES :]

    def find(self, key: bytes) -> Place | None:
        """The place of an object, or None where the pack does not hold it."""
        number = self.number(key)
        return None if number is None else self.place(number)

    def number(self, key: bytes) -> int | None:
        """Which of the sorted keys it is, from 0; None where the pack does not hold it."""
        low, high = self._bucket(key[0])
        at = self._keys.find(key, low * KEY_BYTES, high * KEY_BYTES)
        while at % KEY_BYTES and at >= 0:  # a match across two keys is none
            at = self._keys.find(key, at + 1, high * KEY_BYTES)
        return None if at < 0 else at // KEY_BYTES

    def sorted_keys(self) -> list[bytes]:
        """All keys, sorted."""
        keys = self._keys
        return [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]

    def objects(self) -> Iterator[tuple[bytes, Place]]:
        """All keys with their places, in the order in which they lie in the pack."""
        places = [self.place(number) for number in range(self.count)]
        yield from sorted(
            zip(self.sorted_keys(), places, strict=True), key=lambda pair: pair[1].offset
        )

    def objects_of(self, tag: str) -> Iterator[tuple[bytes, Place]]:
        """The keys of a tag with their places; costs nothing where there are none."""
        if tag in self._tags:
            yield from (found for found in self.objects() if found[1].tag == tag)

    def _bucket(self, first: int) -> tuple[int, int]:
        if first == 0:
            return 0, int.from_bytes(self._fanout[:4], "little")
        low, high = _TWO.unpack_from(self._fanout, (first - 1) * 4)
        return low, high

    def place(self, number: int) -> Place:
        """The place of one of the sorted keys."""
        offset, stored, size, encoding, tag = _PLACE.unpack_from(self._places, number * _PLACE.size)
        return Place(offset, stored, size, encoding, self._tags[tag])


class PackBuilder:
    """Objects on their way into one pack, in memory."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = [_HEADER.pack(MAGIC, VERSION)]
        self._places: dict[bytes, tuple[int, int, int, int, int]] = {}
        self._stored: dict[bytes, tuple[str, int, bytes | memoryview, int]] = {}
        self._tags: dict[str, int] = {}
        self.size_bytes = _HEADER.size

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(
        self, key: bytes, tag: str, encoding: int, size_bytes: int, stored: bytes | memoryview
    ) -> None:
        """Append one object (once: a key that is there already stays as it is)."""
        if key in self._places:
            return
        tag_bytes = tag.encode()
        head = _RECORD.pack(key, size_bytes, len(stored), encoding, len(tag_bytes)) + tag_bytes
        offset = self.size_bytes + len(head)
        number = self._tags.setdefault(tag, len(self._tags))
        self._places[key] = (offset, len(stored), size_bytes, encoding, number)
        self._stored[key] = (tag, encoding, stored, size_bytes)
        self._parts += (head, stored)
        self.size_bytes = offset + len(stored)

    def salt(self) -> None:
        """Add an object that nobody else has, so that the pack has a name that no other has."""
        grain = secrets.token_bytes(_SALT_BYTES)
        self.add(key_of(SALT, grain), SALT, RAW, len(grain), grain)

    def get(self, tag: str, key: bytes) -> bytes | None:
        """The payload of an object that was added, or None."""
        found = self._stored.get(key)
        if found is None or found[0] != tag:
            return None
        return expand(found[1], bytes(found[2]), found[3])

    def joined(self, other: PackBuilder) -> PackBuilder:
        """A builder of all objects of both; they stay as they are."""
        both = PackBuilder()
        for builder in (self, other):
            for key, (tag, encoding, stored, size_bytes) in builder._stored.items():
                both.add(key, tag, encoding, size_bytes, stored)
        return both

    def keys(self) -> list[bytes]:
        """The keys of all objects added, in their order."""
        return list(self._places)

    def build(self) -> tuple[str, list[bytes], Pack]:
        """Name, bytes (to be joined) and index of the pack."""
        index = self._index()
        index_key = key_of("index", index)
        trailer = _TRAILER.pack(self.size_bytes, len(index), index_key, VERSION, MAGIC)
        name = index_key.hex() + SUFFIX
        pack = Pack(name, self.size_bytes + len(index) + len(trailer), index)
        parts = cast(list[bytes], self._parts)  # views are as good to write or join
        return name, [*parts, index, trailer], pack

    def _index(self) -> bytes:
        keys = sorted(self._places)
        below = [0] * 256
        for key in keys:
            below[key[0]] += 1
        for first in range(1, 256):
            below[first] += below[first - 1]
        tags = [bytes([len(tag)]) + tag.encode() for tag in self._tags]
        places = [_PLACE.pack(*self._places[key]) for key in keys]
        return b"".join(
            [_INDEX.pack(len(keys), len(tags)), *tags, _FANOUT.pack(*below), *keys, *places]
        )


class Trailer(NamedTuple):
    """The end of a pack: where its index lies and what it should be."""

    index_offset: int
    index_bytes: int
    index_key: bytes


def read_trailer(name: str, tail: bytes, size_bytes: int) -> Trailer:
    """The trailer, from the last bytes of a pack of ``size_bytes``.

    Raises:
        Corrupt: ``pack.corrupt``.
    """
    if size_bytes < _HEADER.size + _TRAILER.size or len(tail) < _TRAILER.size:
        raise corrupt_pack(name, f"it is only {size_bytes} bytes long")
    offset, length, key, _, _ = _TRAILER.unpack_from(tail, len(tail) - _TRAILER.size)
    if tail[-_TRAILER.size :] != _TRAILER.pack(offset, length, key, VERSION, MAGIC):
        raise corrupt_pack(name, "its end is not that of a pack of version 1")
    if offset + length + _TRAILER.size != size_bytes:
        raise corrupt_pack(name, "its length is not what its end says")
    return Trailer(offset, length, key)


def read_index(name: str, trailer: Trailer, index: bytes, size_bytes: int) -> Pack:
    """The pack of a verified index.

    Raises:
        Corrupt: ``pack.corrupt``.
    """
    if key_of("index", index) != trailer.index_key:
        raise corrupt_pack(name, "its index has changed")
    if name != trailer.index_key.hex() + SUFFIX:
        raise corrupt_pack(name, "its name is not that of its index")
    return Pack(name, size_bytes, index)


def check_header(name: str, data: bytes) -> None:
    """Refuse a pack whose first bytes are wrong.

    Raises:
        Corrupt: ``pack.corrupt``.
    """
    if data[: _HEADER.size] != _HEADER.pack(MAGIC, VERSION):
        raise corrupt_pack(name, "its beginning is not that of a pack of version 1")


def records(data: bytes) -> Iterator[tuple[bytes, str, int, int, bytes, bool]]:
    """What can be read of a pack without its index: key, tag, encoding, size, stored bytes, and
    whether they are those of the key. Ends where no record follows, or none that can be told.
    """
    at = _HEADER.size
    while at + _RECORD.size <= len(data):
        key, size_bytes, stored_bytes, encoding, length = _RECORD.unpack_from(data, at)
        start = at + _RECORD.size + length
        tag_bytes = data[at + _RECORD.size : start]
        stored = data[start : start + stored_bytes]
        if not _TAG.fullmatch(tag_bytes) or len(stored) != stored_bytes:
            return
        tag = tag_bytes.decode()
        place = Place(start, stored_bytes, size_bytes, encoding, tag)
        yield key, tag, encoding, size_bytes, stored, payload_of(key, place, stored) is not None
        at = start + stored_bytes


def record_head(key: bytes, place: Place) -> bytes:
    """The bytes that must stand before the stored bytes of an object."""
    tag = place.tag.encode()
    return _RECORD.pack(key, place.size_bytes, place.stored_bytes, place.encoding, len(tag)) + tag


def payload_of(key: bytes, place: Place, stored: bytes) -> bytes | None:
    """The payload, or None where the stored bytes are not those of ``key``."""
    if len(stored) != place.stored_bytes:
        return None
    payload = expand(place.encoding, stored, place.size_bytes)
    if payload is None or key_of(place.tag, payload) != key:
        return None
    return payload


def corrupt_pack(name: str, why: str) -> Corrupt:
    """The error for a pack that cannot be used."""
    return Corrupt(
        "pack.corrupt",
        f"The pack {name} is damaged: {why}.",
        hint="Restore the pack from a backup, or commit its files again.",
    )


def _read_tags(index: bytes, at: int, count: int) -> tuple[tuple[str, ...], int]:
    tags = []
    for _ in range(count):
        length = index[at]
        tags.append(index[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return tuple(tags), at
