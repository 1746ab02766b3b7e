"""The door's deep thing: register pipelines, follow commits, run jobs, say what happened and why.

Knows how its parts fit together; each part knows its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy import select

from clew.base.errors import Conflict
from clew.base.ids import new_id
from clew.base.records import (
    ENDED_STATES,
    Commit,
    Datum,
    Job,
    JobCount,
    LogPage,
    PipelineInfo,
    Plan,
)
from clew.base.records.knowing import Cause
from clew.base.tracking import Tracking
from clew.compute import Compute
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.pipelines import registry, tables
from clew.pipelines.accepting import carried
from clew.pipelines.branching import on_branch
from clew.pipelines.broken import broken_now
from clew.pipelines.causes import causes_of
from clew.pipelines.controlling import Control
from clew.pipelines.datums import key_range
from clew.pipelines.definitions import PipelineDefinition, from_builtins
from clew.pipelines.engine import MAX_JOBS, MOVES_NOTHING, Engine
from clew.pipelines.jobs import Jobs, Wish, find, job_of, near_step
from clew.pipelines.knowing import Knowing
from clew.pipelines.logs import drop_logs, read_log, whole_log
from clew.pipelines.pinning import Tools, cut_of
from clew.pipelines.planning import plan_of
from clew.pipelines.programs import python_of
from clew.pipelines.registering import check_outputs, make_repos, to_accept, why_anew
from clew.pipelines.registry import Users
from clew.pipelines.renewing import renewed
from clew.pipelines.roots import roots
from clew.pipelines.runner import Runner
from clew.pipelines.showing import datum_of, live_datum, skipped_datum
from clew.pipelines.supposing import with_packages
from clew.pipelines.ticking import Ticks
from clew.pipelines.turns import Slots
from clew.pipelines.work import known_among
from clew.places import Environments
from clew.repos import Repos
from clew.store import Store

JobList = list[Job]
DatumList = list[Datum]
"""Names for types: ``list`` is a method of the class below."""


class Pipelines:
    """Pipelines of a workspace: definitions, jobs and datums. Thread-safe.

    It listens to ``repos``: a finished commit makes jobs for all that is downstream in the same
    transaction. Jobs run while somebody calls :meth:`run_until_idle` (or :meth:`tick`), in one
    process at a time.

    ``runners`` run the kinds of steps that are not functions of datums. Of the ``remembered`` kinds
    any earlier result of the same key is used again; of the others only the last one, because what
    they made also depends on what came between (a gate on the champion).
    """

    moves_nothing = MOVES_NOTHING
    """Kinds of events after which :meth:`tick` finds nothing that it did not find before."""

    def __init__(
        self,
        db: Database,
        repos: Repos,
        store: Store,
        lineage: Lineage,
        compute: Compute,
        code_dir: Callable[[str], Path],
        runners: Mapping[str, Runner] | None = None,
        *,
        remembered: Collection[str] = (),
        log_dir: Path,
        environments: Environments | None = None,
        max_jobs: int = MAX_JOBS,
        tracking: Tracking | None = None,
    ) -> None:
        self._db = db
        self._repos = repos
        self._registry = registry.Registry(repos)
        self._jobs = Jobs(repos, lineage, self._registry)
        self._log_dir = log_dir
        self._tools = Tools(
            db=db,
            repos=repos,
            store=store,
            jobs=self._jobs,
            registry=self._registry,
            compute=compute,
            code_dir=code_dir,
            runners=runners or {},
            remembered=frozenset(remembered),
            log_dir=log_dir,
            environments=environments,
            slots=Slots(),
            tracking=tracking or Tracking(),
        )
        self._engine = Engine(self._tools, max_jobs=max_jobs)
        self.ticks = Ticks(db, repos, self._registry)
        self.control = Control(self._tools, self._engine)
        self.knowing = Knowing(self._tools, repos)
        """Results held against the code that made them."""
        repos.listeners.append(self.propagate)

    # pipelines ------------------------------------------------------------------------------

    def register(
        self,
        definition: PipelineDefinition,
        *,
        global_id: str,
        author: str = "",
        tx: Tx | None = None,
        carry: bool = True,
    ) -> tuple[PipelineInfo, bool]:
        """Make a definition the current version of its pipeline; whether it was another before.

        Repos that are missing are made. Steps that are new or whose meaning differs get jobs under
        ``global_id``, with all that is downstream, as far as their inputs have data. Jobs that
        wait run with the new version; those of steps that are gone are cancelled.

        Raises:
            Invalid: ``pipeline.cycle``, ``pipeline.duplicate``, ``pipeline.output``.
            NotFound: ``repo.unknown`` for an input that nothing of the pipeline makes.
        """
        definition.in_order()  # says what is wrong with it
        with self._writing(tx) as tx:
            row = registry.current(tx, definition.name)
            old = None if row is None else from_builtins(row.definition)
            definition = carried(definition, old) if carry else definition
            if row is not None and row.digest == definition.digest():
                return registry.info(row), False
            check_outputs(self._registry.graph(tx), definition)
            make_repos(self._repos, tx, definition)
            version = 1 if row is None else row.version + 1
            self._registry.add(tx, definition, version=version, global_id=global_id, author=author)
            wishes = [
                Wish(step=(definition.name, step.name), reason=reason)
                for step in definition.in_order()
                if (reason := why_anew(step, old.step(step.name) if old else None))
            ]
            self._jobs.make(tx, wishes, global_id)
            data = {"version": version, "snapshot": definition.snapshot, "file": definition.file}
            tx.emit("pipeline.applied", subject=definition.name, global_id=global_id, data=data)
            return registry.info(registry.current(tx, definition.name)), True

    def accept(
        self,
        pipeline: str,
        step: str | None = None,
        *,
        reason: str,
        by: str = "",
        environment: bool = False,
        undo: bool = False,
    ) -> JobList:
        """Say that the code of now gives what that of the last good job gave: its results stay.

        ``environment``: so do the packages of now. ``undo`` takes it back. The jobs that follow.

        Raises:
            NotFound: ``pipeline.unknown``, ``step.unknown``.
            Conflict: ``accept.nothing`` where nothing differs, or nothing was accepted.
        """
        global_id = new_id()
        with self._db.begin() as tx:
            now, changed = to_accept(
                tx,
                self._registry,
                pipeline,
                step,
                environment=environment,
                by=by,
                reason=reason,
                undo=undo,
            )
            steps = tuple(changed.get(one.name, one) for one in now.steps)
            self.register(
                replace(now, steps=steps), global_id=global_id, author=by, tx=tx, carry=False
            )
            for name in changed:
                tx.emit(
                    "step.accepted",
                    subject=f"{pipeline}/{name}",
                    global_id=global_id,
                    data={"by": by, "reason": reason, "undone": undo, "environment": environment},
                )
        return self.of_change(global_id)

    def causes(self, job_id: str) -> Sequence[Cause]:
        """What differs between a job and the good one of its step before."""
        return causes_of(self._tools, job_id)

    def plan(
        self,
        definition: PipelineDefinition,
        changes: Mapping[tuple[str, str], str] | None = None,
        *,
        packages: Mapping[str, str] | None = None,
        store: Store | None = None,
    ) -> Plan:
        """What :meth:`register` would run, skip and delete, and why. Nothing is written.

        ``changes`` maps (repo, branch) to the trees that these would have (a branch '' is any),
        found in ``store``; ``packages`` has the versions of distributions that would be installed.

        Raises:
            Invalid: ``pipeline.cycle``, ``pipeline.duplicate``, ``plan.package``.
        """
        definition, notes = with_packages(definition, packages or {})
        tools = self._tools if store is None else replace(self._tools, store=store)
        with self._db.read() as tx:
            plan = plan_of(tools, tx, definition, changes or {})
        return replace(plan, notes=(*plan.notes, *notes))

    on_branch = staticmethod(on_branch)

    def get(self, name: str) -> PipelineInfo:
        """A pipeline as it is now. Raises NotFound ``pipeline.unknown``."""
        with self._db.read() as tx:
            row = registry.current(tx, name)
            if row is None:
                raise registry.unknown(tx, name)
            return registry.info(row)

    def definition(self, name: str, version: int | None = None) -> PipelineDefinition:
        """A pipeline in its current or another version. Raises NotFound ``pipeline.unknown``."""
        with self._db.read() as tx:
            row = registry.current(tx, name)
            if row is None or (version is not None and not 0 < version <= row.version):
                raise registry.unknown(tx, name)
            return self._registry.definition(tx, name, version or row.version)

    def roots(self, tx: Tx) -> Iterator[str]:
        """What of the store rows of this room name: it must not be collected."""
        return roots(tx)

    def environments(self) -> set[tuple[str, str]]:
        """(lock, python) of every step in the present versions with an environment of its own."""
        with self._db.read() as tx:
            graph = self._registry.graph(tx)
        return {
            (step.runtime.lock, python_of(step))
            for pipeline in graph.pipelines.values()
            for step in pipeline.steps
            if step.runtime.own_environment
        }

    def list(self) -> list[PipelineInfo]:
        """All pipelines, by name."""
        with self._db.read() as tx:
            names = [row.name for row in tx.execute(tables.VERSIONS)]
            return [registry.info(registry.current(tx, name)) for name in names]

    def users(self, repo: str) -> Users:
        """Steps (``pipeline/step``) that read and that write a repo, each with the branch."""
        with self._db.read() as tx:
            return registry.users(self._registry.graph(tx), repo)

    # jobs -----------------------------------------------------------------------------------

    def propagate(self, tx: Tx, commits: Sequence[Commit], global_id: str) -> None:
        """Make jobs for all that is downstream of commits that ``tx`` finishes.

        One for each step and change, with its output commit open from now on, so that the whole
        change can be seen before any of it has run. A listener of repos.
        """
        self._jobs.follow(tx, commits, global_id)

    def request(
        self,
        pipeline: str,
        step: str | None = None,
        *,
        global_id: str | None = None,
        reason: str = "",
        priority: int | None = None,
        tx: Tx | None = None,
    ) -> JobList:
        """Run a step anew (every step without one) although nothing changed, and what follows.

        The jobs, those asked for first. Those downstream run as far as their input differs.
        ``priority`` holds for all of them, in place of that of their steps.

        Raises:
            NotFound: ``pipeline.unknown``, ``step.unknown``.
            Conflict: ``step.no_input`` where an input has no data yet.
        """
        with self._writing(tx) as tx:
            graph = self._registry.graph(tx)
            if pipeline not in graph.pipelines:
                raise registry.unknown(tx, pipeline)
            if step is not None and graph.step((pipeline, step)) is None:
                raise near_step(graph, (pipeline, step))
            steps = [one.name for one in graph.pipelines[pipeline].in_order()]
            wishes = [
                Wish(
                    step=(pipeline, name),
                    reason=reason or "It was asked for.",
                    forced=True,
                    priority=priority,
                )
                for name in ([step] if step else steps)
            ]
            made = self._jobs.make(tx, wishes, global_id or new_id())
            if not made:
                raise Conflict(
                    "step.no_input",
                    f"{pipeline}.{step or 'all steps'} cannot run: an input has no data yet.",
                    hint="Commit data to the sources of the pipeline: clew put REPO FILE",
                )
            return made

    def cancel(self, job_id: str) -> Job:
        """Stop a job that has not ended; what is downstream of it is blocked.

        A running one ends a little later. Raises NotFound ``job.unknown``, Conflict ``job.ended``.
        """
        with self._db.begin() as tx:
            row = find(tx, job_id)
            if row.state in ENDED_STATES:
                raise Conflict("job.ended", f"Job {row.id} is {row.state} already.")
            if row.state != "running":
                self._jobs.fail(tx, row.id, "cancelled", "It was cancelled.")
            else:
                tx.execute(tables.UPDATE_JOB, {"job_id": row.id, "cancelled": 1})
            row = find(tx, row.id)
        self._engine.cancel(row.id)
        return job_of(row)

    def job(self, job_id: str) -> Job:
        """A job, by its id or the beginning of it. Raises NotFound ``job.unknown``."""
        with self._db.read() as tx:
            return job_of(find(tx, job_id))

    def jobs(
        self,
        *,
        pipeline: str | None = None,
        step: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> JobList:
        """Jobs, newest first."""
        query = select(tables.jobs).order_by(tables.jobs.c.number.desc()).limit(limit)
        for name, value in (("pipeline", pipeline), ("step", step), ("state", state)):
            if value is not None:
                query = query.where(tables.jobs.c[name] == value)
        with self._db.read() as tx:
            return [job_of(row) for row in tx.execute(query)]

    def broken(self) -> tuple[JobList, int]:
        """What is broken now, a job for each such step, and how many bad jobs there are besides."""
        with self._db.read() as tx:
            return broken_now(tx, self._registry.graph(tx))

    def counts(self) -> Sequence[JobCount]:
        """How many jobs each step has had in each state, by pipeline and step; counted in SQL."""
        with self._db.read() as tx:
            return [
                JobCount(
                    pipeline=row.pipeline,
                    step=row.step,
                    state=row.state,
                    jobs=int(row.jobs),
                    done=int(row.done),
                    skipped=int(row.skipped),
                    failed=int(row.failed),
                )
                for row in tx.execute(tables.COUNTS)
            ]

    def of_change(self, global_id: str) -> JobList:
        """All jobs of one change, oldest first."""
        with self._db.read() as tx:
            return [job_of(row) for row in tx.execute(tables.OF_CHANGE, {"global_id": global_id})]

    def extra(self, job_id: str) -> dict[str, Any]:
        """What the runner of a job left with it."""
        with self._db.read() as tx:
            return dict(find(tx, job_id).extra)

    def log(self, job_id: str) -> str:
        """What the user's code printed in a job; of a long log, the end."""
        return whole_log(self._log_dir, self.job(job_id).id)

    def log_page(
        self, job_id: str, *, datum: str = "", after: int = 0, limit: int = 1000
    ) -> LogPage:
        """A part of a job's log (of one datum, by the beginning of its id), from a place on.

        Written while datums run, in order; what a worker printed before it died is there.
        """
        job = self.job(job_id)  # before the log: once it has ended nothing more is written
        entries, at = read_log(self._log_dir, job.id, after=after, datum=datum, limit=limit)
        ended = job.state in ENDED_STATES and len(entries) < limit
        return LogPage(entries=tuple(entries), next=at, ended=ended)

    def drop_logs(self, before: datetime) -> int:
        """Remove logs of jobs that have ended and said nothing since a time; of how many jobs."""
        with self._db.read() as tx:
            running = set(tx.execute(tables.UNENDED_IDS).scalars())
        return drop_logs(self._log_dir, before, running)

    # datums ---------------------------------------------------------------------------------

    def datums(self, job_id: str, *, limit: int = 1000) -> DatumList:
        """Datums of a job: those that run now (in this process), those that ran, then those that
        were skipped, each with the reason.

        Skipped ones are found from the inputs of the job; there are none where it was blocked.
        """
        with self._db.read() as tx:
            row = find(tx, job_id)
            bounds = {"job": row.id, "limit": limit}
            ran = [datum_of(found) for found in tx.execute(tables.OF_JOB, bounds)]
        ran.sort(key=lambda datum: datum.inputs)
        signals = self._engine.signals(row.id)
        ran = [*(live_datum(row, one) for one in (signals.live() if signals else ())), *ran]
        if len(ran) >= limit or row.kind != "step":
            return ran[:limit]
        return ran + list(islice(self._skipped(row), limit - len(ran)))

    def find_datums(self, prefix: str) -> DatumList:
        """Datums that ran, by the beginning of their id, at most 20."""
        bounds = key_range(prefix)
        if bounds is None:
            return []
        with self._db.read() as tx:
            rows = list(tx.execute(tables.DATUMS_BY_RANGE, {"low": bounds[0], "high": bounds[1]}))
            return [datum_of(row) for row in rows]

    def _skipped(self, row: Any) -> Iterator[Datum]:
        with self._db.read() as tx:
            cut = cut_of(self._tools, row, tx)
            for unit, known in known_among(tx, cut.units() if cut else ()):
                if known is not None and known.job != row.id:
                    yield skipped_datum(row, unit, known)

    # running --------------------------------------------------------------------------------

    def tick(self) -> bool:
        """Start jobs that may start and end those that cannot; whether anything moved.

        Never waits for a job. Raises what kept an earlier job's end from being written.
        """
        return self._engine.tick()

    @property
    def busy(self) -> bool:
        """Whether a job runs in this process."""
        return self._engine.busy

    def run_until_idle(self, stop: threading.Event | None = None, timeout_s: float = 0) -> bool:
        """Work until nothing is left that can run.

        False after ``timeout_s`` seconds (0: never; jobs go on), or on ``stop`` (running jobs are
        taken back to wait; their finished datums are kept).
        """
        return self._engine.run_until_idle(stop, timeout_s)

    def recover(self) -> int:
        """Let jobs of a dead engine wait again; how many. The first act of an engine.

        A pipeline whose libraries have other versions than when it was applied gets a new version
        of its own first: what depends on them runs anew.
        """
        self._renew()
        return self._engine.recover()

    def interrupt(self) -> None:
        """Take running jobs back to wait; their finished datums are kept."""
        self._engine.interrupt()

    def close(self, grace_s: float = 0.0) -> None:
        """Take running jobs back to wait and start no more.

        Datums that run may end within ``grace_s``; no other begins.
        """
        self._engine.close(grace_s)

    # ----------------------------------------------------------------------------------------

    def _renew(self) -> None:
        with self._db.read() as tx:
            found = [from_builtins(row.definition) for row in tx.execute(tables.CURRENT_OF_ALL)]
        for definition in found:
            if (now := renewed(definition)) is not definition:
                self.register(now, global_id=new_id(), author="clew")

    def _writing(self, tx: Tx | None) -> AbstractContextManager[Tx]:
        return self._db.begin() if tx is None else nullcontext(tx)
