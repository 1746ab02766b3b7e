"""Nine things are kept of a trained model, whatever it is, and none of them can fail a training."""

from __future__ import annotations

import sys

import cloudpickle
import numpy as np
import polars as pl
import pytest
from msgspec.structs import asdict
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from clew.base.records.cards import NineThings
from clew.models import EvaluationDefinition, holdout

NUMBERS = ["distance", "hour"]


@pytest.fixture(autouse=True)
def classes_travel():
    """Workers do not have this file."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def kept(house, model, data: pl.DataFrame, **package) -> NineThings:
    return house.models.things(house.version(house.package(model, house.split(data), **package)).id)


def test_a_forest_keeps_all_nine(house, flights):
    data = flights()
    model = RandomForestClassifier(12, max_depth=4, random_state=0)
    things = kept(house, model.fit(data.select(NUMBERS), data["late"]), data)
    assert len(asdict(things)) == 11  # nine, the notes, and which form serves
    assert things.configuration.estimator["max_depth"] == "4"
    assert things.lineage.trial == "trial-1"
    assert things.features["distance"]["counts"]
    assert {one.feature for one in things.importances.permuted} == set(NUMBERS)
    assert things.importances.own_kind == "feature_importances_"
    assert min(things.metrics.test["roc_auc"], things.metrics.train["roc_auc"]) > 0.7
    assert set(things.charts) >= {"confusion", "roc", "precision_recall", "calibration"}
    assert things.learned.by == "trees"
    assert things.learned.facts["trees"] == 12
    splits = sum((tree.tree_.feature >= 0).sum() for tree in model.estimators_)
    assert sum(one.splits for one in things.learned.splits) == splits
    assert things.summary.target["train"]["top"]
    assert things.summary.rows["test"] == things.metrics.test_rows
    assert things.runtime.machine["python"]


def test_the_column_that_decides_is_the_one_whose_shuffling_hurts(house, flights):
    data = flights().with_columns(noise=pl.Series(np.random.default_rng(5).normal(size=1500)))
    names = [*NUMBERS, "noise"]
    things = kept(house, LogisticRegression().fit(data.select(names), data["late"]), data)
    order = [one.feature for one in things.importances.permuted]
    assert order == ["distance", "hour", "noise"]
    assert things.importances.permuted[0].value > 0.1 > abs(things.importances.permuted[2].value)
    assert [one.feature for one in things.importances.own] == order


def test_coefficients_of_a_pipeline_have_the_names_that_its_encoders_give(house, flights):
    data = flights()
    columns = ColumnTransformer(
        [("carrier", OneHotEncoder(), ["carrier"]), ("numbers", StandardScaler(), NUMBERS)]
    )
    model = make_pipeline(columns, LogisticRegression())
    things = kept(house, model.fit(data.drop("late", "day"), data["late"]), data)
    named = {one.feature: one.value for one in things.learned.coefficients}
    assert named["numbers__distance"] == pytest.approx(model[-1].coef_[0][3])
    assert "carrier__carrier_AA" in named
    assert {one.feature for one in things.importances.permuted} >= {"carrier", "distance"}


@pytest.mark.parametrize(
    ("model", "by", "fact"),
    [
        (HistGradientBoostingClassifier(max_iter=5), "trees", ("trees", 5)),
        (MLPClassifier((7,), max_iter=3), "network", ("n_layers_", 3)),
    ],
    ids=["histograms", "perceptron"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_was_learned_is_told_by_the_kind_of_the_model(house, flights, model, by, fact):
    data = flights()
    learned = kept(house, model.fit(data.select(NUMBERS), data["late"]), data).learned
    assert (learned.by, learned.facts[fact[0]]) == (by, fact[1])
    assert learned.count > 10


class Rule:
    """A model of nobody's library."""

    def __init__(self, weights):
        self.weights = np.asarray(weights)
        self.inner = {"bias": 0.25, "steps": [1.0, 2.0]}

    def predict(self, rows):
        return rows.select(NUMBERS).to_numpy() @ self.weights > self.inner["bias"]


def test_of_any_class_the_arrays_among_its_attributes_are_told_and_that_is_said(house, flights):
    data = flights().with_columns(pl.col("late").cast(pl.Boolean))
    things = kept(house, Rule([1.5, -1.0]), data)
    assert things.learned.by == "arrays"
    shapes = {one.name: one.shape for one in things.learned.tensors}
    assert shapes == {"weights": (2,), "inner.steps": (2,)}
    assert things.learned.facts == {"inner.bias": 0.25}
    assert any("neither linear" in note for note in things.notes)


class Moody(Rule):
    """It answers as many rows as there are to test on, and not as many as it learned from."""

    def __init__(self):
        super().__init__([1.5, -1.0])

    def predict(self, rows):
        if rows.height > 700:
            raise RuntimeError("not today")
        return super().predict(rows)


def test_a_chart_that_cannot_be_made_fails_nothing_and_is_told(house, flights):
    data = flights().with_columns(pl.col("late").cast(pl.Boolean))
    things = kept(house, Moody(), data)
    assert any("training rows: not made (RuntimeError: not today)" in one for one in things.notes)
    assert things.metrics.train == {}
    assert things.importances.permuted
    assert things.charts["confusion"]


def test_a_regression_keeps_residuals_and_predicted_against_true(house, flights):
    data = flights().with_columns(late=pl.col("distance") * 2 + pl.col("hour"))
    by_day = EvaluationDefinition(target="late", test=holdout(0.3, by="day"))
    model = LinearRegression().fit(data.select(NUMBERS), data["late"])
    things = kept(house, model, data, evaluation=by_day)
    assert things.metrics.test["r2"] == pytest.approx(1)
    assert len(things.charts["predicted"]["truth"]) == len(things.charts["predicted"]["predicted"])
    assert {one.feature: round(one.value) for one in things.learned.coefficients} == {
        "distance": 2,
        "hour": 1,
    }
