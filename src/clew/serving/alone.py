"""A model, or a graph with all that it asks, served from files without a workspace: what an image
of ``clew image`` runs.

Knows the manifest beside the files; no rows, no rollouts and no log. Asked and answered as
the endpoint is: the same checks, batches and answers.

``python -m clew.serving.alone DIRECTORY [--environment | --check | --probe]``
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec

from clew.base.errors import ClewError, Denied, Invalid, NotFound
from clew.base.records.environments import OwnEnvironment
from clew.base.records.exports import ImageEndpoint, ImageManifest
from clew.models import load_model
from clew.places import Environments
from clew.serving.dataplane import DataPlane, Route
from clew.serving.files import CheckedFiles
from clew.serving.graph_model import graph_in
from clew.serving.graph_settling import headers_of, settle_graphs
from clew.serving.http import HttpServer
from clew.serving.logs import configure
from clew.serving.metrics import render
from clew.serving.reports import Arm, statistics
from clew.serving.rest import HEALTH, Rest
from clew.serving.runtime import Identity, Runtime
from clew.serving.shedding import Shedding
from clew.serving.worker import ENVIRONMENT, new_loop, open_model

MANIFEST = "image.json"
PORT = 8080
_PROBE_S = 3.0


def files_in(directory: Path, manifest: ImageManifest) -> dict[str, CheckedFiles]:
    """The files that a manifest names, below a directory, by the endpoint that they are of."""
    return {
        one.endpoint: CheckedFiles(
            one.files,
            partial(_content, directory / place),
            mend="Make the build context anew: clew image",
        )
        for place, one in manifest.places.items()
    }


def _content(directory: Path, path: str) -> bytes:
    return directory.joinpath(path.lstrip("/")).read_bytes()


def manifest_in(directory: Path) -> ImageManifest:
    """What a directory says it holds. Raises NotFound ``image.missing_model``."""
    try:
        content = (directory / MANIFEST).read_bytes()
        return msgspec.json.decode(content, type=ImageManifest)
    except (OSError, msgspec.DecodeError) as error:
        raise NotFound(
            "image.missing_model",
            f"There is no model in {directory}: {error}",
            hint="Name the directory `model` of a context that clew image made.",
        ) from None


class Clerk:
    """Metrics and statistics of all that there is: ``runtimes`` by endpoint."""

    def __init__(
        self, plane: DataPlane, manifest: ImageManifest, runtimes: Mapping[str, Runtime]
    ) -> None:
        self._plane, self._runtimes = plane, runtimes
        self._models = {one.endpoint: one.model for one in manifest.places.values()}

    def _arm(self, runtime: Runtime) -> Arm:
        identity = runtime.identity
        return Arm(
            endpoint=identity.endpoint,
            model=self._models[identity.endpoint],
            version=identity.version,
            revision=identity.revision,
            arm="live",
            traffic=100,
            loaded=1,
            counts=runtime.account.snapshot(),
        )

    def metrics(self) -> str:
        """The text of ``/metrics``."""
        in_flight, loaded = float(self._plane.in_flight), float(len(self._runtimes))
        gauges: list[tuple[str, str, float, dict[str, str]]] = [
            ("clew_requests_in_flight", "Requests not answered yet.", in_flight, {}),
            ("clew_revisions_loaded", "Revisions in memory.", loaded, {}),
        ]
        return render([self._arm(one) for one in self._runtimes.values()], gauges)

    def statistics(self, name: str, version: str, /) -> list[dict[str, object]]:
        """Of one endpoint ('': all). Raises NotFound ``endpoint.unknown``, ``endpoint.version``."""
        asked = [self._known(name)] if name else list(self._runtimes.values())
        found = [one for one in asked if version in {"", one.identity.version}]
        if not found:
            there = ", ".join(one.identity.version for one in asked)
            raise NotFound(
                "endpoint.version", f"{name!r} has no version {version!r}; there is {there}."
            )
        return statistics([self._arm(one) for one in found])

    def load(self, name: str, /) -> None:
        """Nothing is to be done: it is loaded. Raises NotFound ``endpoint.unknown``."""
        self._known(name)

    def unload(self, name: str, /) -> None:
        """Raises Denied ``image.fixed``; NotFound ``endpoint.unknown``."""
        self._known(name)
        raise Denied(
            "image.fixed",
            f"{name!r} is what this image serves, and is not unloaded.",
            hint="End the container instead.",
        )

    def _known(self, name: str) -> Runtime:
        found = self._runtimes.get(name)
        if found is None:
            raise NotFound(
                "endpoint.unknown",
                f"There is no endpoint {name!r}.",
                hint=f"There is {', '.join(self._runtimes)}.",
            )
        return found


def opened(directory: Path) -> tuple[ImageManifest, dict[str, Runtime]]:
    """All models of a directory in memory, each asked once, and the graphs above them; by endpoint.
    Raises what loading and checking raise.
    """
    manifest = manifest_in(directory)
    files = files_in(directory, manifest)
    for one in files.values():
        one.check()
    told = manifest.places.values()
    return manifest, {one.endpoint: _runtime(one, files[one.endpoint]) for one in told}


def _runtime(told: ImageEndpoint, files: CheckedFiles) -> Runtime:
    identity = Identity(
        endpoint=told.endpoint,
        revision=told.revision,
        number=told.number,
        model_version=told.model_version,
        version=told.version,
        global_id=told.global_id,
    )
    store = cast(Any, files)
    graph = graph_in(store, "")
    if graph is not None:
        return Runtime(identity, graph)
    model, example = open_model(store, partial(load_model, served=True), "")
    runtime = Runtime(identity, model)
    runtime.warm(example)
    return runtime


def routes_of(runtimes: Mapping[str, Runtime]) -> dict[str, Route]:
    """How they are asked. Raises Invalid ``image.graph`` where a graph cannot be."""
    routes = {name: Route(name, [(one, 100.0)], log=0) for name, one in runtimes.items()}
    settle_graphs(routes)
    for name, one in runtimes.items():
        if one.why:
            raise Invalid(
                "image.graph",
                f"The graph {name} cannot be asked: {one.why}.",
                hint="Make the build context anew where it is live: clew image",
            )
    return routes


def bake(files: CheckedFiles) -> None:
    """Build the environment of a model, where it has one. Raises Invalid ``environment.python``;
    Unavailable ``environment.build``.
    """
    if files.get("", ENVIRONMENT) is not None:
        own = msgspec.json.decode(files.read(ENVIRONMENT), type=OwnEnvironment)
        place = Environments.at_hand().bake(own.lock, own.python)
        _say(f"{len(own.packages)} packages of the model are in {place}")


async def serve(directory: Path, listener: socket.socket, *, token: str) -> None:
    """Serve until SIGTERM or SIGINT; then answer what was asked, and return."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    told, runtimes = await loop.run_in_executor(None, opened, directory)
    plane = DataPlane(loop, None)
    routes = routes_of(runtimes)
    plane.follow(routes)
    version = importlib.metadata.version("clew")
    rest = Rest(loop, plane, Clerk(plane, told, runtimes), version)
    shedding = Shedding(plane)
    server = HttpServer(
        rest,
        token=token,
        open_paths=HEALTH,
        full=shedding.full,
        refused=shedding.refused,
    )
    server.want(headers_of(routes))
    gc.collect()
    gc.freeze()
    await server.start(listener)
    host, port = listener.getsockname()[:2]
    said = f"{told.endpoint} ({told.title}) answers on {host}:{port}"
    _say(said)
    await stop.wait()
    await server.drain()
    plane.close()


