"""Runs, logged models and model versions of MLflow in Clew's lineage, under their global ids.

Knows what MLflow's answers say and the graph of lineage. MLflow's rows are in another database:
the row is first, the node follows before the answer, and what a crash has parted is joined again
at the next start.
"""

from __future__ import annotations

from typing import Any

import msgspec

from clew.base.ids import new_id
from clew.base.records import Node
from clew.db import Database
from clew.lineage import Lineage
from clew.server.mlflow import tables
from clew.server.mlflow.hot import GLOBAL_ID, KEPT
from clew.server.mlflow.own import Own

CONTEXT = "clew.context"
"""The tag that says what a run was made inside: the id of a job, a trial, anything in lineage."""

_PAGE = 500


class Tracing:
    """What is told to lineage. Thread-safe."""

    def __init__(self, db: Database, lineage: Lineage, own: Own) -> None:
        self._db = db
        self._lineage = lineage
        self._own = own

    def rewritten(self, body: bytes, context: str) -> bytes:
        """The body of ``runs/create`` with the global id among its tags, and with its context.

        The id is that of the change which the context belongs to, where that is known; else the
        one that the client names, if it is that of a known change; else a new one.
        """
        given: Any = msgspec.json.decode(body or b"{}")
        if not isinstance(given, dict):
            return body
        told = _tags_of(given)
        found, global_id = self.inside(context or told.get(CONTEXT, ""))
        if not global_id:
            named = told.get(GLOBAL_ID, "")
            known = bool(named) and bool(self._lineage.of_change(named))
            global_id = named if known else new_id()
        tags = [{"key": k, "value": v} for k, v in told.items() if not k.startswith(KEPT)]
        tags.append({"key": GLOBAL_ID, "value": global_id})
        if found:
            tags.append({"key": CONTEXT, "value": found})
        return msgspec.json.encode({**given, "tags": tags})

    def run_created(self, answer: bytes) -> None:
        """Tell of a run that MLflow has just made."""
        run = msgspec.json.decode(answer)["run"]
        tags = {one["key"]: one["value"] for one in run.get("data", {}).get("tags", ())}
        info = run["info"]
        self._add_run(info["run_id"], info.get("run_name", ""), info["experiment_id"], tags)

    def model_logged(self, answer: bytes) -> None:
        """Tell of a logged model that MLflow has just made."""
        info = msgspec.json.decode(answer)["model"]["info"]
        source = info.get("source_run_id", "")
        node = Node(
            kind="logged_model",
            id=info["model_id"],
            title=info.get("name", ""),
            global_id=(self._own.global_id(source) if source else "") or new_id(),
            detail={"run": source},
        )
        with self._db.begin() as tx:
            self._lineage.add(tx, node, [(source, "logged")] if source else [])

    def version_created(self, answer: bytes, global_id: str) -> None:
        """Tell of a model version that MLflow has just made."""
        version = msgspec.json.decode(answer)["model_version"]
        name, number = version["name"], version["version"]
        run, model = version.get("run_id", ""), version.get("model_id", "")
        sources = [(run, "registered")] if run else []
        sources += [(model, "registered")] if model else []
        node = Node(
            kind="registered_version",
            id=version_id(name, str(number)),
            title=f"{name} version {number}",
            global_id=global_id,
            detail={"model": name, "version": str(number), "source": version.get("source", "")},
        )
        with self._db.begin() as tx:
            self._lineage.add(tx, node, sources)
            tx.emit(
                "mlflow.version_created",
                subject=node.id,
                global_id=global_id,
                data={"model": name, "version": str(number)},
            )

    def alias_moved(self, name: str, alias: str, version: str) -> None:
        """Tell that an alias of a model of MLflow's own stands on a version; '': on none."""
        target = version_id(name, version) if version else ""
        known = self._lineage.get(target) if target else None
        global_id = known.global_id if known is not None else ""
        node = Node(
            kind="alias",
            id=f"mlflow:{name}@{alias}",
            title=f"{name}@{alias}",
            global_id=global_id,
            detail={"version": version},
        )
        with self._db.begin() as tx:
            self._lineage.add(tx, node, [(target, "stands on")] if target else [])
            tx.emit(
                "mlflow.alias_moved",
                subject=node.id,
                global_id=global_id or None,
                data={"alias": alias, "model": name, "to": version},
            )

    def global_id_of(self, run: str, model: str, context: str) -> str:
        """The global id of a version that is made of a run or a logged model, or in a context.

        A new one where nothing of these is known.
        """
        source = run or (self._own.run_of(model) if model else "")
        found = self._own.global_id(source) if source else ""
        return found or self.inside(context)[1] or new_id()

    def inside(self, context: str) -> tuple[str, str]:
        """The nearest thing that a context names, and the change that it belongs to; or two ''.

        A context is ids with dots between, the nearest first. A trial may be too young to be in
        lineage yet: the job behind it vouches for it.
        """
        ids = [one for one in context.split(".") if one]
        for one in ids:
            node = self._lineage.get(one)
            if node is not None and node.global_id:
                return ids[0], node.global_id
        return "", ""

    def catch_up(self) -> int:
        """Tell of every run that lineage does not know: a crash came between. How many."""
        after, added = "", 0
        while True:
            with self._own.db.read() as tx:
                rows = list(tx.execute(tables.RUNS, {"after": after, "limit": _PAGE}))
            for row in rows:
                if self._lineage.get(row.run_uuid) is None:
                    with self._own.db.read() as tx:
                        found = tx.execute(tables.TAGS, {"ids": [row.run_uuid]})
                        tags = {tag.key: tag.value for tag in found}
                    self._add_run(row.run_uuid, row.name or "", str(row.experiment_id), tags)
                    added += 1
            if len(rows) < _PAGE:
                return added
            after = rows[-1].run_uuid

    def _add_run(self, run: str, name: str, experiment: str, tags: dict[str, str]) -> None:
        context = tags.get(CONTEXT, "")
        node = Node(
            kind="run",
            id=run,
            title=name or run,
            global_id=tags.get(GLOBAL_ID, ""),
            detail={"experiment": experiment},
        )
        with self._db.begin() as tx:
            if self._lineage.get(run) is not None:
                return  # one was catching up, the other had just made it
            self._lineage.add(tx, node, [(context, "ran in")] if context else [])
            tx.emit("run.created", subject=run, global_id=node.global_id, data={"name": name})


def version_id(name: str, version: str) -> str:
    """The id in lineage of a version of a model that MLflow's registry alone has."""
    return f"mlflow:{name}/{version}"


def _tags_of(given: dict[str, Any]) -> dict[str, str]:
    tags = given.get("tags") or []
    if not isinstance(tags, list):
        return {}
    pairs = [(one.get("key"), one.get("value", "")) for one in tags if isinstance(one, dict)]
    return {str(key): str(value) for key, value in pairs if key is not None}
