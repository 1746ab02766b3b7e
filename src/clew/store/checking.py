"""fsck: every byte of every pack, and that nothing refers to what is not there.

Knows all kinds of objects; changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from clew.base.errors import Corrupt
from clew.store import packs
from clew.store.catalog import Catalog, objects_of
from clew.store.chunks import CHUNKS, decode_chunks
from clew.store.nodes import TREE, decode_node
from clew.store.packs import Pack
from clew.store.shelf import Shelf


def check(shelf: Shelf, catalog: Catalog) -> list[str]:
    """What is wrong, one sentence each, worst first: packs, objects, references.

    Others may write and merge meanwhile.
    """
    problems: list[str] = []
    whole: set[bytes] = set()
    wanted: dict[bytes, str] = {}
    checked: set[str] = set()
    while new := [pack for pack in catalog.packs() if pack.name not in checked]:
        for pack in new:  # and then those that others have published or merged meanwhile
            checked.add(pack.name)
            with suppress(FileNotFoundError):  # merged away: its heir comes
                problems += _check_pack(shelf, pack, whole, wanted)
    damaged = [error.message for error in catalog.damaged()]
    missing = [key for key in wanted if key not in whole and not catalog.contains(key)]
    dangling = [f"{wanted[key]} refers to {key.hex()}, which is missing." for key in missing]
    return damaged + problems + dangling


def _check_pack(
    shelf: Shelf, pack: Pack, whole: set[bytes], wanted: dict[bytes, str]
) -> Iterator[str]:
    data = shelf.read(pack.name, 0, pack.size_bytes)
    try:
        packs.check_header(pack.name, data)
    except Corrupt as error:
        yield error.message
    for key, place, _, payload in objects_of(pack, data):
        name = f"{place.tag}:{key.hex()}"
        head = packs.record_head(key, place)
        if payload is None:
            yield f"The bytes of {name} in {pack.name} are not what was stored."
            continue
        if data[place.offset - len(head) : place.offset] != head:
            yield f"The record of {name} in {pack.name} does not agree with the index."
        whole.add(key)
        try:
            wanted.update((child, name) for child in _references(place.tag, name, payload))
        except Corrupt as error:
            yield error.message


def _references(tag: str, name: str, payload: bytes) -> list[bytes]:
    if tag == CHUNKS:
        return list(decode_chunks(name, payload).keys)
    if tag != TREE:
        return []
    node = decode_node(name, payload)
    return [node.key(at) for at in range(len(node))]
