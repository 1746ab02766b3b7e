"""What a tabular file looks like, found out once and then remembered by its digest.

Knows repos and quality; whoever asks first pays.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import msgspec

from clew.base.errors import Invalid
from clew.base.records import ColumnProfile, Commit, TableProfile
from clew.quality import FORMATS, describe
from clew.workspace.rooms import Rooms

_QUESTION = "profile 2"


def can_profile(path: str) -> bool:
    """Whether a file is tabular, by its suffix."""
    return PurePosixPath(path).suffix.lower() in FORMATS


def profile(rooms: Rooms, commit: Commit, path: str) -> TableProfile:
    """A tabular file of a commit in a few numbers.

    Raises:
        NotFound: ``file.unknown``.
        Invalid: ``profile.format`` where it is no table, ``file.unreadable``.
    """
    file = rooms.repos.get_file(commit, path)
    suffix = PurePosixPath(path).suffix.lower()
    if file.kind != "file" or suffix not in FORMATS:
        raise Invalid(
            "profile.format",
            f"{file.path} is not a file that holds a table.",
            hint=f"Files with a profile end in {', '.join(FORMATS)}.",
        )
    question = f"{_QUESTION} {FORMATS[suffix]}"
    kept = rooms.repos.note(file.digest, question)
    if kept is None:
        with rooms.repos.open_file(commit, path) as stream:
            rows, columns = describe(stream, suffix, file.size_bytes)
        kept = msgspec.to_builtins({"rows": rows, "columns": columns})
        rooms.repos.keep_note(file.digest, question, kept)
    return TableProfile(
        path=file.path,
        digest=file.digest,
        size_bytes=file.size_bytes,
        format=FORMATS[suffix],
        rows=kept["rows"],
        columns=tuple(msgspec.convert(kept["columns"], list[ColumnProfile])),
    )
