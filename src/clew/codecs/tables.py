"""What frames of all libraries share: formats by suffix, several files as one table.

Knows no library: each gives its readers and its way to put frames below one another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from clew.base.columns import mixed, not_text
from clew.base.errors import Invalid
from clew.codecs.formats import (
    DELIMITERS,
    content_of,
    explained,
    first_line,
    not_a_table,
    suffix_in,
)
from clew.repos import File

Readers = Mapping[str, Callable[[bytes], Any]]
"""Suffix → how content of that format is read."""


def read_each(files: Sequence[File], asked: str, readers: Readers) -> list[Any]:
    """One value for each file.

    Raises:
        Invalid: ``file.unreadable``, naming the file, its format, the reason and the row;
            ``input.empty``.
    """
    if not files:
        raise Invalid(
            "input.empty",
            "There is no file to make a table of.",
            hint="Check the glob of the input, or annotate with Optional or list[...].",
        )
    return [_read(file, asked, readers) for file in files]


def stack(files: Sequence[File], act: Callable[[], Any]) -> Any:
    """Put what was read below one another. Raises Invalid ``files.differ``."""
    try:
        return act()
    except Exception as error:
        raise _differ(files, first_line(error)) from error


def same_columns(files: Sequence[File], columns: Sequence[Sequence[object]]) -> None:
    """Refuse files with other columns than the first. Raises Invalid ``files.differ``."""
    for file, names in zip(files, columns, strict=True):
        if set(names) != set(columns[0]):
            odd = ", ".join(sorted(set(map(str, names)) ^ set(map(str, columns[0]))))
            raise _differ(files, f"{file.path} and {files[0].path} do not both have {odd}")


def as_text(
    files: Sequence[File],
    asked: str,
    frames: Sequence[Any],
    types: Sequence[Mapping[str, object]],
    read: Callable[[bytes, str, Collection[str]], Any],
) -> list[Any]:
    """The frames, those of delimited text read once more where a column is a number in one of them
    and text in another: it is text in all, as it was written (``007``), and as it would be in one
    file of all rows.

    ``types``: as for :func:`same_kinds`. ``read``: content, delimiter and columns to read as text.
    """
    found = list(frames)
    suffixes = [suffix_in(file, asked) for file in files]
    delimited = [at for at, suffix in enumerate(suffixes) if suffix in DELIMITERS]
    for at, names in zip(delimited, not_text([types[at] for at in delimited]), strict=True):
        if names:
            content = content_of(files[at], asked)
            found[at] = read(content, DELIMITERS[suffixes[at]], names)
    return found


def same_kinds(files: Sequence[File], types: Sequence[Mapping[str, object]]) -> None:
    """Refuse files of which a column holds numbers in one and text in another, say: put below one
    another, numbers would become text. ``types``: by column, of each file; without columns that
    have no value there.

    Raises:
        Invalid: ``files.differ``, naming the column, the files and the types.
    """
    if why := mixed([file.path for file in files], types):
        raise _differ(
            files,
            why,
            "Give the column one type in all files, or annotate the parameter with list[...] to "
            "get one value a file.",
        )


def _read(file: File, asked: str, readers: Readers) -> Any:
    suffix = suffix_in(file, asked)
    reader = readers.get(suffix)
    if reader is None:
        raise not_a_table(file, list(readers))
    data = content_of(file, asked)
    with explained(file, suffix, data):
        return reader(data)


def _differ(
    files: Sequence[File],
    reason: str,
    hint: str = "Annotate the parameter with list[...] to get one value for each file.",
) -> Invalid:
    return Invalid(
        "files.differ",
        f"{len(files)} files from {files[0].path} to {files[-1].path} are not one table: {reason}.",
        hint=hint,
    )
