"""A process that stands between the engine and a Ray cluster: the one file that knows Ray.

Knows how lanes become actors; what they say and are told it passes on unread. It is a process of
its own because Ray's driver is global to one, prints, and ends it when the cluster's head is gone.
Started as ``python -m clew.compute.ray DESCRIPTOR ADDRESS``.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from clew.base.errors import Unavailable
from clew.base.lines import exactly
from clew.base.untold import tell_nobody
from clew.compute.bridge_frames import (
    Close,
    FromBridge,
    Gone,
    Heard,
    Joined,
    Machines,
    Open,
    Refused,
    Tell,
    to_bridge,
    write_frame,
)
from clew.compute.demands import Machine
from clew.compute.frames import HEADER_BYTES, body_bytes
from clew.compute.lane import HEAR_S, Lane
from clew.compute.spreading import CLUSTER

LOOK_S = 2.0
SILENT_S = 4 * HEAR_S
"""A lane that was not heard of for so long, although it answers each ``HEAR_S``, is lost."""
FAREWELL_S = 2.0
CONCURRENT = 8
_TRIES = 3
_OURS = {"CPU", "GPU", "memory"}


class OnNode(Lane):
    """A lane that says which machine of the cluster it is on."""

    def __init__(self, greeting: bytes) -> None:
        import ray  # noqa: PLC0415 - an extra, and this class is for Ray's own processes

        here = ray.get_runtime_context()
        os.environ[CLUSTER] = f"{here.gcs_address} {ray.util.get_node_ip_address()}"
        super().__init__(greeting, here.get_node_id())


class _Actor:
    """An actor that runs a lane. ``asked_at``: since when it is being listened to."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.asked_at = time.monotonic()
        self.spoke = False


