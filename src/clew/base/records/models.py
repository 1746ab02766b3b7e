"""Records of models and of what is served: versions, verdicts, revisions, endpoints, drift.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field


class Column(Struct, frozen=True, kw_only=True):
    """A column of a signature. ``type``: an Arrow type name such as int64, double or string."""

    name: str
    type: str
    nullable: bool = False


class Signature(Struct, frozen=True, kw_only=True):
    """What a model takes and gives.

    ``frame``: how it wants its input: polars, pandas or numpy. A numpy model has one input of
    shape [rows, width] and no column names. ``task``: binary, multiclass or regression.
    """

    frame: str
    inputs: tuple[Column, ...]
    width: int
    task: str
    classes: tuple[str, ...] = ()


class ModelVersion(Struct, frozen=True, kw_only=True):
    """A model that a training step made. ``state``: candidate, blessed, refused or overridden."""

    id: str
    model: str
    """The name of its repo, ``pipeline/step``."""
    version: int
    global_id: str
    commit: str
    job: str
    experiment: str | None
    trial: str | None
    params: dict[str, object]
    signature: Signature
    state: str
    metrics: dict[str, float]
    """On the frozen test commit; empty until the gate has judged."""
    aliases: tuple[str, ...]
    test_commit: str | None
    verdict: str | None
    created_at: datetime


class Check(Struct, frozen=True, kw_only=True):
    """One rule of a gate, what was seen, and why that passes or not."""

    name: str
    passed: bool
    observed: float | None
    required: str
    reason: str
    evidence: dict[str, object] = field(default_factory=dict)
    next_step: str = ""
    """What to do where it failed."""


class Verdict(Struct, frozen=True, kw_only=True):
    """A gate's judgement of one model version; ``digest`` signs the rest of it."""

    id: str
    model_version: str
    global_id: str
    blessed: bool
    checks: tuple[Check, ...]
    metrics: dict[str, float]
    champion: str | None
    """The model version that it was compared with."""
    champion_metrics: dict[str, float]
    test_commit: str
    commit: str | None
    """The commit of the evaluation report."""
    digest: str
    created_at: datetime
    overridden_by: str = ""
    override_reason: str = ""
    report: str = ""
    """Digest of the evaluation report in that commit; '' of a version that nobody judged."""


class AliasMove(Struct, frozen=True, kw_only=True):
    """An alias came to stand on a version, at a time, through somebody, for a reason.

    ``number`` is the version's; ``back``: it was taken back to where it stood before.
    """

    model: str
    alias: str
    version: str
    number: int
    global_id: str | None
    moved_by: str
    reason: str
    moved_at: datetime
    back: bool = False


class Revision(Struct, frozen=True, kw_only=True):
    """A model version on an endpoint.

    ``state``: loading, shadow, canary, arm, live, draining, retired, rolled_back or failed.
    ``traffic`` is a percentage, and those of an endpoint add up to 100.
    """

    id: str
    endpoint: str
    number: int
    model_version: str
    global_id: str
    state: str
    traffic: int | float
    reason: str
    created_at: datetime
    requests: int = 0
    errors: int = 0
    overloads: int = 0
    """Requests refused with 429, and (``expired``) given up with 504: neither are among
    ``requests``, since its model did not see them.
    """
    expired: int = 0
    processing: str = ""
    """Digest of the functions around its model; of a graph, of its definition."""
    functions: str = ""
    """The commit that has them, as ``repo@commit``."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """A name that predictions are asked from."""

    name: str
    pipeline: str
    model: str
    rollout: str
    """One line, such as ``canary 10 → 50 → 100 %``."""
    url: str
    """Where it answers now; '' where no server runs."""
    revisions: tuple[Revision, ...]
    requests: int
    errors: int
    """Counts, like ``overloads`` and ``expired``, of all but shadows, which answer nobody."""
    p50_ms: float | None
    p99_ms: float | None
    overloads: int = 0
    expired: int = 0
    unloaded: bool = False
    """Whether a client had its models unloaded: requests are refused until they are loaded."""

    @property
    def place(self) -> str:
        """Where it answers, or why it does not."""
        if self.unloaded:
            return "unloaded by a client: load it, or deploy"
        return self.url or "not served now: clew server"


class Prediction(Struct, frozen=True, kw_only=True):
    """One logged prediction request: its rows, its answer, and what made it."""

    id: str
    endpoint: str
    revision: str
    model_version: str
    global_id: str
    at: datetime
    latency_ms: float
    inputs: dict[str, list[object]]
    outputs: dict[str, list[object]]
    arm: str = "live"
    """What its revision was: live, canary, arm, shadow; pinned where it was asked by version."""
    propensity: float = 1.0
    """The chance that this revision was asked."""
    copy_of: str = ""
    """Of a shadow: the prediction that was returned."""
    part_of: str = ""
    """Of a node of a graph: the prediction of the graph."""
    parts: tuple[str, ...] = ()
    """Of a graph: the predictions of its nodes."""


class ColumnDrift(Struct, frozen=True, kw_only=True):
    """How far a column's live values are from the reference. ``threshold``: where drift begins."""

    column: str
    statistic: str
    value: float
    threshold: float
    drifted: bool
    detail: str = ""


class DriftReport(Struct, frozen=True, kw_only=True):
    """A window of live predictions compared with the training reference of the live model."""

    id: str
    endpoint: str
    model_version: str
    global_id: str
    rows: int
    drifted: bool
    columns: tuple[ColumnDrift, ...]
    commit: str | None
    action: str
    """What followed: '' or such as ``retrain``."""
    created_at: datetime
