"""Models of other tools become candidate versions; what runs code when it is loaded needs trust."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import cloudpickle
import joblib
import mlflow
import numpy as np
import polars as pl
import pytest
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LinearRegression, LogisticRegression

from clew.base.errors import ClewError, Denied, Invalid
from clew.base.ids import new_id
from clew.models import flavours, load_model
from clew.models.flavours import Classes, Values, adapted, raw_of
from clew.models.layout import PARITY


@pytest.fixture
def brought(house):
    """What an import of these files packages; the model as an endpoint would load it."""

    def bring(files, *, trust=False, target="", task="auto", test=None):
        house.repos.create("bought/model.source", kind="source", exist_ok=True)
        source = house.repos.commit("bought/model.source", files, replace=True)
        found = house.models.bring(
            "bought/model", source, told="a test", trust=trust, test=test, target=target, task=task
        )
        return found, load_model(house.store, found.package.tree)

    return bring


def onnx_of(model, width=2, **options) -> bytes:
    inputs = [("rows", FloatTensorType([None, width]))]
    return convert_sklearn(model, initial_types=inputs, **options).SerializeToString()


def fitted(flights, kind=LogisticRegression):
    frame = flights()
    return kind().fit(frame.select("distance", "hour").to_numpy(), frame["late"].to_numpy())


def test_an_onnx_file_is_asked_as_it_stands_and_needs_no_trust(house, flights, brought):
    model = fitted(flights)
    found, loaded = brought({"/model/m.onnx": onnx_of(model, options={"zipmap": False})})
    assert (found.flavour, found.unsafe) == ("onnx", False)
    assert (loaded.signature.frame, loaded.signature.width) == ("numpy", 2)
    assert (loaded.signature.task, loaded.signature.classes) == ("binary", ("0", "1"))
    rows = flights(50, seed=4).select("distance", "hour").to_numpy()
    answers = loaded.predict(rows)
    assert answers["probability"] == pytest.approx(model.predict_proba(rows)[:, 1], abs=1e-5)
    assert (answers["label"] == model.predict(rows)).mean() > 0.9


def test_a_classifier_in_onnx_answers_also_where_it_gives_maps(flights, brought):
    found, loaded = brought({"/model/m.onnx": onnx_of(fitted(flights))})
    rows = flights(5).select("distance", "hour").to_numpy()
    assert loaded.predict(rows)["probability"].shape == (5,)
    assert found.package.signature.task == "binary"


def test_a_regression_in_onnx_gives_numbers(flights, brought):
    model = fitted(flights, LinearRegression)
    _, loaded = brought({"/model/m.onnx": onnx_of(model)})
    rows = flights(20, seed=4).select("distance", "hour").to_numpy()
    assert loaded.signature.task == "regression"
    assert loaded.predict(rows)["prediction"] == pytest.approx(model.predict(rows), abs=1e-5)


@pytest.mark.parametrize("kind", ["pkl", "joblib"])
def test_a_pickle_is_loaded_only_where_it_is_trusted(house, flights, brought, kind, tmp_path):
    model = fitted(flights)
    file = tmp_path / f"m.{kind}"
    joblib.dump(model, file) if kind == "joblib" else file.write_bytes(pickle.dumps(model))
    files = {f"/model/m.{kind}": file.read_bytes()}
    with pytest.raises(Denied) as caught:
        brought(files)
    assert caught.value.code == "import.untrusted"
    found, loaded = brought(files, trust=True)
    assert found.unsafe
    rows = flights(20).select("distance", "hour").to_numpy()
    assert (loaded.predict(rows)["label"] == model.predict(rows)).all()
    entry = house.store.get(found.package.tree, "/clew/notes.json")
    notes = json.loads(house.store.read(entry.digest))
    assert any("pickle" in note for note in notes)


def test_a_pickle_that_nobody_trusts_runs_nothing(brought, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "went-off"), "w"))

    for path in ("/model/m.pkl", "/model/m.pt"):
        with pytest.raises(Denied):
            brought({path: pickle.dumps(Bomb())})
    assert not (tmp_path / "went-off").exists()


def test_rows_with_a_target_tell_columns_types_and_a_reference_for_drift(house, flights, brought):
    frame = flights()
    names = ["distance", "hour"]
    model = LogisticRegression().fit(frame.select(names).to_numpy(), frame["late"].to_numpy())
    rows = frame.select(*names, "late").head(200)
    found, loaded = brought(
        {"/model/m.pkl": pickle.dumps(model), "/example/rows.csv": rows.write_csv().encode()},
        trust=True,
        target="late",
    )
    assert [column.name for column in loaded.signature.inputs] == names
    house.repos.create("bought/model", kind="model")
    commit = house.repos.commit_tree("bought/model", found.package.tree, global_id=new_id())
    version = house.models.create_version(found.package, commit)
    assert (version.state, version.model, version.version) == ("candidate", "bought/model", 1)
    reference = house.models.reference(version.id)
    assert set(reference["inputs"]["columns"]) == set(names)
    assert reference["training"]["imported_from"] == "a test"
    things = house.models.things(version.id)
    assert things.metrics.test["roc_auc"] > 0.5
    assert things.importances.permuted


@pytest.mark.slow  # MLflow is imported and writes a model
@pytest.mark.filterwarnings("ignore")  # MLflow's own, where it is imported
def test_a_directory_of_mlflow_brings_its_own_signature(flights, brought, tmp_path):
    frame = flights().select("distance", "hour").to_pandas()
    model = LogisticRegression().fit(frame, flights()["late"].to_numpy())
    mlflow.sklearn.save_model(
        model, str(tmp_path / "m"), serialization_format="cloudpickle",
        signature=mlflow.models.infer_signature(frame, model.predict(frame)),
        pip_requirements=["scikit-learn"],
    )  # fmt: skip
    files = {
        f"/model/{file.relative_to(tmp_path / 'm').as_posix()}": file.read_bytes()
        for file in (tmp_path / "m").rglob("*")
        if file.is_file()
    }
    with pytest.raises(Denied):
        brought(files)
    found, loaded = brought(files, trust=True)
    assert found.flavour == "sklearn"
    assert [column.name for column in loaded.signature.inputs] == ["distance", "hour"]
    rows = flights(20, seed=3)
    assert (loaded.predict(rows)["label"] == model.predict(rows.select("distance", "hour"))).all()


@pytest.mark.slow  # MLflow is imported and writes a model
@pytest.mark.filterwarnings("ignore")  # MLflow's own, where it is imported
def test_any_pyfunc_of_mlflow_is_asked_as_mlflow_asks_it(flights, brought, tmp_path):
    class Doubles(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input["distance"] * 2

    example = flights(5).select("distance", "hour").to_pandas()
    mlflow.pyfunc.save_model(
        str(tmp_path / "m"), python_model=Doubles(), input_example=example,
        pip_requirements=["numpy"],
    )  # fmt: skip
    files = {
        f"/model/{file.relative_to(tmp_path / 'm').as_posix()}": file.read_bytes()
        for file in (tmp_path / "m").rglob("*")
        if file.is_file()
    }
    found, loaded = brought(files, trust=True)
    assert found.flavour == "mlflow pyfunc"
    rows = flights(20, seed=3)
    assert loaded.predict(rows)["prediction"] == pytest.approx(rows["distance"].to_numpy() * 2)


@pytest.mark.slow  # the tables of a registry take seconds to be made
@pytest.mark.filterwarnings("ignore")  # MLflow's own, where it is imported
def test_a_version_of_a_registry_is_fetched_by_mlflow_s_own_client(house, flights, tmp_path):
    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    script = tmp_path / "register.py"
    script.write_text(REGISTER)
    subprocess.run([sys.executable, str(script), place, str(tmp_path)], check=True)
    tree = house.models.fetch("models:/theirs@best", place)
    files = {entry.path: house.store.read(entry.digest) for entry in house.store.entries(tree)}
    assert "/model/MLmodel" in files
    house.repos.create("bought/model.source", kind="source")
    source = house.repos.commit("bought/model.source", files)
    found = house.models.bring(
        "bought/model", source, told="models:/theirs@best", trust=True, test=None, target="",
        task="auto",
    )  # fmt: skip
    assert found.package.signature.task == "binary"
    with pytest.raises(ClewError) as caught:
        house.models.fetch("models:/nobody/1", place)
    assert caught.value.code == "import.missing"


REGISTER = """
import sys, mlflow, numpy as np, pandas as pd
from sklearn.linear_model import LogisticRegression
mlflow.set_tracking_uri(sys.argv[1])
mlflow.create_experiment("e", artifact_location=sys.argv[2] + "/artifacts")
mlflow.set_experiment("e")
x = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=["a", "b"])
with mlflow.start_run():
    model = LogisticRegression().fit(x, (x["a"] > 0).astype(int))
    mlflow.sklearn.log_model(model, name="m", registered_model_name="theirs", input_example=x[:3],
                             serialization_format="cloudpickle")
