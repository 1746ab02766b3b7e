"""Bytes, text, files as they are, and paths on disk.

Knows no library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clew.base.errors import Invalid
from clew.codecs.formats import content_of, squeeze, unreadable
from clew.codecs.kinds import Kind, Place, only
from clew.repos import File


def _read_bytes(files: Sequence[File], asked: str, place: Place) -> bytes:  # noqa: ARG001 - a codec's form
    return only(files).read()


def read_text(files: Sequence[File], asked: str, place: Place) -> str:  # noqa: ARG001 - a codec's form
    """The text of one file."""
    file = only(files)
    data = content_of(file, asked)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise unreadable(file, "UTF-8 text", f"{error.reason} in line {line}") from None


def _read_path(files: Sequence[File], asked: str, place: Place) -> Path:  # noqa: ARG001 - a codec's form
    targets = place.export(files)
    if len(targets) == 1 and not place.directory:
        return targets[0]
    assert place.scratch is not None
    return place.scratch


def _read_file(files: Sequence[File], asked: str, place: Place) -> File:  # noqa: ARG001 - a codec's form
    return only(files)


def _write_text(text: str, suffix: str) -> bytes:
    try:
        return squeeze(text.encode(), suffix)
    except UnicodeEncodeError as error:
        raise Invalid(
            "value.not_written",
            f"The text cannot be kept as UTF-8: {error.reason} at {error.start}.",
            hint="Return bytes in an encoding of your own.",
        ) from None


def _not_here(value: Any, suffix: str) -> bytes:
    raise AssertionError(f"{value!r} is written by name, not as {suffix}")


BYTES = Kind(suffix=".bin", suffixes=None, read=_read_bytes, write=lambda value, _: bytes(value))
TEXT = Kind(suffix=".txt", suffixes=None, read=read_text, write=_write_text)
PATH = Kind(suffix="", suffixes=None, read=_read_path, write=_not_here)
FILE = Kind(suffix="", suffixes=None, read=_read_file, write=_not_here)
