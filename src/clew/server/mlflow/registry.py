"""MLflow's model registry held against Clew's: what Clew has made is shown there, and gates count.

Knows both registries. Clew's models appear as registered models whose versions have the numbers
that they have in Clew; what a client asks of these is Clew's to decide. Models that Clew does not
make are MLflow's own: free, and told to lineage.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from clew.base import clock
from clew.base.errors import Denied
from clew.base.records import ModelVersion
from clew.db import Tx
from clew.server.mlflow import tables
from clew.server.mlflow.grounds import Grounds
from clew.server.mlflow.hot import GLOBAL_ID, KEPT
from clew.server.mlflow.own import Own
from clew.server.mlflow.tracing import Tracing

_BY = "mlflow"
_SPACE = "default"
_VERSION_ID = "clew.model_version"
_STATE = "clew.state"
_MOST = 1_000_000
_STAGES = frozenset({"production", "staging"})
_OWNED = {
    ("DELETE", "registered-models/delete"): "deleted",
    ("POST", "registered-models/rename"): "renamed",
    ("DELETE", "model-versions/delete"): "deleted",
}
_log = logging.getLogger("clew.server")


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a call: answered here (``done``), or passed on with ``body``.

    ``told`` hears MLflow's answer where it is a success.
    """

    body: bytes = b""
    done: bool = False
    answer: dict[str, Any] = {}
    told: Callable[[bytes], None] | None = None


class Registry:
    """Clew's word in MLflow's registry. Thread-safe."""

    def __init__(self, grounds: Grounds, own: Own, tracing: Tracing) -> None:
        self._models = grounds.models
        self._events = grounds.db.events
        self._own = own
        self._tracing = tracing
        self._lock = threading.Lock()
        self._seq = -1
        self._shown: dict[str, ModelVersion] = {}
        self._names: dict[str, str] = {}
        self._foreign: set[str] = set()

    def decide(self, method: str, call: str, body: bytes, context: str) -> Decided:
        """What becomes of a call of the registry.

        Raises:
            Denied: ``model.not_blessed``, ``model.of_clew``, ``alias.stays``, ``mlflow.kept``.
        """
        self.refresh()
        given = _body(body)
        name = str(given.get("name", ""))
        _check_kept(call, str(given.get("key", "")))
        model = self._names.get(name, "")
        if model:
            decided = self._of_clew(method, call, given, model)
            return decided or Decided(body=body)
        if (method, call) == ("POST", "model-versions/create"):
            return self._created(given, body, context)
        if call == "registered-models/alias" and method in {"POST", "DELETE"}:
            alias, version = str(given.get("alias", "")), str(given.get("version", ""))

            def moved(_answer: bytes) -> None:
                self._tracing.alias_moved(name, alias, version)

            return Decided(body=body, told=moved)
        return Decided(body=body)

    def refresh(self) -> None:
        """Let MLflow's registry show what Clew's has. Cheap where nothing has happened since."""
        with self._lock:
            seq = self._events.last()
            if seq == self._seq:
                return
            versions = self._models.versions(limit=_MOST)
            self._names = {shown_name(one.model): one.model for one in versions}
            news = [one for one in versions if self._shown.get(one.id) != one]
            if news:
                with self._own.db.begin() as tx:
                    self._show(tx, news)
                self._shown = {one.id: one for one in versions}
            self._names = {n: m for n, m in self._names.items() if n not in self._foreign}
            self._seq = seq

    # what a client asks of a model of Clew's ---------------------------------------------------

    def _of_clew(self, method: str, call: str, given: dict[str, Any], model: str) -> Decided | None:
        if (method, call) == ("POST", "model-versions/create"):
            raise Denied(
                "model.of_clew",
                f"{model} is made by its training step and judged by its gate: a version cannot "
                "be put beside that.",
                hint="Run the pipeline for a new version, or register yours under another name.",
            )
        if (method, call) in _OWNED:
            raise Denied(
                "model.of_clew",
                f"{model} belongs to a pipeline: it is not {_OWNED[method, call]} from outside.",
                hint="Change the pipeline itself, and `clew apply` it.",
            )
        if call == "registered-models/alias" and method == "DELETE":
            raise Denied(
                "alias.stays",
                f"The alias {given.get('alias')!r} of {model} moves, it is not taken away.",
                hint="Set it on another version.",
            )
        if call == "registered-models/alias" and method == "POST":
            return self._move(model, str(given.get("alias", "")), str(given.get("version", "")))
        if call == "model-versions/transition-stage":
            stage = str(given.get("stage", "")).lower()
            if stage in _STAGES:
                self._check_blessed(model, str(given.get("version", "")), stage)
        return None

    def _move(self, model: str, alias: str, version: str) -> Decided:
        self._models.set_alias(model, alias, version, by=_BY, reason="set by an MLflow client")
        self.refresh()
        return Decided(done=True)

    def _check_blessed(self, model: str, version: str, alias: str) -> ModelVersion:
        """The version, if the alias may stand on it."""
        found = self._models.get(f"{model}@{version}")
        self._models.allow_alias(alias, found)
        return found

    def _created(self, given: dict[str, Any], body: bytes, context: str) -> Decided:
        """A version of a model of MLflow's own: it carries the global id of where it came from."""
        run, source = str(given.get("run_id") or ""), str(given.get("model_id") or "")
        global_id = self._tracing.global_id_of(run, source, context)
        tags = [one for one in given.get("tags") or [] if isinstance(one, dict)]
        tags = [one for one in tags if not str(one.get("key", "")).startswith(KEPT)]
        tags.append({"key": GLOBAL_ID, "value": global_id})

        def told(answer: bytes) -> None:
            self._tracing.version_created(answer, global_id)

        if not isinstance(given.get("name"), str):
            return Decided(body=body)
        return Decided(body=msgspec.json.encode({**given, "tags": tags}), told=told)

    # what MLflow shows of Clew's --------------------------------------------------------------

    def _show(self, tx: Tx, versions: Sequence[ModelVersion]) -> None:
        foreign = self._own_models_of_mlflow(tx, {shown_name(one.model) for one in versions})
        for name in sorted(foreign - self._foreign):
            _log.warning("MLflow has a model %r of its own: Clew's of that name is not shown", name)
        self._foreign |= foreign
        mine = [one for one in versions if shown_name(one.model) not in self._foreign]
        models = {one.model: one for one in reversed(mine)}
        now_ms = _ms(clock.now())
        tx.upsert(
            tables.registered_models,
            [_model_row(model, _ms(first.created_at)) for model, first in models.items()],
            key=["workspace", "name"],
        )
        tx.upsert(
            tables.model_versions,
            [_version_row(one, now_ms) for one in mine],
            key=["workspace", "name", "version"],
            refresh=["description", "last_updated_time"],
        )
        rows = [row for one in mine for row in _tag_rows(one)]
        key = ["workspace", "name", "version", "key"]
        tx.upsert(tables.model_version_tags, rows, key=key, refresh=["value"])
        stands = [_alias_row(one, alias) for one in mine for alias in one.aliases]
        tx.upsert(tables.aliases, stands, key=["workspace", "name", "alias"], refresh=["version"])

    def _own_models_of_mlflow(self, tx: Tx, names: set[str]) -> set[str]:
        """Those of some names that MLflow has, and that Clew has not put there."""
        ids = {"names": sorted(names)}
        there = {row.name for row in tx.execute(tables.NAMED, ids)}
        ours = {row.name for row in tx.execute(tables.SHOWN, ids)}
        return there - ours


