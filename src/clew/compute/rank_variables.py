"""What each rank of a group finds in its environment: the names that frameworks read.

Knows names and values only. Sources: torchrun's variables
(https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables), TensorFlow's
(https://www.tensorflow.org/guide/distributed_training#TF_CONFIG), CUDA's
(https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#cuda-environment-variables).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

import msgspec

from clew.base.gpus import VISIBLE, Gpu

_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """Where one rank is: on node ``node`` of ``nodes``, the ``local``-th of ``beside`` there."""

    rank: int
    size: int
    local: int
    beside: int
    node: int = 0
    nodes: int = 1


class Meeting(msgspec.Struct, frozen=True, kw_only=True):
    """Where ranks find each other. ``addresses``: of each rank, for servers of its own."""

    run_id: str
    attempt: int
    host: str
    port: int
    addresses: tuple[str, ...]


def seats(nodes: Sequence[str]) -> list[Seat]:
    """For each rank, whose nodes are told in their order, where it sits."""
    order = list(dict.fromkeys(nodes))
    return [
        Seat(
            rank=rank,
            size=len(nodes),
            local=nodes[:rank].count(node),
            beside=nodes.count(node),
            node=order.index(node),
            nodes=len(order),
        )
        for rank, node in enumerate(nodes)
    ]


def variables(
    seat: Seat,
    meeting: Meeting,
    *,
    given: Mapping[str, str],
    gpus: Sequence[Gpu] = (),
    isolated: bool = False,
    interface: str = "",
) -> dict[str, str]:
    """The environment of one rank. ``given``: what is set already; wishes in it stay.

    ``gpus``: those of this node's ranks, an equal share for each; the ranks see all of them, and
    ``LOCAL_RANK`` is the first of its own, unless they are ``isolated``. None: no CUDA at all.
    ``interface``: the network by which ranks on other machines reach this one.
    """
    return {
        **_torch(seat, meeting),
        "TF_CONFIG": _tensorflow(seat, meeting),
        **_cuda(seat, gpus, isolated),
        **_machine(seat, meeting, given, interface),
    }


def _torch(seat: Seat, meeting: Meeting) -> dict[str, str]:
    return {
        "MASTER_ADDR": meeting.host,
        "MASTER_PORT": str(meeting.port),
        "RANK": str(seat.rank),
        "WORLD_SIZE": str(seat.size),
        "LOCAL_RANK": str(seat.local),
        "LOCAL_WORLD_SIZE": str(seat.beside),
        "GROUP_RANK": str(seat.node),
        "GROUP_WORLD_SIZE": str(seat.nodes),
        "NODE_RANK": str(seat.node),
        "ROLE_NAME": "default",
        "ROLE_RANK": str(seat.rank),
        "ROLE_WORLD_SIZE": str(seat.size),
        "TORCHELASTIC_RUN_ID": meeting.run_id,
        "TORCHELASTIC_RESTART_COUNT": str(meeting.attempt),
        "TORCHELASTIC_MAX_RESTARTS": "0",
        # rank 0 serves the store at MASTER_PORT; torchrun's agent would serve it itself
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    }


def _tensorflow(seat: Seat, meeting: Meeting) -> str:
    about = {
        "cluster": {"worker": list(meeting.addresses)},
        "task": {"type": "worker", "index": seat.rank},
    }
    return json.dumps(about)


def _cuda(seat: Seat, gpus: Sequence[Gpu], isolated: bool) -> dict[str, str]:
    each = len(gpus) // seat.beside
    own = gpus[seat.local * each : (seat.local + 1) * each] if isolated else gpus
    names = [gpu.uuid if gpu.uuid.startswith("MIG-") else str(gpu.index) for gpu in own]
    return {VISIBLE: ",".join(names), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _machine(
    seat: Seat, meeting: Meeting, given: Mapping[str, str], interface: str
) -> dict[str, str]:
    """On one machine ranks meet on its loopback, whatever its name resolves to."""
    chosen = {}
    network = _LOOPBACK if meeting.host == "127.0.0.1" else interface
    if network:
        chosen = {name: network for name in _INTERFACES if name not in given}
    for name in _THREADS:
        share = given.get(name, "")
        chosen[name] = str(max(1, int(share) // seat.beside)) if share.isdigit() else "1"
    return chosen
