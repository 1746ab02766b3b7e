"""What a model version carries besides the model: read from its tree, as it was packaged.

Knows the store and where files lie; nothing of how they were made.
"""

from __future__ import annotations

from typing import Any

import msgspec

from clew.base.records import CodeRef, ModelVersion, Verdict
from clew.base.records.card_words import CardText
from clew.base.records.cards import (
    Configuration,
    Learned,
    Metrics,
    NineThings,
    Origin,
    Runtime,
    Summary,
)
from clew.base.records.parity import Parity
from clew.base.records.reports import EvaluationReport, Importances, Measured, SliceReport
from clew.models.layout import (
    CARD,
    CHARTS,
    CONFIGURATION,
    IMPORTANCES,
    LEARNED,
    METRICS,
    NOTES,
    PARITY,
    PREDICTIONS,
    PROFILE,
    RUNTIME,
    SUMMARY,
    TRAINING,
)
from clew.store import Store


def things_in(store: Store, version: ModelVersion, tree: str) -> NineThings:
    """The nine things that are kept of a version, but for the raw data in its lineage.

    Of a version that was made before they were, what its record says.
    """
    training = kept(store, tree, TRAINING, dict[str, Any], {})
    unknown = Learned(kind="an object of which nothing was kept")
    notes = kept(store, tree, NOTES, tuple[str, ...], None)
    told = Configuration(params=version.params, seed=training.get("seed"))
    return NineThings(
        runtime=kept(store, tree, RUNTIME, Runtime, Runtime()),
        configuration=kept(store, tree, CONFIGURATION, Configuration, told),
        lineage=_origin(version, training),
        features=kept(store, tree, PROFILE, dict[str, Any], {}).get("columns", {}),
        importances=kept(store, tree, IMPORTANCES, Importances, Importances()),
        metrics=kept(store, tree, METRICS, Metrics, Metrics()),
        charts=kept(store, tree, CHARTS, dict[str, Any], {}),
        learned=kept(store, tree, LEARNED, Learned, unknown),
        summary=kept(store, tree, SUMMARY, Summary, Summary()),
        notes=(_EARLIER,) if notes is None else notes,
        parity=kept(store, tree, PARITY, Parity, None),
    )


def text_in(store: Store, tree: str) -> CardText | None:
    """What the pipeline said of the model when it was trained; None where that was not kept."""
    found: CardText | None = kept(store, tree, CARD, CardText, None)
    return found


def evaluation_in(store: Store, version: ModelVersion, verdict: Verdict) -> EvaluationReport:
    """The report that a verdict signs. Raises Corrupt where its bytes are others."""
    found = msgspec.json.decode(store.read(verdict.report))
    charts = found.get("charts", {})
    return EvaluationReport(
        model_version=version.id,
        verdict=verdict.id,
        commit=verdict.commit or "",
        digest=verdict.report,
        test_commit=verdict.test_commit,
        task=found.get("task", version.signature.task),
        rows=found["rows"],
        confidence=found.get("confidence", 0.95),
        metrics=msgspec.convert(found.get("measured", []), tuple[Measured, ...]),
        charts=charts.get("candidate", {}),
        champion=found.get("champion", ""),
        champion_charts=charts.get("champion", {}),
        slices=msgspec.convert(found.get("slices", []), tuple[SliceReport, ...]),
        importances=msgspec.convert(found.get("importances", {}), Importances),
        query=found.get("query", ""),
        queries=found.get("queries", 0),
        notes=tuple(found.get("notes", ())),
    )


def reference_in(store: Store, tree: str) -> dict[str, Any]:
    """The profiles and the training that a version carries; None for what it does not."""
    names = {"inputs": PROFILE, "outputs": PREDICTIONS, "training": TRAINING}
    return {name: kept(store, tree, path, Any, None) for name, path in names.items()}


def kept(store: Store, tree: str, path: str, kind: Any, otherwise: Any) -> Any:
    """A file of the tree as what it is; ``otherwise`` where it is not there."""
    entry = store.get(tree, path)
    if entry is None:
        return otherwise
    return msgspec.json.decode(store.read(entry.digest), type=kind)


_EARLIER = "This version was made before charts, importances and summaries were kept with models."


def _origin(version: ModelVersion, training: dict[str, Any]) -> Origin:
    function = training.get("function")
    return Origin(
        commit=version.commit,
        global_id=version.global_id,
        job=version.job,
        experiment=version.experiment,
        trial=version.trial,
        features=str(training.get("features", "")),
        test_commit=version.test_commit or str(training.get("test_commit", "")),
        snapshot=msgspec.convert(function, CodeRef).snapshot if function else "",
    )
