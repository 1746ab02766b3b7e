"""What ranks on several machines need of their launcher: the code, the store, and where it is.

Knows files, sockets and names; knows nothing of who starts the ranks there.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from clew.base import lines
from clew.base.errors import ClewError, Unavailable
from clew.base.lines import Line
from clew.compute.cluster_pools import of_one
from clew.compute.elsewhere import Identity, bundle, identity, lay_out
from clew.compute.rank import ADDRESS, HOME, NODE, NUMBER, STORE, TOKEN
from clew.compute.rank_links import Hello
from clew.store import Store

CLUSTER = "CLEW_RAY_NODE"
"""In a worker on a cluster: the address of its head, and of this machine there."""
PROGRAM = ("-P", "-X", "faulthandler", "-m", "clew.compute.rank")
STARTER = (sys.executable, "-P", "-m", "clew.compute.ray_train")
_FOREIGN = ("RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_JOB_CONFIG_JSON_ENV_VAR")


class Travel(msgspec.Struct, frozen=True, kw_only=True):
    """What is told on each machine where ranks are to be started.

    ``address`` is that of the cluster, ``home`` (HOST:PORT) and ``token`` lead to the launcher.
    ``resources`` and ``placement`` are of one rank. ``code`` are the files of ``snapshot_dir``;
    ``place`` tells the directory of ``store`` from all others, None where it is none.
    """

    address: str
    name: str
    size: int
    resources: dict[str, float]
    placement: dict[str, str]
    home: str
    token: str
    snapshot_dir: str
    code: bytes
    store: str
    place: Identity | None


def cluster_here() -> tuple[str, str]:
    """The address of the cluster that this process is in, and of this machine.

    Raises:
        Unavailable: ``ranks.start`` where it is in none.
    """
    head, _, own = os.environ.get(CLUSTER, "").partition(" ")
    if not own:
        raise Unavailable(
            "ranks.start",
            "These ranks are for a Ray cluster, and this worker is in none.",
            hint="This is a defect of Clew: please report it.",
        )
    return head, own


def travel_of(
    *,
    size: int,
    resources: dict[str, float],
    placement: dict[str, str],
    snapshot_dir: str,
    store: str,
    name: str,
    home: str,
    token: str,
) -> Travel:
    """For a group whose ranks take ``resources`` all together."""
    return Travel(
        address=cluster_here()[0],
        name=name,
        size=size,
        resources={name: n for name, n in of_one(resources, size).items() if n},
        placement=placement,
        home=home,
        token=token,
        snapshot_dir=snapshot_dir,
        code=bundle(snapshot_dir) if snapshot_dir else b"",
        store=store,
        place=None if "://" in store or not store else identity(store),
    )


def environment_of_starter() -> dict[str, str]:
    """That of this process, without what makes Ray take it for one of its own workers."""
    return {name: value for name, value in os.environ.items() if name not in _FOREIGN}


@contextmanager
def at_home(travel: Travel, rank: int, node: str, address: str) -> Iterator[dict[str, str]]:
    """While a rank runs here: the code is where it is there, the store can be reached.

    What it gives is the environment of the rank.
    """
    code = Path(travel.snapshot_dir)
    if travel.snapshot_dir and not code.is_dir():
        code.parent.mkdir(parents=True, exist_ok=True)
        lay_out(travel.code, code)
    with tempfile.TemporaryDirectory(prefix="clew-rank-") as place, _store(travel, place) as store:
        yield {
            **os.environ,
            HOME: travel.home,
            TOKEN: travel.token,
            NUMBER: str(rank),
            NODE: node,
            ADDRESS: address,
            STORE: store,
        }


@contextmanager
def _store(travel: Travel, place: str) -> Iterator[str]:
    """The address by which the store is known here."""
    if not travel.store or _is_here(travel):
        yield travel.store
        return
    with closing(errand(travel.home, travel.token)) as line:
        board = Store.switchboard(Path(place, "store"), line)
        with closing(board):
            yield board.address


def _is_here(travel: Travel) -> bool:
    if travel.store.startswith("relay://"):
        return False
    if "://" not in travel.store:
        return travel.place is not None and identity(travel.store) == travel.place
    try:
        Store.attach(travel.store)
    except ClewError:
        return False
    return True


def errand(home: str, token: str) -> Line:
    """Takes requests of a store to the launcher's door; raises Unavailable ``ranks.launcher``."""

    def connect() -> socket.socket:
        host, _, port = home.rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=30)
        connection.settimeout(None)
        lines.send(
            connection, msgspec.msgpack.encode(Hello(token, -1, "store", socket.gethostname()))
        )
        return connection

    return Line(connect, _gone)


def serve_store(connection: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    """Answer requests that come in by an :func:`errand`, on a thread, until it hangs up."""

    def serve() -> None:
        with connection, suppress(OSError):
            while (request := lines.receive(connection)) is not None:
                lines.send(connection, answer(request))

    connection.setblocking(True)
    threading.Thread(target=serve, name="clew-store-errand", daemon=True).start()


def _gone(why: str) -> Unavailable:
    return Unavailable(
        "ranks.launcher",
        f"The launcher of these ranks does not answer: {why}.",
        hint="Its trial is run again from the latest checkpoint.",
    )
