"""Rows of endpoints and revisions: looked up, moved from state to state, given their share.

Knows no analysis and no clock but the present; every change is made in the caller's transaction,
with its event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import select, update

from clew.base.errors import Conflict, NotFound
from clew.base.records.traffic import Rollout
from clew.db import Tx
from clew.serving import accounts, tables
from clew.serving.accounts import now_us

COMING = ("loading", "shadow", "canary", "arm")
"""States of a revision that is not live and could become it."""


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


def named(tx: Tx, endpoint: str, revision: str) -> Any:
    """The row of a revision of an endpoint, by its number or as :func:`row_of`.

    Raises:
        NotFound: ``revision.unknown``.
        Conflict: ``id.ambiguous``.
    """
    table = tables.revisions
    if revision.isdigit() and len(revision) < 10:
        query = select(table).where(table.c.endpoint == endpoint, table.c.number == int(revision))
        row = tx.execute(query).first()
    else:
        row = row_of(tx, revision)
    if row is None or row.endpoint != endpoint:
        raise NotFound(
            "revision.unknown",
            f"{endpoint} has no revision {revision!r}.",
            hint=f"See its revisions: clew traffic {endpoint}",
        )
    return row


def open_rows(tx: Tx, endpoint: str) -> list[Any]:
    """Revisions of an endpoint whose story has not ended, by number."""
    return [row for row in tx.execute(tables.OPEN) if row.endpoint == endpoint]


def live_row(tx: Tx, endpoint: str) -> Any | None:
    """The live revision."""
    return next((row for row in open_rows(tx, endpoint) if row.state == "live"), None)


def rollout_of(tx: Tx, row: Any) -> Rollout:
    """How a revision takes over: as it was told, else as its endpoint is defined now."""
    told = row.rollout
    return msgspec.convert(
        definition_of(tx, row.endpoint).rollout if told is None else told, Rollout
    )


# changes ----------------------------------------------------------------------------------------


def move(
    tx: Tx,
    row: Any,
    state: str,
    traffic: float,
    reason: str,
    *,
    step: int = -1,
    evidence: Mapping[str, object] | None = None,
    analysis: Mapping[str, object] | None = None,
) -> None:
    """Change a revision, with its event."""
    table = tables.revisions
    values = {
        "state": state,
        "traffic": traffic,
        "reason": reason,
        "since_us": now_us(),
        "step": step,
        "analysis": analysis,
    }
    if state == "live":
        values["live_us"] = now_us()
    tx.execute(update(table).where(table.c.id == row.id).values(values))
    data = {"endpoint": row.endpoint, "state": state, "traffic": traffic, "number": row.number}
    data |= {"reason": reason, "model_version": row.model_version}
    if evidence:
        data["evidence"] = dict(evidence)
    tx.emit("revision.changed", subject=row.id, global_id=row.global_id, data=data)


def share(tx: Tx, row: Any, traffic: float) -> None:
    """Give a revision another share, with its event; what it is stays."""
    table = tables.revisions
    tx.execute(update(table).where(table.c.id == row.id).values(traffic=traffic))
    data = {"endpoint": row.endpoint, "state": row.state, "traffic": traffic, "number": row.number}
    tx.emit("revision.changed", subject=row.id, global_id=row.global_id, data=data)


def note_traffic(
    tx: Tx, endpoint: str, reason: str, evidence: Mapping[str, object] | None = None
) -> None:
    """Keep who has how much now, and why."""
    split = {row.id: row.traffic for row in open_rows(tx, endpoint) if row.traffic}
    tx.execute(
        tables.traffic_changes.insert(),
        {
            "endpoint": endpoint,
            "at_us": now_us(),
            "reason": reason,
            "split": split,
            "evidence": dict(evidence) if evidence else None,
        },
    )


def give_rest(tx: Tx, endpoint: str) -> None:
    """The live revision gets what the others leave."""
    rows = open_rows(tx, endpoint)
    live = next((row for row in rows if row.state == "live"), None)
    if live is not None:
        rest = tidy(100 - sum(row.traffic for row in rows if row.id != live.id))
        if live.traffic != rest:
            share(tx, live, rest)


def make_live(tx: Tx, row: Any, reason: str, evidence: Mapping[str, object] | None = None) -> None:
    """A revision gets all traffic; whoever else had some has none."""
    for other in open_rows(tx, row.endpoint):
        if other.id == row.id:
            continue
        if other.state == "live":
            move(tx, other, "draining", 0, f"Revision {row.number} took over.")
        elif other.state in {"arm", "canary"}:
            move(tx, other, "retired", 0, f"Revision {row.number} took over.")
    move(tx, row, "live", 100, reason, evidence=evidence)
    note_traffic(tx, row.endpoint, reason, evidence)


def back(
    tx: Tx, row: Any, reason: str, evidence: Mapping[str, object], state: str = "rolled_back"
) -> None:
    """A revision that was coming goes back; the live one has its share again."""
    had = row.traffic
    move(tx, row, state, 0, reason, evidence=evidence)
    give_rest(tx, row.endpoint)
    if had or evidence:
        note_traffic(tx, row.endpoint, reason, evidence)


def tidy(percent: float) -> float:
    """A percentage with four places; whole ones as whole numbers."""
    rounded = round(percent, 4)
    return int(rounded) if rounded == int(rounded) else rounded


def percents(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares that add up to 1 as percentages that add up to 100; the largest one is rounded so."""
    found = {name: round(100 * each, 2) for name, each in shares.items()}
    largest = max(found, key=lambda name: found[name])
    found[largest] = 100 - sum(each for name, each in found.items() if name != largest)
    return {name: tidy(each) for name, each in found.items()}


def base_of(tx: Tx, *revisions: str) -> dict[str, object]:
    """What revisions have answered until now, to be subtracted later."""
    return {each: accounts.base_of(accounts.totals(tx, each)) for each in revisions}
