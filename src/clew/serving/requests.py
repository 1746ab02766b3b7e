"""A whole request, and what its headers say: limits, deadlines, codings.

Knows no sockets and no parser: whoever read a request of HTTP (``http``, or another server in
front) makes one of these of it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping
from types import MappingProxyType

from msgspec import Struct

from clew.serving.dataplane import Answer, refusal

WANTED = {
    b"content-length", b"content-encoding", b"inference-header-content-length", b"expect",
    b"accept-encoding", b"authorization", b"clew-key", b"x-request-timeout-ms",
    b"x-envoy-expected-rq-timeout-ms", b"traceparent", b"tracestate",
}  # fmt: skip


class Request(Struct, eq=False):
    """One whole request. ``head``: Inference-Header-Content-Length, -1 without it; ``key``: the
    header Clew-Key; ``timeout_s``: how long the caller waits for the answer. ``headers``: those
    that mean something here, by their name in small letters.
    """

    method: str
    target: bytes
    body: bytes
    head: int
    key: str = ""
    timeout_s: float = math.inf
    headers: Mapping[bytes, bytes] = MappingProxyType({})


class Refused(Exception):
    """What the headers ask for is not given; ``answer`` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def read_timeout_s(headers: dict[bytes, bytes]) -> float:
    """What the caller says, or the proxy before it (Envoy's word for the same)."""
    value = headers.get(b"x-request-timeout-ms", headers.get(b"x-envoy-expected-rq-timeout-ms"))
    if value is None:
        return math.inf
    if not value.isdigit() or len(value) > 12:
        said = "X-Request-Timeout-Ms must be a whole number of milliseconds."
        raise Refused(refusal(400, said))
    return int(value) / 1e3 if int(value) else math.inf


def read_head_length(headers: dict[bytes, bytes]) -> int:
    """Where the raw bytes of a body begin; -1 where it has none."""
    value = headers.get(b"inference-header-content-length")
    if value is None:
        return -1
    if not value.isdigit() or len(value) > 18:
        raise Refused(refusal(400, "Inference-Header-Content-Length must be a whole number."))
    return int(value)


def decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """A body without its content encoding: gzip, deflate or identity."""
    encoding = encoding.strip().lower()
    if encoding in {b"", b"identity"}:
        return body
    if encoding not in {b"gzip", b"x-gzip", b"deflate"}:
        raise Refused(refusal(415, "Send the body plain, with gzip or with deflate."))
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # a gzip or a zlib header
    try:
        plain = unpack.decompress(body, limit + 1)
    except zlib.error as error:
        raise Refused(refusal(400, f"The body is not {encoding.decode()}: {error}.")) from None
    if len(plain) > limit:
        raise Refused(refusal(413, f"A request body may have {limit} bytes."))
    if not unpack.eof:
        raise Refused(refusal(400, f"The {encoding.decode()} body ends too early."))
    return plain


# for those who have another server in front ------------------------------------------------------


def request_of(
    method: str,
    target: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    limit: int,
    more: Collection[bytes] = (),
) -> Request | Answer:
    """A request that another server has read, as this one would have it; or why it is refused.

    ``headers``: by their names in small letters; ``more``: names of those that graphs ask for.
    """
    given = {k: value for k, value in headers.items() if k in WANTED or k in more}
    if len(body) > limit:
        return refusal(413, f"A request body may have {limit} bytes.")
    try:
        if b"content-encoding" in given:
            body = decompress(body, given[b"content-encoding"], limit)
        head, timeout_s = read_head_length(given), read_timeout_s(given)
    except Refused as refused_by:
        return refused_by.answer
    key = given.get(b"clew-key", b"").decode("latin-1")
    return Request(method, target, body, head, key, timeout_s, given)


def answer_headers(answer: Answer) -> dict[str, str]:
    """The headers of an answer but its length, for another server to write."""
    found = {"content-type": answer.media if answer.head < 0 else "application/octet-stream"}
    if answer.head >= 0:
        found["inference-header-content-length"] = str(answer.head)
    if answer.identity is not None:
        found |= {
            "clew-global-id": answer.identity.global_id,
            "clew-revision": answer.identity.revision,
            "clew-model-version": answer.identity.model_version,
            "clew-prediction-id": answer.prediction_id,
            **({} if answer.logged else {"clew-logged": "false"}),
        }
    if answer.status in {429, 503}:
        found["retry-after"] = "1"
    elif answer.status == 401:
        found["www-authenticate"] = "Bearer"
    elif answer.allow:
        found["allow"] = answer.allow
    return found
