"""A model version as a function of Spark's columns, on a real session."""

from __future__ import annotations

import importlib.util
import shutil

import polars as pl
import pytest

import clew
from clew.base.errors import ClewError
from clew.base.settings import Settings
from clew.workspace import open_workspace

if importlib.util.find_spec("pyspark") is None:
    pytest.skip("pyspark is not installed: make test-services installs it", allow_module_level=True)
if shutil.which("java") is None:
    pytest.skip(
        "there is no Java: apt-get install openjdk-17-jre-headless", allow_module_level=True
    )

pytestmark = pytest.mark.timeout(600)
FILE = """
import clew
from sklearn.linear_model import LogisticRegression

p = clew.Pipeline("shop")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.25))
def model(data, trial):
    return LogisticRegression().fit(data.select("a", "b"), data["y"])
"""
ROWS = "a,b,y\n" + "".join(f"{n},{n % 7},{'late' if n > 60 else 'punctual'}\n" for n in range(120))


@pytest.fixture
def session():
    from pyspark.sql import SparkSession  # noqa: PLC0415 - an extra

    found = (
        SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    )
    yield found
    found.stop()


def test_executors_answer_as_the_model_here_does(session, tmp_path):
    workspace = open_workspace(Settings(home=tmp_path / ".clew", workers=2), create=True)
    try:
        workspace.apply_files({"shop.py": FILE.encode()}, "shop.py")
        workspace.put("shop/rows", {"/rows.csv": ROWS.encode()})
        workspace.wait()
        function = clew.udf("shop/model@champion", workspace)
    finally:
        workspace.close()
    asked = pl.DataFrame({"a": list(range(500)), "b": [n % 7 for n in range(500)]})
    here = asked.select(function.polars(), function.polars(output="label"))
    frame = session.createDataFrame(asked.to_pandas()).repartition(4)
    there = frame.withColumn("probability", function.spark()).withColumn(
        "label", function.spark("a", "b", output="label")
    )
    found = pl.from_pandas(there.toPandas()).sort("a")
    assert found["probability"].to_list() == here["probability"].to_list()
    assert found["label"].to_list() == here["label"].to_list()
    session.udf.register("risk", function.spark_function())
    frame.createOrReplaceTempView("asked")
    (row,) = session.sql("SELECT risk(a, b) AS risk FROM asked WHERE a = 77").collect()
    assert row.risk == here["probability"][77]
    with pytest.raises(ClewError) as refused:
        function.spark("a")
    assert refused.value.code == "udf.columns"
