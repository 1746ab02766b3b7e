"""What one codec is to the others: a kind of value, with how it is read and written.

Knows no type and no library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import Struct

from clew.base.errors import Invalid
from clew.repos import File

Content: TypeAlias = bytes | Path


class Place(Struct, frozen=True, kw_only=True):
    """What a read may use besides the files.

    ``scratch`` is a directory of its own, made when it is needed; None where there is none.
    With ``directory`` a ``Path`` is the directory, also where it holds one file.
    """

    scratch: Path | None = None
    directory: bool = False

    def export(self, files: Sequence[File]) -> list[Path]:
        """Files on disk, under their paths.

        Raises:
            Invalid: ``codec.scratch`` where there is no directory.
        """
        if self.scratch is None:
            raise Invalid(
                "codec.scratch",
                "This type is read from disk, and there is no directory to export files to.",
                hint="Pass scratch=, or annotate with clew.File.",
            )
        self.scratch.mkdir(parents=True, exist_ok=True)
        return [file.export(self.scratch / file.path.lstrip("/")) for file in files]


class Kind(Struct, frozen=True, kw_only=True):
    """How values of one type become a file and come back.

    ``read`` gets one file or more in the order of their paths, the format that was asked for
    ('' : that of each file's suffix) and a place; ``write`` gives the content of a value in the
    format of a suffix, the same bytes for equal values. ``suffix`` is what is written where
    nothing else is asked for, ``suffixes`` is what can be; None: any.
    """

    suffix: str
    suffixes: frozenset[str] | None
    read: Callable[[Sequence[File], str, Place], Any]
    write: Callable[[Any, str], Content]


def only(files: Sequence[File]) -> File:
    """The one file.

    Raises:
        Invalid: ``input.many_files``, ``input.empty``.
    """
    if not files:
        raise Invalid(
            "input.empty",
            "There is no file to make the value of.",
            hint="Check the glob of the input, or annotate with Optional or list[...].",
        )
    if len(files) != 1:
        raise Invalid(
            "input.many_files",
            f"This input has {len(files)} files where one is expected.",
            hint="Annotate with tuple[X, ...] to get one X for each file, or take one datum per "
            "file.",
        )
    return files[0]
