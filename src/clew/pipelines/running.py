"""One job on its thread: pin its inputs, run its datums or its runner, end it.

Knows rows through ``jobs`` and trees through the store; which job runs when is for ``engine``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from clew.base import clock
from clew.base.errors import ClewError, Conflict, Unavailable
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.batches import Batches, Broken, Interrupted, Item, Place, Result
from clew.pipelines.datums import Cut
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.jobs import Counts, job_of, sources_of
from clew.pipelines.logs import append_log
from clew.pipelines.output import Made, Output, entries_of, made_by
from clew.pipelines.pinning import QUARANTINE_SUFFIX, Pinned, Tools
from clew.pipelines.plugged import run_plugged
from clew.pipelines.programs import surroundings_of, variables_of
from clew.pipelines.restarting import take_anew
from clew.pipelines.signals import Signals
from clew.pipelines.starting import Begun, Follow, Handed, Heir, begin, start
from clew.pipelines.trouble import Trouble
from clew.pipelines.undeclared import Undeclared
from clew.pipelines.work import Work, known_among, unchanged_since, work_of

WRITE_S = 0.2
"""How long rows of finished datums may wait to be written; what is lost by a crash at most."""

_NOT_OURS = frozenset({"db.unreachable", "lock.lost"})
"""Codes of errors that say nothing of the job that met them."""

_GIVE_UP = 50
"""After so many failed datums without a good one, the rest of a job is not tried."""


def run_job(
    tools: Tools,
    job_id: str,
    signals: Signals,
    begun: Begun | None = None,
    follow: Follow = lambda _tx, _job, _step: None,
) -> Handed | None:
    """Run a job that waits, to its end; or, where the engine closes, put it back to wait.

    ``begun``: it has started already. What is returned started with its end, and is to run now.
    """
    try:
        with tools.store.lease():  # what workers put is told to rows by this process, later
            begun = begun or start(tools, job_id)
            if begun is None:
                return None
            pinned = begun.pinned()
            signals.limit(pinned.step.policy.job_timeout_s)
            if pinned.step.kind == "step":
                return _Datums(tools, pinned, signals, follow).run()
            run_plugged(tools, pinned, signals)
    except Interrupted:
        _interrupt(tools, job_id, signals)
    except Broken as broken:
        _fail(tools, job_id, str(broken), broken.traceback)
    except Exception as error:  # runners are plugged in; a job never ends silently
        if isinstance(error, Unavailable) and error.code in _NOT_OURS:
            raise  # nothing can be written of the job now: who ticks next lets it wait again
        if signals.ending():
            _interrupt(tools, job_id, signals)
        else:
            reason, _, below = _told_by(error).partition("\n")
            _fail(tools, job_id, reason, below)
    return None


# ends ---------------------------------------------------------------------------------------


def _interrupt(tools: Tools, job_id: str, signals: Signals) -> None:
    with tools.db.begin() as tx:
        row = tx.execute(tables.JOB, {"id": job_id}).one()
        if signals.cancelled.is_set() or row.cancelled:
            tools.jobs.fail(tx, job_id, "cancelled", "It was cancelled.")
        elif signals.late:
            reason = f"It took longer than {signals.limit_s:g} s and was stopped."
            tools.jobs.fail(tx, job_id, "failed", reason)
        elif row.pausing and row.state == "running":
            tools.jobs.held(tx, job_id)
        else:
            tx.execute(tables.RECOVER.where(tables.jobs.c.id == job_id))


def _fail(tools: Tools, job_id: str, reason: str, error: str) -> None:
    with tools.db.begin() as tx:
        tools.jobs.fail(tx, job_id, "failed", reason, error=f"{reason}\n\n{error}".strip())


def _told_by(error: Exception) -> str:
    """One line, and below it the traceback of the user's code where there is one."""
    return str(error) if isinstance(error, ClewError) else f"{type(error).__name__}: {error}"


# datums -------------------------------------------------------------------------------------


def place_of(
    tools: Tools, row: Any, step: StepDefinition, signals: Signals, keep: Callable[[bytes], object]
) -> Place:
    """Where the datums of a job run; nobody hears what they print, and nobody else is in turn."""
    program, programs = surroundings_of(step, tools.environments)
    return Place(
        compute=tools.compute,
        store=tools.store,
        step=step,
        snapshot_dir=tools.code_dir(step.function.snapshot),
        label=f"{row.pipeline}.{row.step}",
        signals=signals,
        log=lambda _: None,
        keep=keep,
        pipeline=row.pipeline,
        variables=variables_of(job_of(row)),
        environment=tools.tracking.variables(row.id, f"{row.pipeline}.{row.step}"),
        program=program,
        programs=programs,
    )


