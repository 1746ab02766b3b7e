"""Is a tumour benign? The whole loop of Clew in one small file."""

import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import clew

PLAIN = {"patient", "benign"}

tumours = clew.Pipeline("tumours")
measurements = tumours.source("measurements")


@tumours.step(measurements.glob("/*.csv"), per="file")
def clean(measured: pl.DataFrame) -> pl.DataFrame:
    """One row for each patient: files are read one by one, so only new ones run."""
    return measured.unique("patient", keep="last", maintain_order=True)


@tumours.expect(clean)
def plausible(t: clew.Table) -> None:
    t.columns("patient", "benign").not_null()
    t.column("mean_radius").between(1, 100)


@tumours.train(
    clean,
    target="benign",
    test=clew.holdout(0.3, by="patient", grow=True),
    search=clew.asha(metric="roc_auc", mode="max", trials=6, max_steps=9),
    space={"C": clew.loguniform(1e-3, 10)},
)
def model(data: pl.DataFrame, trial: clew.Trial) -> object:
    """Logistic regression; a step is a hundred more rounds of the solver."""
    columns = [name for name in data.columns if name not in PLAIN]
    fit, judge = data[::2], data[1::2]
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=trial.params["C"]))
    for step in trial.steps():
        regression[-1].set_params(max_iter=100 * step)
        regression.fit(fit.select(columns), fit["benign"])
        chances = regression.predict_proba(judge.select(columns))[:, 1]
        trial.report(step, roc_auc=roc_auc_score(judge["benign"], chances))
    return regression


@tumours.gate(model)
def better(candidate: clew.Candidate) -> None:
    candidate.at_least("roc_auc", 0.9)
    candidate.beats_champion("roc_auc", margin=0.0)


tumours.endpoint("tumours", model, rollout=clew.canary(steps=[10, 50, 100], max_requests=60))
tumours.monitor("tumours", drift=clew.drift(threshold=0.2), retrain=True)
