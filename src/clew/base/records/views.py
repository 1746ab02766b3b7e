"""Records that answer a question over several rooms: status, why, search.

Plain values that travel over the wire; they know no storage.
"""

from __future__ import annotations

from msgspec import Struct, field

from clew.base.records.data import Commit, Event
from clew.base.records.knowing import Cause
from clew.base.records.models import DriftReport, Endpoint, ModelVersion, Revision, Verdict
from clew.base.records.work import Experiment, Job, Trial


class Node(Struct, frozen=True, kw_only=True):
    """A thing in the lineage. ``kind``: file, datum, job, commit, code, pipeline, experiment,
    trial, checkpoint, model_version, verdict, revision, prediction, drift_report.
    """

    kind: str
    id: str
    title: str
    global_id: str
    detail: dict[str, object] = field(default_factory=dict)


class Edge(Struct, frozen=True, kw_only=True):
    """``target`` came from ``source`` (ids of nodes), by ``label`` (made, read, judged, …)."""

    source: str
    target: str
    label: str


class Explanation(Struct, frozen=True, kw_only=True):
    """The answer to *why*: the thing asked for, all it came from (or that came from it), and the
    edges between. ``nodes`` are in the order in which a person should read them.
    """

    subject: Node
    direction: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    sentences: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    """Of the job that it is, or that made it: what differs from the good job of the step before."""

    def _repr_markdown_(self) -> str:
        """The sentences, where a notebook shows it; the nodes and edges are there to be asked."""
        return "  \n".join(self.sentences)


class BrokenNow(Struct, frozen=True, kw_only=True):
    """What is not good now: the newest job of a step, or a revision that cannot be loaded.

    ``kind``: job or revision. ``name``: ``pipeline/step``, or ``endpoint rN``. ``state``: failed,
    refused or blocked. ``reason``: why, on one line. ``global_id``: of the change that left it so.
    ``look``: the command that shows it.
    """

    kind: str
    id: str
    name: str
    state: str
    reason: str
    global_id: str
    look: str


class ChangeStatus(Struct, frozen=True, kw_only=True):
    """All that one change caused.

    ``broken``: what is not good now of the pipelines that it ran through, causes first; also what
    an earlier change has left so.
    """

    global_id: str
    commits: tuple[Commit, ...]
    jobs: tuple[Job, ...]
    experiments: tuple[Experiment, ...]
    trials: tuple[Trial, ...]
    model_versions: tuple[ModelVersion, ...]
    verdicts: tuple[Verdict, ...]
    revisions: tuple[Revision, ...]
    drift_reports: tuple[DriftReport, ...]
    predictions: int
    events: tuple[Event, ...]
    broken: tuple[BrokenNow, ...] = ()


class Status(Struct, frozen=True, kw_only=True):
    """The workspace at a glance: what ran, what waits, what is broken.

    ``refused``: of each step that is broken now its newest job that failed, was refused or blocked;
    causes first. ``refused_before``: how many such jobs there are besides, of steps that were good
    since, of earlier tries, or of steps that are gone.
    """

    workspace: str
    running: tuple[Job, ...]
    waiting: tuple[Job, ...]
    recent: tuple[Job, ...]
    refused: tuple[Job, ...]
    endpoints: tuple[Endpoint, ...]
    drift: tuple[DriftReport, ...]
    global_ids: tuple[str, ...]
    """Of the latest changes, newest first."""
    refused_before: int = 0


class Applied(Struct, frozen=True, kw_only=True):
    """What ``apply`` did. ``changed`` is False where the file was registered already."""

    pipeline: str
    version: int
    changed: bool
    global_id: str | None
    """Of the run that it started; None where there was nothing to do."""
    notes: tuple[str, ...] = ()


class PredictResult(Struct, frozen=True, kw_only=True):
    """The answer of an endpoint. ``outputs``: name to one value a row.

    ``classes``: which classes the values of an output are of, in order, where it is a classifier's.
    """

    prediction_id: str
    global_id: str
    endpoint: str
    revision: str
    model_version: str
    outputs: dict[str, list[object]]
    classes: dict[str, list[str]] = field(default_factory=dict)


class ExplainResult(Struct, frozen=True, kw_only=True):
    """What each input did to the answers of an endpoint: SHAP values.

    For each row ``base_values`` and the ``attributions`` of all ``features`` add up to ``values``.
    Of several classes each of them is a list, in the order of ``classes``. ``method``: tree,
    linear (both exact) or permutation. ``link``: identity; logit where values are log-odds.
    ``output``: which output of the model is meant.
    """

    prediction_id: str
    global_id: str
    endpoint: str
    revision: str
    model_version: str
    method: str
    link: str
    output: str
    features: list[str]
    attributions: list[dict[str, object]]
    base_values: list[object]
    values: list[object]
    classes: list[str] = field(default_factory=list)
