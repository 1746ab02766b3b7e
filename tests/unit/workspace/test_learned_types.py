"""Durations, times of day and decimals: a model is asked with what it learned from."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import time, timedelta
from decimal import Decimal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import polars as pl
import pytest

from clew.base.settings import Settings
from clew.sdk.loading import load
from clew.sdk.versions import load_version
from clew.serving import ServingProcess
from clew.workspace import open_workspace, serving_settings

FILE = """
import clew
import numpy as np
import pandas as pd
import polars as pl
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

p = clew.Pipeline("p")
rows = p.source("rows")

class OfFrames(RegressorMixin, BaseEstimator):
    def fit(self, frame, target):
        self.inner_ = LinearRegression().fit(self.matrix(frame), target)
        return self

    def predict(self, frame):
        return self.inner_.predict(self.matrix(frame))

class OfPolars(OfFrames):
    def matrix(self, frame):
        assert frame.schema["lasted"] == pl.Duration("us"), frame.schema
        assert frame.schema["at"] == pl.Time
        assert frame.schema["price"] == pl.Decimal(12, 2)
        return frame.select(
            pl.col("lasted").dt.total_seconds(fractional=True).fill_null(0),
            pl.col("at").dt.hour().cast(pl.Float64),
            (pl.col("price") * pl.lit("1.10").cast(pl.Decimal(12, 2))).cast(pl.Float64),
        ).to_numpy()

class OfPandas(OfFrames):
    def matrix(self, frame):
        assert frame["lasted"].dtype.kind == "m", frame.dtypes
        assert all(type(one).__name__ == "time" for one in frame["at"]), frame["at"]
        hours = [one.hour + one.minute / 60 for one in frame["at"]]
        prices = [float(one) for one in frame["price"]]
        lasted = frame["lasted"].dt.total_seconds().fillna(0.0)
        return np.column_stack([lasted, hours, prices])

HOW = {"target": "y", "test": clew.holdout(0.4)}

@p.train(rows, **HOW)
def of_polars(data: pl.DataFrame, trial):
    return OfPolars().fit(data.drop("y"), data["y"].to_numpy())

@p.train(rows, **HOW)
def of_pandas(data: pd.DataFrame, trial):
    return OfPandas().fit(data.drop(columns="y"), data["y"])

@p.train(rows, **HOW)
def of_prices(data: pl.DataFrame, trial):
    return RandomForestRegressor(5, random_state=0).fit(
        data.select("price").to_pandas(), data["y"].to_numpy()
    )

@p.gate(of_polars)
def good_polars(candidate):
    candidate.replay()

@p.gate(of_pandas)
def good_pandas(candidate):
    candidate.replay()

@p.gate(of_prices)
def good_prices(candidate):
    candidate.replay()

p.endpoint("of_polars", of_polars)
p.endpoint("of_pandas", of_pandas, isolate=True)
p.endpoint("of_prices", of_prices)
"""
LISTS = """
import clew
import polars as pl

p = clew.Pipeline("lists")
rows = p.source("rows")

class Longest:
    def predict(self, frame):
        return frame["words"].list.len().cast(pl.Float64)

@p.train(rows, target="y", test=clew.holdout(0.4))
def model(data: pl.DataFrame, trial):
    return Longest()
