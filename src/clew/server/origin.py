"""Where endpoints answer, as the caller who asks would have to write it.

Knows the caller's Host header, and that this server passes the protocol on under its own origin.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request
from msgspec.structs import replace

from clew.base.records import Endpoint
from clew.server.guard import LOOPBACK, host_name


def seen_from(request: Request, endpoint: Endpoint) -> Endpoint:
    """The endpoint with a URL that whoever asks can reach.

    The endpoint server tells its address on this machine. Who came here by another name gets the
    same path under that name: this server passes it on.
    """
    host = request.headers.get("host", "")
    if not endpoint.url or host_name(host) in LOOPBACK:
        return endpoint
    return replace(endpoint, url=f"{request.url.scheme}://{host}{urlsplit(endpoint.url).path}")
