"""A model converts to ONNX, and that form serves only where it answers as the model does."""

from __future__ import annotations

import pickle
import warnings

import msgspec
import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from clew.base.errors import Corrupt, Invalid
from clew.base.records.parity import Parity
from clew.models import EvaluationDefinition, conversion, holdout, load_model, onnx_graphs, parity
from clew.models.layout import ONNX, PARITY
from clew.models.loading import LoadedModel
from clew.models.onnx_model import OnnxModel, session_of
from clew.models.probing import probe
from clew.models.rows import real
from clew.models.targets import score

NAMES = [f"f{at}" for at in range(6)]


def table(rows=400, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, len(NAMES)))
    return pl.DataFrame(x, schema=NAMES), (x[:, 0] - x[:, 1] * x[:, 2] > 0).astype(int)


def probed(model, frame, target, kind="polars"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pickled = pickle.dumps(model)
        return probe(model, frame, pl.Series(target), frame=kind, task="auto", pickled=pickled)


def report_of(loaded, frame) -> Parity:
    files = conversion.files_of(loaded, frame, b"the pickle")
    report = msgspec.json.decode(files[PARITY], type=Parity)
    assert (ONNX in files) == (report.serves == "onnx")
    return report


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), RandomForestClassifier(7, random_state=0)),
        HistGradientBoostingClassifier(max_iter=5),
        GradientBoostingRegressor(n_estimators=5),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_answers_the_same_on_every_row_serves_as_onnx(model):
    frame, target = table()
    model.fit(frame.to_numpy(), target)
    report = report_of(probed(model, frame, target), frame[:150])
    assert report.serves == "onnx", report.why
    assert {one.name for one in report.sets} >= {"test", "edges", "random", "extreme", "missing"}
    assert not any(one.differing for one in report.sets)


def test_a_forest_keeps_its_ties_also_beside_its_thresholds():
    frame, target = table()
    model = RandomForestClassifier(10, random_state=0).fit(frame.to_numpy(), target)
    report = report_of(probed(model, frame, target), frame)
    beside = next(one for one in report.sets if one.name == "thresholds")
    assert (report.serves, beside.differing, beside.largest["label"]) == ("onnx", 0, 0.0)
    assert beside.rows > 1_000


def test_the_converters_own_forest_is_found_to_break_ties_otherwise(monkeypatch):
    frame, target = table()
    model = RandomForestClassifier(10, random_state=0).fit(frame.to_numpy(), target)
    monkeypatch.setattr(onnx_graphs, "_converters", dict)
    report = report_of(probed(model, frame, target), frame)
    assert report.serves == "original"
    worst = next(one for one in report.sets if one.differing).worst[0]
    assert worst.output == "label"
    assert worst.original["label"] != worst.converted["label"]
    assert "answers otherwise on" in report.why


def test_text_and_missing_numbers_go_through_a_converted_pipeline_of_columns():
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "distance": random.normal(size=300),
            "delay": np.where(random.random(300) < 0.2, np.nan, random.normal(size=300)),
            "carrier": random.choice(["AA", "UA"], 300),
            "stops": random.integers(0, 3, 300),
        }
    )
    target = np.array(["early", "late"])[(frame["distance"].to_numpy() > 0).astype(int)]
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["distance", "delay"]),
            ("texts", OneHotEncoder(handle_unknown="error"), ["carrier"]),
            ("rest", "passthrough", ["stops"]),
        ]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame.to_pandas(), target)
    loaded = probed(model, frame, target, "pandas")
    files = conversion.files_of(loaded, frame, b"")
    report = msgspec.json.decode(files[PARITY], type=Parity)
    unseen = next(one for one in report.sets if one.name == "unseen")
    assert (report.serves, unseen.refused) == ("onnx", unseen.rows), report.why


