"""What is kept of a trained model besides its bytes, and the card that is made of it.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field

from clew.base.records.card_words import CardText
from clew.base.records.data import CodeRef
from clew.base.records.models import ModelVersion, Verdict
from clew.base.records.parity import Parity
from clew.base.records.reports import EvaluationReport, Importances


class Span(Struct, frozen=True, kw_only=True):
    """A value over time: its mean and the most that it was."""

    mean: float
    most: float


class Runtime(Struct, frozen=True, kw_only=True):
    """How a training ran. ``busy_s``: seconds of workers; of the best trial, and of all.

    ``usage``: of the best trial, by the name of the value (``memory_bytes``, ``cpu_percent``, …);
    trials of under two seconds have none. ``machine`` is the one that packaged the model.
    """

    steps: int = 0
    busy_s: float = 0.0
    restarts: int = 0
    trials: int = 0
    all_steps: int = 0
    all_busy_s: float = 0.0
    search_s: float | None = None
    ended_by: str = ""
    samples: int = 0
    usage: dict[str, Span] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)


class Configuration(Struct, frozen=True, kw_only=True):
    """What a training was told: parameters, seed, search, limits, code, environment.

    ``estimator``: what the object itself says of its settings (``get_params``), as text.
    """

    params: dict[str, object] = field(default_factory=dict)
    seed: int | None = None
    parameters: dict[str, object] = field(default_factory=dict)
    """Those of the step, the same in every trial."""
    search: dict[str, object] = field(default_factory=dict)
    space: dict[str, object] = field(default_factory=dict)
    target: str = ""
    task: str = ""
    function: CodeRef | None = None
    fingerprint: str = ""
    estimator: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


class SourceCommit(Struct, frozen=True, kw_only=True):
    """A commit of raw data that a model goes back to."""

    repo: str
    commit: str
    files: int
    size_bytes: int


class Origin(Struct, frozen=True, kw_only=True):
    """Where a model came from; all ids."""

    commit: str
    global_id: str
    job: str
    experiment: str | None = None
    trial: str | None = None
    features: str = ""
    """The commit that its training rows were cut from."""
    test_commit: str = ""
    snapshot: str = ""
    """The tree of the code that trained it."""
    sources: tuple[SourceCommit, ...] = ()


class Metrics(Struct, frozen=True, kw_only=True):
    """``reported``: by the best trial itself, last; ``train`` and ``test``: of the packaged model,
    on so many of the training rows and of the frozen test rows.
    """

    reported: dict[str, float] = field(default_factory=dict)
    train: dict[str, float] = field(default_factory=dict)
    train_rows: int = 0
    test: dict[str, float] = field(default_factory=dict)
    test_rows: int = 0


class Tensor(Struct, frozen=True, kw_only=True):
    """An array of learned numbers: its shape, and what it looks like."""

    name: str
    shape: tuple[int, ...]
    norm: float | None
    mean: float | None
    std: float | None
    low: float | None
    high: float | None


class Coefficient(Struct, frozen=True, kw_only=True):
    """A weight of a linear model. ``output``: the class, where there are several."""

    feature: str
    value: float
    output: str = ""


class FeatureSplits(Struct, frozen=True, kw_only=True):
    """How often trees split on a feature, and what that gained, where they say so."""

    feature: str
    splits: int
    gain: float | None = None


class Learned(Struct, frozen=True, kw_only=True):
    """What a model learned, in short. ``by``: linear, trees, network, arrays or nothing.

    ``count``: learned numbers in all. Lists hold the largest alone; ``left_out`` says how many
    more there are.
    """

    kind: str
    by: str = "nothing"
    count: int = 0
    facts: dict[str, float] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = ()
    coefficients: tuple[Coefficient, ...] = ()
    splits: tuple[FeatureSplits, ...] = ()
    left_out: int = 0


class Summary(Struct, frozen=True, kw_only=True):
    """What the data look like as a whole; profiles are those of ``clew.quality.profile``."""

    rows: dict[str, int] = field(default_factory=dict)
    """``train`` and ``test``."""
    columns: int = 0
    missing: dict[str, float] = field(default_factory=dict)
    """Share of values that are missing, of the columns where some are."""
    constant: tuple[str, ...] = ()
    target: dict[str, Any] = field(default_factory=dict)
    """Profiles of the target: ``train`` and ``test``."""
    predictions: dict[str, Any] = field(default_factory=dict)
    """Profiles of the outputs on test rows, by name."""


class Trained(Struct, frozen=True, kw_only=True):
    """What is known of a training beside its model; those who trained it say so.

    ``learning``: for each reported metric its [step, value] pairs.
    """

    runtime: Runtime = field(default_factory=Runtime)
    configuration: Configuration = field(default_factory=Configuration)
    learning: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    text: CardText = field(default_factory=CardText)


class NineThings(Struct, frozen=True, kw_only=True):
    """All that is kept of a trained model. ``notes``: what could not be made, and why."""

    runtime: Runtime
    configuration: Configuration
    lineage: Origin
    features: dict[str, Any]
    """The profile of each column that the model takes, of the training rows."""
    importances: Importances
    metrics: Metrics
    charts: dict[str, Any]
    """Data of the standard charts on the test rows, and ``learning`` (metric → [step, value])."""
    learned: Learned
    summary: Summary
    notes: tuple[str, ...] = ()
    parity: Parity | None = None
    """Which form of the model serves, and why; None of a version of before that was asked."""


class ModelCard(Struct, frozen=True, kw_only=True):
    """A model version for people: what it is for, how well it does, where it came from.

    ``text`` is what the pipeline says now; ``text_then`` what it said when the model was trained,
    where that was something else. ``unsaid``: the sections that nobody has written.
    """

    version: ModelVersion
    text: CardText
    text_then: CardText | None
    things: NineThings
    verdict: Verdict | None
    unsaid: tuple[str, ...]
    made_at: datetime
    markdown: str = ""
    report: EvaluationReport | None = None
    """What was found when it was judged."""

    def _repr_markdown_(self) -> str:
        """The text, where a notebook shows it."""
        return self.markdown
