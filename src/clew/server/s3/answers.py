"""What is sent back: a status, headers, and bytes or a stream of them.

Knows HTTP; nothing of S3's operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from msgspec import Struct, field

from clew.server.s3.xml import document

XML = {"Content-Type": "application/xml"}


class Stream(Struct, frozen=True, kw_only=True):
    """``size_bytes`` of a file from where ``source`` stands; whoever sends it closes it."""

    source: BinaryIO
    size_bytes: int


class Answer(Struct, frozen=True, kw_only=True):
    """A whole answer; its Content-Length is that of the body unless the headers say another."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Stream = b""


def xml_answer(name: str, *parts: str, headers: Mapping[str, str] | None = None) -> Answer:
    """A document."""
    return Answer(headers={**XML, **(headers or {})}, body=document(name, parts))
