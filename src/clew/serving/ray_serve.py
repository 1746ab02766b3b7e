"""Endpoints as applications of Ray Serve: the one file of this room that knows Ray.

Knows how an endpoint becomes replicas, and how plans, files, reports and logs go to and fro by an
actor of ours, the post: nothing on the cluster need reach the workspace.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from clew.base.errors import Unavailable
from clew.base.ids import new_id
from clew.serving.clusters import Cluster
from clew.serving.config import LIMIT_BYTES
from clew.serving.plans import Contents, Plan, Report
from clew.serving.replica import Seat
from clew.serving.stats import Counts

WAIT_S = 10.0
CALL_S = 60.0
MOST_BYTES = 64 << 20
"""So much of the log waits in the post; the rest waits on the disks of replicas."""
_log = logging.getLogger("clew.serving")


class Post:
    """The actor between the workspace and replicas. All of it can be told anew."""

    def __init__(self) -> None:
        self._life = new_id()
        self._plans: dict[str, tuple[int, bytes]] = {}
        self._trees: dict[str, bytes] = {}
        self._reports: dict[str, Report] = {}
        self._files: dict[str, bytes] = {}
        self._waiting: dict[str, asyncio.Future[bool]] = {}
        self._changed = asyncio.Condition()

    async def life(self) -> str:
        """What names this life of the post."""
        return self._life

    async def plan(self, plans: dict[str, tuple[int, bytes]], trees: list[str]) -> None:
        """What replicas serve from now on."""
        self._trees = {name: each for name, each in self._trees.items() if name in trees}
        self._plans = plans
        await self._tell()

    async def give(self, tree: str, contents: bytes) -> None:
        """The files of a model version."""
        self._trees[tree] = contents
        await self._tell()

    async def fetch(self, tree: str) -> bytes | None:
        """The files of a model version, as soon as they are here; None after some seconds."""
        return self._trees[tree] if await self._until(lambda: tree in self._trees) else None

    async def follow(self, endpoint: str, seen: int) -> tuple[int, bytes | None]:
        """The plan of an endpoint, as soon as it is another; None where there is none."""
        await self._until(lambda: endpoint in self._plans and self._plans[endpoint][0] != seen)
        number, plan = self._plans.get(endpoint, (seen, None))
        return number, plan

    async def report(self, replica: str, report: bytes) -> None:
        """What a replica holds and did."""
        news, kept = msgspec.msgpack.decode(report, type=Report), self._reports.get(replica)
        self._reports[replica] = news if kept is None else _with_counts(news, kept)
        await self._tell()

    async def deliver(self, name: str, data: bytes) -> bool:
        """A file of the log, until the workspace has it; False where it is to come again."""
        held = sum(map(len, self._files.values()))
        if name not in self._files and held + len(data) > MOST_BYTES:
            return False
        self._files[name] = data
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = asyncio.get_running_loop().create_future()
        await self._tell()
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), WAIT_S)
        except TimeoutError:
            return False

    async def hear(self, got: list[str]) -> tuple[str, list[bytes], list[tuple[str, bytes]]]:
        """What replicas told and delivered; ``got`` is safe at the workspace."""
        for name in got:
            self._files.pop(name, None)
            waiting = self._waiting.pop(name, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(True)
        await self._until(lambda: bool(self._reports or self._files))
        reports, self._reports = self._reports, {}
        return (
            self._life,
            [msgspec.msgpack.encode(each) for each in reports.values()],
            [*self._files.items()],
        )

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _until(self, holds: Any) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S), self._changed:
                await self._changed.wait_for(holds)
        return bool(holds())


def _with_counts(news: Report, kept: Report) -> Report:
    """The later of two reports of a replica, with what both counted: the workspace may be away for
    days, and memory is bounded.
    """
    counts = dict(kept.counts)
    for revision, more in news.counts.items():
        if revision in counts:
            before, after = (
                msgspec.msgpack.decode(each, type=Counts, strict=False)
                for each in (counts[revision], more)
            )
            counts[revision] = msgspec.msgpack.encode(before + after)
        else:
            counts[revision] = more
    return replace(news, counts=counts)


class _Way:
    """The post as a replica has it (``replica.Post``); found again where it was started anew."""

    def __init__(self, space: str) -> None:
        self._space = space
        self._actor: Any = None

    def _ask(self, method: str, *given: Any) -> Any:
        import ray  # noqa: PLC0415 - an extra, and this class is for Ray's own processes

        try:
            if self._actor is None:
                self._actor = ray.get_actor("post", namespace=self._space)
            return ray.get(getattr(self._actor, method).remote(*given), timeout=CALL_S)
        except Exception as error:  # noqa: BLE001 - Ray raises what it likes; it is tried again
            self._actor = None
            raise OSError(f"the post is away: {_first_line(error)}") from None

    def follow(self, endpoint: str, seen: int) -> tuple[int, Plan | None]:
        """See ``replica.Post``."""
        number, plan = self._ask("follow", endpoint, seen)
        return number, None if plan is None else msgspec.msgpack.decode(plan, type=Plan)

    def fetch(self, tree: str) -> Contents:
        """See ``replica.Post``."""
        found = self._ask("fetch", tree)
        if found is None:
            raise OSError("the files of the version have not come yet")
        return msgspec.msgpack.decode(found, type=Contents)

    def report(self, report: Report) -> None:
        """See ``replica.Post``."""
        self._ask("report", report.replica, msgspec.msgpack.encode(report))

    def deliver(self, name: str, data: bytes) -> bool:
        """See ``replica.Post``."""
        return bool(self._ask("deliver", name, data))


class Replica:
    """What Ray Serve runs: one replica of an endpoint."""

    async def __init__(self, told: dict[str, str]) -> None:  # type: ignore[misc]  # Ray awaits it
        space = told["space"]
        self._seat = Seat(
            _Way(space),
            name=new_id(),
            endpoint=told["endpoint"],
            spool=Path(tempfile.gettempdir()) / space,
            home=told["home"],
            token_digest=told["token_digest"],
            version=told["version"],
            limit_bytes=LIMIT_BYTES,
        )
        await asyncio.get_running_loop().run_in_executor(None, self._seat.start)

    async def __call__(self, request: Any) -> Any:
        """Answer a request of Starlette's."""
        response = import_module("starlette.responses").Response  # Ray Serve has it loaded
        path, root = request.scope["path"], request.scope.get("root_path", "")
        whole = path if path.startswith(root) else root + path
        headers = {name.lower(): value for name, value in request.scope["headers"]}
        status, told, body = await self._seat.answer(
            request.method, quote(whole).encode(), headers, await request.body()
        )
        return response(body, status_code=status, headers=told)

    def __del__(self) -> None:
        seat = getattr(self, "_seat", None)
        if seat is not None:
            seat.close()