"""
ASKED = {"lasted": "PT1H30M", "at": "18:30:00", "price": "19.99"}


def rows(count: int = 60) -> pl.DataFrame:
    draw = np.random.default_rng(3)
    lasted = [timedelta(seconds=float(one)) for one in draw.uniform(-5, 9000, count)]
    return pl.DataFrame(
        {
            "lasted": pl.Series([None, *lasted[1:]], dtype=pl.Duration("us")),
            "at": [time(int(one), 30, 0, 250) for one in draw.integers(0, 24, count)],
            "price": pl.Series(
                [Decimal(int(one)).scaleb(-2) for one in draw.integers(1, 10**6, count)],
                dtype=pl.Decimal(12, 2),
            ),
            "y": draw.normal(size=count),
        }
    )


def parquet(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_parquet(sink)
    return sink.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("project")
    (directory / "p.py").write_text(FILE)
    near = open_workspace(Settings(home=directory / ".clew", workers=2), create=True)
    try:
        near.apply(directory / "p.py")
        near.put("p/rows", {"/rows.parquet": parquet(rows())})
        near.wait()
        bad = [(job.step, job.state, job.reason, job.error) for job in near.jobs()
               if job.state not in {"done", "skipped"}]  # fmt: skip
        assert not bad
        yield near
    finally:
        near.close()


@pytest.fixture(scope="module")
def served(place):
    process = ServingProcess.start(serving_settings(place.rooms.settings))
    yield process.url
    process.stop()


def post(url: str, body: object) -> dict:
    try:
        with urlopen(Request(url, data=json.dumps(body).encode()), timeout=60) as reply:
            return json.load(reply)
    except HTTPError as refused:
        with refused:
            return {"status": refused.code, **json.load(refused)}


def duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    return f"{'-' if seconds < 0 else ''}PT{abs(seconds):.6f}S"


@pytest.mark.parametrize("name", ["of_polars", "of_pandas", "of_prices"])
def test_every_way_to_ask_gives_what_training_would(place, served, name):
    frame = rows().drop("y").slice(1, 8)
    version, original = load_version(place, f"p/{name}@champion")
    right = np.asarray(original.predict(frame)["prediction"])
    names = [column.name for column in version.signature.inputs]
    told = [
        {
            "lasted": duration(row["lasted"]),
            "at": row["at"].isoformat(),
            "price": float(row["price"]),
        }
        for row in frame.to_dicts()
    ]
    told = [{one: row[one] for one in names} for row in told]
    v1 = post(f"{served}/v1/models/{name}:predict", {"instances": told})
    assert np.allclose(v1["predictions"], right), v1
    inputs = [
        {"name": one, "shape": [8], "datatype": "FP64" if one == "price" else "BYTES",
         "data": [row[one] for row in told]}
        for one in names
    ]  # fmt: skip
    v2 = post(f"{served}/v2/models/{name}/infer", {"inputs": inputs})
    assert np.allclose(v2["outputs"][0]["data"], right), v2
    assert np.allclose(original.predict(frame.to_pandas())["prediction"], right)
    listed = {one: frame[one].to_list() for one in names}
    assert np.allclose(original.predict(listed)["prediction"], right)
    with load(name, directory=place.rooms.settings.home.parent) as near:
        assert np.allclose(near.predict(frame.select(names)).outputs["prediction"], right)
        pandas = frame.select(names).to_pandas()
        assert np.allclose(near.predict(pandas).outputs["prediction"], right)


def test_signatures_and_metadata_say_the_types(place, served):
    kinds = {one.name: one.type for one in place.model("p/of_polars@champion").signature.inputs}
    assert kinds == {"lasted": "duration[us]", "at": "time64[ns]", "price": "decimal128(12, 2)"}
    with urlopen(f"{served}/v2/models/of_polars", timeout=60) as reply:
        told = {one["name"]: one["datatype"] for one in json.load(reply)["inputs"]}
    assert told == {"lasted": "BYTES", "at": "BYTES", "price": "FP64"}
    parity = place.model("p/of_prices@champion")
    report = json.loads(
        place.read(f"{parity.model}@{parity.commit}:/clew/formats/onnx/parity.json")
    )
    assert report["serves"] == "onnx", report


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lasted", "an hour", "a duration in ISO 8601, such as PT1H30M"),
        ("lasted", "P1Y", "no duration such as"),
        ("lasted", 5400, "got a whole number"),
        ("at", "25:00:00", "a time of day in ISO 8601"),
        ("at", "12:00:00+02:00", "has no zone"),
        ("at", None, "missing"),
        ("price", "cheap", "could not convert"),
        ("price", "nan", "no number"),
        ("price", 1e30, "decimal"),
        ("price", float("inf"), ""),
    ],
)
def test_what_is_none_of_them_is_refused_with_what_is_expected(served, name, value, said):
    answer = post(f"{served}/v1/models/of_polars:predict", {"instances": [{**ASKED, name: value}]})
    assert answer["status"] == 400, answer
    assert said in answer["error"]


def test_what_may_be_missing_may_be_and_decimals_may_be_text(served):
    asked = [{**ASKED, "lasted": None}, {**ASKED, "lasted": "PT0S", "price": 19.99}]
    one, other = post(f"{served}/v1/models/of_polars:predict", {"instances": asked})["predictions"]
    assert one == other
    again = post(f"{served}/v1/models/of_pandas:predict", {"instances": asked})["predictions"]
    assert again[0] == again[1]


def test_predictions_are_logged_and_explained_as_they_were_asked(place, served):
    answer = place.predict("of_polars", [ASKED])
    place.wait()
    kept = place.prediction(answer.prediction_id)
    assert kept.inputs["lasted"] in ([timedelta(hours=1, minutes=30)], ["PT5400S"])
    assert kept.inputs["price"] == [19.99]


MLFLOW = """
import datetime, decimal, json, sys, warnings
sys.modules["clew"] = None
warnings.simplefilter("ignore")
import mlflow.pyfunc, pandas as pd
rows = pd.DataFrame({
    "lasted": [datetime.timedelta(hours=1, minutes=30)], "at": [datetime.time(18, 30)],
    "price": [decimal.Decimal("19.99")],
})
found = mlflow.pyfunc.load_model(sys.argv[1]).predict(rows)
print(json.dumps([float(one) for one in found]))
"""


@pytest.mark.parametrize("name", ["of_polars", "of_pandas"])
def test_mlflow_alone_asks_with_the_same_values(place, served, tmp_path, name):
    version = place.model(f"p/{name}@champion")
    place.rooms.repos.export(place.rooms.repos.commit_by_id(version.commit).tree, "/", tmp_path)
    told = subprocess.run(
        [sys.executable, "-c", MLFLOW, str(tmp_path)], capture_output=True, text=True, check=True
    )
    right = post(f"{served}/v1/models/{name}:predict", {"instances": [ASKED]})["predictions"]
    assert np.allclose(json.loads(told.stdout.splitlines()[-1]), right)


def test_a_column_that_no_request_can_hold_is_refused_when_it_is_packaged(tmp_path):
    (tmp_path / "lists.py").write_text(LISTS)
    near = open_workspace(Settings(home=tmp_path / ".clew", workers=1), create=True)
    try:
        near.apply(tmp_path / "lists.py")
        frame = pl.DataFrame({"words": [["a"], ["a", "b"]] * 20, "y": [1.0, 2.0] * 20})
        near.put("lists/rows", {"/rows.parquet": parquet(frame)})
        near.wait()
        (job,) = [one for one in near.jobs() if one.state == "failed"]
        assert "No request can hold words (List(String))" in job.error, job.error
    finally:
        near.close()
