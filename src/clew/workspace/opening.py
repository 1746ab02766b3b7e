"""Open a workspace so that what takes long goes side by side.

Knows what the workers will need and nothing of the rooms: those are loaded while a worker starts.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, cast

from clew.base.errors import Invalid
from clew.base.pools import read_pools
from clew.base.settings import Settings
from clew.compute import ProcessPool

if TYPE_CHECKING:
    from clew.compute import RayPool
    from clew.workspace.workspace import Workspace

PRELOAD = ("clew.authoring.manifest", "clew.pipelines.worker")
"""What nearly every call of a worker needs: to describe a file, and to run datums."""


def open_workspace(settings: Settings, *, create: bool = False, working: bool = False) -> Workspace:
    """The workspace in ``settings.home``, made where ``create`` says so.

    ``working`` says that user code will run soon: a worker starts while the rooms are loaded. The
    home must exist then.

    Raises:
        NotFound: ``workspace.missing``.
        Unavailable: ``workspace.read_only``, ``disk.full``; ``ray.missing`` and
            ``ray.unreachable`` where user code is to run on a cluster, and soon.
        Invalid: ``settings.invalid``, ``ray.address``.
    """
    compute = _pool(settings)
    try:
        if working:
            with suppress(OSError):  # a disk that is full or read-only: the rooms say so
                compute.start()
        rooms = import_module("clew.workspace.rooms").wire(settings, compute, create=create)
    except BaseException:
        compute.close()
        raise
    return cast("Workspace", import_module("clew.workspace.workspace").Workspace(rooms))


def _pool(settings: Settings) -> ProcessPool | RayPool:
    """Where user code runs."""
    home = settings.home
    if not settings.compute:
        return ProcessPool(
            settings.worker_count,
            home / "scratch",
            home / "logs",
            environment={**os.environ, "CLEW_ENVIRONMENTS": str(settings.environments_path)},
            preload=PRELOAD,
            pools=read_pools(settings.pools),
        )
    if not settings.compute.startswith(("ray://", "ray+gcs://")):
        raise Invalid(
            "settings.invalid",
            f"User code cannot run at {settings.compute!r}.",
            hint="Set CLEW_COMPUTE (or --compute) to ray://auto or ray://HOST:10001, or unset it.",
        )
    make = cast("type[RayPool]", import_module("clew.compute").RayPool)
    return make(
        settings.compute,
        settings.store_address,
        home / "logs",
        size=settings.workers,
        cache=home / "cache" / "store",
        preload=PRELOAD,
        pools=read_pools(settings.pools),
    )