class Laid:
    """A cluster as endpoints are laid out on it: ``deployer.Fabric``.

    ``space``: names what belongs to one workspace. Raises Unavailable ``serving.cluster`` where the
    cluster cannot be joined, ``ray.missing`` where Ray Serve is not installed.
    """

    def __init__(
        self, cluster: Cluster, *, space: str, home: str, token_digest: str, version: str
    ) -> None:
        try:
            import ray  # noqa: PLC0415 - an extra, and slow to import
            from ray import serve  # noqa: PLC0415 - as above
        except ImportError as error:
            raise Unavailable(
                "ray.missing",
                f"Endpoints on Ray need Ray Serve, which is not installed here: {error}",
                hint='pip install "clew[ray-serve]"',
            ) from None
        self._ray, self._serve, self._cluster, self._space = ray, serve, cluster, space
        self._told = {"space": space, "home": home, "token_digest": token_digest}
        self._told["version"] = version
        self._current: set[str] = set()
        """Applications that have been told what this life of the server wants."""
        self._numbers: dict[bytes, int] = {}
        self._count = time.time_ns()
        self._lock = threading.Lock()
        self._post: Any = None
        with _told():
            ray.init(cluster.address, namespace=space, log_to_driver=False, logging_level="error")
            serve.start(
                proxy_location="EveryNode",
                http_options={"host": cluster.host, "port": cluster.port},
            )
            self._found()

    def _found(self) -> Any:
        with self._lock:
            if self._post is None:
                self._post = (
                    self._ray.remote(Post)
                    .options(
                        name="post", namespace=self._space, lifetime="detached", num_cpus=0,
                        max_restarts=-1, max_concurrency=1000, get_if_exists=True,
                    )
                    .remote()
                )  # fmt: skip
            return self._post

    def _ask(self, method: str, *given: Any) -> Any:
        try:
            with _told():
                return self._ray.get(getattr(self._found(), method).remote(*given), timeout=CALL_S)
        except Unavailable:
            with self._lock:
                self._post = None
            raise

    def deploy(self, endpoint: str) -> None:
        """See ``deployer.Fabric``."""
        there = endpoint in self.deployed()
        if there and endpoint in self._current:
            return
        wish = self._cluster
        replicas: dict[str, Any] = {"num_replicas": wish.min}
        if wish.max > wish.min:
            scaling = {
                "min_replicas": wish.min,
                "max_replicas": wish.max,
                "target_ongoing_requests": wish.target,
            }
            replicas = {"autoscaling_config": scaling}
        with _told():
            made = self._serve.deployment(Replica).options(
                name="endpoint",
                ray_actor_options={"num_cpus": wish.cpus},
                max_ongoing_requests=max(256, int(4 * wish.target)),
                health_check_period_s=2,
                health_check_timeout_s=10,
                graceful_shutdown_wait_loop_s=0.5,
                graceful_shutdown_timeout_s=20,
                # one replica is replaced before it ends; of several, one after another
                max_surge_percent=100 if wish.min == 1 else 0,
                version=self._version(),
                _internal=True,
                **replicas,
            )
            wanted = self._serve.RunTarget(
                target=made.bind({**self._told, "endpoint": endpoint}),
                name=self._name(endpoint),
                route_prefix=f"/v2/models/{quote(endpoint)}",
            )
            # what is there serves on while Ray finds room for what replaces it
            self._serve.run_many([wanted], wait_for_applications_running=not there)
        self._current.add(endpoint)

    def _version(self) -> str:
        """Of replicas: Ray starts those of another one anew, and leaves the others running when an
        application is told again. ``home`` is for messages alone, and is not in it.
        """
        told = [self._told[name] for name in ("space", "token_digest", "version")]
        return hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]

    def delete(self, endpoint: str) -> None:
        """See ``deployer.Fabric``."""
        with _told():
            self._current.discard(endpoint)
            self._serve.delete(self._name(endpoint))

    def deployed(self) -> Collection[str]:
        """See ``deployer.Fabric``."""
        with _told():
            found = self._serve.status().applications
        start = self._name("")
        return [
            name.removeprefix(start)
            for name, each in found.items()
            if name.startswith(start) and each.status != "DELETING"
        ]

    def plan(self, plans: Mapping[str, Plan], trees: Collection[str]) -> None:
        """See ``deployer.Fabric``."""
        told = {name: msgspec.msgpack.encode(each) for name, each in plans.items()}
        for each in told.values():  # the same plan keeps its number, a new one gets a new one
            if each not in self._numbers:
                self._count += 1
                self._numbers[each] = self._count
        self._numbers = {each: self._numbers[each] for each in told.values()}
        numbered = {name: (self._numbers[each], each) for name, each in told.items()}
        self._ask("plan", numbered, list(trees))

    def give(self, tree: str, contents: Contents) -> None:
        """See ``deployer.Fabric``."""
        self._ask("give", tree, msgspec.msgpack.encode(contents))

    def hear(self, got: Collection[str]) -> tuple[str, list[Report], list[tuple[str, bytes]]]:
        """See ``deployer.Fabric``."""
        life, reports, files = self._ask("hear", list(got))
        return life, [*_readable(reports)], files

    def close(self) -> None:
        """Leave the cluster; what runs there goes on."""
        with suppress(Exception):  # it may have gone first
            self._ray.shutdown()

    def _name(self, endpoint: str) -> str:
        return f"{self._space}-{endpoint}"


def _readable(reports: list[bytes]) -> Iterator[Report]:
    """Reports; what another version of Clew has written so that it cannot be read is left out."""
    for one in reports:
        try:
            yield msgspec.msgpack.decode(one, type=Report)
        except msgspec.MsgspecError as error:
            _log.error("a replica's report cannot be read: %s", error)


@contextmanager
def _told() -> Iterator[None]:
    """Within, what Ray raises is Unavailable ``serving.cluster``."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - Ray raises what it likes; it is told on
        raise Unavailable(
            "serving.cluster",
            f"The cluster does not do what endpoints need: {_first_line(error)}",
            hint="Check the address, `ray status`, `serve status`, RAY_AUTH_MODE and "
            "RAY_AUTH_TOKEN.",
        ) from None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:500]
