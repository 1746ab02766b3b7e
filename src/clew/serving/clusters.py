"""Endpoints on a Ray cluster: where that is, as a setting says it.

Knows addresses; neither Ray nor models.
"""

from __future__ import annotations

from functools import partial
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from clew.base.errors import Denied, Invalid
from clew.base.options import number_of

PORT = 8000
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})
_OPTIONS = frozenset({"min", "max", "target", "cpus", "port", "host", "url"})


class Cluster(Struct, frozen=True, kw_only=True):
    """Where endpoints are served, and with how many replicas each.

    ``address``: as Ray takes it. ``target``: requests in flight that a replica should have before
    another is started. ``host`` and ``port``: where the proxies of Ray Serve listen, on each node
    with a replica. ``url``: where clients reach them.
    """

    address: str
    min: int = 1
    max: int = 1
    target: float = 16.0
    cpus: float = 1.0
    port: int = PORT
    host: str = "127.0.0.1"
    url: str = ""


def cluster_of(text: str, compute: str = "", *, token: str = "") -> Cluster:
    """What a setting says: ``ray`` (the cluster of ``compute``), or an address of its own, both
    with options: ``ray?min=2&max=8``, ``ray://HOST:10001?max=4``.

    Raises:
        Invalid: ``serving.address``.
        Denied: ``server.no_auth`` where other machines could ask and no token is set.
    """
    parts = urlsplit(text)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    own = bool(parts.scheme)
    place = urlsplit(text if own else compute)
    if (not own and parts.path != "ray") or (own and parts.path.strip("/")):
        raise _wrong(text, "it names no cluster")
    if place.scheme not in {"ray", "ray+gcs"} or not place.netloc:
        raise _wrong(text, "it names no cluster, and CLEW_COMPUTE names none either")
    if unknown := sorted(options.keys() - _OPTIONS):
        raise _wrong(text, f"{unknown[0]} is no option of it")

    def number(name: str, usual: float) -> float:
        return number_of(options, name, usual, partial(_wrong, text))

    least = int(number("min", 1))
    most = int(number("max", max(1, least)))
    if most < max(1, least):
        raise _wrong(text, f"{least} to {most} replicas cannot be")
    host = options.get("host", "127.0.0.1")
    if host not in _HERE and not token:
        raise Denied(
            "server.no_auth",
            f"Endpoints on {host} could be asked by anybody.",
            hint="Set CLEW_TOKEN, or leave out host=.",
        )
    port = int(number("port", PORT))
    auto = place.netloc == "auto"
    name = "127.0.0.1" if auto or host in _HERE else (place.hostname or "127.0.0.1")
    return Cluster(
        address="auto" if auto else text_of(place.scheme, place.netloc),
        min=least,
        max=most,
        target=number("target", 16),
        cpus=number("cpus", 1),
        port=port,
        host=host,
        url=options.get("url", f"http://{name}:{port}").rstrip("/"),
    )


def text_of(scheme: str, place: str) -> str:
    """An address as Ray takes it."""
    return f"ray://{place}" if scheme == "ray" else place


def _wrong(text: str, why: str) -> Invalid:
    return Invalid(
        "serving.address",
        f"{text!r} does not say where endpoints are served: {why}.",
        hint="Write ray?min=1&max=4 beside --compute ray://…, or ray://HOST:10001?max=4.",
    )
