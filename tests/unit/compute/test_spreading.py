"""Ranks on several machines find their code, their store and each other."""

from __future__ import annotations

import selectors
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from clew.compute.cluster_pools import of_one
from clew.compute.elsewhere import bundle, identity
from clew.compute.ports import interface_of
from clew.compute.rank import ADDRESS, HOME, NODE, NUMBER, STORE, TOKEN
from clew.compute.rank_links import Door
from clew.compute.rank_variables import Meeting, Seat, seats, variables
from clew.compute.spreading import Travel, at_home, serve_store
from clew.store import Store


def test_ranks_are_counted_on_their_node_and_nodes_in_the_order_of_ranks() -> None:
    found = seats(["b", "b", "a"])
    assert [(one.rank, one.local, one.beside, one.node, one.nodes) for one in found] == [
        (0, 0, 2, 0, 2), (1, 1, 2, 0, 2), (2, 0, 1, 1, 2),
    ]  # fmt: skip


def test_ranks_on_several_machines_meet_on_the_network_that_connects_them() -> None:
    meeting = Meeting(run_id="r", attempt=0, host="10.0.0.1", port=1, addresses=("10.0.0.1:2",))
    seat = Seat(rank=0, size=1, local=0, beside=1)
    told = variables(seat, meeting, given={}, interface="eth7")
    assert told["GLOO_SOCKET_IFNAME"] == told["NCCL_SOCKET_IFNAME"] == "eth7"
    assert told["MASTER_ADDR"] == "10.0.0.1"
    assert "GLOO_SOCKET_IFNAME" not in variables(seat, meeting, given={})


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_interface_of_an_address_is_found() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.7") == ""


def test_what_ranks_take_together_is_shared_among_them() -> None:
    assert of_one({"CPU": 4, "GPU": 2, "left": 1}, 2) == {"CPU": 2, "GPU": 1, "left": 1}
    assert of_one({}, 2) == {"CPU": 1}


@pytest.fixture
def door(store: Store) -> Iterator[Door]:
    """A launcher's door, behind which the store is."""
    relay = store.relay()
    over = threading.Event()

    def serve(found: Door) -> None:
        with selectors.DefaultSelector() as looking:
            looking.register(found, selectors.EVENT_READ)
            while not over.is_set():
                for key, _ in looking.select(0.05):
                    if key.fileobj is found:
                        guest = found.accept()
                        assert guest is not None
                        looking.register(guest.connection, selectors.EVENT_READ, guest)
                        continue
                    looking.unregister(key.fileobj)
                    if not found.hear(key.data):
                        looking.register(key.fileobj, selectors.EVENT_READ, key.data)

    def come(*_: object) -> None:
        pytest.fail("nobody comes as a rank here")

    with closing(Door("127.0.0.1", come, lambda one: serve_store(one, relay.answer))) as found:
        thread = threading.Thread(target=serve, args=(found,))
        thread.start()
        yield found
        over.set()
        thread.join()
    relay.end()


def travel(door: Door, tmp_path: Path, **more: object) -> Travel:
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text("x = 1\n")
    known = Travel(
        address="", name="n", size=2, resources={}, placement={},
        home=f"127.0.0.1:{door.port}", token=door.token, snapshot_dir=str(tmp_path / "there"),
        code=bundle(str(project)), store=str(tmp_path / "store"), place=None,
    )  # fmt: skip
    return msgspec.structs.replace(known, **more)


def test_a_rank_elsewhere_has_the_code_and_the_store_through_its_launcher(
    store: Store, door: Door, tmp_path: Path
) -> None:
    with store.writer() as writer:
        digest, _ = writer.put(b"rows")
    with at_home(travel(door, tmp_path), 1, "node", "10.0.0.2") as environ:
        assert (environ[NUMBER], environ[NODE], environ[ADDRESS]) == ("1", "node", "10.0.0.2")
        assert (environ[HOME], environ[TOKEN]) == (f"127.0.0.1:{door.port}", door.token)
        assert (tmp_path / "there" / "train.py").read_text() == "x = 1\n"
        assert environ[STORE].startswith("relay://")
        far = Store.attach(environ[STORE])
        assert far.read(digest) == b"rows"
        with far.writer() as writer:
            learned, _ = writer.put(b"a checkpoint")
    assert Store.attach(tmp_path / "store").read(learned) == b"a checkpoint"


def test_a_rank_that_sees_the_directory_of_the_store_uses_it(
    store: Store, door: Door, tmp_path: Path
) -> None:
    own = travel(door, tmp_path, place=identity(str(tmp_path / "store")))
    with at_home(own, 0, "node", "10.0.0.2") as environ:
        assert environ[STORE] == str(tmp_path / "store")
