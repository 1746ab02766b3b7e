"""Records of files on their way in, and of what is known of a file besides its content.

Plain values; they know no storage and no protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct, field


class Upload(Struct, frozen=True, kw_only=True):
    """A file of a branch that comes in parts. ``options`` is what its client wants of it.

    ``done`` is what the client was told when the file was committed, '' until then.
    """

    id: str
    repo: str
    branch: str
    path: str
    options: Mapping[str, Any]
    started_at: datetime
    done: str = ""


class UploadPart(Struct, frozen=True, kw_only=True):
    """One part: a file in the store, its MD5 in hexadecimal, and the checksums its client sent."""

    number: int
    digest: str
    size_bytes: int
    md5: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    at: datetime


class Facts(Struct, frozen=True, kw_only=True):
    """What a tree does not say of a content at a path. ``at``: when it was put there last.

    ``etag``: as its client knows it, without quotes ('': never told); ``headers``: what it is to
    be sent with; ``meta``: what its client keeps with it; ``checksums``: by algorithm.
    """

    etag: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    at: datetime
