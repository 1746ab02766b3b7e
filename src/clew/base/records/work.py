"""Records of work: pipelines, jobs, datums, plans, experiments and trials.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field

from clew.base.records.searching import SearchPreview

JOB_STATES = (
    "waiting",
    "running",
    "paused",
    "done",
    "failed",
    "refused",
    "blocked",
    "cancelled",
    "superseded",
)
"""waiting → running → done | failed | refused | cancelled; blocked: something above did not end
in done. ``refused`` means that data or a model broke a rule, ``failed`` that code did. ``paused``
holds its place until somebody resumes it; ``superseded``: a newer change took its place."""

ENDED_STATES = frozenset({"done", "failed", "refused", "blocked", "cancelled", "superseded"})


class StepInfo(Struct, frozen=True, kw_only=True):
    """A node of a pipeline. ``kind``: source, step, train or gate."""

    name: str
    kind: str
    repo: str
    inputs: tuple[str, ...]
    """Names of the repos that it reads."""
    per: str = "repo"
    function: str = ""
    fingerprint: str = ""


class ParameterInfo(Struct, frozen=True, kw_only=True):
    """A parameter of a pipeline, with the value that its current version has."""

    name: str
    type: str
    value: Any = None
    choices: tuple[Any, ...] = ()
    help: str = ""


class PipelineInfo(Struct, frozen=True, kw_only=True):
    """A pipeline as it is registered now; ``version`` counts from 1 and grows with each change."""

    name: str
    version: int
    snapshot: str
    file: str
    steps: tuple[StepInfo, ...]
    endpoints: tuple[str, ...]
    created_at: datetime
    global_id: str
    parameters: tuple[ParameterInfo, ...] = ()


class UndeclaredRead(Struct, frozen=True, kw_only=True):
    """Something that a step's code read although its key does not depend on it.

    ``kind``: file, env, clock, random, network or program. ``where`` is the line of the user's code
    (``a.py:12``; '' where it is not known), ``datums`` how many of a job did so.
    """

    kind: str
    name: str
    where: str = ""
    datums: int = 1

    @property
    def told(self) -> str:
        """In words."""
        place = f" ({self.where})" if self.where else ""
        verb = {"env": "the variable ", "clock": "the clock: ", "random": "randomness: "}
        before = verb.get(
            self.kind, {"program": "a program: ", "network": "the network: "}.get(self.kind, "")
        )
        return f"{before}{self.name}{place}"


class Job(Struct, frozen=True, kw_only=True):
    """One run of one step for one change. ``counts`` are datums."""

    id: str
    pipeline: str
    step: str
    kind: str
    global_id: str
    state: str
    reason: str
    """Why it runs, or why it ended as it did; one sentence."""
    inputs: tuple[str, ...]
    """Ids of the commits that it reads."""
    output: str | None
    """Id of the commit that it writes."""
    total: int
    done: int
    skipped: int
    failed: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str = ""
    recovered: int = 0
    """Datums that failed, and whose ``on_error`` took care of it: they run again in the next."""
    priority: int = 0
    left: int = 0
    """Datums that are still to run; 0 once it has ended."""
    eta_s: float | None = None
    """Seconds until it ends, if the rest takes as long as what has run; None where none has."""
    undeclared: tuple[UndeclaredRead, ...] = ()
    """What its code read although no key depends on it."""


class Datum(Struct, frozen=True, kw_only=True):
    """One unit of work of a job. ``state``: done, skipped, failed, refused, recovered or running.

    ``reason`` says why it ran or was skipped. ``inputs`` are ``repo:/path`` with their digests.
    """

    id: str
    job: str
    key: str
    state: str
    reason: str
    inputs: tuple[tuple[str, str], ...]
    duration_s: float
    error: str = ""
    made_by: str = ""
    """The job whose run made the output (another one, where this was skipped)."""
    evidence: dict[str, object] = field(default_factory=dict)
    """What a refusal rests on: failing expectations with sample rows."""


class LogEntry(Struct, frozen=True, kw_only=True):
    """Something that was printed: by a datum (its id), or by the job ('')."""

    at: datetime
    datum: str
    text: str


class LogPage(Struct, frozen=True, kw_only=True):
    """A part of a job's log. ``next`` is where to read on; ``ended``: there will be no more."""

    entries: tuple[LogEntry, ...]
    next: int
    ended: bool


