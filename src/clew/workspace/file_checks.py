"""Two trees that should be the same, file by file: where each differs, and what of it.

Knows the store and how tables and texts are compared; nothing of what made the trees.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from clew.base.records import Change, FileInfo
from clew.base.records.knowing import FileCheck
from clew.repos import File, file_of
from clew.store import Entry, TreeChange
from clew.workspace import late
from clew.workspace.rooms import Rooms

SHOWN = 20
"""So many files of a datum or job are looked into."""

ROWS = 5
_PIECE = 1 << 20


def differences(rooms: Rooms, old: str, new: str) -> Iterable[FileCheck]:
    """The files of two trees that are not the same."""
    with tempfile.TemporaryDirectory(dir=rooms.settings.home, prefix="diff-") as spill:
        for number, change in enumerate(rooms.store.diff(old, new)):
            if number < SHOWN:
                yield _difference(rooms, old, new, change, Path(spill))


def _difference(rooms: Rooms, old: str, new: str, change: TreeChange, spill: Path) -> FileCheck:
    sides = [
        file_of(rooms.store, tree, change.path) if side is not None else None
        for tree, side in ((old, change.old), (new, change.new))
    ]
    kind = "changed" if all(sides) else "removed" if sides[0] else "added"
    digests = [side.digest if side else "" for side in sides]
    plain = FileCheck(path=change.path, kind=kind, old=digests[0], new=digests[1])
    if kind != "changed" or sides[0] is None or sides[1] is None:
        return plain
    infos = [_info(side) for side in (change.old, change.new) if side is not None]
    told = late.compared(
        Change(path=change.path, kind="changed", old=infos[0], new=infos[1]),
        sides[0],
        sides[1],
        (),
        ROWS,
        spill,
    )
    return FileCheck(
        path=change.path,
        kind=kind,
        old=digests[0],
        new=digests[1],
        offset=first_difference(sides[0], sides[1]),
        table=told.table,
        text=told.text,
    )


def _info(entry: Entry) -> FileInfo:
    return FileInfo(path=entry.path, kind="file", digest=entry.digest, size_bytes=entry.size_bytes)


def first_difference(old: File, new: File) -> int:
    """The offset of the first byte that differs; the length of the shorter where it is a part."""
    at = 0
    with old.open() as left, new.open() as right:
        while True:
            one, other = left.read(_PIECE), right.read(_PIECE)
            if one != other:
                pairs = zip(one, other, strict=False)
                return at + next(
                    (n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other))
                )
            if not one:
                return at
            at += len(one)
