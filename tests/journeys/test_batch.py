"""Batches of predictions: new files alone, the model that an alias stands on, all explained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from clew.base.errors import Invalid
from clew.base.settings import Settings
from clew.sdk.udfs import udf
from clew.workspace import open_workspace

PIPELINE = """
import clew
import polars as pl
from sklearn.linear_model import LogisticRegression

p = clew.Pipeline("p")
rows = p.source("rows")
asked = p.source("asked")

@p.train(rows, target="y", test=clew.holdout(0.3, by="x"))
def model(data: pl.DataFrame, trial: clew.Trial) -> object:
    return LogisticRegression(C=1.0).fit(data.select("x", "z"), data["y"])

@p.gate(model)
def good(candidate):
    candidate.at_least("accuracy", 0.5)

p.batch(asked, model)
p.batch(asked, model, name="later", follow=False, keep=["id"], prefix="said_")
"""


def table(rows: int = 120) -> bytes:
    lines = [f"{n},{n % 7},{int(n > rows / 2)}" for n in range(rows)]
    return "\n".join(["x,z,y", *lines]).encode()


def questions(first: int, rows: int = 20) -> bytes:
    frame = pl.DataFrame({"id": range(first, first + rows)}).with_columns(
        x=pl.col("id") * 3, z=pl.col("id") % 7
    )
    return frame.write_csv().encode()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    near = open_workspace(Settings(home=tmp_path / ".clew", workers=1), create=True)
    try:
        file = tmp_path / "p.py"
        file.write_text(PIPELINE)
        near.apply(file)
        near.put("p/asked", {"/a.csv": questions(0), "/b.csv": questions(100)})
        near.put("p/rows", {"/rows.csv": table()})
        near.wait()
        yield near, file
    finally:
        near.close()


def last(near: Any, step: str) -> tuple[Any, list[Any]]:
    job = next(job for job in near.jobs() if job.step == step)
    return job, [one for one in near.datums(job.id) if one.state != "skipped"]


def answers(near: Any, step: str, name: str) -> pl.DataFrame:
    found = [one for one in near.ls(f"p/{step}", recursive=True) if name in one.path]
    return pl.read_parquet(near.read(f"p/{step}:{found[0].path}"))


def test_a_batch_asks_new_files_alone_until_the_alias_moves(place):
    near, file = place
    version = near.model("p/model@champion")
    first = answers(near, "predictions", "a")
    assert first.columns == ["id", "x", "z", "label", "probability"]
    sure = first.filter(pl.col("x") < 20)["probability"].to_numpy()
    assert (sure < 0.5).all()
    assert answers(near, "later", "a").columns == ["id", "said_label", "said_probability"]

    # The same answers from Polars and from SQL.
    function = udf("p/model@champion", near)
    assert function.inputs == ("x", "z")
    asked = first.select("x", "z")
    again = asked.lazy().select(function.polars(), function.polars(output="label")).collect()
    assert np.allclose(again["probability"], first["probability"])
    assert again["label"].to_list() == first["label"].to_list()
    renamed = asked.rename({"x": "a", "z": "b"}).select(function.polars("a", "b"))
    assert np.allclose(renamed["probability"], first["probability"])
    with duckdb.connect() as sql:
        function.duckdb(sql, "late")
        sql.register("asked", asked.to_arrow())
        found = sql.execute("SELECT late(x, z) FROM asked").fetchall()
    assert np.allclose([one for (one,) in found], first["probability"])
    for wrong, code in ((lambda: function.polars("a"), "udf.columns"), (
        lambda: function.polars(output="speed"), "udf.output"
    )):  # fmt: skip
        with pytest.raises(Invalid) as caught:
            wrong()
        assert caught.value.code == code

    near.put("p/asked", {"/c.csv": questions(200)})
    near.wait()
    job, ran = last(near, "predictions")
    assert (job.state, len(ran)) == ("done", 1), near.datums(job.id)

    found = near.why("p/predictions:/a.parquet")
    kinds = {(node.kind, node.id) for node in found.nodes}
    assert ("model_version", version.id) in kinds, found.nodes
    assert {"p/asked", "p/rows", "p/model.champion"} <= {
        node.detail.get("repo") or node.title.partition("@")[0] for node in found.nodes
    }

    file.write_text(PIPELINE.replace("C=1.0", "C=0.001"))
    near.apply(file)
    near.wait()
    assert near.model("p/model@champion").version == 2
    job, ran = last(near, "predictions")
    assert (job.state, len(ran)) == ("done", 3)
    again = answers(near, "predictions", "a")
    assert not np.allclose(again["probability"], first["probability"])
    job, ran = last(near, "later")
    before = answers(near, "later", "a")["said_probability"]
    assert np.allclose(before, first["probability"])  # what was asked stays as it was answered

    near.rollback_alias("p/model", "champion", by="ann", reason="too plain")
    near.wait()
    back = answers(near, "predictions", "a")
    assert np.allclose(back["probability"], first["probability"])
    job, ran = last(near, "predictions")
    assert (job.state, ran) == ("done", [])  # those answers are known

    near.put("p/asked", {"/d.csv": b"id,x,z,label\n1,2,3,4\n"})
    near.wait()
    job, ran = last(near, "predictions")
    assert job.state == "failed"
    assert "prefix=" in ran[0].error  # rows that have a column of the answers already