def probe(port: int) -> bool:
    """Whether the server of this container is ready."""
    try:
        url = f"http://127.0.0.1:{port}/v2/health/ready"
        with urllib.request.urlopen(url, timeout=_PROBE_S) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def main(arguments: list[str]) -> int:
    """Serve, check, probe, or build what the model runs in; the exit status. A container is told by
    its environment: ``CLEW_PORT``, ``CLEW_HOST``, ``CLEW_TOKEN`` and ``CLEW_LOGS``.
    """
    flags = {one for one in arguments if one.startswith("--")}
    places = [one for one in arguments if not one.startswith("--")]
    try:
        if flags - {"--environment", "--check", "--probe"} or len(places) != 1:
            raise Invalid(
                "image.arguments",
                f"{' '.join(arguments) or 'Nothing'} is not what this takes.",
                hint="python -m clew.serving.alone DIRECTORY [--environment | --check | --probe]",
            )
        directory, port = Path(places[0]), int(os.environ.get("CLEW_PORT", PORT))
        if "--probe" in flags:
            return 0 if probe(port) else 1
        if "--environment" in flags:
            for one in files_in(directory, manifest_in(directory)).values():
                bake(one)
            return 0
        if "--check" in flags:
            files = files_in(directory, told := manifest_in(directory))
            count = sum(one.check() for one in files.values())
            _say(f"{told.title}: {count} files are as they were committed")
            return 0
        configure(json=os.environ.get("CLEW_LOGS", "").lower() == "json")
        listener = _listen(os.environ.get("CLEW_HOST", ""), port)
        token = os.environ.get("CLEW_TOKEN", "")
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve(directory, listener, token=token))
    except ClewError as error:
        sys.stderr.write(f"{error.message} ({error.code}) {error.hint}\n")
        return 1
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _listen(host: str, port: int) -> socket.socket:
    """On ``host``; without one on all addresses, as is usual in a container."""
    return socket.create_server((host, port), backlog=4096)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
