"""Which numbers are large? Every part of the loop, with almost nothing to compute."""

import os
import time
from pathlib import Path

import numpy as np
import polars as pl

import clew

LIMIT = 50.0
FLIP = False  # a constant that spoils the model

numbers = clew.Pipeline("numbers")
raw = numbers.source("raw")


class Threshold:
    """Large is what lies above ``at``: a model that is defined where it is used."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.classes_ = np.array([0, 1])
        self.feature_names_in_ = np.array(["x"])

    def predict_proba(self, rows) -> np.ndarray:
        above = 1 / (1 + np.exp(self.at - np.asarray(rows, dtype=float)[:, 0]))
        above = 1 - above if FLIP else above
        return np.column_stack([1 - above, above])

    def predict(self, rows) -> np.ndarray:
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]


def note(what: str) -> None:
    """Write down that this ran, for the test that asks."""
    if target := os.environ.get("JOURNEY_RUNS"):
        with Path(target).open("a") as file:
            file.write(f"{what} {time.time_ns() // 1000}\n")


@numbers.step(raw.glob("/*.csv"), per="file")
def clean(rows: pl.DataFrame) -> pl.DataFrame:
    note(f"clean {rows['id'][0]}")
    return rows.filter(pl.col("x").is_not_null()).with_columns(
        (pl.col("x") > LIMIT).cast(pl.Int64).alias("large")
    )


@numbers.expect(clean)
def plausible(t: clew.Table) -> None:
    t.column("id").not_null()
    t.column("x").between(0, 100)


@numbers.train(
    clean,
    target="large",
    test=clew.holdout(0.5, by="id"),
    search=clew.asha(metric="accuracy", mode="max", trials=3, max_steps=3),
    space={"at": clew.uniform(48, 52)},
)
def model(data: pl.DataFrame, trial: clew.Trial) -> object:
    found = Threshold(trial.params["at"])
    for step in trial.steps():
        note(f"trial {trial.seed}:{step}")
        right = found.predict(data.select("x").to_numpy()) == data["large"].to_numpy()
        trial.report(step, accuracy=float(right.mean()))
    return found


@numbers.gate(model)
def good(candidate: clew.Candidate) -> None:
    candidate.at_least("accuracy", 0.8)


numbers.endpoint("large", model, rollout=clew.immediate())