def people(rows=300):
    random = np.random.default_rng(0)
    drawn = random.choice(list("SCQ"), rows).tolist()
    port = [None if at % 20 == 0 else one for at, one in enumerate(drawn)]
    frame = pl.DataFrame(
        {"fare": random.lognormal(3, 1, rows), "sex": random.choice(["m", "f"], rows), "port": port}
    )
    return frame, (frame["fare"].to_numpy() > 20) ^ (frame["sex"].to_numpy() == "m")


def filled():
    imputer = SimpleImputer(strategy="most_frequent")
    return make_pipeline(imputer, OneHotEncoder(handle_unknown="ignore"))


@pytest.mark.parametrize(
    "encoder",
    [
        pytest.param(filled(), id="filled in"),
        pytest.param(
            OneHotEncoder(handle_unknown="ignore"), id="a category", marks=pytest.mark.slow
        ),
        pytest.param(
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
            id="its own place",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_missing_text_is_to_onnx_what_it_is_to_the_encoder(encoder):
    frame, target = people(60)
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["fare"]),
            ("texts", encoder, ["sex", "port"]),
        ],
        sparse_threshold=0,
    )
    model = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=3))
    loaded = probed(model.fit(frame.to_pandas(), target), frame, target, "pandas")
    report = report_of(loaded, frame)
    assert report.serves == "onnx", report.why
    missing = next(one for one in report.sets if one.name == "missing")
    assert (missing.refused, missing.differing) == (0, 0)


def test_a_target_that_was_transformed_comes_back_as_it_was():
    frame, _ = table()
    target = np.exp(frame["f0"].to_numpy() + 3) * 1e6
    model = TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)
    report = report_of(probed(model.fit(frame.to_numpy(), target), frame, target), frame[:100])
    assert report.serves == "onnx", report.why


def test_a_model_of_several_numbers_gives_them_all():
    frame, target = table()
    both = np.column_stack([target * 2.0, target - 5.0])
    model = MultiOutputRegressor(Ridge()).fit(frame.to_numpy(), both)
    loaded = probed(model, frame, target * 2.0)
    files = conversion.files_of(loaded, frame, b"")
    assert loaded.predict(frame[:3])["prediction"].shape == (3, 2)
    assert ONNX in files, files[PARITY]
    with pytest.raises(Invalid, match="2 numbers a row"):
        score(loaded.signature, target, loaded.predict(frame))


def test_a_classifier_of_several_targets_is_refused():
    frame, target = table(50)
    model = RandomForestClassifier(2).fit(frame.to_numpy(), np.column_stack([target, 1 - target]))
    with pytest.raises(Invalid, match="2 targets at once"):
        probed(model, frame, target)


def test_the_report_tells_of_an_attempt_that_differs_whatever_failed_after_it(monkeypatch):
    frame, target = table()
    model = LogisticRegression().fit(frame.to_pandas(), target)
    loaded = probed(model, frame, target)
    other = LogisticRegression().fit(frame.to_pandas(), 1 - target)
    real_graph = onnx_graphs.graph_of

    def once(_, inputs):
        if len(inputs) > 1:
            raise NotImplementedError("it takes one input")
        return real_graph(other, inputs)

    monkeypatch.setattr(onnx_graphs, "graph_of", once)
    recipe = replace(loaded.recipe, takes="polars", bare=False)
    named = LoadedModel(signature=loaded.signature, recipe=recipe, model=model)
    report = report_of(named, frame[:50])
    assert "answers otherwise on 50 of 50 (test)" in report.why


def test_what_the_original_refuses_is_refused_with_the_name_of_the_input():
    frame, target = table()
    model = LogisticRegression().fit(frame.to_pandas(), target)
    loaded = probed(model, frame, target)
    converted = next(_attempts(loaded, frame)).model
    for value in (np.nan, np.inf):
        row = frame[:1].to_numpy()
        row[0, 2] = value
        with pytest.raises(ValueError, match="f2"):
            converted.predict(row)
    huge = frame[:1].to_numpy() * 1e200  # a linear model takes it
    assert converted.predict(huge)["label"] == loaded.predict(huge)["label"]