mlflow.MlflowClient().set_registered_model_alias("theirs", "best", "1")
"""


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"/model/readme.md": b"hello"}, "import.kind"),
        ({"/model/a.onnx": b"x", "/model/b.onnx": b"y"}, "import.kind"),
        ({"/model/m.onnx": b"no protobuf"}, "import.unreadable"),
        ({"/example/rows.csv": b"a\n1\n"}, "import.kind"),
    ],
)
def test_what_is_no_model_is_refused_by_what_is_wrong_with_it(brought, files, code):
    with pytest.raises(ClewError) as caught:
        brought(files)
    assert caught.value.code == code


def test_a_model_that_tells_nothing_of_its_columns_asks_for_rows(brought):
    with pytest.raises(Invalid) as caught:
        brought({"/model/m.pkl": pickle.dumps(max)}, trust=True)
    assert caught.value.code == "import.example"
    assert "--example" in caught.value.hint


# what models of other libraries answer ----------------------------------------------------------


class Raw:
    names = ()

    def __init__(self, answers):
        self.answers = answers

    def __call__(self, rows):
        return np.asarray(self.answers)[: len(rows)]


@pytest.mark.parametrize(
    ("answers", "classes", "task", "form"),
    [
        ([0.2, 0.9, 0.5], (0, 1), "auto", "score"),
        ([-2.0, 3.0, 0.5], (0, 1), "auto", "logit"),
        ([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]], ("a", "b"), "auto", "proba"),
        ([[2.0, -1.0, 0.1]] * 3, (1, 2, 3), "auto", "logits"),
        ([0.2, 0.9, 0.5], (), "auto", None),
        ([0.2, 0.9, 0.5], (0, 1), "regression", None),
        ([[0.2], [0.9], [0.5]], (), "binary", "score"),
    ],
)
def test_answers_are_taken_for_what_they_look_like(monkeypatch, answers, classes, task, form):
    monkeypatch.setattr(flavours, "raw_of", lambda model: model)
    found = adapted(Raw(answers), pl.DataFrame({"a": [1.0, 2.0, 3.0]}), classes, task)
    if form is None:
        assert isinstance(found, Values)
        return
    assert isinstance(found, Classes)
    assert found.form == form
    chances = found.predict_proba(np.zeros((3, 1)))
    assert chances.sum(axis=1) == pytest.approx([1, 1, 1])
    assert set(found.predict(np.zeros((3, 1))).tolist()) <= set(found.classes_.tolist())


def test_a_model_that_predicts_by_itself_stays_as_it_is(flights):
    model = fitted(flights)
    assert raw_of(model) is None
    assert adapted(model, flights().select("distance", "hour")) is model


def test_what_is_imported_serves_in_onnx_where_it_answers_the_same(house, flights, brought):
    frame = flights().select("distance", "hour")
    model = LogisticRegression().fit(frame.to_numpy(), flights()["late"].to_numpy())
    files = {"/model/m.pkl": pickle.dumps(model), "/example/rows.csv": frame.write_csv().encode()}
    found, original = brought(files, trust=True)
    served = load_model(house.store, found.package.tree, served=True)
    assert served.platform == "onnxruntime_onnx"
    mine, theirs = original.predict(frame), served.predict(frame)
    assert mine["label"].tolist() == theirs["label"].tolist()
    assert theirs["probability"] == pytest.approx(mine["probability"], abs=1e-6)
    report = json.loads(house.store.read(house.store.get(found.package.tree, PARITY).digest))
    assert {"test", "random", "extreme", "edges"} <= {one["name"] for one in report["sets"]}


def test_what_answers_with_classes_that_it_does_not_know_wants_the_truth(house, flights, brought):
    class Words:
        def predict(self, rows):
            return np.where(np.asarray(rows["distance"]) > 0, "far", "near")

    frame = flights(60).select("distance", "hour")
    files = {
        "/model/m.pkl": cloudpickle.dumps(Words()),
        "/example/rows.csv": frame.write_csv().encode(),
    }
    with pytest.raises(Invalid) as caught:
        brought(files, trust=True)
    assert caught.value.code == "model.signature"
    assert "--test REPO --target COLUMN" in caught.value.hint
    truth = frame.with_columns(kind=pl.Series(Words().predict(frame)))
    house.repos.create("bought/rows", kind="source", exist_ok=True)
    test = house.repos.commit("bought/rows", {"/rows.csv": truth.write_csv().encode()})
    del files["/example/rows.csv"]
    found, loaded = brought(files, trust=True, test=test, target="kind")
    assert found.package.signature.classes == ("far", "near")
    assert loaded.predict(frame)["label"].tolist() == truth["kind"].to_list()
