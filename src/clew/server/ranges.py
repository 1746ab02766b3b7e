"""A file as an answer: whole, or the range that was asked for, straight from its stream.

Knows the headers of HTTP ranges (RFC 9110, one range); nothing of where the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

_PIECE = 1 << 20


def answer_range(
    request: Request,
    open_file: Callable[[], BinaryIO],
    size_bytes: int,
    *,
    etag: str,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/octet-stream",
) -> Response:
    """The content, or the part of it that ``Range`` names; nothing else of the file is read.

    ``etag`` with its quotes. An unchanged file (``If-None-Match``) is 304, a range that begins
    behind the end 416; several ranges, or one with an outdated ``If-Range``, give the whole.
    """
    said = {"ETag": etag, "Accept-Ranges": "bytes", **(headers or {})}
    if _names(request.headers.get("if-none-match", ""), etag):
        return Response(None, 304, said)
    asked = request.headers.get("range", "")
    if request.headers.get("if-range", etag) != etag:
        asked = ""
    part = parse_range(asked, size_bytes) if size_bytes else None
    start, end = part or (0, size_bytes)
    if part and start >= end:
        said["Content-Range"] = f"bytes */{size_bytes}"
        return Response(None, 416, said)
    status = 206 if part else 200
    if part:
        said["Content-Range"] = f"bytes {start}-{end - 1}/{size_bytes}"
    said["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(None, status, said, media_type)
    return StreamingResponse(_pieces(open_file(), start, end), status, said, media_type)


def parse_range(text: str, size_bytes: int) -> tuple[int, int] | None:
    """Half-open bounds of ``bytes=2-5``, ``bytes=2-`` or ``bytes=-3``; None for anything else.

    A range that begins behind the end is empty: ``(size, size)``.
    """
    unit, _, given = text.partition("=")
    first, dash, last = given.strip().partition("-")
    if unit.strip() != "bytes" or not dash or not all(p.isdigit() or not p for p in (first, last)):
        return None
    if not first:
        return (max(0, size_bytes - int(last)), size_bytes) if last else None
    start = int(first)
    end = int(last) + 1 if last else size_bytes
    if last and end <= start:
        return None
    return min(start, size_bytes), min(end, size_bytes)


def _names(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or "*" in tags


def _pieces(stream: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with stream:
        stream.seek(start)
        while start < end and (piece := stream.read(min(_PIECE, end - start))):
            start += len(piece)
            yield piece