def _attempts(loaded, frame):
    rows = real(frame, loaded.signature.inputs, matrix=True, named=True)
    refusals = parity.refusals_of(loaded, rows.take(slice(0, 1)))
    return conversion._attempts(loaded, rows, refusals, direct=False)


class Odd(ClassifierMixin, BaseEstimator):
    """An estimator that no converter knows."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, x):
        return (np.asarray(x)[:, 0] > 0).astype(int)


def test_what_cannot_be_converted_serves_as_it_is_and_the_report_says_why():
    frame, target = table(50)
    report = report_of(probed(Odd().fit(None, target), frame, target), frame)
    assert report.serves == "original"
    assert "Odd" in report.why


def test_a_label_or_a_number_that_differs_is_counted_and_shown():
    frame, target = table()
    first = LogisticRegression().fit(frame.to_numpy(), target)
    other = LogisticRegression().fit(frame.to_numpy(), 1 - target)
    mine, theirs = probed(first, frame, target), probed(other, frame, target)
    rows = real(frame, mine.signature.inputs, matrix=True, named=True)
    asked = parity.answers_of(mine, rows)
    found = parity.compare("test", "", rows, asked, theirs, scale=1.0)
    assert found.differing == rows.count
    shown = found.worst[0]
    assert shown.output == "label"
    assert shown.original["label"] != shown.converted["label"]
    assert list(shown.inputs) == NAMES


def test_the_version_keeps_both_forms_signed_and_loads_the_one_that_serves(house, flights):
    data = flights()
    split = house.split(data)
    model = RandomForestClassifier(5, random_state=0)
    model.fit(data[["distance", "hour"]].to_pandas(), data["late"])
    package = house.package(model, split)
    served = load_model(house.store, package.tree, served=True)
    original = load_model(house.store, package.tree)
    assert isinstance(served, OnnxModel)
    assert type(original.model).__name__ == "RandomForestClassifier"
    rows = data[:50]
    for name, values in original.predict(rows).items():
        np.testing.assert_allclose(served.predict(rows)[name], values, atol=1e-6)
        assert served.predict(rows)[name].dtype == values.dtype
    other = house.package(LogisticRegression().fit(data[["hour"]].to_pandas(), data["late"]), split)
    entries = {
        entry.path: house.store.read(entry.digest) for entry in house.store.entries(package.tree)
    }
    stolen = house.store.get(other.tree, ONNX)
    mixed = house.keep(entries | {ONNX: house.store.read(stolen.digest)})
    with pytest.raises(Corrupt, match="not the one that was compared"):
        load_model(house.store, mixed, served=True)


def test_a_pipeline_can_say_that_its_model_is_not_to_be_converted(house, flights):
    data = flights()
    evaluation = EvaluationDefinition(target="late", test=holdout(0.3, by="day"), convert=False)
    model = LogisticRegression().fit(data[["hour"]].to_pandas(), data["late"])
    package = house.package(model, house.split(data), evaluation=evaluation)
    report = house.models.things(house.version(package).id).parity
    assert (report.serves, report.sets) == ("original", ())
    assert not isinstance(load_model(house.store, package.tree, served=True), OnnxModel)


def test_a_version_of_before_serves_as_it_is(house, flights):
    data = flights()
    model = LogisticRegression().fit(data[["hour"]].to_pandas(), data["late"])
    tree = house.package(model, house.split(data)).tree
    kept = {
        entry.path: house.store.read(entry.digest)
        for entry in house.store.entries(tree)
        if "/formats/" not in entry.path
    }
    assert load_model(house.store, house.keep(kept), served=True).platform == "clew_polars"


def test_a_session_computes_on_one_thread():
    frame, target = table(50)
    model = LogisticRegression().fit(frame.to_numpy(), target)
    graph, _ = onnx_graphs.graph_of(
        model, [onnx_graphs.Input(name="input", kind="float64", width=len(NAMES))]
    )
    options = session_of(graph).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
