"""What a request on MLflow's paths asks for: which call, in which context, or that it is fenced.

Knows paths alone. What is carried is listed, so that what a newer MLflow brings waits outside.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from clew.base.errors import Invalid, NotFound

PREFIX = "/mlflow"
"""Where MLflow's pages are, and everything of it again."""

INSIDE = "/mlflow/in/"
"""Behind it comes the id of what a client runs in (a job, a trial), then MLflow's paths as ever."""

Kind = Literal["call", "artifact", "page", "home", "version"]

_API = re.compile(r"/(?:ajax-)?api/([23])\.0/(mlflow|mlflow-artifacts)/(.*)", re.DOTALL)
_CARRIED = {
    "2": frozenset(
        {"artifacts", "experiments", "gateway-proxy", "get-trace-artifact"}
        | {"get-online-trace-details"}
        | {"logged-models", "metrics", "model-versions", "registered-models", "runs", "traces"}
        | {"unified-traces", "upload-artifact"}
    ),
    "3": frozenset(
        {"assessments", "datasets", "get-trace-artifact", "issues", "label-schemas"}
        | {"review-queues", "scorers", "server-info", "traces", "ui-telemetry"}
    ),
}
_NOT_HERE = frozenset({"issues/invoke", "runs/create-promptlab-run", "scorers/online-config"})
"""Calls of families that are carried: these would run something on the server."""
_ARTIFACTS = "mlflow-artifacts/artifacts"
_PAGES = ("/static-files/", "/get-artifact", "/model-versions/get-artifact", "/graphql")
_PLAIN = frozenset({"/health", "/v1/traces"})
_AT_THE_ROOT = frozenset({"/version", "/v1/traces"})
"""A client asks for the version to learn whether spans go where they can be searched for."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request to MLflow. ``call`` is as ``runs/create``, '' for what is no call of the API.

    ``path`` is what MLflow's application is asked, ``context`` the id of what the client runs in
    ('' where it did not say), ``artifact`` the path of a file in the store of artifacts.
    """

    kind: Kind
    path: str
    call: str = ""
    context: str = ""
    artifact: str = ""


def is_mlflow(path: str) -> bool:
    """Whether a path of this server is one of MLflow's."""
    return path.startswith(("/mlflow", "/api/2.0/mlflow", "/api/3.0/mlflow", "/ajax-api/")) or (
        path in _AT_THE_ROOT
    )


def read_path(path: str) -> Asked:
    """What a path (decoded, as ASGI gives it) asks for.

    Raises:
        Invalid: ``mlflow.fenced`` for a family of calls that this server does not carry.
        NotFound: ``route.unknown``.
    """
    context, inner = "", path
    if path.startswith(INSIDE):
        context, _, rest = path[len(INSIDE) :].partition("/")
        inner = f"/{rest}"
    elif path == PREFIX or path.startswith(f"{PREFIX}/"):
        inner = path[len(PREFIX) :] or "/"
    match = _API.fullmatch(inner)
    if match is not None:
        return _api(match, inner, context)
    if inner == "/":
        return Asked(kind="home", path=f"{PREFIX}/", context=context)
    if inner == "/version":
        return Asked(kind="version", path=f"{PREFIX}{inner}", context=context)
    if inner in _PLAIN or inner.startswith(_PAGES):
        return Asked(kind="page", path=f"{PREFIX}{inner}", context=context)
    if inner.startswith(("/gateway", "/assistant", "/ajax-api", "/api")):
        raise _fenced(inner)
    raise NotFound(
        "route.unknown", f"MLflow has nothing at {path}.", hint=f"Its pages are at {PREFIX}/."
    )


def _api(match: re.Match[str], inner: str, context: str) -> Asked:
    version, room, call = match.groups()
    if room == "mlflow-artifacts":
        whole = f"{room}/{call}"
        if whole != _ARTIFACTS and not whole.startswith(f"{_ARTIFACTS}/"):
            raise _fenced(inner)
        artifact = whole[len(_ARTIFACTS) :].strip("/")
        return Asked(kind="artifact", path=inner, artifact=artifact, context=context)
    if call.partition("/")[0] not in _CARRIED[version] or call in _NOT_HERE:
        raise _fenced(inner)
    return Asked(kind="call", path=f"{PREFIX}{inner}", call=call, context=context)


def _fenced(path: str) -> Invalid:
    return Invalid(
        "mlflow.fenced",
        f"This server does not carry {path}: of MLflow it has experiments, runs, artifacts, "
        "datasets, logged models, the model registry, prompts, scorers and traces.",
        hint="Gateway, assistant, jobs, webhooks, MCP and scorers that run on the server need "
        "MLflow's own server beside this one.",
    )
