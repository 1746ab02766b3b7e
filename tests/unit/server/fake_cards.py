"""A card by hand, with something of each kind, for the pages that draw it."""

from clew.base.clock import now
from clew.base.records import CodeRef, ColumnChange, FileDiff, RowChange, TableDiff
from clew.base.records.cards import (
    CardText,
    Coefficient,
    Configuration,
    FeatureSplits,
    Learned,
    Metrics,
    ModelCard,
    NineThings,
    Origin,
    Runtime,
    SourceCommit,
    Span,
    Summary,
    Tensor,
)
from clew.base.records.comparing import (
    ComparedCode,
    ComparedData,
    ComparedRow,
    ComparedRun,
    Comparison,
    DataPair,
)
from clew.base.records.knowing import Cause
from clew.base.records.reports import Importances, Weight

CURVE = {"false_positive_rate": [0.0, 0.1, 1.0], "true_positive_rate": [0.0, 0.8, 1.0]}
CHARTS = {
    "confusion": {"classes": ["0", "1"], "counts": [[90, 10], [20, 80]]},
    "roc": CURVE,
    "precision_recall": {"recall": [0.1, 1.0], "precision": [1.0, 0.5]},
    "calibration": {"mean": [0.2, 0.8], "share": [0.25, 0.7], "rows": [50, 150]},
    "learning": {"roc_auc": [[1, 0.7], [2, 0.8], [3, 0.82]]},
}


def card_of(version):
    text = CardText(description="Late <b>flights</b>.", intended_use="Planning.", owners=("ops",))
    return ModelCard(
        version=version,
        text=text,
        text_then=None,
        things=things_of(version),
        verdict=None,
        unsaid=("limits",),
        made_at=now(),
        markdown=f"# Model card: {version.model} version {version.version}\n",
    )


def comparison_of(trials):
    """Of trials that differ in everything."""
    runs = tuple(
        ComparedRun(
            subject=one.id, kind="trial", id=one.id, title=f"trial {one.number}", trial=one.id,
            experiment=one.experiment, job=one.id, model_version=None, global_id=one.global_id,
            state=one.state, seed=one.seed, steps=one.step, busy_s=1.0, feasible=at == 0,
        )
        for at, one in enumerate(trials)
    )  # fmt: skip
    rows = (ComparedRow(name="depth", values=tuple(range(len(runs))), differs=True),)
    same = (ComparedRow(name="polars", values=("2.1",) * len(runs), differs=False),)
    change = RowChange(kind="removed", key={}, old={"carrier": "UA"}, new={})
    table = TableDiff(
        old_rows=9, new_rows=8, added=0, removed=1, changed=0, key=(), cells={}, numbers=(),
        columns=(ColumnChange(name="gate", kind="added", old="", new="VARCHAR"),),
        sample=(change,),
    )  # fmt: skip
    file = FileDiff(path="/flights.parquet", kind="changed", old=None, new=None, table=table)
    diff = "--- then\n+++ now\n@@ -1 +1 @@\n-    depth = 1\n+    depth = 2"
    return Comparison(
        runs=runs,
        parameters=rows,
        metrics=(),
        configuration=(),
        environment=same,
        data=(
            ComparedData(
                role="features", repo="p/clean", commits=tuple(one.id for one in trials),
                pairs=(DataPair(run=1, changed=1, files=(file,)),),
            ),
        ),
        code=(ComparedCode(run=1, causes=(Cause(kind="code", name="m.py:fit", diff=diff),)),),
        notes=("trial 1 is infeasible.",),
    )  # fmt: skip


def things_of(version):
    numbers = {
        "type": "float64", "kind": "numeric", "count": 99, "nulls": 1, "distinct": 80,
        "min": 0.0, "max": 9.0, "mean": 4.0, "std": 2.0, "edges": [3.0, 6.0],
        "counts": [30, 40, 29],
    }  # fmt: skip
    words = {
        "type": "string", "kind": "categorical", "count": 100, "nulls": 0, "distinct": 2,
        "top": [["AA", 60], ["UA", 40]], "other": 0,
    }  # fmt: skip
    return NineThings(
        runtime=Runtime(steps=3, busy_s=2.5, usage={"memory_bytes": Span(mean=1e8, most=2e8)}),
        configuration=Configuration(
            params=version.params, seed=7, function=CodeRef(snapshot="s", file="m.py", name="fit")
        ),
        lineage=Origin(
            commit=version.commit, global_id=version.global_id, job=version.job,
            sources=(SourceCommit(repo="p/raw", commit=version.commit, files=1, size_bytes=9),),
        ),
        features={"distance": numbers, "carrier": words},
        importances=Importances(
            own_kind="gain", own=(Weight(feature="distance", value=2.0),), metric="roc_auc",
            rows=200, repeats=3, permuted=(Weight(feature="carrier", value=0.1, spread=0.01),),
        ),
        metrics=Metrics(
            test={"roc_auc": 0.81}, test_rows=200, train={"roc_auc": 0.9}, train_rows=99
        ),
        charts=CHARTS,
        learned=Learned(
            kind="ours.Net", by="network", count=12, facts={"layers": 2.0},
            tensors=(
                Tensor(name="a.weight", shape=(3, 4), norm=1.0, mean=0.1, std=0.2, low=-1, high=1),
            ),
            coefficients=(Coefficient(feature="distance", value=-0.5),),
            splits=(FeatureSplits(feature="carrier", splits=4, gain=1.5),),
        ),
        summary=Summary(rows={"train": 100, "test": 200}, columns=2),
        notes=("Charts: not made (ValueError: no room).",),
    )  # fmt: skip
