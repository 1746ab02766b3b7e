"""``clew.load("endpoint")``: its model in this process, asked without a network; or where it is.

Knows where a workspace may be, and which model an endpoint serves now.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from clew.base.errors import Invalid, NotReady
from clew.base.settings import read_settings
from clew.sdk.connect import connect, connect_embedded

if TYPE_CHECKING:
    from clew.base.records import Revision
    from clew.base.settings import Settings
    from clew.base.verbs import Verbs
    from clew.serving import InProcess, RemoteModel


@overload
def load(
    ref: str, *, log: bool = False, directory: Path | str = ".", at: None = None
) -> InProcess: ...


@overload
def load(ref: str, *, log: bool = False, directory: Path | str = ".", at: str) -> RemoteModel: ...


def load(
    ref: str, *, log: bool = False, directory: Path | str = ".", at: str | None = None
) -> InProcess | RemoteModel:
    """The model that an endpoint serves now, or ``model@3`` and ``model@champion``, here.

    Checks, preprocessing, outputs and their form are those of the endpoint; the form that serves
    (ONNX, or the original) is the one that is loaded. It stays the model that it was when it was
    loaded: a rollout changes the endpoint, not what is in memory here.

    Args:
        ref: Name of an endpoint, or of a model version.
        log: Keep each prediction in the prediction log of the endpoint, as it says.
        directory: In or below the directory of the workspace; where CLEW_URL names a server, the
            model comes from there.
        at: Ask the endpoint of a server instead of loading its model: ``unix:///run/clew.sock`` of
            one beside this process (``clew server --unix``), or ``http://127.0.0.1:8687`` or
            ``https://…`` (CLEW_CA names the authority that is trusted). It needs
            no workspace, follows each rollout, and logs as the endpoint says.

    Raises:
        NotFound: ``workspace.missing``, ``endpoint.unknown``, ``model.unknown``.
        NotReady: ``endpoint.empty``.
        Invalid: ``load.graph``; ``load.log``; ``load.remote`` where the log is on the server that
            CLEW_URL names; ``load.address``.
        Unavailable: ``endpoint.unreachable``, ``endpoint.unavailable``, ``server.untrusted``.
    """
    settings = read_settings(os.environ, Path(directory))
    if at is not None:
        made = import_module("clew.serving").RemoteModel(
            ref, at, token=settings.token, ca=settings.ca
        )
        return cast("RemoteModel", made)
    _check(ref, settings, log=log)
    verbs = connect(directory=directory)
    try:
        live = None if "@" in ref else _live(verbs, ref)
        kept = _log_of(settings, ref) if log else {}
        return _loaded(verbs, ref, live, kept)
    finally:
        verbs.close()


def _check(ref: str, settings: Settings, *, log: bool) -> None:
    if log and "@" in ref:
        raise Invalid(
            "load.log",
            f"{ref} is a model version: predictions are logged for an endpoint.",
            hint="Name the endpoint, or leave out log=True.",
        )
    if log and settings.url:
        raise Invalid(
            "load.remote",
            f"The prediction log of {settings.url} is not here.",
            hint="Leave out log=True, ask the endpoint over HTTP, or unset CLEW_URL beside it.",
        )


def _live(verbs: Verbs, endpoint: str) -> Revision:
    """The revision with most of the traffic."""
    revisions = verbs.endpoint(endpoint).revisions
    live = max(revisions, key=lambda each: each.traffic, default=None)
    if live is None or live.state not in {"live", "canary"}:
        raise NotReady(
            "endpoint.empty",
            f"No model is on {endpoint} yet.",
            hint="`clew status` says what is missing: data, training, or a blessing.",
        )
    if not live.model_version:
        raise Invalid(
            "load.graph",
            f"{endpoint} is a graph: it has no model of its own.",
            hint="Load the endpoints that it asks, or ask it over HTTP.",
        )
    return live


def _log_of(settings: Settings, endpoint: str) -> dict[str, Any]:
    """Where predictions are kept, and what of them."""
    workspace = connect_embedded(settings)
    try:
        found: dict[str, Any] = import_module("clew.workspace").log_of(workspace, endpoint)
        return found
    finally:
        workspace.close()


def _loaded(verbs: Verbs, ref: str, live: Revision | None, kept: dict[str, Any]) -> InProcess:
    # By name: a model in memory needs what serves, and `import clew` must not
    load_version = import_module("clew.sdk.versions").load_version
    made: type[InProcess] = import_module("clew.serving").InProcess
    version, model = load_version(
        verbs, live.model_version if live else ref, live.functions if live else ""
    )
    return made(
        ref if live else version.model,
        model,
        revision=live.id if live else "",
        number=live.number if live else 0,
        model_version=version.id,
        version=str(version.version),
        global_id=live.global_id if live else version.global_id,
        **kept,
    )