class Bridge:
    """Passes frames between a socket and actors, on one thread."""

    def __init__(self, ray: Any, connection: socket.socket) -> None:
        self._ray = ray
        self._connection = connection
        self._acts: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._actors: dict[int, _Actor] = {}
        self._machines: list[Machine] = []
        self._looked_at = 0.0

    def run(self) -> None:
        """Serve until the engine hangs up."""
        threading.Thread(target=self._read, name="clew-bridge-reader", daemon=True).start()
        while True:
            try:
                act = self._acts.get(timeout=LOOK_S)
            except queue.Empty:
                self._look()
                continue
            if act is None:
                return
            act()
            self._look()

    def farewell(self) -> None:
        """End all actors, and be sure of it."""
        handles = [actor.handle for actor in self._actors.values()]
        with suppress(Exception):
            self._ray.wait(
                [h.close.remote() for h in handles], num_returns=len(handles), timeout=2.0
            )
        for handle in handles:
            with suppress(Exception):
                self._ray.kill(handle)

    # the engine -----------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while (head := exactly(self._connection, HEADER_BYTES)) is not None:
                body = exactly(self._connection, body_bytes(head))
                if body is None:
                    break
                frame = to_bridge.decode(body)
                self._acts.put(lambda frame=frame: self._obey(frame))  # type: ignore[misc]  # mypy takes no default of a lambda
        except OSError:
            pass
        self._acts.put(None)

    def _say(self, frame: FromBridge) -> None:
        write_frame(self._connection, frame)

    def _obey(self, frame: Open | Tell | Close) -> None:
        if isinstance(frame, Open):
            self._open(frame)
            return
        actor = self._actors.get(frame.number)
        if actor is None:
            return
        if isinstance(frame, Tell):
            with suppress(Exception):  # a dead actor is noticed by listening to it
                actor.handle.tell.remote(frame.frames)
        else:
            del self._actors[frame.number]
            self._end(actor)

    # actors ---------------------------------------------------------------------------------

    def _open(self, frame: Open) -> None:
        wanted = dict(frame.demand.resources)
        options: dict[str, Any] = {
            "num_cpus": wanted.get("CPU", 1),
            "num_gpus": wanted.get("GPU", 0),
            "resources": {name: n for name, n in wanted.items() if name not in _OURS},
            "max_concurrency": CONCURRENT,
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
        }
        if "memory" in wanted:
            options["memory"] = wanted["memory"]
        if frame.demand.placement:
            options["label_selector"] = dict(frame.demand.placement)
        try:
            handle = self._ray.remote(OnNode).options(**options).remote(frame.greeting)
        except Exception as error:  # noqa: BLE001 - Ray raises what it likes; it is told on
            self._say(Gone(frame.number, _first_line(error), True))
            return
        self._actors[frame.number] = _Actor(handle)
        self._listen(frame.number)

    def _listen(self, number: int) -> None:
        actor = self._actors[number]
        actor.asked_at = time.monotonic()
        try:
            future = actor.handle.hear.remote().future()
        except Exception as error:  # noqa: BLE001 - as above
            self._lost(number, error)
            return
        future.add_done_callback(lambda done: self._acts.put(lambda: self._heard(number, done)))

    def _heard(self, number: int, future: Any) -> None:
        if number not in self._actors:
            return
        error = future.exception()
        if error is not None:
            self._lost(number, error)
            return
        frames = future.result()
        self._actors[number].spoke = True
        if frames:
            self._say(Heard(number, frames))
        self._listen(number)

    def _lost(self, number: int, error: BaseException) -> None:
        actor = self._actors.pop(number)
        self._say(Gone(number, _first_line(error), not actor.spoke))
        with suppress(Exception):  # where it lives after all, it works for nobody
            self._ray.kill(actor.handle)

    def _end(self, actor: _Actor) -> None:
        """Let a lane clean up, and then end it, without waiting here."""

        def kill() -> None:
            with suppress(Exception):
                self._ray.wait([actor.handle.close.remote()], timeout=FAREWELL_S)
            with suppress(Exception):
                self._ray.kill(actor.handle)

        if actor.spoke:
            threading.Thread(target=kill, daemon=True).start()
        else:  # it may wait for a machine: there is nobody to clean up
            with suppress(Exception):
                self._ray.kill(actor.handle)

    def _look(self) -> None:
        """Tell which machines there are, and give up lanes that are silent."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        for number, actor in list(self._actors.items()):
            if actor.spoke and now - actor.asked_at > SILENT_S:
                self._lost(number, TimeoutError(f"it was not heard of for {SILENT_S:g} s"))
        with suppress(Exception):  # the head may be away for a moment
            machines = _machines(self._ray)
            if machines != self._machines:
                self._machines = machines
                self._say(Machines(machines))


def _machines(ray: Any) -> list[Machine]:
    return sorted(
        [
            Machine(
                id=node["NodeID"],
                host=node["NodeManagerHostname"],
                resources={name: float(amount) for name, amount in node["Resources"].items()},
                labels={str(k): str(v) for k, v in (node.get("Labels") or {}).items()},
            )
            for node in ray.nodes()
            if node["Alive"]
        ],
        key=lambda machine: machine.id,
    )


def _first_line(error: BaseException) -> str:
    """What Ray says, without its stack."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    module = [line for line in lines if line.startswith("ModuleNotFoundError")]
    return (module or lines or [type(error).__name__])[0][:500]


def _connect(ray: Any, address: str) -> None:
    """Join the cluster as a driver; the proxy of Ray's client may be slow to start one."""
    for attempt in range(_TRIES):
        try:
            ray.init(address, namespace="clew", log_to_driver=False, logging_level="error")
            return
        except Exception:
            if attempt + 1 == _TRIES:
                raise
            with suppress(Exception):
                ray.shutdown()


def main(arguments: list[str]) -> None:
    """Serve the engine until it hangs up."""
    connection = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(connection.fileno(), False)
    tell_nobody()
    try:
        import ray  # noqa: PLC0415 - an extra, and slow to import

        _connect(ray, arguments[1])
    except BaseException as error:  # noqa: BLE001 - told to the engine, and this process ends
        told = Unavailable(
            "ray.unreachable",
            f"The Ray cluster cannot be joined: {_first_line(error)}",
            hint="Check the address, `ray status`, and RAY_AUTH_MODE and RAY_AUTH_TOKEN.",
        )
        write_frame(connection, Refused(told.to_wire()))
        return
    bridge = Bridge(ray, connection)
    write_frame(connection, Joined(_machines(ray)))
    bridge.run()
    bridge.farewell()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
