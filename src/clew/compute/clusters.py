"""A pool of workers on a Ray cluster: what :class:`clew.compute.Compute` promises, elsewhere.

Knows addresses and terms; who runs what is for the fleet.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import msgspec

from clew.base.errors import Invalid, Unavailable
from clew.base.options import number_of
from clew.base.pools import PoolSize
from clew.base.records.pools import PoolInfo
from clew.compute.call import Call, Listener
from clew.compute.cluster_pools import ClusterPools
from clew.compute.fleet import Fleet, Terms
from clew.compute.frames import encode_or_refuse
from clew.compute.handles import Submitted
from clew.store import Store

_SHARING = ("auto", "shared", "relay")
_OPTIONS = {"store", "idle_s", "wait_s", "size"}


class RayPool:
    """Calls in lanes, one warm worker process each, on the nodes of an existing Ray cluster.

    ``address``: ``ray://auto`` (the cluster that this machine is a node of), ``ray://HOST:PORT``
    (Ray's client port, 10001 by default) or ``ray+gcs://HOST:PORT`` (the head itself, from a
    machine that is a node). Options as its query: ``store`` (``auto``, ``shared``, ``relay``),
    ``idle_s``, ``wait_s``, ``size``.

    What differs from a local pool: ``size`` is the cluster's cores; a call whose machine goes away
    ends with ``lost``. The workers reach the store by its address where they can, and through this
    process where they cannot. See :class:`clew.compute.Compute` for the law.

    Raises:
        Invalid: ``ray.address``.
    """

    def __init__(
        self,
        address: str,
        store: str,
        log_dir: Path,
        *,
        size: int = 0,
        cache: Path | None = None,
        preload: Sequence[str] = (),
        pools: Sequence[PoolSize] = (),
    ) -> None:
        """``store`` is the address of the store, which must be there at the first call. ``pools``
        limit what runs at once in them.
        """
        terms = terms_of(address, size=size, log=log_dir / "ray.log", preload=tuple(preload))
        self._terms = msgspec.structs.replace(terms, pools=tuple(pools))
        self._limits = ClusterPools(pools)
        self._excluded: dict[str, str] = {}
        self._address, self._cache = store, cache
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._fleet: Fleet | None = None
        self._closed = False

    @property
    def size(self) -> int:
        """How many calls run at a time: the cores of the cluster as it is now."""
        with self._lock:
            return self._fleet.size if self._fleet is not None else max(1, self._terms.size)

    def start(self) -> None:
        """Join the cluster ahead of the first call.

        Raises:
            Unavailable: ``pool.closed``, ``ray.missing``, ``ray.unreachable``.
        """
        self._running().wait_joined()

    def submit(
        self, call: Call, on_message: Listener | None = None, affinity: str = ""
    ) -> Submitted:
        """Queue a call. Raises Unavailable ``pool.closed``, Invalid ``call.payload``."""
        payload = encode_or_refuse(call.payload, "call.payload", f"The payload of {call.label!r}")
        fleet = self._running()
        submitted = Submitted(call, payload, on_message, fleet.couriers, fleet.cancel)
        submitted.affinity = affinity
        if not fleet.tell(lambda: fleet.enqueue(submitted)):
            raise _closed()
        return submitted

    def check(self, pool: str, resources: Mapping[str, float]) -> None:
        """Refuse what the limits of a pool forbid; the cluster itself may grow. Raises Invalid."""
        self._limits.check(pool, resources)

    @property
    def keeps_off(self) -> Mapping[str, str]:
        """Their label that is not of a machine that is excluded."""
        fleet = self._fleet
        return {} if fleet is None else fleet.keeps_off()

    @property
    def spreads(self) -> bool:
        """Ray Train starts ranks on all nodes."""
        return True

    def room(self, pool: str, resources: Mapping[str, float], ranks: int = 1) -> int:
        """How many such calls a pool holds at a time. Raises Invalid ``pool.unknown``."""
        fleet = self._fleet
        if fleet is None:
            return self._limits.room(pool, resources, (), self.size, ranks)
        return fleet.room(pool, resources, ranks)

    def pools(self) -> list[PoolInfo]:
        """The pools, with the machines of the cluster, who runs there, and what waits."""
        fleet = self._fleet
        return self._limits.look((), (), ()) if fleet is None else fleet.look()

    def exclude(self, slots: Mapping[str, str]) -> None:
        """Give these machines to no call from now on, and all others again."""
        with self._lock:
            self._excluded = dict(slots)
            fleet = self._fleet
        if fleet is not None:
            fleet.exclude(slots)

    def close(self) -> None:
        """End all calls as cancelled and all lanes; returns when they are gone. Idempotent."""
        with self._lock:
            self._closed = True
            fleet, self._fleet = self._fleet, None
        if fleet is not None:
            fleet.stop()

    def _running(self) -> Fleet:
        with self._lock:
            if self._closed:
                raise _closed()
            if self._fleet is None:
                self._fleet = Fleet(self._terms, self._attached)
                self._fleet.pools.exclude(self._excluded)
                self._fleet.thread.start()
            return self._fleet

    def _attached(self) -> Store:
        if self._store is None:
            self._store = Store.attach(self._address, cache=self._cache)
        return self._store


def terms_of(address: str, *, size: int, log: Path, preload: tuple[str, ...]) -> Terms:
    """What an address says. Raises Invalid ``ray.address``."""
    parts = urlsplit(address)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    place = parts.netloc
    if parts.scheme not in {"ray", "ray+gcs"} or not place or parts.path.strip("/"):
        raise _wrong(address, "it names no cluster")
    if unknown := sorted(options.keys() - _OPTIONS):
        raise _wrong(address, f"{unknown[0]} is no option of it")

    def number(name: str, usual: float) -> float:
        return number_of(options, name, usual, partial(_wrong, address))

    sharing = options.get("store", "auto")
    if sharing not in _SHARING:
        raise _wrong(address, f"store={sharing} is none of {', '.join(_SHARING)}")
    auto = place == "auto"
    return Terms(
        address="auto" if auto else f"ray://{place}" if parts.scheme == "ray" else place,
        size=size or int(number("size", 0)),
        sharing=sharing,
        idle_s=number("idle_s", 60),
        wait_s=number("wait_s", 60),
        preload=preload,
        log=log,
    )


def _wrong(address: str, why: str) -> Invalid:
    return Invalid(
        "ray.address",
        f"{address!r} is no address of a Ray cluster: {why}.",
        hint="Write ray://auto, ray://HOST:10001 or ray+gcs://HOST:6379.",
    )


def _closed() -> Unavailable:
    return Unavailable(
        "pool.closed",
        "This pool of workers is closed.",
        hint="Submit before the workspace is closed.",
    )
