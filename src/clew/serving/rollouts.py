"""Revisions and their traffic, as rows: deploy, step by step, back.

Knows no models in memory: serving processes follow the rows and say what they have loaded.

States: loading → canary → live → draining → retired; or failed (it cannot be loaded), rolled_back.
The traffic of an endpoint adds up to 100 as soon as it has a live revision. Every change is one
transaction with its event; any process may call :meth:`Rollouts.tick`, also several at once.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import func, select, update

from clew.base.errors import Conflict, NotFound
from clew.base.ids import new_id
from clew.base.records import Node, Signature
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.serving import accounts, tables
from clew.serving.accounts import now_us
from clew.serving.analysis import judge
from clew.serving.definitions import EndpointDefinition, Rollout
from clew.serving.loading import turn
from clew.serving.stats import Counts

DRAIN_S = 5.0
MOST_DEATHS = 3
_OPEN = ("loading", "canary", "live", "draining")


class Rollouts:
    """The rows of endpoints and revisions. Thread-safe."""

    def __init__(self, db: Database, lineage: Lineage) -> None:
        self._db = db
        self._lineage = lineage

    def define(self, tx: Tx, definition: EndpointDefinition) -> None:
        """Make or change an endpoint; its revisions stay.

        Raises:
            Conflict: ``endpoint.taken`` where another pipeline has this name.
        """
        row = tx.execute(
            select(tables.endpoints).where(tables.endpoints.c.name == definition.name)
        ).first()
        if row is not None and row.pipeline != definition.pipeline:
            raise Conflict(
                "endpoint.taken",
                f"The endpoint {definition.name!r} belongs to the pipeline {row.pipeline!r}.",
                hint="Give the endpoint another name.",
            )
        values = {**msgspec.to_builtins(definition), "unloaded": False, "created_us": now_us()}
        refresh = ["model", "rollout", "log", "max_queue"]
        tx.upsert(tables.endpoints, [values], key=["name"], refresh=refresh)

    def deploy(
        self,
        tx: Tx,
        endpoint: str,
        *,
        model_version: str,
        version: str,
        commit: str,
        tree: str,
        signature: Signature,
        global_id: str,
        reason: str,
        verdict: str | None = None,
        cause: str = "",
    ) -> str:
        """A new revision, in the state loading (the first one: live); its id.

        Idempotent for the same ``cause``; without one, for as long as the newest revision of the
        endpoint is of this model version and has not ended. A rollout that is under way is ended.

        Raises:
            NotFound: ``endpoint.unknown``.
        """
        definition = definition_of(tx, endpoint)
        known = _same(tx, endpoint, model_version, cause)
        if known is None or not cause:  # said anew: whoever deploys wants it to answer
            turn(tx, definition, unloaded=False, reason="Something was deployed to it.")
        if known is not None:
            return str(known)
        live = live_row(tx, endpoint)
        revision = new_id()
        number = _next_number(tx, endpoint)
        self._supersede(tx, endpoint, number)
        row = {
            "id": revision,
            "endpoint": endpoint,
            "number": number,
            "model_version": model_version,
            "version": version,
            "commit": commit,
            "tree": tree,
            "signature": msgspec.to_builtins(signature),
            "global_id": global_id,
            "cause": cause or revision,
            "state": "loading" if live else "live",
            "traffic": 0 if live else 100,
            "step": -1,
            "reason": reason,
            "created_us": now_us(),
            "since_us": now_us(),
            "live_us": None if live else now_us(),
        }
        tx.execute(tables.revisions.insert(), row)
        sources = [(model_version, "serves")] + ([(verdict, "blessed by")] if verdict else [])
        self._lineage.add(
            tx,
            Node(
                kind="revision",
                id=revision,
                title=f"{endpoint} revision {number}",
                global_id=global_id,
                detail={"endpoint": endpoint, "number": number, "model_version": model_version},
            ),
            sources,
        )
        data = {"endpoint": endpoint, "state": row["state"], "traffic": row["traffic"]}
        tx.emit(
            "revision.created",
            subject=revision,
            global_id=global_id,
            data={**data, "number": number, "model_version": model_version, "reason": reason},
        )
        if not live:
            _note_traffic(tx, endpoint, reason)
        return revision

    def _supersede(self, tx: Tx, endpoint: str, number: int) -> None:
        for row in open_rows(tx, endpoint):
            if row.state in {"loading", "canary"}:
                _move(tx, row, "retired", 0, f"Revision {number} came before this was live.")
                _give_live(tx, endpoint, f"Revision {number} replaces {row.number}.")

    def rollback(self, tx: Tx, endpoint: str, reason: str) -> str:
        """End the rollout that is under way; without one, give all traffic to the revision that
        was live before. The id of the revision that is live then.

        Raises:
            NotFound: ``endpoint.unknown``.
            Conflict: ``endpoint.no_previous``.
        """
        definition_of(tx, endpoint)
        rows = open_rows(tx, endpoint)
        live = next((row for row in rows if row.state == "live"), None)
        coming = next((row for row in rows if row.state in {"loading", "canary"}), None)
        if coming is not None and live is not None:
            _back(tx, coming, reason, {})
            return str(live.id)
        former = tx.execute(tables.FORMER, {"endpoint": endpoint}).first()
        if former is None:
            raise Conflict(
                "endpoint.no_previous",
                f"The endpoint {endpoint!r} has no revision to go back to.",
                hint="Deploy another model version: clew deploy ENDPOINT MODEL_VERSION",
            )
        if live is not None:
            _move(tx, live, "rolled_back", 0, reason)
        _move(tx, former, "live", 100, reason)
        _note_traffic(tx, endpoint, reason)
        return str(former.id)

    def tick(self) -> bool:
        """Take every step that is due; whether there was one."""
        with self._db.read() as tx:
            waiting = [row for row in tx.execute(tables.AWAKE) if _may_move(tx, row)]
        if not waiting:
            return False
        with self._db.begin() as tx:
            before = tx.emitted
            for row in tx.execute(tables.AWAKE).all():
                _step(tx, row_of(tx, row.id))  # an earlier step may have moved it
            return tx.emitted > before

    def may_load(self, revision: str, process: str) -> bool:
        """Note that a process begins to load a revision.

        False, and the revision has failed, where it would be the fourth to die of one that has
        never been live (a live one is tried for ever: there is nothing better).
        """
        with self._db.begin() as tx:
            row = row_of(tx, revision)
            deaths = accounts.deaths(tx, revision) if row.state == "loading" else 0
            if deaths < MOST_DEATHS:
                accounts.loaded(tx, revision, process, accounts.LOADING)
                return True
            said = f"{deaths} serving processes died while they loaded it."
            accounts.loaded(tx, revision, process, said)
            _step(tx, row)
            return False

    def report(self, revision: str, process: str, error: str = "") -> None:
        """A process has loaded a revision, or failed to; takes the step that follows."""
        with self._db.begin() as tx:
            accounts.loaded(tx, revision, process, error)
            row = row_of(tx, revision)
            if row.state in _OPEN:
                _step(tx, row)


# rows -------------------------------------------------------------------------------------------


def definition_of(tx: Tx, endpoint: str) -> Any:
    """The row of an endpoint.

    Raises:
        NotFound: ``endpoint.unknown``.
    """
    table = tables.endpoints
    row = tx.execute(select(table).where(table.c.name == endpoint)).first()
    if row is None:
        names = [name for (name,) in tx.execute(select(table.c.name).order_by(table.c.name))]
        hint = f"There is {', '.join(names)}." if names else "Define one with pipeline.endpoint()."
        raise NotFound("endpoint.unknown", f"There is no endpoint {endpoint!r}.", hint=hint)
    return row


def row_of(tx: Tx, revision: str) -> Any:
    """The row of a revision by its id or a unique beginning of it.

    Raises:
        NotFound: ``revision.unknown``.
        Conflict: ``id.ambiguous``.
    """
    table = tables.revisions
    rows = tx.execute(
        select(table).where(table.c.id >= revision, table.c.id < revision + "\x7f").limit(2)
    ).all()
    if not rows:
        raise NotFound(
            "revision.unknown",
            f"There is no revision {revision!r}.",
            hint="See the revisions of an endpoint: clew status",
        )
    if len(rows) > 1:
        raise Conflict(
            "id.ambiguous",
            f"Several revisions begin with {revision!r}.",
            hint="Give more characters of the id.",
        )
    return rows[0]


def open_rows(tx: Tx, endpoint: str) -> list[Any]:
    """Revisions of an endpoint whose story has not ended, by number."""
    return [row for row in tx.execute(tables.OPEN) if row.endpoint == endpoint]


def live_row(tx: Tx, endpoint: str) -> Any | None:
    """The live revision."""
    return next((row for row in open_rows(tx, endpoint) if row.state == "live"), None)


def _same(tx: Tx, endpoint: str, model_version: str, cause: str) -> str | None:
    table = tables.revisions
    query = select(table).where(table.c.endpoint == endpoint).order_by(table.c.number.desc())
    if cause:
        query = query.where(table.c.cause == cause, table.c.model_version == model_version)
    row = tx.execute(query.limit(1)).first()
    if row is None or (not cause and row.model_version != model_version):
        return None
    return str(row.id) if cause or row.state in {"loading", "canary", "live"} else None


def _next_number(tx: Tx, endpoint: str) -> int:
    table = tables.revisions
    query = select(func.max(table.c.number)).where(table.c.endpoint == endpoint)
    return int(tx.execute(query).scalar() or 0) + 1


def _move(
    tx: Tx,
    row: Any,
    state: str,
    traffic: int,
    reason: str,
    *,
    step: int = -1,
    evidence: dict[str, object] | None = None,
) -> None:
    """Change a revision, with its event."""
    table = tables.revisions
    values = {
        "state": state,
        "traffic": traffic,
        "reason": reason,
        "since_us": now_us(),
        "step": step,
    }
    if state == "live":
        values["live_us"] = now_us()
    tx.execute(update(table).where(table.c.id == row.id).values(values))
    data = {"endpoint": row.endpoint, "state": state, "traffic": traffic, "number": row.number}
    data |= {"reason": reason, "model_version": row.model_version}
    if evidence:
        data["evidence"] = evidence
    tx.emit("revision.changed", subject=row.id, global_id=row.global_id, data=data)


def _share(tx: Tx, row: Any, traffic: int) -> None:
    """Give a live revision another share, with its event; what it is stays."""
    table = tables.revisions
    tx.execute(update(table).where(table.c.id == row.id).values(traffic=traffic))
    data = {"endpoint": row.endpoint, "state": row.state, "traffic": traffic, "number": row.number}
    tx.emit("revision.changed", subject=row.id, global_id=row.global_id, data=data)


def _note_traffic(tx: Tx, endpoint: str, reason: str) -> None:
    split = {row.id: row.traffic for row in open_rows(tx, endpoint) if row.traffic}
    tx.execute(
        tables.traffic_changes.insert(),
        {"endpoint": endpoint, "at_us": now_us(), "reason": reason, "split": split},
    )


# steps ------------------------------------------------------------------------------------------


def _may_move(tx: Tx, row: Any) -> bool:
    """Whether a write transaction is worth it."""
    if row.state == "live":
        return any(accounts.loads(tx, row.id).values()) and not _anywhere(tx, row)
    if row.state == "draining":
        return _age_s(row) > DRAIN_S
    if row.state == "canary":
        rollout = rollout_of(tx, row.endpoint)
        counts, live = _counts(tx, row)
        return judge(rollout, counts, live, _age_s(row)).action != "hold"
    return _load_state(tx, row)[0] != "waiting"


def _step(tx: Tx, row: Any) -> None:
    """Take the step that is due for one revision."""
    if row.state == "loading":
        _step_loading(tx, row)
    elif row.state == "canary":
        _step_canary(tx, row)
    elif row.state == "live":
        error = next(iter(filter(None, accounts.loads(tx, row.id).values())), "")
        if error and not _anywhere(tx, row):
            _move(tx, row, "failed", 0, f"It cannot be loaded: {error}")
            _note_traffic(tx, row.endpoint, "The only revision cannot be loaded.")
    elif row.state == "draining" and _age_s(row) > DRAIN_S:
        _move(tx, row, "retired", 0, row.reason)


def _anywhere(tx: Tx, row: Any) -> bool:
    """Whether a revision has been in memory, or another could be: then it stays as it is."""
    in_memory = any(not error for error in accounts.loads(tx, row.id).values())
    return in_memory or accounts.totals(tx, row.id).requests > 0


def _load_state(tx: Tx, row: Any) -> tuple[str, str]:
    """``waiting``, ``loaded``, ``nobody`` (no process serves) or ``failed`` with the error."""
    loads = accounts.loads(tx, row.id)
    error = next(iter(filter(None, loads.values())), "")
    if error:
        return "failed", error
    alive = accounts.alive(tx)
    if not alive:
        return "nobody", ""
    return ("loaded" if all(one.id in loads for one in alive) else "waiting"), ""


def _step_loading(tx: Tx, row: Any) -> None:
    state, error = _load_state(tx, row)
    if state == "failed":
        _move(tx, row, "failed", 0, f"It cannot be loaded: {error}")
    elif state == "nobody":
        _make_live(tx, row, "No serving process runs: nobody is exposed.", {})
    elif state == "loaded":
        rollout = rollout_of(tx, row.endpoint)
        if live_row(tx, row.endpoint) is None or not rollout.is_canary:
            _make_live(tx, row, "Loaded by every serving process.", {})
        else:
            _take_share(tx, row, rollout, 0, "Loaded by every serving process.", {})


def _step_canary(tx: Tx, row: Any) -> None:
    rollout = rollout_of(tx, row.endpoint)
    counts, live = _counts(tx, row)
    decision = judge(rollout, counts, live, _age_s(row))
    if decision.action == "back":
        _back(tx, row, decision.reason, decision.evidence)
    elif decision.action == "advance":
        _take_share(tx, row, rollout, row.step + 1, decision.reason, decision.evidence)


def _take_share(
    tx: Tx, row: Any, rollout: Rollout, step: int, reason: str, evidence: dict[str, object]
) -> None:
    share = rollout.steps[min(step, len(rollout.steps) - 1)]
    if share >= 100:
        _make_live(tx, row, reason, evidence)
        return
    _move(tx, row, "canary", share, reason, step=step, evidence=evidence)
    live = live_row(tx, row.endpoint)
    if live is not None:
        _share(tx, live, 100 - share)
    _note_traffic(tx, row.endpoint, reason)


def _make_live(tx: Tx, row: Any, reason: str, evidence: dict[str, object]) -> None:
    live = live_row(tx, row.endpoint)
    if live is not None:
        _move(tx, live, "draining", 0, f"Revision {row.number} took over.")
    _move(tx, row, "live", 100, reason, evidence=evidence)
    _note_traffic(tx, row.endpoint, reason)


def _back(tx: Tx, row: Any, reason: str, evidence: dict[str, object]) -> None:
    _move(tx, row, "rolled_back", 0, reason, evidence=evidence)
    _give_live(tx, row.endpoint, reason)


def _give_live(tx: Tx, endpoint: str, reason: str) -> None:
    live = live_row(tx, endpoint)
    if live is not None and live.traffic != 100:
        _share(tx, live, 100)
        _note_traffic(tx, endpoint, reason)


def rollout_of(tx: Tx, endpoint: str) -> Rollout:
    """The rollout of an endpoint as it is defined now."""
    return msgspec.convert(definition_of(tx, endpoint).rollout, Rollout)


def _counts(tx: Tx, row: Any) -> tuple[Counts, Counts]:
    live = live_row(tx, row.endpoint)
    baseline = accounts.since(tx, live.id, row.since_us) if live else Counts()
    return accounts.since(tx, row.id, row.since_us), baseline


def _age_s(row: Any) -> float:
    return (now_us() - int(row.since_us)) / 1e6
