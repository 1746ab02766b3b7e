"""What a trial logs besides metrics, as files: texts, tables, figures, images.

Knows how libraries that draw hand their work out, by what their objects can do; imports none of
them. Knows no trial and no store.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from clew.base.errors import Invalid

_NAME = re.compile(r"[^/\x00-\x1f\x7f]+(/[^/\x00-\x1f\x7f]+)*")
_TEXT_SUFFIXES = frozenset({".txt", ".md", ".json", ".csv", ".log", ".yaml", ".html"})
_PNG = b"\x89PNG\r\n\x1a\n"


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """One file. ``kind``: text, table, figure or image. ``name``: what the user calls it."""

    kind: str
    name: str
    step: int
    suffix: str
    content: bytes | Path

    @property
    def path(self) -> str:
        """Where it stands among the files of its trial: one for each name and step."""
        return f"{self.name}/{self.step}{self.suffix}"


def text(name: str, content: str, step: int) -> Logged:
    """A text; the suffix of its name says what kind. Raises Invalid ``trial.log``."""
    suffix = Path(name).suffix
    known = suffix if suffix in _TEXT_SUFFIXES else ".txt"
    stem = name.removesuffix(suffix) if suffix in _TEXT_SUFFIXES else name
    return _logged("text", stem, step, known, str(content).encode())


def table(name: str, rows: object, step: int) -> Logged:
    """A table as Parquet. Raises Invalid ``trial.log``."""
    import pyarrow  # noqa: PLC0415 - heavy, and only trials with tables need it
    from pyarrow import parquet  # noqa: PLC0415 - as above

    try:
        found = _arrow(pyarrow, rows)
    except (pyarrow.ArrowException, TypeError, ValueError, AttributeError) as error:
        raise _refused(name, f"{type(rows).__name__} is no table ({error})") from None
    buffer = io.BytesIO()
    parquet.write_table(found, buffer)
    return _logged("table", name, step, ".parquet", buffer.getvalue())


def figure(name: str, drawing: Any, step: int) -> Logged:
    """A figure: PNG where it can be saved as that, else HTML. Raises Invalid ``trial.log``."""
    if isinstance(drawing, str | Path):
        return _of_file("figure", name, step, Path(drawing))
    if hasattr(drawing, "figure") and not hasattr(drawing, "savefig"):
        drawing = drawing.figure  # axes of Matplotlib, and what seaborn gives
    if hasattr(drawing, "savefig"):
        buffer = io.BytesIO()
        drawing.savefig(buffer, format="png", bbox_inches="tight")
        return _logged("figure", name, step, ".png", buffer.getvalue())
    if hasattr(drawing, "to_html"):
        return _logged("figure", name, step, ".html", str(drawing.to_html()).encode())
    raise _refused(name, f"{type(drawing).__name__} is no figure")


def image(name: str, picture: Any, step: int) -> Logged:
    """An image as PNG, or the file as it is. Raises Invalid ``trial.log``."""
    if isinstance(picture, str | Path):
        return _of_file("image", name, step, Path(picture))
    if isinstance(picture, bytes):
        if not picture.startswith(_PNG):
            raise _refused(name, "these bytes are no PNG")
        return _logged("image", name, step, ".png", picture)
    if hasattr(picture, "save") and hasattr(picture, "mode"):  # of Pillow
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        return _logged("image", name, step, ".png", buffer.getvalue())
    return _logged("image", name, step, ".png", _png(name, picture))


def _arrow(pyarrow: Any, rows: Any) -> Any:
    if isinstance(rows, pyarrow.Table):
        return rows
    if isinstance(rows, Mapping):
        return pyarrow.table({str(key): list(column) for key, column in rows.items()})
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        return pyarrow.Table.from_pylist([dict(row) for row in rows])
    if hasattr(rows, "collect") and hasattr(rows, "lazy"):
        rows = rows.collect()
    return pyarrow.table(rows)  # whatever hands out Arrow streams: Polars, pandas, DuckDB


def _png(name: str, picture: Any) -> bytes:
    """An array as PNG (RFC 2083): 8 bits a channel, grey, RGB or RGBA."""
    import numpy  # noqa: PLC0415 - only trials with arrays need it

    array = numpy.asarray(getattr(picture, "detach", lambda: picture)())
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    colours = {2: {0: 0}, 3: {3: 2, 4: 6}}.get(array.ndim, {})
    channels = array.shape[2] if array.ndim == 3 else 0
    if channels not in colours or 0 in array.shape or array.dtype.kind not in "buif":
        raise _refused(name, f"an array of {array.dtype} {array.shape} is no image")
    if array.dtype.kind == "f":
        array = numpy.nan_to_num(array) * 255
    if array.dtype.kind == "b":
        array = array * numpy.uint8(255)
    array = numpy.clip(array, 0, 255).round().astype(numpy.uint8)
    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, 8, colours[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return _PNG + b"".join(_part(kind, data) for kind, data in parts)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _of_file(kind: str, name: str, step: int, file: Path) -> Logged:
    if not file.is_file():
        raise _refused(name, f"there is no file {file}")
    return _logged(kind, name, step, file.suffix.lower(), file)


def _logged(kind: str, name: str, step: int, suffix: str, content: bytes | Path) -> Logged:
    parts = name.split("/")
    if not _NAME.fullmatch(name) or "." in parts or ".." in parts:
        raise _refused(name, "its name is no path of plain words")
    return Logged(kind=kind, name=name, step=step, suffix=suffix, content=content)


def _refused(name: str, why: str) -> Invalid:
    return Invalid(
        "trial.log",
        f"{name!r} cannot be logged: {why}.",
        hint="Give log_text a str, log_table a frame, log_figure a figure, log_image an array.",
    )
