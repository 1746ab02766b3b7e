"""Three models as people have them: linear, a forest, a class of one's own over mixed columns."""

import numpy as np
import polars as pl
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import clew

clients = clew.Pipeline("clients")
raw = clients.source("raw")
NUMBERS = [f"f{at}" for at in range(30)]


class Words:
    """Text and numbers in; text, whole numbers and fractions out."""

    def predict(self, frame: pl.DataFrame):
        return {
            "prediction": frame["count"].to_numpy() + frame["weight"].fill_null(0.0).to_numpy(),
            "length": frame["word"].str.len_chars().cast(pl.Int64).to_numpy(),
            "upper": np.array(frame["word"].str.to_uppercase().to_list()),
        }


@clients.step(raw.glob("/*.csv"), per="file")
def rows(found: pl.DataFrame) -> pl.DataFrame:
    return found


@clients.step(rows)
def numbers(data: pl.DataFrame) -> pl.DataFrame:
    return data.select(*NUMBERS, "large")


@clients.step(rows)
def words(data: pl.DataFrame) -> pl.DataFrame:
    return data.select("word", "count", "weight", "total")


def held(by):
    return clew.holdout(0.3, by=by)


@clients.train(
    numbers,
    target="large",
    test=clew.holdout(0.3),
    search=clew.single(metric="accuracy", mode="max", max_steps=1),
)
def linear(data: pl.DataFrame, trial: clew.Trial) -> object:
    model = LogisticRegression().fit(data.select(NUMBERS).to_numpy(), data["large"])
    for step in trial.steps():
        trial.report(step, accuracy=0.9)
    return model


@clients.train(
    numbers,
    target="large",
    test=clew.holdout(0.3),
    search=clew.single(metric="accuracy", mode="max", max_steps=1),
)
def forest(data: pl.DataFrame, trial: clew.Trial) -> object:
    model = RandomForestClassifier(100, random_state=1).fit(data.select(NUMBERS), data["large"])
    for step in trial.steps():
        trial.report(step, accuracy=0.9)
    return model


@clients.train(
    words,
    target="total",
    test=held("word"),
    search=clew.single(metric="rmse", mode="min", max_steps=1),
)
def mixed(data: pl.DataFrame, trial: clew.Trial) -> object:
    for step in trial.steps():
        trial.report(step, rmse=0.0)
    return Words()


clients.endpoint("linear", linear)
clients.endpoint("forest", forest)
clients.endpoint("mixed", mixed)