def shown_name(model: str) -> str:
    """The name in MLflow's registry, where a slash cannot be: ``pipeline.step``."""
    return model.replace("/", ".")


def _model_row(model: str, created_ms: int) -> dict[str, object]:
    return {
        "workspace": _SPACE,
        "name": shown_name(model),
        "creation_time": created_ms,
        "last_updated_time": created_ms,
        "description": f"The model {model} of Clew: its gate decides on aliases.",
    }


def _version_row(one: ModelVersion, now_ms: int) -> dict[str, object]:
    measured = ", ".join(f"{name} {value:.4g}" for name, value in sorted(one.metrics.items()))
    return {
        "workspace": _SPACE,
        "name": shown_name(one.model),
        "version": one.version,
        "creation_time": _ms(one.created_at),
        "last_updated_time": now_ms,
        "description": f"{one.state}{': ' if measured else ''}{measured}",
        "user_id": "clew",
        "current_stage": "None",
        "source": f"mlflow-artifacts:/clew/{one.commit}",
        "storage_location": f"mlflow-artifacts:/clew/{one.commit}",
        "run_id": None,
        "status": "READY",
    }


def _tag_rows(one: ModelVersion) -> list[dict[str, object]]:
    told = {
        _VERSION_ID: one.id,
        GLOBAL_ID: one.global_id,
        _STATE: one.state,
        "clew.commit": one.commit,
    }
    at = {"workspace": _SPACE, "name": shown_name(one.model), "version": one.version}
    return [{**at, "key": key, "value": value} for key, value in told.items()]


def _alias_row(one: ModelVersion, alias: str) -> dict[str, object]:
    name = shown_name(one.model)
    return {"workspace": _SPACE, "name": name, "alias": alias, "version": one.version}


def _ms(at: Any) -> int:
    return clock.to_us(at) // 1000


def _check_kept(call: str, key: str) -> None:
    if call.endswith("-tag") and key.startswith(KEPT):
        raise Denied(
            "mlflow.kept", f"The tag {key!r} is kept by Clew.", hint="Name yours otherwise."
        )


def _body(body: bytes) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(body) if body else {}
    except msgspec.MsgspecError:
        return {}
    return given if isinstance(given, dict) else {}
