"""A trained object becomes a tree that Clew and MLflow can both load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from clew.base.errors import Invalid
from clew.base.records import CodeRef
from clew.codecs import load_value
from clew.models import EvaluationDefinition, TrainingRun, holdout, load_model

NUMBERS = ["distance", "hour"]
MLFLOW = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow.pyfunc, pandas
rows = pandas.read_json(sys.argv[2], orient="split")
print(json.dumps([float(v) for v in mlflow.pyfunc.load_model(sys.argv[1]).predict(rows)]))
"""


def mixed_pipeline(frame: pl.DataFrame):
    columns = ColumnTransformer(
        [("carrier", OneHotEncoder(), ["carrier"]), ("numbers", StandardScaler(), NUMBERS)]
    )
    model = make_pipeline(columns, LogisticRegression())
    return model.fit(frame.drop("late", "day"), frame["late"])


def stock_mlflow(house, package, rows, tmp_path: Path) -> list[float]:
    """What MLflow says of rows, in a process that knows nothing of Clew or the project."""
    house.repos.export(package.tree, "/", tmp_path / "stock")
    (tmp_path / "rows.json").write_text(rows.to_pandas().to_json(orient="split"))
    program = "import sys; sys.modules['clew'] = None\n" + MLFLOW
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "stock"), str(tmp_path / "rows.json")],
        env={"PATH": os.environ["PATH"], "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_an_estimator_is_packaged_with_its_signature_and_asked_by_matrix(house, flights):
    data = flights()
    model = RandomForestClassifier(10, random_state=0).fit(data.select(NUMBERS), data["late"])
    package = house.package(model, house.split(data))
    signature = package.signature
    assert (signature.task, signature.frame, signature.classes) == ("binary", "polars", ("0", "1"))
    assert [(c.name, c.type) for c in signature.inputs] == [(n, "double") for n in NUMBERS]
    loaded = load_model(house.store, package.tree)
    assert loaded.recipe.takes == "matrix"
    rows = data.head(40)
    expected = model.predict_proba(rows.select(NUMBERS))[:, 1]
    asked = {
        "frame": rows,
        "pandas": rows.to_pandas(),
        "matrix": rows.select(NUMBERS).to_numpy(),
        "columns": {name: rows[name].to_list() for name in NUMBERS},
    }
    for way, given in asked.items():
        outputs = loaded.predict(given)
        assert np.array_equal(outputs["probability"], expected), way
        assert np.array_equal(outputs["label"], model.predict(rows.select(NUMBERS))), way


def test_what_is_packaged_is_loaded_by_stock_mlflow(house, flights, tmp_path: Path):
    data = flights()
    model = mixed_pipeline(data)
    package = house.package(model, house.split(data))
    rows = data.head(20)
    assert [c.name for c in package.signature.inputs] == ["distance", "hour", "carrier"]
    expected = model.predict(rows.drop("late", "day")).tolist()
    assert stock_mlflow(house, package, rows, tmp_path) == expected
    assert "python_function" in (tmp_path / "stock" / "MLmodel").read_text()
    assert "sklearn" in (tmp_path / "stock" / "MLmodel").read_text()
    requirements = (tmp_path / "stock" / "requirements.txt").read_text()
    assert "scikit-learn==" in requirements
    assert "clew" not in requirements


def test_the_tree_holds_what_serving_and_monitoring_need(house, flights):
    data = flights()
    split = house.split(data)
    package = house.package(mixed_pipeline(data), split)
    version = house.version(package)
    reference = house.models.reference(version.id)
    assert set(reference["inputs"]["columns"]) == {"distance", "hour", "carrier"}
    assert reference["inputs"]["rows"] == split.train_rows
    assert set(reference["outputs"]["columns"]) == {"label", "probability"}
    training = reference["training"]
    assert training["params"] == {"depth": 3}
    assert training["test_commit"] == split.test_commit
    assert training["environment"]["scikit-learn"]
    example = json.loads(house.repos.read(package.tree, "/clew/example.json"))
    assert [t["name"] for t in example["inputs"]] == ["distance", "hour", "carrier"]
    assert [t["datatype"] for t in example["inputs"]] == ["FP64", "FP64", "BYTES"]


def test_a_class_of_the_project_travels_inside_its_model(house, flights, tmp_path: Path):
    (house.project / "mine.py").write_text(
        "import polars as pl\n"
        "FACTOR = 0.5\n"
        "def half(x): return x * FACTOR\n"
        "class Rule:\n"
        "    def predict(self, frame: pl.DataFrame):\n"
        "        return frame.select((half(pl.col('distance')) > 0).cast(pl.Int64)).to_series()\n"
    )
    program = (
        "import sys, cloudpickle; sys.path.insert(0, sys.argv[1]); import mine;"
        "sys.stdout.buffer.write(cloudpickle.dumps(mine.Rule()))"
    )
    by_name = subprocess.run(
        [sys.executable, "-c", program, str(house.project)], capture_output=True, check=True
    ).stdout
    assert b"FACTOR" not in by_name
    data = flights()
    evaluation = EvaluationDefinition(target="late", test=holdout(0.3, by="day"), task="binary")
    package = house.package(None, house.split(data), evaluation=evaluation, pickled=by_name)
    (house.project / "mine.py").unlink()
    loaded = load_model(house.store, package.tree)
    expected = (data["distance"] > 0).cast(int)[:20].to_list()
    assert loaded.predict(data.head(20))["label"].tolist() == expected
    assert stock_mlflow(house, package, data.head(20), tmp_path) == expected


def test_a_function_of_a_frame_is_a_model(house, flights):
    data = flights()

    def chance(frame):
        return 1 / (1 + np.exp(-frame["distance"].to_numpy()))

    evaluation = EvaluationDefinition(target="late", test=holdout(0.3, by="day"), task="binary")
    package = house.package(chance, house.split(data), evaluation=evaluation)
    outputs = load_model(house.store, package.tree).predict(data.head(10))
    assert np.allclose(outputs["probability"], chance(data.head(10)))
    assert outputs["label"].tolist() == (chance(data.head(10)) > 0.5).astype(int).tolist()


def test_a_numpy_model_has_one_input_without_column_names(house, flights, tmp_path: Path):
    data = flights().drop("carrier", "day")
    evaluation = EvaluationDefinition(target="late", test=holdout(0.3))
    split = house.models.split(
        "flights/model", house.features(data), evaluation, global_id="g" * 16
    )
    matrix = data.select(NUMBERS).to_numpy()
    model = LogisticRegression().fit(matrix, data["late"].to_numpy())
    package = house.package(model, split, frame="numpy", evaluation=evaluation)
    assert package.signature.width == 2
    assert len(package.signature.inputs) == 1
    loaded = load_model(house.store, package.tree)
    expected = model.predict_proba(matrix)[:, 1]
    assert np.array_equal(loaded.predict(matrix)["probability"], expected)
    with pytest.raises(Invalid, match=r"takes \[rows, 2\]"):
        loaded.predict(matrix[:, :1])


def test_a_regression_gives_predictions(house, flights):
    data = flights().with_columns((pl.col("distance") * 3).alias("late"))
    model = LinearRegression().fit(data.select(NUMBERS), data["late"])
    package = house.package(model, house.split(data))
    outputs = load_model(house.store, package.tree).predict(data.head(5))
    assert package.signature.task == "regression"
    assert np.allclose(outputs["prediction"], data["late"].head(5).to_numpy())


def test_three_classes_give_labels_and_probabilities(house, flights):
    data = flights().with_columns(pl.col("carrier").alias("late"))
    model = LogisticRegression().fit(data.select(NUMBERS), data["late"])
    package = house.package(model, house.split(data))
    assert (package.signature.task, package.signature.classes) == ("multiclass", ("AA", "DL", "UA"))
    outputs = load_model(house.store, package.tree).predict(data.head(5))
    assert outputs["probabilities"].shape == (5, 3)
    assert outputs["label"].tolist() == model.predict(data.select(NUMBERS).head(5)).tolist()


def test_a_model_of_columns_that_the_features_lack_is_refused_by_name(house, flights):
    data = flights()
    wider = data.with_columns(pl.col("hour").alias("minute"))
    model = LinearRegression().fit(wider.select("minute", *NUMBERS), wider["late"])
    with pytest.raises(Invalid, match="minute") as caught:
        house.package(model, house.split(data))
    assert caught.value.code == "model.features"


def test_what_cannot_predict_is_refused(house, flights):
    with pytest.raises(Invalid, match="cannot predict"):
        house.package({"weights": [1, 2]}, house.split(flights()))


def test_a_missing_column_of_the_input_is_named(house, flights):
    data = flights()
    model = LogisticRegression().fit(data.select(NUMBERS), data["late"])
    loaded = load_model(house.store, house.package(model, house.split(data)).tree)
    with pytest.raises(Invalid, match="no column hour"):
        loaded.predict({"distance": [1.0]})


def test_the_annotation_of_the_training_function_says_the_frame(house, flights):
    (house.project / "train.py").write_text(
        "from __future__ import annotations\nimport pandas as pd\n"
        "def model(data: pd.DataFrame, trial): ...\n"
    )
    data = flights()
    split = house.split(data)
    model = mixed_pipeline(data)
    run = TrainingRun(
        model="flights/model", job="j", global_id="g", features="c",
        function=CodeRef(snapshot="s", file="train.py", name="model"),
    )  # fmt: skip
    package = house.models.package(
        house.keep({"/model.pkl": cloudpickle.dumps(model)}),
        split=split,
        evaluation=EvaluationDefinition(target="late", test=holdout(0.3, by="day")),
        run=run,
        snapshot_dir=house.project,
    )
    assert package.signature.frame == "pandas"
    assert package.run == run


def test_where_rows_stood_in_pandas_is_no_feature(house, flights):
    """A frame that rows were dropped from has them in its index, which no client could send."""
    whole = flights().to_pandas()
    split = house.split(whole[whole.index % 3 > 0])
    train = load_value(house.store, split.train_tree, split.paths, pl.DataFrame)
    assert train.columns == list(whole.columns)
    model = LogisticRegression().fit(
        train.drop("late", "day", "carrier").to_pandas(), train["late"]
    )
    assert [column.name for column in house.package(model, split).signature.inputs] == NUMBERS
