"""Revisions and their traffic, as rows: deploy, share, promote, back.

Knows no models in memory: serving processes follow the rows and say what they have loaded.

States: loading → canary → live → draining → retired; or failed (it cannot be loaded), rolled_back.
A revision that is no canary is an arm (a share by hand, an A/B test, a bandit) or a shadow. The
traffic of an endpoint adds up to 100 as soon as it has a live revision. Every change is one
transaction with its event; any process may call :meth:`Rollouts.tick`, also several at once.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import func, select, update

from clew.base.arms import MOST_SHADOWS
from clew.base.errors import ClewError, Conflict, Invalid
from clew.base.ids import new_id
from clew.base.records import Node, Signature
from clew.base.records.traffic import Rollout
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.serving import accounts, arm_tests, steps, tables
from clew.serving.accounts import now_us
from clew.serving.definitions import EndpointDefinition, check_outcomes, shadow, split
from clew.serving.loading import turn
from clew.serving.revisions import (
    COMING,
    definition_of,
    give_rest,
    live_row,
    make_live,
    move,
    named,
    note_traffic,
    open_rows,
    rollout_of,
    row_of,
    tidy,
)

MOST_DEATHS = 3
_NO_MEASURE = "What the live one is asked has drifted: answers may be unlike its own."
_LEAST_REST = 1e-9
_log = logging.getLogger("clew.serving")


class Rollouts:
    """The rows of endpoints and revisions. Thread-safe."""

    def __init__(self, db: Database, lineage: Lineage) -> None:
        self._db = db
        self._lineage = lineage
        self.under_way = True
        """Whether the last :meth:`tick` saw anything but endpoints with one revision each."""

    def define(self, tx: Tx, definition: EndpointDefinition) -> None:
        """Make or change an endpoint; its revisions stay.

        Raises:
            Conflict: ``endpoint.taken`` where another pipeline has this name.
            Invalid: ``rollout.definition`` where its rollout could never decide.
        """
        check_outcomes(
            definition.name, definition.rollout, log=definition.log, redact=definition.redact
        )
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
        refresh = ["model", "rollout", "log", "redact", "max_queue", "isolate"]
        refresh += ["processing", "graph", "alias"]
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
        rollout: Rollout | None = None,
        processing: str = "",
        functions: str = "",
        parts: Sequence[tuple[str, str]] = (),
        beside: Sequence[str] | None = None,
        drifted: bool = False,
    ) -> str:
        """A new revision, in the state loading (the first one: live); its id.

        Idempotent for the same ``cause``; without one, for as long as the newest revision of the
        endpoint is of this model version, has the same functions around it (``processing``, in the
        commit ``functions``) and has not ended. ``rollout``: not as its endpoint says. ``parts``:
        of a graph, what of lineage it is made of. What is under way and cannot go on beside it is
        ended, but for revisions in ``beside``, which come with it (then it is always a new one).
        ``drifted``: the live revision's inputs are unlike what it learned from, so its answers are
        no measure for those of a canary, unless its rollout says how far they may be.

        Raises:
            NotFound: ``endpoint.unknown``.
            Invalid: ``rollout.definition``.
        """
        definition = definition_of(tx, endpoint)
        if rollout is not None:
            check_outcomes(endpoint, rollout, log=definition.log, redact=definition.redact)
        known = None
        if beside is None:
            known = _same(tx, endpoint, model_version, cause, processing)
        if known is None or not cause:  # said anew: whoever deploys wants it to answer
            turn(tx, definition, unloaded=False, reason="Something was deployed to it.")
        if known is not None:
            return str(known)
        live = live_row(tx, endpoint)
        revision = new_id()
        number = _next_number(tx, endpoint)
        chosen = msgspec.convert(definition.rollout, Rollout) if rollout is None else rollout
        if drifted and chosen.is_canary and chosen.max_drift is None:
            rollout = chosen = replace(chosen, max_drift=1.0)
            reason = f"{reason} {_NO_MEASURE}"
        reason_to_end = f"Revision {number} came before this was live."
        _make_room(tx, endpoint, chosen, reason_to_end, but=beside or ())
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
            "processing": processing,
            "functions": functions,
            "state": "loading" if live else "live",
            "traffic": 0 if live else 100,
            "step": -1,
            "reason": reason,
            "created_us": now_us(),
            "since_us": now_us(),
            "live_us": None if live else now_us(),
            "rollout": None if rollout is None else msgspec.to_builtins(rollout),
            "analysis": None,
        }
        tx.execute(tables.revisions.insert(), row)
        sources = [(model_version, "serves")] if model_version else list(parts)
        sources += [(verdict, "blessed by")] if verdict else []
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
        data |= {"rollout": str(chosen)}
        tx.emit(
            "revision.created",
            subject=revision,
            global_id=global_id,
            data={**data, "number": number, "model_version": model_version, "reason": reason},
        )
        if not live:
            note_traffic(tx, endpoint, reason)
        return revision

    def rollback(self, tx: Tx, endpoint: str, reason: str) -> str:
        """End what is under way (a canary, arms, a test); without that, give all traffic to the
        revision that was live before. The id of the revision that is live then. Shadows stay.

        Raises:
            NotFound: ``endpoint.unknown``.
            Conflict: ``endpoint.no_previous``.
        """
        definition_of(tx, endpoint)
        rows = open_rows(tx, endpoint)
        live = next((row for row in rows if row.state == "live"), None)
        coming = [row for row in rows if row.state in COMING and not _is_shadow(tx, row)]
        if coming and live is not None:
            arm_tests.end(tx, endpoint, "stopped", reason)
            for row in coming:
                move(tx, row, "rolled_back", 0, reason)
            give_rest(tx, endpoint)
            note_traffic(tx, endpoint, reason)
            return str(live.id)
        former = tx.execute(tables.FORMER, {"endpoint": endpoint}).first()
        if former is None:
            raise Conflict(
                "endpoint.no_previous",
                f"The endpoint {endpoint!r} has no revision to go back to.",
                hint="Deploy another model version: clew deploy ENDPOINT MODEL_VERSION",
            )
        if live is not None:
            move(tx, live, "rolled_back", 0, reason)
        move(tx, former, "live", 100, reason)
        note_traffic(tx, endpoint, reason)
        return str(former.id)

    def set_weights(self, tx: Tx, endpoint: str, weights: Mapping[str, float], reason: str) -> None:
        """Give revisions (number or id) so many percent of the requests; the live one has the rest.

        Those that are not in memory come as soon as they are; 0 takes a revision off. Other arms,
        a canary and a test end.

        Raises:
            NotFound: ``endpoint.unknown``, ``revision.unknown``.
            Invalid: ``traffic.weights``.
        """
        rows = _weighed(tx, endpoint, weights)
        arm_tests.end(tx, endpoint, "stopped", reason)
        for row in open_rows(tx, endpoint):
            kept = row.id in rows and rows[row.id][1] > 0
            if row.state in COMING and not kept and (not _is_shadow(tx, row) or row.id in rows):
                move(tx, row, "retired", 0, reason)
        for row, weight in rows.values():
            if row.state == "live" or not weight:
                continue
            state, traffic = "loading", 0.0
            if row.state in {"arm", "canary", "shadow", "draining"}:  # it is in memory
                state, traffic = "arm", tidy(weight)
            _say(tx, row, split(weight))
            _bring(tx, row, state, traffic, reason)
        give_rest(tx, endpoint)
        note_traffic(tx, endpoint, reason)

    def set_shadow(self, tx: Tx, endpoint: str, revision: str, percent: float, reason: str) -> None:
        """Make a revision the shadow of ``percent`` of the requests (0: no more).

        Raises:
            NotFound: ``endpoint.unknown``, ``revision.unknown``.
            Invalid: ``traffic.weights``, ``traffic.shadows``, ``rollout.definition``.
        """
        definition_of(tx, endpoint)
        row = named(tx, endpoint, revision)
        if row.state == "live":
            raise _wrong_weights(f"revision {row.number} is live and cannot be its own shadow")
        if not percent:
            if row.state in COMING and _is_shadow(tx, row):
                move(tx, row, "retired", 0, reason)
            return
        chosen = shadow(percent)
        others = [
            one for one in open_rows(tx, endpoint) if one.state in COMING and one.id != row.id
        ]
        if sum(_is_shadow(tx, one) for one in others) >= MOST_SHADOWS:
            raise Invalid(
                "traffic.shadows",
                f"{endpoint} has {MOST_SHADOWS} shadows already.",
                hint=f"Take one off first: clew traffic {endpoint} --shadow REVISION=0",
            )
        had, here = row.traffic, row.state in {*COMING, "draining"} and row.state != "loading"
        _say(tx, row, chosen)
        _bring(tx, row, "shadow" if here else "loading", 0, reason)
        if had:
            give_rest(tx, endpoint)
            note_traffic(tx, endpoint, reason)

    def promote(self, tx: Tx, endpoint: str, revision: str, reason: str) -> None:
        """Give a revision all traffic, now or as soon as it is loaded; whatever is under way ends.

        Raises:
            NotFound: ``endpoint.unknown``, ``revision.unknown``.
        """
        definition_of(tx, endpoint)
        row = named(tx, endpoint, revision)
        arm_tests.end(tx, endpoint, "stopped", reason)
        if row.state == "live":
            for other in open_rows(tx, endpoint):
                if other.state in COMING and not _is_shadow(tx, other):
                    move(tx, other, "retired", 0, reason)
            give_rest(tx, endpoint)
            note_traffic(tx, endpoint, reason)
        elif row.state in {"arm", "canary", "shadow", "draining"}:
            make_live(tx, row, reason)
        else:
            _make_room(tx, endpoint, Rollout(), reason, but=(row.id,))
            _say(tx, row, Rollout())
            _bring(tx, row, "loading", 0, reason)

    def tick(self) -> bool:
        """Take every step that is due; whether there was one.

        Each endpoint by itself: what goes wrong with one stops no other's.
        """
        by_endpoint: dict[str, tuple[list[Any], list[Any]]] = {}
        with self._db.read() as tx:
            for row in tx.execute(steps.MOVING).all():
                by_endpoint.setdefault(row.endpoint, ([], []))[0].append(row)
            for test in tx.execute(tables.TESTS).all():
                by_endpoint.setdefault(test.endpoint, ([], []))[1].append(test)
            due = [name for name, each in by_endpoint.items() if self._is_due(tx, name, *each)]
        self.under_way = bool(by_endpoint)
        moved = [self._step(name) for name in due]
        return any(moved)

    def _is_due(self, tx: Tx, endpoint: str, rows: Sequence[Any], tests: Sequence[Any]) -> bool:
        try:
            due = any(arm_tests.is_due(test) for test in tests)
            return due or any(steps.may_move(tx, row) for row in rows)
        except ClewError:
            raise
        except Exception:  # noqa: BLE001 - as it says: the others go on
            _log.exception("the rollout of %s cannot be looked at", endpoint)
            return False

    def _step(self, endpoint: str) -> bool:
        try:
            with self._db.begin() as tx:
                before = tx.emitted
                for row in tx.execute(tables.AWAKE).all():
                    if row.endpoint == endpoint:
                        steps.step(tx, row_of(tx, row.id))  # an earlier step may have moved it
                for test in tx.execute(tables.TESTS).all():
                    if test.endpoint == endpoint:
                        arm_tests.look(tx, test)
                return tx.emitted > before
        except ClewError:
            raise
        except Exception:  # noqa: BLE001 - as it says: the others go on
            _log.exception("the rollout of %s cannot go on", endpoint)
            return False

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
            steps.step(tx, row)
            return False

    def report(self, revision: str, process: str, error: str = "") -> None:
        """A process has loaded a revision, or failed to; takes the step that follows."""
        with self._db.begin() as tx:
            accounts.loaded(tx, revision, process, error)
            row = row_of(tx, revision)
            if row.state in tables.OPEN_STATES:
                steps.step(tx, row)


# rows -------------------------------------------------------------------------------------------


def _same(tx: Tx, endpoint: str, model_version: str, cause: str, processing: str) -> str | None:
    table = tables.revisions
    query = select(table).where(table.c.endpoint == endpoint).order_by(table.c.number.desc())
    if cause:
        query = query.where(table.c.cause == cause, table.c.model_version == model_version)
    row = tx.execute(query.limit(1)).first()
    if row is None:
        return None
    asked = (model_version, processing)
    if not cause and (row.model_version, row.processing) != asked:
        return None
    return str(row.id) if cause or row.state in {*COMING, "live"} else None


def _next_number(tx: Tx, endpoint: str) -> int:
    table = tables.revisions
    query = select(func.max(table.c.number)).where(table.c.endpoint == endpoint)
    return int(tx.execute(query).scalar() or 0) + 1


def _is_shadow(tx: Tx, row: Any) -> bool:
    return rollout_of(tx, row).kind == "shadow"


def _bring(tx: Tx, row: Any, state: str, traffic: float, reason: str) -> None:
    """Move a revision by hand. One that is to be loaded again is waited for: what was told of it
    before, that it is in memory or that it cannot be, holds no more.
    """
    if state == "loading":
        accounts.forget_loads(tx, row.id)
    move(tx, row, state, traffic, reason)


def _make_room(
    tx: Tx, endpoint: str, chosen: Rollout, reason: str, *, but: Collection[str] = ()
) -> None:
    """End what cannot go on beside a revision that comes by ``chosen``, without those in ``but``.

    A shadow takes the place of shadows alone, and of as many as are too many; shares by hand and
    bandits take in more arms; anything else ends canaries, arms and tests.
    """
    coming = [row for row in open_rows(tx, endpoint) if row.state in COMING and row.id not in but]
    shadows = [row for row in coming if _is_shadow(tx, row)]
    if chosen.kind == "shadow":
        too_many = len(shadows) + 1 - chosen.most if not but else 0
        for row in shadows[: max(0, too_many)]:
            move(tx, row, "retired", 0, reason)
        return
    ended = False
    for row in coming:
        kind = rollout_of(tx, row).kind
        if kind != "shadow" and not (chosen.kind in {"split", "bandit"} and kind == chosen.kind):
            ended = True
            move(tx, row, "retired", 0, reason)
    arm_tests.end(tx, endpoint, "superseded", reason, but="bandit" * (chosen.kind == "bandit"))
    if ended:
        give_rest(tx, endpoint)
        note_traffic(tx, endpoint, reason)


def _say(tx: Tx, row: Any, rollout: Rollout) -> None:
    """From now on a revision takes over like this."""
    table = tables.revisions
    value = msgspec.to_builtins(rollout)
    tx.execute(update(table).where(table.c.id == row.id).values(rollout=value))


def _weighed(tx: Tx, endpoint: str, weights: Mapping[str, float]) -> dict[str, tuple[Any, float]]:
    definition_of(tx, endpoint)
    rows: dict[str, tuple[Any, float]] = {}
    for name, weight in weights.items():
        row = named(tx, endpoint, name)
        if not 0 <= weight < 100:
            raise _wrong_weights(f"revision {row.number} cannot have {weight:g} %")
        rows[row.id] = (row, weight)
    live = live_row(tx, endpoint)
    if live is None:
        raise _wrong_weights("no revision is live that could have the rest")
    others = sum(weight for row, weight in rows.values() if row.id != live.id)
    rest = 100 - others
    if rest <= _LEAST_REST:
        raise _wrong_weights(f"the live revision {live.number} would have {rest:g} %")
    if live.id in rows and abs(rows[live.id][1] - rest) > _LEAST_REST:
        raise _wrong_weights(f"all together have {others + rows[live.id][1]:g} %, not 100")
    return rows


def _wrong_weights(why: str) -> Invalid:
    return Invalid(
        "traffic.weights",
        f"The traffic cannot be shared like this: {why}.",
        hint="Give percentages of other revisions than the live one, which has the rest; to give "
        "one all of it: clew traffic ENDPOINT --promote REVISION",
    )
