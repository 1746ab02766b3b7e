"""Routes that name model versions.

Thin over the verbs; knows nothing of which alias may stand where.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from fastapi.responses import Response

from clew.base.records import AliasMove, ModelVersion
from clew.base.records.imports import ImportWish
from clew.server.call import Asked
from clew.server.shapes import Routes

router = Routes(tags=["models and endpoints"])


@dataclass(frozen=True, kw_only=True)
class AliasWish:
    """Where an alias of a model is to stand from now on."""

    model: str
    alias: str
    version: str
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class BackWish:
    """Which alias of a model is to go one step back."""

    model: str
    alias: str
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Import:
    """A model of another tool that is to become a version of `name`.

    `commit`: of the repo `<name>.source`, with its files below `/model` and rows that it takes
    below `/example`; or `uri`: of the MLflow server `registry`. `requirements` and `python`: an
    environment of its own; `own_environment`: that which an MLflow model says it needs.
    """

    name: str
    told: str = "the API"
    commit: str = ""
    uri: str = ""
    registry: str = ""
    trust: bool = False
    test: str = ""
    target: str = ""
    task: str = "auto"
    requirements: tuple[str, ...] = ()
    python: str = ""
    own_environment: bool = False


@router.post("/imports", response_model=ModelVersion)
def import_model(call: Asked, wish: Import) -> Response:
    """A model of another tool as a candidate version; it is read in a worker alone."""
    return call.reply(call.verbs.import_wish(ImportWish(**asdict(wish))))


@router.get("/aliases/{model:path}", response_model=list[AliasMove])
def alias_history(call: Asked, model: str) -> Response:
    """All moves of the aliases of a model, newest first."""
    return call.reply(call.verbs.alias_history(model))


@router.post("/aliases", response_model=AliasMove)
def set_alias(call: Asked, wish: AliasWish) -> Response:
    """Let an alias stand on a version of a model."""
    moved = call.verbs.set_alias(
        wish.model, wish.alias, wish.version, by=wish.by, reason=wish.reason
    )
    return call.reply(moved)


@router.post("/aliases/rollback", response_model=AliasMove)
def rollback_alias(call: Asked, wish: BackWish) -> Response:
    """Take an alias one step back, to where it stood before."""
    moved = call.verbs.rollback_alias(wish.model, wish.alias, by=wish.by, reason=wish.reason)
    return call.reply(moved)
