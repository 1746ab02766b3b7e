"""Open a workspace so that what takes long goes side by side.

Knows what the workers will need and nothing of the rooms: those are loaded while a worker starts.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, cast

from clew.base.settings import Settings
from clew.compute import ProcessPool

if TYPE_CHECKING:
    from clew.workspace.workspace import Workspace

PRELOAD = ("clew.authoring.manifest", "clew.pipelines.worker")
"""What nearly every call of a worker needs: to describe a file, and to run datums."""


def open_workspace(settings: Settings, *, create: bool = False, working: bool = False) -> Workspace:
    """The workspace in ``settings.home``, made where ``create`` says so.

    ``working`` says that user code will run soon: a worker starts while the rooms are loaded. The
    home must exist then.

    Raises:
        NotFound: ``workspace.missing``.
        Unavailable: ``workspace.read_only``, ``disk.full``.
    """
    home = settings.home
    compute = ProcessPool(settings.worker_count, home / "scratch", home / "logs", preload=PRELOAD)
    try:
        if working:
            with suppress(OSError):  # a disk that is full or read-only: the rooms say so
                compute.start()
        rooms = import_module("clew.workspace.rooms").wire(settings, compute, create=create)
    except BaseException:
        compute.close()
        raise
    return cast("Workspace", import_module("clew.workspace.workspace").Workspace(rooms))
