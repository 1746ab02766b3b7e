"""Signature Version 2 of addresses: how boto3 and awscli still presign for endpoints like this.

Knows that one form (https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html,
query string authentication); requests signed by it in a header are refused elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime

from clew.server.s3.errors import S3Error
from clew.server.s3.request import Asked

_RESOURCES = frozenset(
    {
        *("acl", "cors", "delete", "lifecycle", "location", "logging", "notification"),
        *("partNumber", "policy", "requestPayment", "tagging", "torrent", "uploadId", "uploads"),
        *("versionId", "versioning", "versions", "website"),
    }
)
_NAMES = frozenset({"AWSAccessKeyId", "Signature", "Expires"})


def is_presigned(asked: Asked) -> bool:
    """Whether an address is signed so."""
    return asked.query.keys() >= _NAMES


def verify_presigned(asked: Asked, secret: str, now: datetime, access_key: str) -> None:
    """Check the end of an address, and where there is a secret its signature.

    Raises:
        S3Error: ``AccessDenied``, ``InvalidAccessKeyId``, ``SignatureDoesNotMatch``.
    """
    query = asked.query
    if not query["Expires"].isdigit() or now.timestamp() > int(query["Expires"]):
        raise S3Error("AccessDenied", "Request has expired", 403)
    if not secret:
        return
    if not hmac.compare_digest(query["AWSAccessKeyId"].encode(), access_key.encode()):
        raise S3Error(
            "InvalidAccessKeyId", f"The access key of this server is {access_key!r}.", 403
        )
    signed = hmac.new(secret.encode(), _string_to_sign(asked).encode(), hashlib.sha1).digest()
    if not hmac.compare_digest(base64.b64encode(signed), query["Signature"].encode()):
        raise S3Error("SignatureDoesNotMatch", "The address was not signed with the token.", 403)


def _string_to_sign(asked: Asked) -> str:
    own = sorted((n, v) for n, v in asked.headers.items() if n.startswith("x-amz-"))
    lines = [
        asked.method,
        asked.header("content-md5"),
        asked.header("content-type"),
        asked.query["Expires"],
        *(f"{name}:{value}" for name, value in own),
        _resource(asked),
    ]
    return "\n".join(lines)


def _resource(asked: Asked) -> str:
    named = sorted(
        (name, value)
        for name, value in asked.pairs
        if name in _RESOURCES or name.startswith("response-")
    )
    plain = "&".join(f"{name}={value}" if value else name for name, value in named)
    return f"{asked.raw_path}?{plain}" if plain else asked.raw_path
