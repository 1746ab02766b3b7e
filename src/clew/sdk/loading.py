"""``clew.load("endpoint")``: its model in this process, asked without a network.

Knows where a workspace may be; which model is meant is for the workspace.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from clew.base.errors import Invalid
from clew.base.settings import read_settings
from clew.sdk.connect import connect_embedded

if TYPE_CHECKING:
    from clew.serving import InProcess


def load(ref: str, *, log: bool = False, directory: Path | str = ".") -> InProcess:
    """The model that an endpoint serves now, or ``model@3`` and ``model@champion``, here.

    Checks, preprocessing, outputs and their form are those of the endpoint; the form that serves
    (ONNX, or the original) is the one that is loaded. It stays the model that it was when it was
    loaded: a rollout changes the endpoint, not what is in memory here.

    Args:
        ref: Name of an endpoint, or of a model version.
        log: Keep each prediction in the prediction log of the endpoint, as it says.
        directory: In or below the directory of the workspace; its files are read, also while a
            server runs on it.

    Raises:
        NotFound: ``workspace.missing``, ``endpoint.unknown``, ``model.unknown``.
        NotReady: ``endpoint.empty``.
        Invalid: ``load.log``; ``load.remote`` where CLEW_URL names a server.
    """
    settings = read_settings(os.environ, Path(directory))
    if settings.url:
        raise Invalid(
            "load.remote",
            f"The files of {settings.url} are not here.",
            hint="Unset CLEW_URL beside the workspace, or ask the endpoint over HTTP.",
        )
    workspace = connect_embedded(settings)
    try:
        found = import_module("clew.workspace").load(workspace, ref, log=log)
        return cast("InProcess", found)
    finally:
        workspace.close()
