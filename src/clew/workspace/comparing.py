"""How the files of two commits differ: as tables, as text, or only in their bytes.

Knows which files to compare; how, the room of tables knows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from clew.base.address import normal_path
from clew.base.errors import Invalid
from clew.base.records import Change, Commit, FileDiff, FileInfo
from clew.repos import File
from clew.tables import LARGEST_TEXT, TABULAR, compare_tables, compare_texts
from clew.workspace.asking import commit_at
from clew.workspace.rooms import Rooms


def compare(
    rooms: Rooms,
    old: str,
    new: str,
    *,
    paths: Sequence[str],
    key: Sequence[str],
    limit: int,
    files: int,
) -> list[FileDiff]:
    """What differs between two commits, and how; the first ``files`` are looked into."""
    before, after = commit_at(rooms, old), commit_at(rooms, new)
    chosen = [normal_path(path) for path in paths] or ["/"]
    changes = {
        change.path: change for path in chosen for change in rooms.repos.diff(before, after, path)
    }
    found = []
    with tempfile.TemporaryDirectory(dir=rooms.settings.home, prefix="diff-") as spill:
        for number, path in enumerate(sorted(changes, key=str.encode)):
            change = changes[path]
            if number >= files:
                found.append(_plain(change, f"Not looked into: more than {files} files differ."))
                continue
            sides = tuple(
                _file(rooms, commit, side)
                for commit, side in ((before, change.old), (after, change.new))
            )
            found.append(compared(change, sides[0], sides[1], key, limit, Path(spill)))
    return found


def _file(rooms: Rooms, commit: Commit, info: FileInfo | None) -> File | None:
    return rooms.repos.pick(commit, info.path)[0] if info else None


def compared(
    change: Change,
    old: File | None,
    new: File | None,
    key: Sequence[str],
    limit: int,
    spill: Path,
) -> FileDiff:
    """How the two sides of a change differ."""
    note = ""
    if all(side is None or side.suffix in TABULAR for side in (old, new)):
        try:
            table = compare_tables(old, new, key=key, limit=limit, spill=spill)
            return FileDiff(
                path=change.path, kind=change.kind, old=change.old, new=change.new, table=table
            )
        except Invalid as error:
            if error.code not in {"file.unreadable", "files.differ"}:
                raise
            note = error.message
    return _as_text(change, old, new, note)


def _as_text(change: Change, old: File | None, new: File | None, note: str) -> FileDiff:
    sides = [side for side in (old, new) if side is not None]
    if any(side.size > LARGEST_TEXT for side in sides):
        return _plain(change, note or "Too large to be compared line by line.")
    if any(b"\0" in _beginning(side) for side in sides):
        return _plain(change, note)
    text = compare_texts(change.path, old.read() if old else None, new.read() if new else None)
    return FileDiff(
        path=change.path,
        kind=change.kind,
        old=change.old,
        new=change.new,
        text=text,
        note=note,
    )


def _beginning(file: File) -> bytes:
    with file.open() as stream:
        return stream.read(8192)


def _plain(change: Change, note: str) -> FileDiff:
    return FileDiff(path=change.path, kind=change.kind, old=change.old, new=change.new, note=note)
