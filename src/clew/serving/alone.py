"""One model served from files, without a workspace: what an image of ``clew image`` runs.

Knows the manifest beside the model's files; no rows, no rollouts and no log. Asked and answered as
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
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec

from clew.base.errors import ClewError, Denied, Invalid, NotFound
from clew.base.records.environments import OwnEnvironment
from clew.base.records.exports import ImageManifest
from clew.models import load_model
from clew.places import Environments
from clew.serving.dataplane import DataPlane, Route
from clew.serving.files import CheckedFiles
from clew.serving.http import HttpServer
from clew.serving.logs import configure
from clew.serving.metrics import render
from clew.serving.reports import Arm, statistics
from clew.serving.rest import HEALTH, Rest
from clew.serving.runtime import Identity, Runtime
from clew.serving.shedding import Shedding
from clew.serving.worker import ENVIRONMENT, new_loop, open_model

MANIFEST = "image.json"
FILES = "files"
PORT = 8080
_PROBE_S = 3.0


def files_in(directory: Path, manifest: ImageManifest) -> CheckedFiles:
    """The files that a manifest names, below a directory."""

    def content(path: str) -> bytes:
        return directory.joinpath(FILES, path.lstrip("/")).read_bytes()

    return CheckedFiles(manifest.files, content, mend="Make the build context anew: clew image")


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
    """Metrics and statistics of the one model that there is."""

    def __init__(self, plane: DataPlane, manifest: ImageManifest, runtime: Runtime) -> None:
        self._plane, self._manifest, self._runtime = plane, manifest, runtime

    def _arm(self) -> Arm:
        told, identity = self._manifest, self._runtime.identity
        return Arm(
            endpoint=told.endpoint,
            model=told.model,
            version=told.version,
            revision=identity.revision,
            arm="live",
            traffic=100,
            loaded=1,
            counts=self._runtime.account.snapshot(),
        )

    def metrics(self) -> str:
        """The text of ``/metrics``."""
        in_flight = float(self._plane.in_flight)
        gauges: list[tuple[str, str, float, dict[str, str]]] = [
            ("clew_requests_in_flight", "Requests not answered yet.", in_flight, {}),
            ("clew_revisions_loaded", "Revisions in memory.", 1, {}),
        ]
        return render([self._arm()], gauges)

    def statistics(self, name: str, version: str, /) -> list[dict[str, object]]:
        """Of the one model. Raises NotFound ``endpoint.unknown``, ``endpoint.version``."""
        if name:
            self._known(name)
        if version not in {"", self._manifest.version}:
            raise NotFound(
                "endpoint.version",
                f"{name!r} has no version {version!r}; there is {self._manifest.version}.",
            )
        return statistics([self._arm()])

    def load(self, name: str, /) -> None:
        """Nothing is to be done: it is loaded. Raises NotFound ``endpoint.unknown``."""
        self._known(name)

    def unload(self, name: str, /) -> None:
        """Raises Denied ``image.fixed``; NotFound ``endpoint.unknown``."""
        self._known(name)
        raise Denied(
            "image.fixed",
            f"{name!r} is all that this image serves, and is not unloaded.",
            hint="End the container instead.",
        )

    def _known(self, name: str) -> None:
        if name != self._manifest.endpoint:
            raise NotFound(
                "endpoint.unknown",
                f"There is no endpoint {name!r}.",
                hint=f"There is {self._manifest.endpoint}.",
            )


def opened(directory: Path) -> tuple[ImageManifest, Runtime]:
    """The model of a directory in memory, asked once. Raises what loading and checking raise."""
    told = manifest_in(directory)
    files = files_in(directory, told)
    files.check()
    identity = Identity(
        endpoint=told.endpoint,
        revision=told.revision,
        number=told.number,
        model_version=told.model_version,
        version=told.version,
        global_id=told.global_id,
    )
    model, example = open_model(cast(Any, files), partial(load_model, served=True), "")
    runtime = Runtime(identity, model)
    runtime.warm(example)
    return told, runtime


def bake(files: CheckedFiles) -> None:
    """Build the environment of the model, where it has one. Raises Invalid ``environment.python``;
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
    told, runtime = await loop.run_in_executor(None, opened, directory)
    plane = DataPlane(loop, None)
    plane.follow({told.endpoint: Route(told.endpoint, [(runtime, 100.0)], log=0)})
    version = importlib.metadata.version("clew")
    rest = Rest(loop, plane, Clerk(plane, told, runtime), version)
    shedding = Shedding(plane)
    server = HttpServer(
        rest,
        token=token,
        open_paths=HEALTH,
        full=shedding.full,
        refused=shedding.refused,
    )
    gc.collect()
    gc.freeze()
    await server.start(listener)
    host, port = listener.getsockname()[:2]
    said = f"{told.endpoint} ({told.model}@{told.version}) answers on {host}:{port}"
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
            bake(files_in(directory, manifest_in(directory)))
            return 0
        if "--check" in flags:
            count = files_in(directory, told := manifest_in(directory)).check()
            _say(f"{told.model}@{told.version}: {count} files are as they were committed")
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
