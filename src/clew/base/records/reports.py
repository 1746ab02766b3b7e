"""The evaluation report of a model version: how well it does on test rows, and how sure that is.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from clew.base.records.models import Prediction, Signature
from clew.base.records.processing import Processing


class Weight(Struct, frozen=True, kw_only=True):
    """How much a feature matters; ``spread``: one standard deviation over repetitions."""

    feature: str
    value: float
    spread: float | None = None


class Importances(Struct, frozen=True, kw_only=True):
    """What features matter, the most first.

    ``own``: as the model itself says, by ``own_kind``, of the features that it has inside.
    ``permuted``: by how much ``metric`` gets worse on the frozen test rows where the values of a
    column are shuffled (Breiman 2001), mean of ``repeats`` over ``rows`` rows.
    """

    own_kind: str = ""
    own: tuple[Weight, ...] = ()
    metric: str = ""
    rows: int = 0
    repeats: int = 0
    permuted: tuple[Weight, ...] = ()


class Measured(Struct, frozen=True, kw_only=True):
    """A metric with the bounds of its interval (percentile bootstrap), and the champion's."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    greater_is_better: bool
    champion: float | None = None


class GroupMeasured(Struct, frozen=True, kw_only=True):
    """A group of test rows: how many, and the metric with its bounds.

    ``gap``: how much worse than overall it is; below 0 is better.
    """

    value: str
    rows: int
    metric: float
    low: float | None
    high: float | None
    gap: float


class SliceReport(Struct, frozen=True, kw_only=True):
    """The main metric by the values of a column or of an SQL expression, the worst group first.

    ``chosen``: somebody named it; else it was taken because it has few values. ``left_out_rows``
    are in groups too small to tell.
    """

    by: str
    metric: str
    overall: float | None
    groups: tuple[GroupMeasured, ...]
    left_out_rows: int
    chosen: bool


class EvaluationReport(Struct, frozen=True, kw_only=True):
    """What was found when a version was judged. ``digest`` is in the signed verdict.

    ``charts``: data of the standard charts, as in the nine things of a model: confusion, roc,
    precision_recall, calibration, lift (of classes), residuals and predicted (of numbers).
    """

    model_version: str
    verdict: str
    commit: str
    digest: str
    test_commit: str
    task: str
    rows: int
    confidence: float
    metrics: tuple[Measured, ...]
    charts: dict[str, Any]
    champion: str = ""
    champion_charts: dict[str, Any] = field(default_factory=dict)
    slices: tuple[SliceReport, ...] = ()
    importances: Importances = field(default_factory=Importances)
    query: str = ""
    """The column whose values are the queries that rows are ranked in."""
    queries: int = 0
    notes: tuple[str, ...] = ()


class Around(Struct, frozen=True, kw_only=True):
    """What surrounds a judgement: what endpoints of the model serve, by their names, and requests
    of the champion that they have logged, the newest first. ``functions``: what stands around
    their models, where something does: then their logs have what clients sent and were told.
    """

    endpoints: dict[str, Signature] = field(default_factory=dict)
    recorded: tuple[Prediction, ...] = ()
    functions: dict[str, Processing] = field(default_factory=dict)
