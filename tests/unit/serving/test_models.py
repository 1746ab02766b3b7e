"""Models of ``clew.models`` behind the data plane: what they take, what is known of them."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from clew.base.records import Column, Signature
from clew.models import LoadedModel
from clew.models.loading import Recipe
from clew.serving.dataplane import DataPlane, Route
from clew.serving.runtime import Identity, Runtime

ROWS = pl.DataFrame(
    {"distance": [100.0, 2500.0, 300.0, 900.0] * 10, "carrier": ["UA", "AA", "UA", "DL"] * 10}
)
LATE = np.array([0, 1, 0, 1] * 10)
SIGNATURE = Signature(
    frame="polars",
    inputs=(Column(name="distance", type="double"), Column(name="carrier", type="string")),
    width=2,
    task="binary",
    classes=("0", "1"),
)


@pytest.fixture(scope="module")
def model():
    columns = ColumnTransformer(
        [("number", StandardScaler(), ["distance"]), ("word", OneHotEncoder(), ["carrier"])]
    )
    fitted = make_pipeline(columns, LogisticRegression()).fit(ROWS, LATE)
    recipe = Recipe(takes="polars", method="predict", gives="proba", classes=(0, 1))
    return LoadedModel(signature=SIGNATURE, recipe=recipe, model=fitted)


def runtime_of(model) -> Runtime:
    ids = {"revision": "r", "model_version": "m", "version": "1", "global_id": "g"}
    return Runtime(Identity(endpoint="e", number=1, **ids), model)


def ask(model, requests):
    """Answers to requests that arrive together."""

    async def run():
        plane = DataPlane(asyncio.get_running_loop(), None)
        plane.routes = {"e": Route("e", [(runtime_of(model), 100)])}
        bodies = [json.dumps(request).encode() for request in requests]
        answers = await asyncio.gather(*(plane.infer("e", body) for body in bodies))
        plane.close()
        return answers

    return [(answer.status, json.loads(answer.body)) for answer in asyncio.run(run())]


def request(rows):
    def tensor(name, datatype, data):
        return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}

    distance = tensor("distance", "FP64", [row[0] for row in rows])
    return {"inputs": [distance, tensor("carrier", "BYTES", [row[1] for row in rows])]}


def test_a_batch_answers_as_the_model_does_row_by_row(model):
    rows = list(ROWS.iter_rows())[:8]
    answers = ask(model, [request(rows[:1]), request(rows[1:5]), request(rows[5:])])
    found = [value for _, body in answers for value in body["outputs"][1]["data"]]
    exact = model.predict(ROWS[:8])
    assert [output["name"] for output in answers[0][1]["outputs"]] == list(exact)
    assert found == pytest.approx(exact["probability"].tolist(), abs=1e-12)


def test_a_category_that_the_model_never_saw_is_that_requests_fault_alone(model):
    answers = ask(model, [request([(100.0, word)]) for word in ("UA", "XX", "AA")])
    assert [status for status, _ in answers] == [200, 400, 200]
    assert "XX" in answers[1][1]["error"]


def test_a_made_up_row_that_the_model_refuses_does_not_fail_the_revision(model, caplog):
    runtime = runtime_of(model)
    runtime.warm(None)
    assert runtime.outputs == []
    assert "made-up row" in caplog.text


def test_an_example_warms_and_tells_the_outputs(model):
    runtime = runtime_of(model)
    runtime.warm(json.dumps(request([(1.0, "UA")])).encode())
    assert [output["name"] for output in runtime.outputs] == ["label", "probability"]


class Clips:
    """Writes into its rows, as people do who mean a copy of their own."""

    def predict(self, rows):
        rows[rows < 0] = 0.0
        return rows.sum(axis=1)


def test_a_model_that_writes_into_its_rows_answers_binary_requests_as_any_other():
    takes = Signature(frame="numpy", inputs=(), width=3, task="regression")
    recipe = Recipe(takes="matrix", method="predict", gives="values")
    model = LoadedModel(signature=takes, recipe=recipe, model=Clips())
    rows = np.array([[-1.0, 2.0, 3.0]])
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 3]}
    size = {"parameters": {"binary_data_size": rows.nbytes}}
    head = json.dumps({"inputs": [tensor | size]}).encode()
    plain = json.dumps({"inputs": [tensor | {"data": [-1, 2, 3]}]}).encode()

    async def run():
        plane = DataPlane(asyncio.get_running_loop(), None)
        plane.routes = {"e": Route("e", [(runtime_of(model), 100)])}
        by_itself = await plane.infer("e", head + rows.tobytes(), head=len(head))
        answers = [by_itself, await plane.infer("e", plain)]
        plane.close()
        return answers

    for answer in asyncio.run(run()):
        assert answer.status == 200, answer.body
        assert json.loads(answer.body)["outputs"][0]["data"] == [5.0]
