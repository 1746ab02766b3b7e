"""What became of predictions: labels and rewards by prediction id, joined to the log in a repo.

Knows nothing of tests and bandits, which read its rows. Feedback that was taken is a row in the
database; once its prediction is committed it comes into ``{pipeline}/{endpoint}.feedback``, with
the commits of the log as provenance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import and_, delete, func, or_, select, update

from clew.base.clock import from_us, to_us
from clew.base.errors import Invalid, NotFound
from clew.base.ids import new_id
from clew.base.records.traffic import Feedback, FeedbackResult, FeedbackRow, Outcome
from clew.db import Database, Tx
from clew.repos import Repos
from clew.serving import parquet, tables
from clew.serving.accounts import now_us
from clew.serving.columns import Answered
from clew.serving.definitions import ANSWERS
from clew.serving.keeping import is_sampled
from clew.serving.log import PredictionLog
from clew.serving.revisions import definition_of
from clew.store import EMPTY_TREE, Entry, Store

MOST = 10_000
"""Items of one call, and rows of one commit."""
_CHANCES = {"probability", "probabilities"}
"""Never an answer by themselves: what was said may be left out of the log."""
_KEY = ("prediction", "row", "name")
_SAID = ("label", "reward", "correct", "error")


class FeedbackLog:
    """Feedback of a workspace. Thread-safe; several processes may take it."""

    def __init__(self, db: Database, repos: Repos, store: Store, log: PredictionLog) -> None:
        self._db, self._repos, self._store, self._log = db, repos, store, log

    def take(self, items: Sequence[Feedback], endpoint: str = "") -> FeedbackResult:
        """Keep feedback; what became of each item.

        The same again changes nothing; another label (or reward) for the same prediction, row and
        name takes the place of the first, and what an item leaves open stays as it was said. All
        or nothing where one is invalid.

        Raises:
            Invalid: ``feedback.value``, ``feedback.row``, ``feedback.many``.
            NotFound: ``endpoint.unknown``.
        """
        for item in items:
            _check(item)
        if len(items) > MOST:
            raise Invalid(
                "feedback.many", f"{len(items)} items in one call.", hint=f"Send {MOST} at most."
            )
        with self._db.read() as tx:
            shares = _shares(tx, endpoint)
        answered = self._log.answers({item.id for item in items})
        if endpoint:
            answered = {id: one for id, one in answered.items() if one.endpoint == endpoint}
        rows = [_joined(item, answered[item.id]) for item in items if item.id in answered]
        missing = dict.fromkeys(item.id for item in items if item.id not in answered)
        unsampled = tuple(
            id for id in missing if any(not is_sampled(id, share) for share in shares)
        )
        with self._db.begin() as tx:
            news = _news(tx, rows)
            refresh = ["label", "reward", "correct", "error", "at_us", "commit"]
            tx.upsert(tables.feedback, news, key=_KEY, refresh=refresh)
        kept = {row["prediction"] for row in news}
        return FeedbackResult(
            kept=tuple(sorted(kept)),
            known=tuple(sorted({row["prediction"] for row in rows} - kept)),
            unknown=tuple(id for id in missing if id not in unsampled),
            unsampled=unsampled,
        )

    def on(self, prediction_id: str) -> Outcome:
        """The feedback on one prediction, by its whole id.

        Raises:
            NotFound: ``prediction.unknown``.
        """
        answered = self._log.answers({prediction_id}).get(prediction_id)
        if answered is None:
            raise NotFound(
                "prediction.unknown",
                f"There is no prediction {prediction_id!r} in the log.",
                hint="clew predictions ENDPOINT lists the latest.",
            )
        return Outcome(
            id=prediction_id,
            endpoint=answered.endpoint,
            revision=answered.revision,
            model_version=answered.model_version,
            arm=answered.arm,
            propensity=answered.propensity,
            feedback=feedback_on(self._db, prediction_id),
        )

    # commits ------------------------------------------------------------------------------------

    def commit(self) -> int:
        """Commit feedback whose predictions are committed; the number of rows. For one at a time
        (the collector's lock).
        """
        table = tables.feedback
        with self._db.read() as tx:
            query = select(table).where(table.c.commit.is_(None)).order_by(table.c.at_us)
            waiting = tx.execute(query.limit(MOST)).all()
        holders = self._log.holders({row.prediction for row in waiting})
        by_endpoint: dict[str, list[Any]] = {}
        for row in waiting:
            if row.prediction in holders:
                by_endpoint.setdefault(row.endpoint, []).append(row)
        for endpoint, rows in by_endpoint.items():
            self._commit(endpoint, rows, holders)
        return sum(len(rows) for rows in by_endpoint.values())

    def _commit(self, endpoint: str, rows: Sequence[Any], holders: Mapping[str, str]) -> None:
        with self._db.read() as tx:
            repo = feedback_repo(definition_of(tx, endpoint).pipeline, endpoint)
        self._repos.create(repo, kind="log", description="Feedback on predictions.", exist_ok=True)
        data = parquet.write_feedback([_told(row, holders[row.prediction]) for row in rows])
        day = from_us(max(row.at_us for row in rows)).strftime("%Y-%m-%d")
        path = f"/{day}/{new_id()}.parquet"
        sources = sorted({holders[row.prediction] for row in rows})
        with self._store.lease():  # until rows name the file
            while True:
                head = self._repos.head(repo)
                with self._store.writer() as writer:
                    digest, size = writer.put(data)
                    entry = Entry(path=path, digest=digest, size_bytes=size)
                    tree = writer.tree(head.tree if head else EMPTY_TREE, [entry])
                with self._db.begin() as tx:
                    if self._repos.head(repo, tx=tx) != head:
                        continue
                    self._record(tx, repo, tree, rows, sources)
                    return

    def drop(self, before: datetime) -> int:
        """Remove committed rows that came before a time and that nothing rests on; how many."""
        table, tests, dropped = tables.feedback, tables.traffic_tests, 0
        begun_us = (
            select(func.min(tests.c.begun_us))
            .where(tests.c.endpoint == table.c.endpoint, tests.c.state == "running")
            .scalar_subquery()
        )
        old = and_(
            table.c.commit.is_not(None),
            table.c.at_us < to_us(before),
            or_(begun_us.is_(None), table.c.predicted_us < begun_us),
        )
        while True:  # in parts, so that others can write in between
            with self._db.begin() as tx:
                rows = tx.execute(select(table.c.prediction).where(old).limit(MOST)).scalars()
                if not (ids := set(rows)):
                    return dropped
                for part in _parts(sorted(ids)):
                    gone = tx.execute(delete(table).where(table.c.prediction.in_(part), old))
                    dropped += gone.rowcount

    def _record(
        self, tx: Tx, repo: str, tree: str, rows: Sequence[Any], sources: list[str]
    ) -> None:
        opened = self._repos.open_commit(
            repo,
            global_id=new_id(),
            provenance=sources,
            message=f"Feedback on {len(rows)} prediction{'' if len(rows) == 1 else 's'}",
            author="clew",
            tx=tx,
        )
        commit = self._repos.finish(opened.id, tree, tx=tx).id
        table = tables.feedback
        for row in rows:  # one that was corrected meanwhile waits for the next commit
            tx.execute(
                update(table)
                .where(
                    table.c.prediction == row.prediction,
                    table.c.row == row.row,
                    table.c.name == row.name,
                    table.c.at_us == row.at_us,
                )
                .values(commit=commit)
            )


def feedback_on(db: Database, prediction_id: str) -> tuple[FeedbackRow, ...]:
    """The feedback on a prediction, by row and name."""
    table = tables.feedback
    query = select(table).where(table.c.prediction == prediction_id)
    with db.read() as tx:
        rows = tx.execute(query.order_by(table.c.row, table.c.name)).all()
    return tuple(
        FeedbackRow(
            name=row.name,
            row=row.row,
            label=row.label,
            reward=row.reward,
            correct=None if row.correct is None else bool(row.correct),
            error=row.error,
            at=from_us(row.at_us),
            commit=row.commit,
        )
        for row in rows
    )


def feedback_repo(pipeline: str, endpoint: str) -> str:
    """The repo of the feedback on an endpoint's predictions."""
    return f"{pipeline}/{endpoint}.feedback"


def _check(item: Feedback) -> None:
    wrong = ""
    if item.label is None and item.reward is None:
        wrong = "it has neither a label nor a reward"
    elif item.reward is not None and not math.isfinite(item.reward):
        wrong = f"its reward is {item.reward}"
    elif len(orjson.dumps(item.label, default=str)) > 10_000:
        wrong = "its label is longer than 10,000 characters"
    if wrong or not item.id:
        raise Invalid(
            "feedback.value",
            f"The feedback on {item.id!r} says nothing that can be kept: {wrong or 'no id'}.",
            hint="Give a label (what was true) or a reward (a finite number).",
        )


def _shares(tx: Tx, endpoint: str) -> list[float]:
    """Shares of the logs in which an id could be missing."""
    if endpoint:
        return [definition_of(tx, endpoint).log]
    return [row.log for row in tx.execute(select(tables.endpoints.c.log).distinct())]


def _joined(item: Feedback, answered: Answered) -> dict[str, Any]:
    if answered.outputs and item.row not in answered.outputs:
        raise Invalid(
            "feedback.row",
            f"The prediction {item.id} has {len(answered.outputs)} rows, not a row {item.row}.",
            hint="Rows count from 0.",
        )
    correct, error = compared(item.label, answered.outputs.get(item.row, {}))
    return {
        "prediction": item.id,
        "row": item.row,
        "name": item.name,
        "endpoint": answered.endpoint,
        "revision": answered.revision,
        "model_version": answered.model_version,
        "global_id": answered.global_id,
        "arm": answered.arm,
        "propensity": answered.propensity,
        "unit": answered.unit,
        "label": item.label,
        "reward": item.reward,
        "correct": correct,
        "error": error,
        "predicted_us": answered.at_us,
        "at_us": now_us(),
        "commit": None,
    }


def compared(label: object, outputs: Mapping[str, object]) -> tuple[int | None, float | None]:
    """Whether a label is the answer (1 or 0), and how far it is from it; None where that cannot be
    said.
    """
    name = next((name for name in ANSWERS if name in outputs), None)
    if name is None and len(outputs) == 1 and not _CHANCES & outputs.keys():
        name = next(iter(outputs))
    if label is None or name is None:
        return None, None
    answer = outputs[name]
    mine, theirs = _number(answer), _number(label)
    if mine is not None and theirs is not None:
        return int(mine == theirs), abs(mine - theirs)
    return int(str(answer) == str(label)), None


def _number(value: object) -> float | None:
    if isinstance(value, bool | int | float):
        return float(value) if math.isfinite(value) else None
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _news(tx: Tx, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that say something else than what is there; of several for one, all that they say."""
    table = tables.feedback
    ids = sorted({row["prediction"] for row in rows})
    known: dict[tuple[object, ...], dict[str, Any]] = {}
    for part in _parts(ids):
        for row in tx.execute(select(table).where(table.c.prediction.in_(part))):
            known[row.prediction, row.row, row.name] = {name: getattr(row, name) for name in _SAID}
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in _KEY)
        found[key] = row | _unsaid(row, found.get(key) or known.get(key) or {})
    return [row for key, row in found.items() if _told_of(row) != _told_of(known.get(key, {}))]


def _unsaid(row: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What was said before and is left open now: the label with what follows, the reward."""
    left: tuple[str, ...] = ("label", "correct", "error") if row["label"] is None else ()
    left += ("reward",) if row["reward"] is None else ()
    return {name: before[name] for name in left if name in before}


def _told_of(row: Mapping[str, Any]) -> tuple[object, object]:
    return row.get("label"), row.get("reward")


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """So many as one statement may name."""
    for start in range(0, len(ids), 500):
        yield ids[start : start + 500]


def _told(row: Any, log_commit: str) -> dict[str, object]:
    """A row as it stands in the repo."""
    return {
        "id": row.prediction,
        "row": row.row,
        "name": row.name,
        "label": None if row.label is None else orjson.dumps(row.label).decode(),
        "reward": row.reward,
        "correct": row.correct,
        "error": row.error,
        "predicted_at": row.predicted_us,
        "at": row.at_us,
        "endpoint": row.endpoint,
        "revision": row.revision,
        "model_version": row.model_version,
        "global_id": row.global_id,
        "arm": row.arm,
        "propensity": row.propensity,
        "unit": row.unit,
        "log_commit": log_commit,
    }
