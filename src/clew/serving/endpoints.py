"""The door to serving for other rooms: endpoints, revisions and the prediction log of a workspace.

Knows no requests: those are answered in serving processes, which follow the rows written here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import select

from clew.base.clock import from_us
from clew.base.errors import Conflict
from clew.base.records import Endpoint, Prediction, Revision, Signature
from clew.base.records.processing import PROCESSING, Processing
from clew.base.records.traffic import (
    Feedback,
    FeedbackResult,
    FeedbackRow,
    Outcome,
    Rollout,
    Traffic,
)
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.repos import Repos
from clew.serving import accounts, late, steps, tables
from clew.serving.definitions import EndpointDefinition
from clew.serving.graph_arms import check_arm, graph_at
from clew.serving.overlaying import NO_SIGNATURE, definition_from, overlaid, processing_of
from clew.serving.readings import reading
from clew.serving.revisions import (
    COMING,
    definition_of,
    live_row,
    open_rows,
    rollout_of,
    row_of,
    tidy,
)
from clew.serving.rollouts import Rollouts
from clew.serving.spool import segments
from clew.serving.stats import quantile_s
from clew.serving.traffic import traffic_of
from clew.store import Store

_LOOK_S = 1.0
_STATES = {"live": 0, "canary": 1, "arm": 1, "shadow": 2, "loading": 3, "draining": 4}


class Serving:
    """Endpoints of a workspace. Thread-safe; several processes may work on the same."""

    def __init__(
        self,
        db: Database,
        repos: Repos,
        store: Store,
        lineage: Lineage,
        spool_dir: Path,
        *,
        drifted: Callable[[Tx, str, str], bool] = lambda *_: False,
    ) -> None:
        """``drifted``: whether what an endpoint (second) is asked is known to be unlike what a
        model version (third) learned from.
        """
        self._db = db
        self._drifted = drifted
        self._repos, self._store, self._spool = repos, store, spool_dir
        self._rollouts = Rollouts(db, lineage)
        self._looked_s = float("-inf")

    @cached_property
    def _collector(self) -> late.Collector:
        return late.Collector(self._db, self._repos, self._store, self._spool)

    @cached_property
    def _log(self) -> late.PredictionLog:
        return late.PredictionLog(self._db, self._repos, self._store, self._spool)

    @cached_property
    def _feedback(self) -> late.FeedbackLog:
        return late.FeedbackLog(self._db, self._repos, self._store, self._log)

    # endpoints ----------------------------------------------------------------------------------

    def define(self, tx: Tx, definition: EndpointDefinition) -> None:
        """Make or change an endpoint; its revisions stay. Raises Conflict ``endpoint.taken``."""
        self._rollouts.define(tx, definition)

    def deploy(
        self,
        endpoint: str,
        *,
        model_version: str,
        version: str | int,
        commit: str,
        tree: str,
        signature: Signature,
        global_id: str,
        reason: str,
        verdict: str | None = None,
        cause: str = "",
        rollout: Rollout | None = None,
        beside: Sequence[str] | None = None,
        tx: Tx | None = None,
    ) -> Revision:
        """Put a model version (its id, its number, its commit and that commit's tree) on an
        endpoint. The first revision is live at once, a later one as ``rollout`` says (that of the
        endpoint where it is None; where the version that is live has drifted, answers may differ
        from its own). The functions of the endpoint come with it: its tree is the version's with
        them, its signature what a client sends then.

        Idempotent for the same ``cause``; without one, for as long as the newest revision is of
        this model version and has not ended. With ``beside`` it is always a new revision, which
        comes together with those. Raises NotFound ``endpoint.unknown``.
        """
        with self._store.lease(), self._writing(tx) as tx:
            around = processing_of(definition_of(tx, endpoint))
            live = live_row(tx, endpoint)
            revision = self._rollouts.deploy(
                tx,
                endpoint,
                model_version=model_version,
                version=str(version),
                commit=commit,
                tree=overlaid(self._store, tree, around) if around else tree,
                signature=around.signature(signature) if around else signature,
                global_id=global_id,
                reason=reason,
                verdict=verdict,
                cause=cause,
                rollout=rollout,
                processing=around.code if around else "",
                functions=around.place if around else "",
                beside=beside,
                drifted=live is not None
                and live.model_version != model_version
                and self._drifted(tx, endpoint, live.model_version),
            )
            return _revision(tx, row_of(tx, revision))

    def deploy_graph(
        self,
        endpoint: str,
        *,
        global_id: str,
        reason: str,
        source: str = "",
        rollout: Rollout | None = None,
        beside: Sequence[str] | None = None,
        tx: Tx | None = None,
    ) -> Revision:
        """Put the graph of an endpoint (``source``; '': of this one), as it is defined now, on it.

        A graph of another endpoint takes what this one is asked with. Idempotent for as long as
        the newest revision is this graph and has not ended; ``beside`` as for :meth:`deploy`.

        Raises:
            NotFound: ``endpoint.unknown``.
            Invalid: ``endpoint.no_graph``; ``graph.cycle`` where it would ask itself.
        """
        with self._writing(tx) as tx:
            definition_of(tx, endpoint)
            graph = graph_at(tx, source or endpoint)
            check_arm(tx, self._store, endpoint, graph)
            live = [live_row(tx, name) for name in graph.endpoints]
            revision = self._rollouts.deploy(
                tx,
                endpoint,
                model_version="",
                version=graph.version,
                commit="",
                tree=graph.tree,
                signature=NO_SIGNATURE,
                global_id=global_id,
                reason=reason,
                rollout=rollout,
                processing=graph.code,
                functions=graph.place,
                parts=[(row.id, "is asked by") for row in live if row is not None],
                beside=beside,
            )
            return _revision(tx, row_of(tx, revision))

    def pending(self, tx: Tx, endpoint: str) -> list[tuple[str, Revision, Rollout]]:
        """Revisions that are to be compared with the live one, or are: each with its model version
        (or the version of its graph) before it, and its rollout behind.

        Raises:
            NotFound: ``endpoint.unknown``.
            Conflict: ``endpoint.no_live`` where nothing is live that they could be compared with.
        """
        definition_of(tx, endpoint)
        if live_row(tx, endpoint) is None:
            raise Conflict(
                "endpoint.no_live",
                f"Nothing is live on {endpoint} that arms could be compared with.",
                hint=f"Deploy one version first: clew deploy {endpoint} MODEL_VERSION",
            )
        rows = [row for row in open_rows(tx, endpoint) if row.state in COMING]
        return [
            (row.model_version or row.version, _revision(tx, row), rollout_of(tx, row))
            for row in rows
        ]

    def rollback(self, endpoint: str, reason: str = "", *, tx: Tx | None = None) -> Revision:
        """End the rollout under way; without one, give all traffic to the revision before. The
        revision that is live then; serving processes follow within a tenth of a second.

        Raises:
            NotFound: ``endpoint.unknown``.
            Conflict: ``endpoint.no_previous``.
        """
        with self._writing(tx) as tx:
            revision = self._rollouts.rollback(tx, endpoint, reason or "Rolled back by hand.")
            return _revision(tx, row_of(tx, revision))

    def traffic(self, endpoint: str) -> Traffic:
        """Who gets how much of the requests now, and why. Raises NotFound ``endpoint.unknown``."""
        with self._db.read() as tx:
            return traffic_of(tx, endpoint)

    def set_traffic(
        self,
        endpoint: str,
        *,
        weights: Mapping[str, float] | None = None,
        shadow: Mapping[str, float] | None = None,
        promote: str = "",
        reason: str = "",
    ) -> Traffic:
        """Share the requests by hand: revision (number or id) → percent; the live one has the rest.

        ``shadow``: revision → percent of the requests that it gets copies of; ``promote``: the one
        that gets all. In one transaction.

        Raises:
            NotFound: ``endpoint.unknown``, ``revision.unknown``.
            Invalid: ``traffic.weights``, ``traffic.shadows``.
        """
        said = reason or "Shared by hand."
        with self._db.begin() as tx:
            definition_of(tx, endpoint)
            if weights:
                self._rollouts.set_weights(tx, endpoint, weights, said)
            for revision, percent in sorted((shadow or {}).items(), key=lambda one: one[1] > 0):
                self._rollouts.set_shadow(tx, endpoint, revision, percent, said)
            if promote:
                self._rollouts.promote(tx, endpoint, promote, reason or "Promoted by hand.")
        self.tick()
        return self.traffic(endpoint)

    def roots(self, tx: Tx) -> Iterator[str]:
        """What of the store rows of this room name: it must not be collected."""
        yield from tx.execute(select(tables.revisions.c.tree).distinct()).scalars()

    def tick(self) -> bool:
        """Take the steps of rollouts that are due; whether there was one."""
        return self._rollouts.tick()

    def endpoints(self, pipeline: str | None = None) -> list[Endpoint]:
        """All endpoints, or those of a pipeline, by name."""
        query = select(tables.endpoints).order_by(tables.endpoints.c.name)
        if pipeline is not None:
            query = query.where(tables.endpoints.c.pipeline == pipeline)
        with self._db.read() as tx:
            return [_endpoint(tx, row) for row in tx.execute(query).all()]

    def endpoint(self, name: str) -> Endpoint:
        """One endpoint. Raises NotFound ``endpoint.unknown``."""
        with self._db.read() as tx:
            return _endpoint(tx, definition_of(tx, name))

    def reading(
        self, name: str, figure: str, since: Mapping[str, Any] | None
    ) -> tuple[float | None, Mapping[str, Any]]:
        """A live figure since the last look (``readings``). Raises ``endpoint.unknown``."""
        with self._db.read() as tx:
            return reading(tx, definition_of(tx, name).name, figure, since)

    def of_model(self, model: str, *, tx: Tx | None = None) -> list[str]:
        """Names of the endpoints that serve a model (the name of its repo), but for nodes of graphs
        that follow an alias.
        """
        table = tables.endpoints
        query = select(table.c.name).where(table.c.model == model, table.c.alias == "")
        with self._db.read() if tx is None else nullcontext(tx) as tx:
            return [str(row.name) for row in tx.execute(query)]

    def definition(self, name: str) -> EndpointDefinition:
        """An endpoint as it was defined. Raises NotFound ``endpoint.unknown``."""
        with self._db.read() as tx:
            return definition_from(definition_of(tx, name))

    def definitions(self) -> list[EndpointDefinition]:
        """All endpoints as they were defined, by name."""
        with self._db.read() as tx:
            rows = tx.execute(select(tables.endpoints).order_by(tables.endpoints.c.name)).all()
            return [definition_from(row) for row in rows]

    @staticmethod
    def check_graphs(
        endpoints: Mapping[str, EndpointDefinition],
        names: Sequence[str],
        look: Callable[[str], tuple[Signature, dict[str, tuple[int, ...]] | None] | None],
    ) -> None:
        """That the graphs of these names, among all endpoints that there will be, can be asked.

        ``look``: what an endpoint of a model takes, and its outputs with their shapes behind the
        rows; None where nothing is known yet.

        Raises:
            Invalid: ``graph.node``, ``graph.cycle``, ``graph.signature``, ``graph.outputs``,
                ``graph.condition``.
        """
        late.check_graphs(endpoints, names, look)

    @staticmethod
    def check_fit(
        endpoints: Mapping[str, EndpointDefinition],
        endpoint: str,
        graph: str,
        look: Callable[[str], tuple[Signature, dict[str, tuple[int, ...]] | None] | None],
    ) -> None:
        """That the graph of one endpoint takes what another is asked with, as far as both are
        known. Raises Invalid ``graph.arm``.
        """
        late.check_fit(endpoints, endpoint, graph, look)

    def followers(self) -> list[EndpointDefinition]:
        """Endpoints that stand for an alias of a model."""
        table = tables.endpoints
        with self._db.read() as tx:
            rows = tx.execute(select(table).where(table.c.alias != "")).all()
            return [definition_from(row) for row in rows]

    def tree(self, revision_id: str) -> str:
        """What a revision is loaded from. Raises NotFound ``revision.unknown``."""
        with self._db.read() as tx:
            return str(row_of(tx, revision_id).tree)

    def processing(self, revision_id: str) -> Processing | None:
        """The functions around the model of a revision. Raises NotFound ``revision.unknown``."""
        tree = self.tree(revision_id)
        entry = self._store.get(tree, PROCESSING)
        if entry is None:
            return None
        found = msgspec.json.decode(self._store.read(entry.digest), type=Processing)
        return replace(found, tree=tree)

    def revision(self, revision_id: str) -> Revision:
        """One revision, by its id or a unique beginning. Raises NotFound ``revision.unknown``."""
        with self._db.read() as tx:
            return _revision(tx, row_of(tx, revision_id))

    def live(self, endpoint: str) -> Revision | None:
        """The revision with most of the traffic; None where nothing is deployed."""
        revisions = self.endpoint(endpoint).revisions
        return max(revisions, key=lambda each: each.traffic, default=None)

    def of_change(self, global_id: str) -> list[Revision]:
        """Revisions of one change, oldest first."""
        table = tables.revisions
        query = select(table).where(table.c.global_id == global_id).order_by(table.c.created_us)
        with self._db.read() as tx:
            return [_revision(tx, row) for row in tx.execute(query).all()]

    def is_loading(self, global_id: str | None) -> bool:
        """Whether serving processes are about to say of a new revision whether it can be loaded: of
        one change, or of any. That is not waited for longer than two minutes, or where nobody
        serves.
        """
        with self._db.read() as tx:
            coming = [
                row
                for row in tx.execute(tables.AWAKE)
                if global_id in {None, row.global_id} and steps.is_loading(tx, row)
            ]
            return bool(coming and accounts.alive(tx))

    def url(self) -> str:
        """Where endpoints answer now; '' where no serving process runs."""
        with self._db.read() as tx:
            return _url(tx)

    # predictions --------------------------------------------------------------------------------

    def collect(self, *, force: bool = False) -> int:
        """Commit what serving processes have logged; the number of requests.

        Feedback on them follows. Without ``force`` it does nothing within a second of the last
        time.
        """
        count = self._collector.collect(force=force) if segments(self._spool) else 0
        if self._feedback_waits(force=force):
            with self._collector.alone():
                self._feedback.commit()
        return count

    def _feedback_waits(self, *, force: bool) -> bool:
        if not force and time.monotonic() - self._looked_s < _LOOK_S:
            return False
        self._looked_s = time.monotonic()
        with self._db.read() as tx:
            return tx.execute(tables.WAITING_FEEDBACK).first() is not None

    def feedback(self, items: Sequence[Feedback], *, endpoint: str = "") -> FeedbackResult:
        """Keep what became of predictions, joined to the log by id.

        Raises:
            Invalid: ``feedback.value``, ``feedback.row``, ``feedback.many``.
            NotFound: ``endpoint.unknown``.
        """
        return self._feedback.take(items, endpoint)

    def drop_feedback(self, before: datetime) -> int:
        """Remove rows of feedback that came before a time; how many. The repo keeps it all.

        What is not committed yet stays, and what a test or bandit under way rests on.
        """
        return self._feedback.drop(before)

    def feedback_on(self, prediction_id: str) -> tuple[FeedbackRow, ...]:
        """What is known of a prediction's outcome; nothing where nobody has said anything."""
        return late.feedback_on(self._db, prediction_id)

    def outcome(self, prediction_id: str) -> Outcome:
        """The feedback on a prediction. Raises NotFound ``prediction.unknown``."""
        return self._feedback.on(prediction_id)

    def find_prediction(self, prediction_id: str) -> Prediction | None:
        """A prediction, by its id or a unique beginning; also one that is not committed yet.

        Raises Conflict ``id.ambiguous``.
        """
        return self._log.find(prediction_id)

    def predictions(self, endpoint: str, limit: int = 20) -> list[Prediction]:
        """The newest predictions, newest first. Raises NotFound ``endpoint.unknown``."""
        return self._log.newest(endpoint, limit)

    def predictions_of_revision(self, revision_id: str, limit: int = 20) -> list[Prediction]:
        """The newest predictions of a revision, newest first.

        Raises NotFound ``revision.unknown``.
        """
        with self._db.read() as tx:
            row = row_of(tx, revision_id)
        return self._log.newest(row.endpoint, limit, revision=row.id)

    def count_of_revision(self, revision_id: str) -> int:
        """Committed prediction requests of a revision."""
        return self._log.count(revision=revision_id)

    def count_of_change(self, global_id: str) -> int:
        """Committed prediction requests that revisions of a change answered."""
        return self._log.count(global_id=global_id)

    def _writing(self, tx: Tx | None) -> AbstractContextManager[Tx]:
        return self._db.begin() if tx is None else nullcontext(tx)


def _url(tx: Tx) -> str:
    rows = accounts.alive(tx)
    return str(rows[-1].url) if rows else ""


def _endpoint(tx: Tx, row: Any) -> Endpoint:
    table = tables.revisions
    query = select(table).where(table.c.endpoint == row.name).order_by(table.c.number.desc())
    revisions = [_revision(tx, each) for each in tx.execute(query).all()]
    revisions.sort(key=lambda each: (_STATES.get(each.state, 9), -each.number))
    answering = [each for each in revisions if each.state != "shadow"]
    live = revisions[0].id if revisions and revisions[0].state == "live" else ""
    buckets = accounts.totals(tx, live).buckets
    url = _url(tx)
    return Endpoint(
        name=row.name,
        pipeline=row.pipeline,
        model=row.model,
        rollout=str(msgspec.convert(row.rollout, Rollout)),
        url=f"{url}/v2/models/{row.name}" if url else "",
        revisions=tuple(revisions),
        requests=sum(each.requests for each in answering),
        errors=sum(each.errors for each in answering),
        overloads=sum(each.overloads for each in answering),
        expired=sum(each.expired for each in answering),
        p50_ms=_ms(quantile_s(buckets, 0.5)),
        p99_ms=_ms(quantile_s(buckets, 0.99)),
        unloaded=row.unloaded,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


def _revision(tx: Tx, row: Any) -> Revision:
    counts = accounts.totals(tx, row.id)
    return Revision(
        id=row.id,
        endpoint=row.endpoint,
        number=row.number,
        model_version=row.model_version,
        global_id=row.global_id,
        state=row.state,
        traffic=tidy(row.traffic),
        reason=row.reason,
        created_at=from_us(row.created_us),
        requests=counts.requests,
        errors=counts.errors,
        overloads=counts.work.overloads,
        expired=counts.work.expired,
        processing=row.processing,
        functions=row.functions,
    )