class _Datums:
    """A job of datums, from its work to its output."""

    def __init__(self, tools: Tools, pinned: Pinned, signals: Signals, follow: Follow) -> None:
        self._tools = tools
        self._pinned = pinned
        self._signals = signals
        self._follow = follow
        self._rows: list[dict[str, Any]] = []
        self._written_at = time.monotonic()
        self._trouble = Trouble()
        self._counts = Counts()
        self._told = self._counts
        self._aside_rows = 0
        self._writer = tools.store.writer()
        self._limit = pinned.limit
        self._undeclared = Undeclared()

    def run(self) -> Handed | None:
        with self._writer:  # small outputs, the tree and the commit are one flush
            return self._work()

    def _work(self) -> Handed | None:
        pinned, tools = self._pinned, self._tools
        trees = {name: commit.tree for name, commit in pinned.inputs.items()}
        self._cut = Cut(tools.store, pinned.step, trees, pinned.epoch)
        work = work_of(tools.db, self._cut, pinned.base)
        take_anew(tools.db, self._cut, work, pinned.row.anew, pinned.job.id)
        if pinned.row.version is not None:  # an engine that died has begun with it
            self._take_evidence_before()
        self._counts = Counts(total=work.total, skipped=work.kept)
        self._output = Output(self._writer, work, self._owner)
        if work.kept < work.total:
            self._run(work)
        if self._trouble:
            self._end_badly()
            return None
        return self._end_well(work)

    def _items(self, work: Work) -> Iterator[list[Item]]:
        """What is to run; the files of what is known go into the output on the way."""
        for some in work.found:
            for known in [known for _, known, _ in some if known is not None]:
                mine = known.job == self._pinned.job.id
                self._count(done=int(mine), skipped=int(not mine))
                self._output.add(made_by(known))
            yield [Item(unit, reason) for unit, known, reason in some if known is None]

    def _run(self, work: Work) -> None:
        pinned, tools = self._pinned, self._tools
        place = replace(
            place_of(tools, pinned.row, pinned.step, self._signals, self._writer.put),
            log=self._log,
            priority=pinned.job.priority,
            slots=tools.slots,
            slots_limit=self._limit,
        )
        try:
            self._signals.batches = batches = Batches(place)
            for results in batches.run(self._items(work), work.total - work.kept):
                for result in results:
                    self._take(result)
                if self._counts != self._told and time.monotonic() - self._written_at > WRITE_S:
                    self._write()
                if len(self._trouble) >= _GIVE_UP and not self._counts.done:
                    break
        except (Interrupted, Broken, Conflict):
            self._write()
            raise

    def _take(self, result: Result) -> None:
        item, report = result.item, result.report
        self._rows.append(_datum_row(self._pinned.job.id, result))
        self._undeclared.add(report.evidence)
        if report.state == "done":
            self._aside_rows += rows_aside(report.evidence)
            self._count(done=1)
            made = Made(item.unit.label(), entries_of(report.outputs), entries_of(report.aside))
            self._output.add(made)
        elif report.state == "recovered":
            self._count(recovered=1)
        else:
            self._trouble.add(item.unit.label(), report.state, report.error)
            self._count(failed=1)

    def _count(
        self, *, done: int = 0, skipped: int = 0, failed: int = 0, recovered: int = 0
    ) -> None:
        old = self._counts
        self._counts = replace(
            old,
            done=old.done + done,
            skipped=old.skipped + skipped,
            failed=old.failed + failed,
            recovered=old.recovered + recovered,
        )

    def _write(self) -> None:
        """Rows of datums, their outputs made durable before: they are never run again."""
        self._writer.flush()
        with self._tools.db.begin() as tx:
            self._insert(tx)
            self._tools.jobs.progress(tx, self._pinned.job.id, self._counts)
        self._written_at, self._told = time.monotonic(), self._counts

    def _insert(self, tx: Tx) -> None:
        if not self._rows:
            return
        again = [row["key"] for row in self._rows if row["state"] == "done"]
        again = [key for key in again if key in self._pinned.row.anew]
        for key in again:  # one key has one done row
            tx.execute(tables.FORGET_DONE, {"of_key": key})
        tx.execute(tables.ADD_DATUMS, self._rows)
        self._rows = []

    def _end_badly(self) -> None:
        trouble = self._trouble
        self._writer.flush()
        with self._tools.db.begin() as tx:
            self._insert(tx)
            self._tools.jobs.fail(
                tx,
                self._pinned.job.id,
                trouble.state,
                trouble.reason(self._counts.total),
                error=trouble.errors,
                counts=self._counts,
                extra=self._undeclared.extra(),
            )

    def _end_well(self, work: Work) -> Handed | None:
        pinned, tools = self._pinned, self._tools
        try:
            tree, aside = self._output.finish()
        except Conflict:
            self._write()
            raise
        sources = sources_of({name: commit.id for name, commit in pinned.inputs.items()})
        prepared = tools.repos.prepare(
            self._writer, pinned.row.output, tree, provenance=sources, rebase=True
        )
        self._writer.flush()
        base = pinned.base
        nothing = base is not None and work.kept == work.total and not work.gone
        heir: Heir | None = None
        begun: Begun | None = None
        try:
            with tools.db.begin() as tx:
                self._insert(tx)
                tools.jobs.finish(
                    tx,
                    pinned.job.id,
                    tree,
                    counts=self._counts,
                    reason=self._said(base.job if base and nothing else ""),
                    prepared=prepared,
                    extra=self._undeclared.extra(),
                )
                if aside != work.aside or (base is not None and aside != base.aside):
                    self._keep_aside(tx, aside)
                heir = self._follow(tx, pinned.job, pinned.step)
                if heir is not None:
                    begun = begin(tools, tx, heir)
        except BaseException:
            if heir is not None:
                heir.let_go()
            raise
        if heir is None or begun is None:
            return None
        return Handed(
            step=heir.step, job=heir.job, begun=begun, signals=heir.signals, alone=heir.alone
        )

    def _said(self, same_as: str) -> str:
        """What the job says at its end; '' where the reason that it ran for says it all."""
        if not self._counts.total:
            return f"{self._pinned.job.reason} {self._cut.without()}"
        if same_as:
            return f"Nothing to do: {unchanged_since(same_as)}."
        if number := self._counts.recovered:
            what = "1 datum" if number == 1 else f"{number:,} datums"
            return f"{self._pinned.job.reason} {what} failed and recovered: run again next time."
        if not self._aside_rows:
            return ""
        rows = "1 row is" if self._aside_rows == 1 else f"{self._aside_rows:,} rows are"
        place = self._pinned.step.output_repo + QUARANTINE_SUFFIX
        return f"{self._pinned.job.reason} {rows} in quarantine: {place}."

    def _take_evidence_before(self) -> None:
        with self._tools.db.read() as tx:
            for row in tx.execute(tables.EVIDENCE_OF_JOB, {"job": self._pinned.job.id}):
                self._aside_rows += rows_aside(row.evidence)
                self._undeclared.add(row.evidence)

    def _keep_aside(self, tx: Tx, tree: str) -> None:
        """Rows in quarantine have a repo of their own, so that nobody reads them by accident."""
        pinned, repos = self._pinned, self._tools.repos
        name = pinned.step.output_repo + QUARANTINE_SUFFIX
        repos.create(name, kind="output", description="Rows in quarantine.", tx=tx, exist_ok=True)
        commit = repos.open_commit(
            name,
            branch=pinned.step.output_branch,
            global_id=pinned.job.global_id,
            message=f"job {pinned.job.id}",
            tx=tx,
        )
        sources = [one.id for one in pinned.inputs.values()]
        repos.finish(commit.id, tree, provenance=sources, rebase=True, tx=tx)

    def _owner(self, path: str, other: str) -> str:
        """The datum whose output is at a path, other than that of a label."""
        self._write()  # it may be one that has just ended
        base = self._pinned.base
        for cut in [self._cut, *([base.cut] if base is not None else [])]:
            with self._tools.db.read() as tx:
                for unit, known in known_among(tx, cut.units()):
                    made = known is not None and any(one[0] == path for one in known.outputs)
                    if made and unit.label() != other:
                        return unit.label()
        return "a datum of an earlier job"

    def _log(self, pieces: Sequence[tuple[str, str]]) -> None:
        append_log(self._tools.log_dir, self._pinned.job.id, pieces)


def rows_aside(evidence: Mapping[str, object]) -> int:
    """How many rows of a datum are in quarantine."""
    found = evidence.get("quarantined", 0)
    return found if isinstance(found, int) else 0


def _datum_row(job_id: str, result: Result) -> dict[str, Any]:
    report, unit = result.report, result.item.unit
    return {
        "key": unit.key,
        "job": job_id,
        "state": report.state,
        "reason": result.item.reason,
        "inputs": unit.files(),
        "outputs": report.outputs,
        "aside": report.aside,
        "duration_us": int(report.duration_s * 1e6),
        "finished_us": clock.to_us(clock.now()),
        "error": report.error,
        "evidence": report.evidence,
    }
