"""How a kind of step that is not a function of datums (train, gate) is plugged in.

Knows nothing of experiments or models: they implement :class:`Runner` far above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import Struct

from clew.base.records import Commit, Job
from clew.db import Tx
from clew.pipelines.definitions import StepDefinition

Read = Sequence[str]
"""Kind, name and place in the code of something that was read undeclared."""


class StepRun(Protocol):
    """One run of one step, as its runner sees it. Thread-safe; lives as long as ``run``."""

    @property
    def job(self) -> Job:
        """The job, as it was when it started (``job.id``, ``job.global_id``, ``job.pipeline``)."""
        ...

    @property
    def definition(self) -> StepDefinition:
        """The step, in the version of the pipeline that this job runs."""
        ...

    @property
    def snapshot_dir(self) -> Path:
        """The project's files of ``definition.function.snapshot``, materialised, read-only."""
        ...

    @property
    def inputs(self) -> Mapping[str, Commit]:
        """Finished commit by parameter name."""
        ...

    def paths(self, parameter: str) -> list[str]:
        """Paths in that input's commit that match its glob, sorted."""
        ...

    @property
    def output(self) -> str:
        """Id of the open commit in ``definition.output_repo`` that this job will finish."""
        ...

    @property
    def parent(self) -> Commit | None:
        """Head of the output branch: what the last run left; None on the first."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Say how far it is; may be called often (written a few times a second)."""
        ...

    def log(self, text: str) -> None:
        """Append to the job's log."""
        ...

    def heard(self, reads: Iterable[Read]) -> None:
        """Keep what the user's code read undeclared (kind, name, where), with the job."""
        ...

    def cancelled(self) -> bool:
        """Whether to stop: the job was cancelled or the engine closes. Ask at least each second,
        then raise or return as soon as possible; what is returned is not used.
        """
        ...


class RunResult(Struct, frozen=True, kw_only=True):
    """What a run made.

    ``tree`` is durable in the store (flushed) and becomes the output commit, also where ``state``
    is ``refused`` (the report of a gate is kept; steps below are blocked). ``reason`` is one
    sentence for the job. ``extra`` is JSON-able and kept with the job.

    ``on_finish`` is called inside the one transaction that finishes the output commit and ends
    the job, with that transaction and the finished commit: rows that must appear with the commit
    (a model version, a verdict, an alias) are written there. It must be quick and start no
    transaction of its own; if it raises, nothing of the transaction stays and the job fails.
    """

    tree: str
    state: Literal["done", "refused"] = "done"
    reason: str = ""
    extra: dict[str, Any] = {}
    on_finish: Callable[[Tx, Commit], None] | None = None


class Runner(Protocol):
    """Runs one kind of step.

    Law: ``run`` is called on a thread of the engine, several at once for different steps, never
    twice at once for one step. It may be called again with the same ``job.id`` after a crash: it
    takes up what it left (rows found by the job id) and never repeats committed work. User code
    runs in compute workers only. A ClewError or any other exception raised ends the job as
    failed, with its message. The runner is skipped, and the output tree of the last done job used
    again, where inputs, code, environment, parameters and options are those of that job and
    nobody asked for a new run.
    """

    def run(self, run: StepRun) -> RunResult:
        """Do the work."""
        ...
