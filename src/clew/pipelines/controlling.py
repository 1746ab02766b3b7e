"""What people do to work that is under way: pause, resume, cancel, retry, restart.

Knows rows of jobs and the engine's signals; how a job obeys them is elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.ids import ID_LENGTH, new_id, short
from clew.base.records import Job
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.datums import datum_id, key_range
from clew.pipelines.engine import Engine
from clew.pipelines.holding import Holding
from clew.pipelines.jobs import Wish, find, job_of
from clew.pipelines.pinning import Tools, base_of, current_head
from clew.pipelines.restarting import ASKED_FOR

_CAN_RETRY = frozenset({"failed", "refused", "cancelled"})


class Subject(Struct, frozen=True):
    """What is meant: all jobs of a change, of a pipeline or of a step; or one job."""

    kind: str
    name: str
    step: str = ""

    def takes_in(self, row: Any) -> bool:
        """Whether a job belongs to it."""
        if self.kind == "job":
            return bool(row.id == self.name)
        if self.kind == "change":
            return bool(row.global_id == self.name)
        return bool(row.pipeline == self.name and self.step in {"", row.step})


class Control:
    """Acts on jobs that somebody names. Thread-safe.

    A subject is a job, a change (global id), a pipeline, or ``pipeline/step``; ids may be shortened
    to four characters. Each act is one transaction.
    """

    def __init__(self, tools: Tools, engine: Engine) -> None:
        self._tools = tools
        self._engine = engine

    def cancel(self, subject: str) -> list[Job]:
        """End what has not ended; what is downstream is blocked. A running job ends a little later.

        Raises:
            NotFound: ``work.unknown``.
            Conflict: ``work.ended`` where nothing of it is left to cancel.
        """
        with self._tools.db.begin() as tx:
            rows = self._not_ended(tx, self._subject(tx, subject), subject)
            for row in rows:
                if row.state == "running":
                    tx.execute(tables.UPDATE_JOB, {"job_id": row.id, "cancelled": 1})
                else:
                    self._tools.jobs.fail(tx, row.id, "cancelled", "It was cancelled.")
            now = _again(tx, rows)
        for row in rows:
            self._engine.cancel(row.id)
        return now

    def pause(self, subject: str) -> list[Job]:
        """Let nothing of it begin; datums that run come to their end, trials to their checkpoint.

        A pipeline (or step) stays paused until it is resumed: jobs that are made meanwhile wait.

        Raises:
            NotFound: ``work.unknown``.
            Conflict: ``work.ended`` for a job or a change of which nothing is left to pause.
        """
        with self._tools.db.begin() as tx:
            found = self._subject(tx, subject)
            lasting = found.kind in {"pipeline", "step"}
            rows = [row for row in tx.execute(tables.NOT_ENDED) if found.takes_in(row)]
            if lasting:
                pause = {"pipeline": found.name, "step": found.step}
                tx.upsert(tables.pauses, [pause], key=["pipeline", "step"], refresh=[])
                tx.emit("pipeline.paused", subject=found.name, data={"step": found.step})
            elif not rows:
                raise _ended(subject)
            for row in rows:
                self._tools.jobs.hold(tx, row)
            now = _again(tx, rows)
        for row in rows:
            self._engine.pause(row.id)
        return now

    def resume(self, subject: str) -> list[Job]:
        """Let what was paused go on; the jobs that wait again.

        Raises:
            NotFound: ``work.unknown``.
            Conflict: ``work.not_paused``.
        """
        with self._tools.db.begin() as tx:
            found = self._subject(tx, subject)
            rows = [
                row
                for row in tx.execute(tables.NOT_ENDED)
                if found.takes_in(row) and (row.state == "paused" or row.pausing)
            ]
            lifted = self._lift(tx, found)
            if not rows and not lifted:
                raise Conflict(
                    "work.not_paused",
                    f"Nothing of {subject} is paused.",
                    hint="See what is: clew jobs --state paused",
                )
            for row in rows:
                self._tools.jobs.resume(tx, row)
            return _again(tx, rows)

    def retry(self, subject: str, *, priority: int | None = None) -> list[Job]:
        """Run what failed once more, for the same change, and what follows; no more than that.

        Datums that are done are not run again. The new jobs.

        Raises:
            NotFound: ``work.unknown``.
            Invalid: ``work.subject`` for a pipeline or a step.
            Conflict: ``job.not_failed``, ``job.blocked`` (naming what to retry instead),
                ``job.superseded`` where a later job of the step is there.
        """
        with self._tools.db.begin() as tx:
            found = self._subject(tx, subject)
            rows = self._failed(tx, found, subject)
            wishes = [
                Wish(
                    step=(row.pipeline, row.step),
                    reason=f"Job {short(row.id)} {row.state} and is tried again.",
                    forced=bool(row.forced),
                    priority=row.priority if priority is None else priority,
                    anew=dict(row.anew),
                )
                for row in rows
            ]
            return self._tools.jobs.make(tx, wishes, rows[0].global_id)

    def restart(self, datum: str) -> Job:
        """Run one datum once more: where it runs now from its beginning, else in a new job.

        One that is done is made anew although nothing changed, and its files are replaced; one that
        failed is run with all others of its job that did. The job.

        Raises:
            NotFound: ``datum.unknown``.
            Invalid: ``datum.ambiguous``.
            Conflict: ``datum.superseded`` where it is not of the step's present output.
        """
        if (running := self._restart_running(datum)) is not None:
            return running
        bounds = key_range(datum)
        with self._tools.db.begin() as tx:
            found = {} if bounds is None else _latest_of_keys(tx, bounds)
            if not found:
                raise NotFound(
                    "datum.unknown",
                    f"There is no datum {datum!r}.",
                    hint="See the datums of a job: clew job JOB",
                )
            if len(found) > 1:
                ids = ", ".join(datum_id(key) for key in list(found)[:5])
                raise Invalid(
                    "datum.ambiguous", f"{datum!r} may mean {ids}.", hint="Give more characters."
                )
            (row,) = found.values()
            job = tx.execute(tables.JOB, {"id": row.job}).one()
            if row.state == "done":
                return self._make_anew(tx, row, job)
        return self.retry(job.id)[0]

    def is_pending(self, global_id: str | None) -> bool:
        """Whether jobs are left that will end without anybody's help: of one change, or at all.

        Those that are paused, or wait for such a one, are not.
        """
        with self._tools.db.read() as tx:
            if global_id is None:
                counts = tx.execute(tables.STATES_NOT_ENDED)
            else:
                counts = tx.execute(tables.STATES_OF_CHANGE, {"global_id": global_id})
            states = {row.state for row in counts}
            if states.isdisjoint({"waiting", "running"}) or "running" in states:
                return "running" in states
            if tx.execute(tables.ANY_PAUSED).first() is None:
                return True
            rows = list(tx.execute(tables.NOT_ENDED))
            graph = self._tools.registry.graph(tx)
            held = Holding(tx, self._tools.repos, graph, rows).held()
        asked = [row for row in rows if global_id in {None, row.global_id}]
        return any(row.id not in held for row in asked)

    # ----------------------------------------------------------------------------------------

    def _subject(self, tx: Tx, text: str) -> Subject:
        graph = self._tools.registry.graph(tx)
        if text in graph.pipelines:
            return Subject("pipeline", text)
        pipeline, _, step = text.partition("/")
        if graph.step((pipeline, step)) is not None:
            return Subject("step", pipeline, step)
        return _named_by_id(tx, text)

    def _not_ended(self, tx: Tx, found: Subject, subject: str) -> list[Any]:
        rows = [row for row in tx.execute(tables.NOT_ENDED) if found.takes_in(row)]
        if not rows:
            raise _ended(subject)
        return rows

    @staticmethod
    def _lift(tx: Tx, found: Subject) -> bool:
        """Take the pause of a pipeline (and of all its steps) or a step away; whether there was."""
        if found.kind not in {"pipeline", "step"}:
            return False
        query = tables.pauses.delete().where(tables.pauses.c.pipeline == found.name)
        if found.step:
            query = query.where(tables.pauses.c.step == found.step)
        lifted = tx.execute(query).rowcount > 0
        if lifted:
            tx.emit("pipeline.resumed", subject=found.name, data={"step": found.step})
        return lifted

    def _failed(self, tx: Tx, found: Subject, subject: str) -> Sequence[Any]:
        """The jobs of a subject that can be tried again."""
        if found.kind in {"pipeline", "step"}:
            raise Invalid(
                "work.subject",
                f"{subject} is a {found.kind}; a job or a change can be tried again.",
                hint=f"Run all of it anew: clew run {subject.replace('/', ' ')}",
            )
        if found.kind == "job":
            row = tx.execute(tables.JOB, {"id": found.name}).one()
            _check_failed(tx, row)
            return [row]
        rows = tx.execute(tables.OF_CHANGE, {"global_id": found.name}).all()
        latest = {(row.pipeline, row.step): row for row in rows}
        failed = [row for row in latest.values() if _has_failed(row)]
        if not failed:
            raise Conflict("job.not_failed", f"Nothing of the change {found.name} has failed.")
        for row in failed:
            _check_failed(tx, row)
        return failed

    def _restart_running(self, datum: str) -> Job | None:
        with self._tools.db.read() as tx:
            rows = [row for row in tx.execute(tables.NOT_ENDED) if row.state == "running"]
        for row in rows:
            signals = self._engine.signals(row.id)
            for live in signals.live() if signals is not None else ():
                if datum_id(live.unit.key).startswith(datum) and signals is not None:
                    signals.restarts.put(live.unit.key)
                    return job_of(row)
        return None

    def _make_anew(self, tx: Tx, row: Any, job: Any) -> Job:
        step = self._tools.registry.graph(tx).step((job.pipeline, job.step))
        head = (
            current_head(self._tools.repos, tx, step.output_repo, step.output_branch)
            if step
            else None
        )
        made = tx.execute(tables.BY_OUTPUT, {"output": head.id}).first() if head else None
        base = base_of(self._tools, made, head)
        if base is None or all(unit.key != row.key for unit in base.cut.units()):
            raise Conflict(
                "datum.superseded",
                f"The datum {datum_id(row.key)} is not of the present output of {job.step}.",
                hint="See its present datums: clew jobs, then clew job JOB",
            )
        wish = Wish(
            step=(job.pipeline, job.step),
            reason=f"Datum {short(datum_id(row.key))}: {ASKED_FOR}.",
            anew={row.key: [row.outputs, row.aside]},
        )
        return self._tools.jobs.make(tx, [wish], new_id())[0]


def _named_by_id(tx: Tx, text: str) -> Subject:
    bounds = {"prefix": text, "end": text + "\U0010ffff"}
    if len(text) < 4 or len(text) > ID_LENGTH:
        raise _unknown(text)
    jobs = [row.id for row in tx.execute(tables.BY_PREFIX, bounds)]
    changes = [row.global_id for row in tx.execute(tables.CHANGES_BY_PREFIX, bounds)]
    if len(jobs) + len(changes) > 1:
        listed = ", ".join([*(f"job {id}" for id in jobs[:3]), *(f"change {id}" for id in changes)])
        raise Invalid(
            "job.ambiguous", f"{text!r} may mean {listed}.", hint="Give more characters of the id."
        )
    if jobs:
        return Subject("job", jobs[0])
    if changes:
        return Subject("change", changes[0])
    raise _unknown(text)


def _latest_of_keys(tx: Tx, bounds: tuple[str, str]) -> dict[str, Any]:
    """The last row of each datum in a range of keys; a done one before all others."""
    rows = tx.execute(tables.DATUMS_BY_RANGE, {"low": bounds[0], "high": bounds[1]}).all()
    rows = sorted(rows, key=lambda row: (row.state == "done", row.finished_us))
    return {row.key: row for row in rows}


def _has_failed(row: Any) -> bool:
    return row.state in _CAN_RETRY or (row.state == "done" and row.recovered > 0)


def _check_failed(tx: Tx, row: Any) -> None:
    if row.state == "blocked":
        raise Conflict(
            "job.blocked",
            f"Job {row.id} was blocked: {row.reason}",
            hint="Retry the job that failed (or the whole change); this one follows.",
        )
    if not _has_failed(row):
        raise Conflict(
            "job.not_failed",
            f"Job {row.id} is {row.state}: there is nothing to try again.",
            hint=f"Run the step anew: clew run {row.pipeline} {row.step}",
        )
    name = {"pipeline": row.pipeline, "step": row.step, "number": row.number}
    later = tx.execute(tables.LATER, name).first()
    if later is not None:
        raise Conflict(
            "job.superseded",
            f"Job {later.id} of {row.pipeline}/{row.step} came later and is {later.state}.",
            hint="What had failed is among its datums, or in no data any more.",
        )


def _again(tx: Tx, rows: Sequence[Any]) -> list[Job]:
    return [job_of(find(tx, row.id)) for row in rows]


def _ended(subject: str) -> Conflict:
    return Conflict(
        "work.ended",
        f"All jobs of {subject} have ended, if there were any.",
        hint="See what has not: clew status",
    )


def _unknown(text: str) -> NotFound:
    return NotFound(
        "work.unknown",
        f"There is no job, change, pipeline or step {text!r}.",
        hint="See them: clew jobs",
    )
