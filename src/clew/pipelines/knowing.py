"""What may be asked of results that are there: are they still what the code gives?

Knows rows and how datums run again; what differs in the files is for whoever has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.records import Commit
from clew.base.records.knowing import Cause
from clew.db import Tx
from clew.pipelines import registry, tables
from clew.pipelines.batches import Broken, Interrupted
from clew.pipelines.causes import between
from clew.pipelines.cutting import matching
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.environment import changed_packages, environment_now
from clew.pipelines.jobs import find, near_step
from clew.pipelines.pinning import Tools, cut_of
from clew.pipelines.rerunning import Again, Repeated, Sample, repeat, run_again, sample_of
from clew.repos import Repos


class Knowing:
    """Runs datums once more, and keeps nothing of it. Thread-safe."""

    def __init__(self, tools: Tools, repos: Repos) -> None:
        self._tools = tools
        self._repos = repos

    def samples(
        self, pipeline: str, step: str | None, size: int, seed: int
    ) -> list[tuple[str, Sample]]:
        """Known datums of a step (of every step without one), drawn by ``seed``.

        Raises:
            NotFound: ``pipeline.unknown``, ``step.unknown``.
            Invalid: ``verify.kind`` for a step that is no function of datums.
            Conflict: ``verify.nothing`` where nothing has been made yet.
        """
        with self._tools.db.read() as tx:
            graph = self._tools.registry.graph(tx)
            if pipeline not in graph.pipelines:
                raise registry.unknown(tx, pipeline)
        found = graph.step((pipeline, step)) if step else None
        if step is not None and found is None:
            raise near_step(graph, (pipeline, step))
        if found is not None and found.kind != "step":
            raise Invalid(
                "verify.kind",
                f"{pipeline}.{step} is a {found.kind} step, which has no datums.",
                hint="Repeat its job: clew reproduce JOB",
            )
        names = [one.name for one in graph.pipelines[pipeline].in_order() if one.kind == "step"]
        samples = [
            (name, sample)
            for name in ([step] if step else names)
            if (sample := sample_of(self._tools, pipeline, name, size, seed)) is not None
        ]
        if not any(sample.chosen for _, sample in samples):
            raise Conflict(
                "verify.nothing",
                f"{pipeline}{f'.{step}' if step else ''} has no results to be verified yet.",
                hint="Run it first: commit data, then clew wait",
            )
        return samples

    def again(self, sample: Sample) -> Iterator[Again]:
        """The datums of a sample, run once more. Raises Invalid ``verify.broken``."""
        return _told(run_again(self._tools, sample.row, sample.cut, sample.chosen), "verify.broken")

    def say(self, tx: Tx, kind: str, subject: str, row: Any, data: Mapping[str, Any]) -> None:
        """An event about a job or one of its datums."""
        where = {"pipeline": row.pipeline, "step": row.step, **data}
        tx.emit(kind, subject=subject, global_id=row.global_id, data=where)

    def job(self, ref: str, commit_of: Callable[[str], Commit]) -> Any:
        """The row of a job that ended well, by its id or by the commit that it made.

        Raises:
            NotFound: ``job.unknown``, or what ``commit_of`` raises.
            Invalid: ``reproduce.source`` for a commit that nobody's code made.
            Conflict: ``reproduce.state`` for a job that did not end in done.
        """
        with self._tools.db.read() as tx:
            row = self._row(tx, ref, commit_of)
        if row.state != "done":
            raise Conflict(
                "reproduce.state",
                f"Job {row.id} is {row.state}; only one that is done has a result to compare with.",
                hint="Run it again instead: clew retry JOB",
            )
        return row

    def _row(self, tx: Tx, ref: str, commit_of: Callable[[str], Commit]) -> Any:
        if "@" not in ref and "/" not in ref:
            try:
                return find(tx, ref)
            except NotFound:
                pass  # it may be the id of a commit
        commit = commit_of(ref)
        row = tx.execute(tables.BY_OUTPUT, {"output": commit.id}).first()
        if row is None:
            raise Invalid(
                "reproduce.source",
                f"The commit {commit.id} of {commit.repo} was not made by a step.",
                hint="Name a job, or a commit of a step's output.",
            )
        return row

    def made_by(self, job_id: str) -> tuple[StepDefinition, dict[str, str]] | None:
        """The step as a job ran it, and the commits that it read, by input; None before it began.

        Of a job of a plugged kind that only repeated another, that one's.
        """
        with self._tools.db.read() as tx:
            row = tx.execute(tables.JOB, {"id": job_id}).first()
        if row is None or row.version is None:
            return None
        row = self.origin(row)
        return self.definition(row), {name: id for name, id in row.inputs.items() if id}

    def between(self, old_job: str, new_job: str) -> list[Cause] | None:
        """What is different in a job from another; None where that is not known any more."""
        return between(self._tools, old_job, new_job)

    def origin(self, row: Any) -> Any:
        """The job that did the work which another of a plugged kind only repeated; else itself."""
        if row.kind == "step" or not row.key:
            return row
        with self._tools.db.read() as tx:
            asked = {"step": row.step, "key": row.key}
            return tx.execute(tables.FIRST_DONE_OF_KEY, asked).first() or row

    def definition(self, row: Any) -> StepDefinition:
        """The step as it was when a job ran it."""
        with self._tools.db.read() as tx:
            step = self._tools.registry.definition(tx, row.pipeline, row.version).step(row.step)
        assert step is not None
        return step

    def paths(self, row: Any, parameter: str, commit: Commit) -> list[str]:
        """Paths of an input's commit that match its glob, sorted."""
        step = self.definition(row)
        one = next(one for one in step.inputs if one.name == parameter)
        return [entry.path for entry in matching(self._tools.store, one, commit.tree)]

    def repeat(self, row: Any) -> Repeated:
        """All datums of a job once more, by the code of then.

        Raises:
            Conflict: ``reproduce.gone`` where what it read is not there any more.
            Invalid: ``reproduce.broken`` where the code of then cannot be imported now.
        """
        cut = cut_of(self._tools, row)
        if cut is None:
            raise Conflict(
                "reproduce.gone",
                f"What job {row.id} read was squashed or dropped since.",
                hint="Reproduce a job whose inputs are still there: clew jobs",
            )
        try:
            return repeat(self._tools, row, cut)
        except (Broken, Interrupted) as error:
            raise _broken("reproduce.broken", error) from error

    def packages(self, row: Any) -> tuple[str, ...]:
        """Which packages differ from those that a job ran with."""
        step = self.definition(row)
        if step.runtime.own_environment:
            return ()  # it has an environment of its own, which is made again as it was
        now = environment_now(step.packages)
        return tuple(changed_packages(step.packages, now.packages))


def _told(found: Iterator[Again], code: str) -> Iterator[Again]:
    try:
        yield from found
    except (Broken, Interrupted) as error:
        raise _broken(code, error) from error


def _broken(code: str, error: Exception) -> Invalid:
    return Invalid(
        code,
        f"The code cannot be run again: {str(error) or 'it was interrupted'}",
        hint="See what the job itself says: clew job JOB --log",
    )
