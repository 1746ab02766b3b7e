"""Functions around a model see whole batches of checked rows, and their faults are a request's."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import polars as pl
import pytest

from clew.base.errors import Invalid
from clew.base.records import Column, Signature
from clew.base.records.processing import Processing
from clew.models.processing import Processed
from clew.serving.dataplane import DataPlane, Route
from clew.serving.runtime import Identity, Runtime

MODEL = Signature(
    frame="polars",
    inputs=(Column(name="minutes", type="double"), Column(name="far", type="bool")),
    width=2,
    task="regression",
)
SENT = (Column(name="hours", type="double"), Column(name="note", type="string", nullable=True))


class Model:
    """minutes, and 1000 more where it is far."""

    signature, platform = MODEL, "test"

    def predict(self, data):
        frame = data if isinstance(data, pl.DataFrame) else pl.DataFrame(data)
        if "minutes" not in frame.columns:
            raise Invalid("input.columns", "The input has no column minutes.")
        return {"prediction": frame["minutes"].to_numpy() + 1000 * frame["far"].to_numpy()}


def answers(before, after, asked, **more):
    """Answers to requests (lists of rows) that arrive in one turn, and the runtime."""
    about = Processing(
        code="c", preprocess="f.py:before", postprocess="f.py:after", **{"inputs": SENT} | more
    )

    async def run():
        plane = DataPlane(asyncio.get_running_loop(), None)
        ids = {"revision": "r", "model_version": "m", "version": "1", "global_id": "g"}
        identity = Identity(endpoint="e", number=1, **ids)
        runtime = Runtime(identity, Processed(Model(), about, before, after))
        plane.routes = {"e": Route("e", [(runtime, 100)])}
        found = await asyncio.gather(*(plane.infer("e", body_of(rows)) for rows in asked))
        plane.close()
        return found, runtime

    found, runtime = asyncio.run(run())
    return [(one.status, json.loads(one.body)) for one in found], runtime


def body_of(rows) -> bytes:
    hours, notes = zip(*rows, strict=True)
    tensors = [
        {"name": "hours", "datatype": "FP64", "shape": [len(rows)], "data": hours},
        {"name": "note", "datatype": "BYTES", "shape": [len(rows)], "data": notes},
    ]
    return json.dumps({"inputs": tensors}).encode()


def values(body) -> list:
    return body["outputs"][0]["data"]


def minutes(rows: pl.DataFrame) -> pl.DataFrame:
    if (rows["hours"] < 0).any():
        raise ValueError("hours below 0")
    if rows["note"].is_in(["boom"]).any():
        raise KeyError("boom")
    if rows["note"].is_in(["exit"]).any():
        raise SystemExit(3)
    return rows.select(minutes=pl.col("hours") * 60, far=pl.col("note") == "far")


def test_rows_of_several_requests_are_one_batch_and_each_gets_its_own_answer():
    batches = []

    def before(rows: pl.DataFrame) -> pl.DataFrame:
        batches.append(rows.height)
        return minutes(rows).fill_null(value=False)

    found, runtime = answers(before, None, [[(1.0, "x")], [(2.0, "far"), (3.0, None)]])
    assert batches == [3]
    assert [(status, values(body)) for status, body in found] == [
        (200, [60.0]),
        (200, [1120.0, 180.0]),
    ]
    described = runtime.contract.describe()
    assert [one["name"] for one in described] == ["hours", "note"], "what is asked of a client"


def test_a_function_may_write_into_outputs_that_the_model_gives_read_only(monkeypatch):
    answer = Model.predict

    def kept(self, data):
        found = answer(self, data)
        found["prediction"].flags.writeable = False  # as of pandas, or of another process
        return found

    def after(outputs):
        outputs["prediction"][outputs["prediction"] > 1000] = 1000.0
        return outputs

    monkeypatch.setattr(Model, "predict", kept)
    (found,), _ = answers(minutes, after, [[(1.0, "near"), (2.0, "far")]])
    assert (found[0], values(found[1])) == (200, [60.0, 1000.0])


def test_outputs_are_told_as_the_function_gives_them_and_it_sees_the_rows_if_it_asks():
    def after(outputs, rows):
        price = outputs["prediction"] * 2
        return {"price": price, "note": [n or "-" for n in rows["note"]]}

    (found, *_), _ = answers(
        lambda rows: minutes(rows).fill_null(value=False), after, [[(1.0, None), (2.0, "far")]],
        with_rows=True,
    )  # fmt: skip
    told = {one["name"]: one["data"] for one in found[1]["outputs"]}
    assert told == {"price": [120.0, 2240.0], "note": ["-", "far"]}


@pytest.mark.parametrize("kind", ["polars", "pandas", "numpy"])
def test_a_function_gets_what_it_is_annotated_with(kind):
    seen = []

    def before(rows):
        seen.append(type(rows).__module__.partition(".")[0])
        hours = rows[:, 0] if kind == "numpy" else np.asarray(rows["hours"])
        return {"minutes": hours * 60, "far": np.zeros(len(hours), dtype=bool)}

    inputs = (Column(name="hours", type="double"),)
    about = Processing(code="c", preprocess="f.py:before", takes=kind, inputs=inputs)
    found = Processed(Model(), about, before, None).predict({"hours": [1.0, 2.0]})
    assert (seen, found["prediction"].tolist()) == ([kind], [60.0, 120.0])


def test_a_bad_row_fails_its_own_request_alone():
    asked = [[(1.0, "x")], [(-1.0, "x")], [(2.0, "boom")], [(3.0, "exit")], [(4.0, "x")]]
    found, runtime = answers(minutes, None, asked)
    assert [status for status, _ in found] == [200, 400, 500, 500, 200]
    assert "f.py:before: hours below 0" in found[1][1]["error"]
    assert "f.py:before raised KeyError: 'boom'" in found[2][1]["error"]
    assert "SystemExit" in found[3][1]["error"]
    assert runtime.account.errors == 3


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (lambda rows: minutes(rows)[:1], None, "gave 1 rows for 2"),
        (lambda rows: None, None, "returned a NoneType"),
        (lambda rows: rows.select("hours"), None, "what the model does not take"),
        (minutes, lambda outputs: {"a": [1.0]}, "gave 1 rows for 2"),
        (minutes, lambda outputs: None, "returned a NoneType"),
        (minutes, lambda outputs: outputs["nothing"], "raised KeyError"),
    ],
)
def test_what_a_function_gives_wrong_is_a_fault_that_says_what(before, after, said):
    ((status, body),), _ = answers(before, after, [[(1.0, "x"), (2.0, "y")]])
    assert status == 500
    assert said in body["error"]
