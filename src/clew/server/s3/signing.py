"""Signature Version 4: who asks, and whether they hold the secret.

Knows the signature of headers, of presigned URLs and of streamed chunks
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html); nothing of
what is asked. Without a secret nothing is compared, and only what a URL says of its end is held.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from msgspec import Struct

from clew.server.s3.errors import S3Error, not_implemented
from clew.server.s3.outdated import is_presigned, verify_presigned
from clew.server.s3.request import Asked

ALGORITHM = "AWS4-HMAC-SHA256"
ACCESS_KEY = "clew"
SKEW_S = 15 * 60
MOST_EXPIRES_S = 7 * 86_400
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
_CREDENTIAL = re.compile(
    r"(?P<key>.+)/(?P<scope>(?P<day>\d{8})/[^/]+/(?P<service>[^/]+)/aws4_request)"
)
_MUST_BE_SIGNED = "x-amz-"


class Signature(Struct, frozen=True, kw_only=True):
    """A signature that was verified, to go on with for the chunks of a body.

    ``key`` is b'' where there is no secret to verify with.
    """

    value: str
    key: bytes
    stamp: str
    scope: str

    def of_chunk(self, before: str, sha256: str) -> str:
        """The signature of a chunk; ``before`` is that of the chunk before, or of the headers."""
        return self._sign(f"{ALGORITHM}-PAYLOAD", before, EMPTY_SHA256, sha256)

    def of_trailer(self, before: str, sha256: str) -> str:
        """The signature of the trailing headers."""
        return self._sign(f"{ALGORITHM}-TRAILER", before, sha256)

    def _sign(self, kind: str, *lines: str) -> str:
        return _hmac(self.key, "\n".join((kind, self.stamp, self.scope, *lines))).hex()


class _Claim(Struct, frozen=True, kw_only=True):
    """What a request says of itself."""

    access_key: str
    scope: str
    stamp: str
    signed: tuple[str, ...]
    signature: str
    payload: str
    expires_s: int | None


def is_signed(authorization: str, query: str) -> bool:
    """Whether this is a request of an S3 client, by its looks."""
    return (
        authorization.startswith(("AWS4-", "AWS "))
        or "X-Amz-Algorithm=" in query
        or ("AWSAccessKeyId=" in query and "Signature=" in query)
    )


def verify(
    asked: Asked, secret: str, now: datetime, *, access_key: str = ACCESS_KEY
) -> Signature | None:
    """The signature of a request; None where there is none and none is needed.

    Raises:
        S3Error: ``AccessDenied``, ``InvalidAccessKeyId``, ``SignatureDoesNotMatch``,
            ``RequestTimeTooSkewed``, ``AuthorizationHeaderMalformed``.
    """
    claim = _claim(asked)
    if claim is None and is_presigned(asked):
        verify_presigned(asked, secret, now, access_key)
        return None
    if claim is None:
        if secret:
            raise S3Error("AccessDenied", "Sign the request: this server asks for a key.", 403)
        return None
    _check_time(claim, now, strictly=bool(secret))
    if not secret:
        return Signature(value=claim.signature, key=b"", stamp=claim.stamp, scope=claim.scope)
    if not hmac.compare_digest(claim.access_key.encode(), access_key.encode()):
        raise S3Error(
            "InvalidAccessKeyId",
            f"The access key of this server is {access_key!r}; its secret is the server's token.",
            403,
        )
    _check_signed(asked, claim)
    key = _signing_key(secret, claim)
    expected = _hmac(key, _string_to_sign(asked, claim)).hex()
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise mismatch("The signature is not the one that the server's token gives.")
    return Signature(value=claim.signature, key=key, stamp=claim.stamp, scope=claim.scope)


def mismatch(message: str) -> S3Error:
    """What is signed is not what came."""
    return S3Error("SignatureDoesNotMatch", message, 403)


def _claim(asked: Asked) -> _Claim | None:
    authorization = asked.header("authorization")
    if authorization:
        return _header_claim(asked, authorization)
    if "X-Amz-Algorithm" in asked.query:
        return _query_claim(asked)
    return None


def _header_claim(asked: Asked, authorization: str) -> _Claim:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise not_implemented(f"The signature {algorithm!r} (use {ALGORITHM})")
    fields = {
        name.strip(): value.strip()
        for name, _, value in (part.partition("=") for part in rest.split(","))
    }
    stamp = asked.header("x-amz-date") or asked.header("date")
    try:
        return _made(
            fields["Credential"],
            fields["SignedHeaders"],
            fields["Signature"],
            stamp=stamp,
            payload=asked.header("x-amz-content-sha256") or EMPTY_SHA256,
            expires_s=None,
        )
    except KeyError as missing:
        raise _malformed(f"{missing} is missing") from None


def _query_claim(asked: Asked) -> _Claim:
    query = asked.query
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise not_implemented(f"The signature {query['X-Amz-Algorithm']!r} (use {ALGORITHM})")
    try:
        expires = query["X-Amz-Expires"]
        if not expires.isdigit() or not 0 < int(expires) <= MOST_EXPIRES_S:
            raise S3Error(
                "AuthorizationQueryParametersError",
                f"X-Amz-Expires must be between 1 and {MOST_EXPIRES_S} seconds.",
            )
        return _made(
            query["X-Amz-Credential"],
            query["X-Amz-SignedHeaders"],
            query["X-Amz-Signature"],
            stamp=query["X-Amz-Date"],
            payload=query.get("X-Amz-Content-Sha256")
            or asked.header("x-amz-content-sha256")
            or UNSIGNED,
            expires_s=int(expires),
        )
    except KeyError as missing:
        raise S3Error(
            "AuthorizationQueryParametersError", f"{missing} is missing in the URL."
        ) from None


def _made(
    credential: str,
    signed: str,
    signature: str,
    *,
    stamp: str,
    payload: str,
    expires_s: int | None,
) -> _Claim:
    match = _CREDENTIAL.fullmatch(credential)
    if match is None:
        raise _malformed("the credential is not KEY/DAY/REGION/s3/aws4_request")
    if match["service"] != "s3":
        raise _malformed(f"the service is {match['service']!r}, not 's3'")
    if not stamp.startswith(match["day"]):
        raise _malformed("the day of the credential is not that of the request")
    return _Claim(
        access_key=match["key"],
        scope=match["scope"],
        stamp=stamp,
        signed=tuple(signed.lower().split(";")),
        signature=signature,
        payload=payload,
        expires_s=expires_s,
    )


def _check_time(claim: _Claim, now: datetime, *, strictly: bool) -> None:
    try:
        at = datetime.strptime(claim.stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _malformed(f"x-amz-date is {claim.stamp!r}, not YYYYMMDDTHHMMSSZ") from None
    if claim.expires_s is not None and now > at + timedelta(seconds=claim.expires_s):
        raise S3Error("AccessDenied", "Request has expired", 403)
    early = claim.expires_s is not None or not strictly
    skew = at - now if early else abs(at - now)
    if strictly and skew > timedelta(seconds=SKEW_S):
        raise S3Error(
            "RequestTimeTooSkewed",
            f"The clocks of client and server differ by {skew.total_seconds():.0f} s.",
            403,
        )


def _check_signed(asked: Asked, claim: _Claim) -> None:
    """What steers the request must be under the signature."""
    loose = [name for name in asked.headers if name.startswith(_MUST_BE_SIGNED)]
    if claim.expires_s is not None:  # a URL may be fetched by clients that add their payload's hash
        loose = [name for name in loose if name != "x-amz-content-sha256"]
    unsigned = {"host", *loose} - set(claim.signed)
    if unsigned:
        raise S3Error(
            "AccessDenied", f"These headers are not signed: {', '.join(sorted(unsigned))}.", 403
        )


def _string_to_sign(asked: Asked, claim: _Claim) -> str:
    request = hashlib.sha256(_canonical(asked, claim).encode()).hexdigest()
    return "\n".join((ALGORITHM, claim.stamp, claim.scope, request))


def _canonical(asked: Asked, claim: _Claim) -> str:
    query = sorted(
        (_encoded(name), _encoded(value))
        for name, value in asked.pairs
        if name != "X-Amz-Signature" or claim.expires_s is None
    )
    lines = [
        asked.method,
        quote(asked.path, safe="/-_.~"),
        "&".join(f"{name}={value}" for name, value in query),
        *(f"{name}:{' '.join(asked.header(name).split())}" for name in claim.signed),
        "",
        ";".join(claim.signed),
        claim.payload,
    ]
    return "\n".join(lines)


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")


def _signing_key(secret: str, claim: _Claim) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in claim.scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _malformed(why: str) -> S3Error:
    return S3Error("AuthorizationHeaderMalformed", f"The authorization cannot be read: {why}.")