class PlannedDatum(Struct, frozen=True, kw_only=True):
    """What would happen to one datum. ``action``: run, skip or delete."""

    step: str
    action: str
    inputs: tuple[str, ...]
    reason: str


class StepCost(Struct, frozen=True, kw_only=True):
    """What a step would do, and how long it is likely to take.

    ``sure`` is False where the step reads what one above it makes anew: then the numbers are
    guesses from the last job. ``each_s`` is the median of its last datums (of its last jobs, where
    it has no datums), None where there is no history; ``total_s`` is for all that run, on all
    cores.
    """

    step: str
    run: int
    skip: int
    delete: int
    sure: bool
    each_s: float | None
    total_s: float | None


class Plan(Struct, frozen=True, kw_only=True):
    """What applying a file (or committing data) would do, before anything happens.

    ``unknown`` names steps whose inputs are not known before the steps above them have run.
    """

    pipeline: str
    new_version: bool
    datums: tuple[PlannedDatum, ...]
    unknown: tuple[str, ...]
    notes: tuple[str, ...] = ()
    costs: tuple[StepCost, ...] = ()
    """Of each step, in the order in which they run."""
    searches: tuple[SearchPreview, ...] = ()
    """What the search of each training step will cost."""


class Experiment(Struct, frozen=True, kw_only=True):
    """A search. ``mode``: min or max. ``state``: running, done, failed or cancelled."""

    id: str
    job: str
    pipeline: str
    step: str
    global_id: str
    state: str
    searcher: str
    metric: str
    mode: str
    trials: int
    best_trial: str | None
    best_value: float | None
    created_at: datetime
    finished_at: datetime | None
    error: str = ""
    """Why it failed, with the traceback of the first trial that did; '' where it did not."""
    objectives: dict[str, str] = field(default_factory=dict)
    """Each metric to min or max, where several matter."""
    front: tuple[str, ...] = ()
    """Trials that no other beats in all objectives: the Pareto front."""
    prior: str | None = None
    """The experiment that it was warm started from."""
    ended_by: str = ""
    """``time``, ``cost`` or ``flat``, where that ended it before its last trial."""
    sampler: str = ""
    constraints: tuple[str, ...] = ()
    """Rules over parameters and over metrics that trials measure."""


class JobCount(Struct, frozen=True, kw_only=True):
    """How many jobs of a step are in a state, and how their datums ended."""

    pipeline: str
    step: str
    state: str
    jobs: int
    done: int
    skipped: int
    failed: int


class Trial(Struct, frozen=True, kw_only=True):
    """One set of parameters.

    ``state``: pending, running, paused, done, stopped, cancelled or failed.

    ``value`` is the experiment's metric at the last report, ``step`` the resource used so far.
    """

    id: str
    experiment: str
    number: int
    global_id: str
    params: dict[str, object]
    state: str
    step: int
    value: float | None
    rung: int
    checkpoint: str | None
    """Id of the commit that holds its latest checkpoint."""
    seed: int
    error: str = ""
    target: int = 0
    """The step that its run is going to, or went to."""
    checkpoint_step: int = 0
    """Steps that are behind its latest checkpoint."""
    progress: float | None = None
    """How far it says it is, from 0 to 1, where it does."""
    note: str = ""
    """What it says besides."""
    bracket: int = 0
    """Of Hyperband, from 0."""
    busy_s: float = 0.0
    """Seconds that workers spent on it."""
    restarts: int = 0
    """How often it went on from its checkpoint after a failure."""
    breaches: dict[str, float | None] = field(default_factory=dict)
    """Constraints over measured metrics that it broke at its last rung, and by how much (None: it
    could not be measured); empty: it is feasible."""


class MetricPoint(Struct, frozen=True, kw_only=True):
    """Metrics that a trial reported after ``step`` units of resource."""

    trial: str
    step: int
    metrics: dict[str, float]
    at: datetime


class ExperimentDetail(Struct, frozen=True, kw_only=True):
    """An experiment with its trials (by number) and every point they reported."""

    experiment: Experiment
    trials: tuple[Trial, ...]
    points: tuple[MetricPoint, ...]
