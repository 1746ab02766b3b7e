"""A model version as a function of Spark's columns, on a real session."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

import pytest

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


PROGRAM = """
import sys
from pathlib import Path

import polars as pl
from pyspark.sql import SparkSession

import clew
from clew.base.errors import ClewError

function = clew.udf("shop/model@champion", clew.connect(directory=Path(sys.argv[1])))
session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
asked = pl.DataFrame({"a": list(range(500)), "b": [n % 7 for n in range(500)]})
here = asked.select(function.polars(), function.polars(output="label"))
frame = session.createDataFrame(asked.to_arrow()).repartition(4)
there = frame.withColumn("probability", function.spark()).withColumn(
    "label", function.spark("a", "b", output="label")
)
found = pl.from_arrow(there.toArrow()).sort("a")
assert found["probability"].to_list() == here["probability"].to_list()
assert found["label"].to_list() == here["label"].to_list()
session.udf.register("risk", function.spark_function())
frame.createOrReplaceTempView("asked")
(row,) = session.sql("SELECT risk(a, b) AS risk FROM asked WHERE a = 77").collect()
assert row.risk == here["probability"][77]
try:
    function.spark("a")
except ClewError as refused:
    assert refused.code == "udf.columns"
else:
    raise AssertionError("it takes two columns")
session.stop()
print("well")
"""


def test_executors_answer_as_the_model_here_does(home):
    files = {"shop.py": FILE, "rows.csv": ROWS}
    home.make(files, pipeline="shop.py", puts={"shop/rows": "rows.csv"})
    # in a process of its own, with which its JVM ends
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(home.directory)],
        env=home.environ | {"PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("well\n"), done.stderr[-3000:]
