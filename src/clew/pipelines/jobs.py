"""Jobs as rows: made once per change, started, ended; each move in one transaction with its event.

Runs nothing. Knows definitions, commits and rows; how a job does its work is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import Struct, field

from clew.base import clock
from clew.base.errors import Invalid, NotFound
from clew.base.ids import ID_LENGTH, new_id, short
from clew.base.records import ENDED_STATES, Commit, Job, Node
from clew.db import Tx
from clew.lineage import Lineage
from clew.pipelines import tables
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.registry import Branch, Graph, Registry, StepName
from clew.pipelines.undeclared import records_of, tell
from clew.repos import Repos

_CODE_KEPT = 256


class Counts(Struct, frozen=True, kw_only=True):
    """Datums of a job."""

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    recovered: int = 0

    def values(self) -> dict[str, int]:
        """As columns."""
        return {
            "total": self.total,
            "done": self.done,
            "skipped": self.skipped,
            "failed": self.failed,
            "recovered": self.recovered,
        }


class Wish(Struct, frozen=True, kw_only=True):
    """A step that shall run, why, and whether also what is known must be made anew.

    ``anew`` names datums that run although they are done, with [outputs, aside] of before.
    ``priority`` is that of the step where it is None, and holds for all that follows.
    """

    step: StepName
    reason: str
    forced: bool = False
    priority: int | None = None
    anew: dict[str, Any] = field(default_factory=dict)


def job_of(row: Any) -> Job:
    """The record of a row of ``jobs``."""
    inputs = dict.fromkeys(id for id in row.inputs.values() if id)
    return Job(
        id=row.id,
        pipeline=row.pipeline,
        step=row.step,
        kind=row.kind,
        global_id=row.global_id,
        state=row.state,
        reason=row.reason,
        inputs=tuple(inputs),
        output=row.output,
        total=row.total,
        done=row.done,
        skipped=row.skipped,
        failed=row.failed,
        created_at=clock.from_us(row.created_us),
        started_at=None if row.started_us is None else clock.from_us(row.started_us),
        finished_at=None if row.finished_us is None else clock.from_us(row.finished_us),
        error=row.error,
        recovered=row.recovered,
        priority=row.priority,
        left=_left(row),
        eta_s=_eta_s(row),
        undeclared=records_of(row.extra),
    )


def _left(row: Any) -> int:
    ended = row.done + row.skipped + row.failed + row.recovered
    return 0 if row.state in ENDED_STATES else max(0, int(row.total - ended))


def _eta_s(row: Any) -> float | None:
    """How long the rest takes, at the pace of what has run since the start."""
    ran, left = row.done + row.failed + row.recovered, _left(row)
    if row.state != "running" or row.started_us is None or not ran:
        return None
    spent_us = max(0, clock.to_us(clock.now()) - row.started_us)
    return float(spent_us / 1e6 / ran * left)


def find(tx: Tx, id: str) -> Any:
    """The row of a job, by its id or the beginning of it.

    Raises:
        NotFound: ``job.unknown``.
        Invalid: ``job.ambiguous``.
    """
    if len(id) == ID_LENGTH:
        rows = list(tx.execute(tables.JOB, {"id": id}))
    else:
        bounds = {"prefix": id, "end": id + "\U0010ffff"}
        rows = list(tx.execute(tables.BY_PREFIX, bounds)) if len(id) >= 4 else []
    if not rows:
        raise NotFound("job.unknown", f"There is no job {id!r}.", hint="See them: clew jobs")
    if len(rows) > 1:
        listed = ", ".join(f"{row.id} ({row.pipeline}.{row.step})" for row in rows[:5])
        raise Invalid(
            "job.ambiguous", f"{id!r} may mean {listed}.", hint="Give more characters of the id."
        )
    return rows[0]


class Jobs:
    """Makes and moves jobs. Thread-safe; every method runs in the transaction it is given."""

    def __init__(self, repos: Repos, lineage: Lineage, registry: Registry) -> None:
        self._repos = repos
        self._lineage = lineage
        self._registry = registry
        self._told: set[tuple[str, str, str]] = set()
        self.listeners: list[Callable[[], None]] = []
        """Called after a transaction that made or ended jobs."""

    # making ---------------------------------------------------------------------------------

    def follow(self, tx: Tx, commits: Sequence[Commit], global_id: str) -> list[Job]:
        """Jobs for all that is downstream of commits that are being finished, transitively.

        One for each step and change: a step that waits already for this change gets no second
        one, nor does the output of a job make its readers run twice.
        """
        graph = self._registry.graph(tx)
        made = producers(tx, [commit.id for commit in commits])
        wishes = {
            reader: Wish(step=reader, reason=_because(commit))
            for commit in commits
            for reader in graph.readers.get((commit.repo, commit.branch), ())
        }
        if not wishes:
            return []
        own = {(commit.repo, commit.branch) for commit in commits}
        return self._make(
            tx, graph, wishes.values(), global_id, own, again=any(c.id not in made for c in commits)
        )

    def make(self, tx: Tx, wishes: Iterable[Wish], global_id: str) -> list[Job]:
        """Jobs for some steps and for all that is downstream of them."""
        return self._make(tx, self._registry.graph(tx), wishes, global_id, set(), again=True)

    def _make(
        self,
        tx: Tx,
        graph: Graph,
        wishes: Iterable[Wish],
        global_id: str,
        provided: set[Branch],
        *,
        again: bool,
    ) -> list[Job]:
        """``again``: also steps whose job for this change has started or ended."""
        rows = list(tx.execute(tables.STEPS_OF_CHANGE, {"global_id": global_id}))
        waiting = {(row.pipeline, row.step) for row in rows if row.state == "waiting"}
        taken = waiting if again else {(row.pipeline, row.step) for row in rows}
        queue, made = [wish for wish in wishes if wish.step not in taken], list[Job]()
        pending = self.pending(tx, graph) if queue else set()
        pauses = tx.execute(tables.PAUSED).all() if queue else ()
        paused = {(row.pipeline, row.step) for row in pauses}
        while queue:
            wish = queue.pop(0)
            step = graph.step(wish.step)
            if step is None or wish.step in taken:
                continue
            if not self._has_inputs(tx, step, provided | pending):
                continue
            taken.add(wish.step)
            held = not paused.isdisjoint({wish.step, (wish.step[0], "")})
            made.append(self._insert(tx, wish, step, global_id, held=held))
            output = (step.output_repo, step.output_branch)
            provided.add(output)
            queue += [
                Wish(step=reader, reason=f"{step.output_repo} changes.", priority=wish.priority)
                for reader in graph.readers.get(output, ())
            ]
        return made

    @staticmethod
    def pending(tx: Tx, graph: Graph) -> set[Branch]:
        """Branches that a job which has not ended will write."""
        steps = [graph.step((row.pipeline, row.step)) for row in tx.execute(tables.UNENDED)]
        return {(step.output_repo, step.output_branch) for step in steps if step is not None}

    def _has_inputs(self, tx: Tx, step: StepDefinition, provided: set[Branch]) -> bool:
        return step.can_run(
            lambda one: (
                (one.repo, one.branch) in provided
                or self._repos.head(one.repo, one.branch, tx=tx) is not None
            )
        )

    def _insert(
        self, tx: Tx, wish: Wish, step: StepDefinition, global_id: str, *, held: bool
    ) -> Job:
        job_id = new_id()
        pipeline, name = wish.step
        output = self._repos.open_commit(
            step.output_repo,
            branch=step.output_branch,
            global_id=global_id,
            message=f"{name}, job {short(job_id)}",
            author=pipeline,
            tx=tx,
        )
        row = {
            "id": job_id,
            "pipeline": pipeline,
            "step": name,
            "kind": step.kind,
            "global_id": global_id,
            "state": "paused" if held else "waiting",
            "reason": wish.reason,
            "forced": int(wish.forced),
            "priority": step.policy.priority if wish.priority is None else wish.priority,
            "cancelled": 0,
            "pausing": 0,
            "anew": wish.anew,
            "output": output.id,
            "inputs": {},
            "epoch": "",
            "key": "",
            **Counts().values(),
            "created_us": clock.to_us(clock.now()),
            "error": "",
            "extra": {},
        }
        made = tx.execute(tables.ADD_JOB, row).one()
        self._lineage.add(tx, _job_node(made))
        self._emit(tx, "job.created", made)
        return job_of(made)

    # moving ---------------------------------------------------------------------------------

    def start(
        self,
        tx: Tx,
        row: Any,
        *,
        version: int,
        inputs: Mapping[str, str],
        base: str | None,
        epoch: str,
        step: StepDefinition,
    ) -> Job:
        """Pin what the job reads, and say that it runs."""
        self._tell_lineage(tx, row, [id for id in inputs.values() if id], step)
        started = self._move(
            tx,
            row.id,
            "job.started",
            state="running",
            version=version,
            inputs=dict(inputs),
            base=base,
            epoch=epoch,
            started_us=clock.to_us(clock.now()),
        )
        return job_of(started)

    def note(self, tx: Tx, job_id: str, extra: Mapping[str, Any]) -> None:
        """Keep something with a job that has not ended; nobody is told."""
        self._update(tx, job_id, extra=dict(extra))

    def progress(self, tx: Tx, job_id: str, counts: Counts) -> None:
        """Say how far a job is."""
        self._move(tx, job_id, "job.progress", **counts.values())

    def finish(
        self,
        tx: Tx,
        job_id: str,
        tree: str,
        *,
        counts: Counts,
        state: str = "done",
        reason: str = "",
        key: str = "",
        extra: Mapping[str, Any] | None = None,
        then: Callable[[Tx, Commit], None] | None = None,
        prepared: tuple[Commit, str] | None = None,
    ) -> Commit:
        """End a job with an output: the commit, the row and the event, together."""
        row = tx.execute(tables.JOB, {"id": job_id}).one()
        sources = sources_of(row.inputs)
        values = {"reason": reason} if reason else {}
        self._end(tx, row, state, key=key, extra=dict(extra or {}), **counts.values(), **values)
        commit = self._repos.finish(
            row.output, tree, provenance=sources, rebase=True, prepared=prepared, tx=tx
        )
        self._lineage.link(tx, commit.id, [(row.id, "made")])
        if then is not None:
            then(tx, commit)
        return commit

    def fail(
        self,
        tx: Tx,
        job_id: str,
        state: str,
        reason: str,
        *,
        error: str = "",
        counts: Counts | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """End a job without an output: failed, refused, blocked, cancelled or superseded.

        Idempotent.
        """
        row = tx.execute(tables.JOB, {"id": job_id}).one()
        if row.state in ENDED_STATES:
            return
        values: dict[str, Any] = counts.values() if counts else {}
        if extra:
            values["extra"] = dict(extra)
        self._end(tx, row, state, reason=reason, error=error, **values)
        self._repos.abort(row.output, f"{row.step} {state}: {reason}", tx=tx)

    def _end(self, tx: Tx, row: Any, state: str, **values: Any) -> None:
        ended_us = clock.to_us(clock.now())
        tell(tx, self._lineage, _job_node(row), records_of(values.get("extra", row.extra)))
        self._move(tx, row.id, "job.ended", state=state, finished_us=ended_us, **values)

    def hold(self, tx: Tx, row: Any) -> None:
        """Pause a job: one that waits keeps its place, one that runs stops a little later."""
        if row.state == "waiting":
            self._move(tx, row.id, "job.paused", state="paused")
        elif row.state == "running":
            self._update(tx, row.id, pausing=1)

    def held(self, tx: Tx, job_id: str) -> None:
        """A job that ran has stopped, and is paused now."""
        self._move(tx, job_id, "job.paused", state="paused", pausing=0, started_us=None)

    def resume(self, tx: Tx, row: Any) -> None:
        """Let a paused job wait for its turn again."""
        if row.state == "paused":
            self._move(tx, row.id, "job.resumed", state="waiting")
        elif row.pausing:
            self._update(tx, row.id, pausing=0)

    def _update(self, tx: Tx, job_id: str, **values: Any) -> Any:
        return tx.execute(tables.UPDATE_JOB, {"job_id": job_id, **values}).one()

    def _move(self, tx: Tx, job_id: str, event: str, **values: Any) -> Any:
        """Change a job and tell of it; the row as it is now."""
        row = self._update(tx, job_id, **values)
        self._emit(tx, event, row)
        return row

    def _emit(self, tx: Tx, event: str, row: Any) -> None:
        if event in {"job.created", "job.ended", "job.resumed", "job.paused"}:
            for listener in self.listeners:
                tx.after_commit(listener)
        tx.emit(
            event,
            subject=row.id,
            global_id=row.global_id,
            data={
                "pipeline": row.pipeline,
                "step": row.step,
                "kind": row.kind,
                "state": row.state,
                "reason": row.reason,
                "total": row.total,
                "done": row.done,
                "skipped": row.skipped,
                "failed": row.failed,
                "recovered": row.recovered,
            },
        )

    def _tell_lineage(self, tx: Tx, row: Any, inputs: Sequence[str], step: StepDefinition) -> None:
        code = Node(
            kind="code",
            id=step.fingerprint,
            title=f"{step.function.file}:{step.function.name}",
            global_id=row.global_id,
            detail={"snapshot": step.function.snapshot, "parts": sorted(step.parts)},
        )
        told = (code.id, code.title, step.function.snapshot)
        if told not in self._told:
            self._lineage.add(tx, code)
            tx.after_commit(lambda: self._remember(told))
        self._lineage.link(tx, row.id, [*((id, "read") for id in inputs), (code.id, "ran")])

    def _remember(self, told: tuple[str, str, str]) -> None:
        """Lineage knows of some code: other jobs that run it need not tell it again."""
        if len(self._told) >= _CODE_KEPT:
            self._told.clear()
        self._told.add(told)


def near_step(graph: Graph, name: StepName) -> NotFound:
    """The error for a step that a pipeline does not have."""
    names = [step.name for step in graph.pipelines[name[0]].steps]
    near = get_close_matches(name[1], names, 3, 0.5)
    return NotFound(
        "step.unknown",
        f"Pipeline {name[0]} has no step {name[1]!r}.",
        hint=f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(names)}.",
    )


def sources_of(inputs: Mapping[str, str]) -> list[str]:
    """Ids of the commits that a job reads, each once."""
    return list(dict.fromkeys(id for id in inputs.values() if id))


def _because(commit: Commit) -> str:
    return f"{commit.repo} changed: {short(commit.id)}."


def producers(tx: Tx, commits: Sequence[str]) -> dict[str, Any]:
    """Id, step, state and reason of jobs, by output commit."""
    return {row.output: row for row in tx.execute(tables.PRODUCERS, {"outputs": list(commits)})}


def _job_node(row: Any) -> Node:
    return Node(
        kind="job",
        id=row.id,
        title=f"{row.pipeline}.{row.step}",
        global_id=row.global_id,
        detail={"kind": row.kind, "reason": row.reason},
    )
