"""Headers of objects: what is kept of a put, what is sent with a get, what is refused.

Knows the names of S3; nothing of storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from clew.base.records.uploads import Facts
from clew.server.s3.errors import S3Error, not_implemented
from clew.server.s3.request import Asked

META = "x-amz-meta-"
KEPT = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
_DEFAULT_TYPE = "binary/octet-stream"
_MOST_META = 2048
_REFUSED = (
    "x-amz-server-side-encryption",
    "x-amz-tagging",
    "x-amz-object-lock-",
    "x-amz-website-redirect-location",
    "x-amz-grant-",
    "x-amz-write-offset-bytes",
    "x-amz-copy-source-server-side-encryption",
)
_PRIVATE = {"", "private", "bucket-owner-full-control"}
OWNER = "clew"


def check_refused(asked: Asked) -> None:
    """Refuse what would be dropped in silence.

    Raises:
        S3Error: ``NotImplemented``, ``AccessDenied``.
    """
    for name in asked.headers:
        if name.startswith(_REFUSED):
            raise not_implemented(f"The header {name}")
    if asked.header("x-amz-acl") not in _PRIVATE:
        raise not_implemented(f"The ACL {asked.header('x-amz-acl')!r}")
    if asked.header("x-amz-storage-class", "STANDARD") != "STANDARD":
        raise S3Error("InvalidStorageClass", "There is one storage class: STANDARD.")
    if asked.header("x-amz-expected-bucket-owner", OWNER) != OWNER:
        raise S3Error("AccessDenied", f"The owner of every bucket is {OWNER!r}.", 403)


def facts_of(asked: Asked, at: datetime) -> Facts:
    """What a request wants to be kept of an object, but for its ETag.

    Raises:
        S3Error: ``MetadataTooLarge``.
    """
    meta = {
        name.removeprefix(META): value
        for name, value in asked.headers.items()
        if name.startswith(META)
    }
    if sum(len(name) + len(value) for name, value in meta.items()) > _MOST_META:
        raise S3Error("MetadataTooLarge", f"Own metadata may have {_MOST_META} bytes at most.")
    kept = {name: asked.header(name) for name in KEPT if asked.header(name)}
    coding = _plain_coding(kept.pop("content-encoding", ""))
    if coding:
        kept["content-encoding"] = coding
    return Facts(headers=kept, meta=meta, at=at)


def headers_of(asked: Asked, facts: Facts | None) -> dict[str, str]:
    """What an object is sent with; ``response-…`` in the query counts more than what was kept."""
    found = dict(facts.headers) if facts else {}
    for name in KEPT:
        if f"response-{name}" in asked.query:
            found[name] = asked.query[f"response-{name}"]
    found.setdefault("content-type", _DEFAULT_TYPE)
    meta = facts.meta if facts else {}
    return {**found, **{META + name: value for name, value in meta.items()}}


def checksum_headers(asked: Asked, sums: Mapping[str, str]) -> dict[str, str]:
    """The checksums of an object, where the client wants to see them."""
    if asked.header("x-amz-checksum-mode").upper() != "ENABLED" or not sums:
        return {}
    found = {f"x-amz-checksum-{name}": value for name, value in sums.items()}
    whole = "COMPOSITE" if any("-" in value for value in sums.values()) else "FULL_OBJECT"
    return {**found, "x-amz-checksum-type": whole}


def _plain_coding(value: str) -> str:
    """Content-Encoding without ``aws-chunked``, which is of the request alone."""
    codings = [one.strip() for one in value.split(",")]
    return ",".join(one for one in codings if one and one.lower() != "aws-chunked")
