"""Formats by suffix, compression, and the words for a file that is not what its suffix says.

Knows no library but the standard one.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import importlib
import io
import json
import lzma
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from clew.base.errors import ClewError, Invalid, Unavailable
from clew.repos import File

ARROW = frozenset({".arrow", ".feather", ".ipc"})
LINES = frozenset({".jsonl", ".ndjson"})
DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLES = ARROW | LINES | {".parquet", *DELIMITERS}
"""Files that hold a table whatever is asked for; .json may be one."""

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"})

_NAMES = {
    ".parquet": "Parquet",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".json": "JSON",
    ".npy": "NPY",
    ".npz": "NPZ",
    **dict.fromkeys(ARROW, "Arrow"),
    **dict.fromkeys(LINES, "JSON lines"),
    **dict.fromkeys(IMAGES, "an image"),
}


def _zstd(data: bytes) -> bytes:
    arrow = need("pyarrow")
    squeezed: bytes = arrow.CompressedInputStream(arrow.BufferReader(data), "zstd").read()
    return squeezed


_OPEN: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": _zstd,
}
_SQUEEZE: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 6, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def format_of(path: str) -> tuple[str, str]:
    """Suffix and compression of a path, in lower case: ``/a.CSV.gz`` → ``.csv``, ``.gz``."""
    name = path.rsplit("/", 1)[-1].lower()
    stem, dot, last = name.rpartition(".")
    if not dot or not stem:
        return "", ""
    if f".{last}" not in _OPEN:
        return f".{last}", ""
    inner, dot, suffix = stem.rpartition(".")
    return (f".{suffix}" if dot and inner else ""), f".{last}"


def stem_of(path: str) -> str:
    """A path without its slash and suffixes: ``/2013/07.csv.gz`` → ``2013/07``."""
    suffix, compression = format_of(path)
    return path.lstrip("/")[: -len(suffix + compression) or None]


def suffix_in(file: File, asked: str) -> str:
    """The format to read a file as: what was asked for, or what its own suffix says."""
    return format_of(f"x{asked}")[0] if asked else format_of(file.path)[0]


def content_of(file: File, asked: str = "") -> bytes:
    """The content of a file, without its compression.

    Raises:
        Invalid: ``file.unreadable`` where it is not compressed as it says.
    """
    compression = format_of(f"x{asked}" if asked else file.path)[1]
    data = file.read()
    if not compression:
        return data
    with explained(file, compression, data):
        if not data:
            raise ValueError("it is empty")
        return _OPEN[compression](data)


def squeeze(data: bytes, suffix: str) -> bytes:
    """Content in the compression that a suffix such as ``.csv.gz`` names."""
    compression = format_of(f"x{suffix}")[1]
    return _SQUEEZE[compression](data) if compression in _SQUEEZE else data


def name_of(suffix: str) -> str:
    """How people call a format."""
    return _NAMES.get(suffix, f"a {suffix or 'known'} file")


@contextmanager
def explained(file: File, suffix: str, data: bytes | None = None) -> Iterator[None]:
    """Say which file is not readable, and which row of it where that can be found."""
    try:
        yield
    except ClewError:
        raise
    except Exception as error:
        reason = first_line(error)
        row = bad_row(data, suffix) if data is not None else ""
        raise unreadable(file, name_of(suffix), f"{reason}{f'; {row}' if row else ''}") from error


def unreadable(file: File, as_what: str, reason: str) -> Invalid:
    """The error for a file that is not what it says."""
    return Invalid(
        "file.unreadable",
        f"{file.path} ({file.size} bytes) is not readable as {as_what}: {reason}.",
        hint="Look at the file, and commit one that can be read in its place.",
    )


def not_a_table(file: File, known: Sequence[str]) -> Invalid:
    """The error for a file whose suffix is of no format that the type is read from."""
    return Invalid(
        "file.unreadable",
        f"{file.path} is not a file that holds such a value ({', '.join(sorted(known))}).",
        hint="Choose such files with a glob, annotate the parameter with clew.File, or say the "
        'format: Annotated[..., ".csv"].',
    )


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    text = re.split(r"\n|\. Consider ", str(error).strip())[0]
    return text.rstrip(".:") or type(error).__name__


def bad_row(data: bytes, suffix: str) -> str:
    """The first row that does not fit, in words; '' where none is found. Line 1 is the first."""
    if suffix in LINES:
        return _bad_line(data)
    if suffix in DELIMITERS:
        return _bad_record(data, DELIMITERS[suffix])
    return ""


def _bad_line(data: bytes) -> str:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                json.loads(line)
            except ValueError as error:
                return f"line {number}: {first_line(error)}"
    return ""


def _bad_record(data: bytes, delimiter: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return f"line {line} is not UTF-8 text: byte 0x{data[error.start]:02x}"
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    wanted = None
    try:
        for row in rows:
            if wanted is None:
                wanted = len(row)
            elif row and len(row) != wanted:
                return f"line {rows.line_num} has {len(row)} fields, the header {wanted}"
    except csv.Error as error:
        return f"line {rows.line_num}: {first_line(error)}"
    return ""


def need(module: str, extra: str = "standard") -> Any:
    """A library that may not be installed.

    Raises:
        Unavailable: ``extra.missing``, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        what = f'"clew[{extra}]"' if extra else module.partition(".")[0]
        raise Unavailable(
            "extra.missing",
            f"This needs {module}, which is not installed.",
            hint=f"Install it: pip install {what}",
        ) from None
