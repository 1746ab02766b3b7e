"""A model in this process answers as its endpoint does, and its predictions are in the same log."""

from __future__ import annotations

import json
import threading

import msgspec
import numpy as np
import polars as pl
import pytest

from clew.base.errors import Invalid, Unavailable
from clew.base.records import Column, Signature
from clew.serving import InProcess

NAMES = {
    "number": 1,
    "model_version": "m" * 16,
    "version": "1",
    "global_id": "g" * 16,
}


def held(laws, law, **more):
    names = {**NAMES, "revision": "", **more}
    return InProcess("e", laws.FakeModel(law), **names)


def test_rows_of_any_kind_are_asked_by_the_contract_of_the_endpoint(laws):
    with held(laws, laws.matrix()) as model:
        for rows in ([[1, 2, 3]], np.array([[1.0, 2.0, 3.0]])):
            answer = model.predict(rows)
            assert (answer.outputs, answer.model_version) == ({"prediction": [6.0]}, "m" * 16)
            assert answer.prediction_id
        assert model.inputs[0]["shape"] == [-1, 3]
        assert model.platform == "clew_numpy"
    with held(laws, laws.columns()) as model:
        frame = pl.DataFrame({"distance": [1.0], "delay": [None], "stops": [2], "carrier": ["AA"]})
        assert model.predict(frame).outputs == {"prediction": [3.0]}
        assert model.predict(frame.to_dicts()).outputs == {"prediction": [3.0]}


def test_named_floats_go_as_one_matrix_and_answer_the_same(laws):
    inputs = tuple(Column(name=name, type="double", nullable=True) for name in "abc")
    signature = Signature(frame="polars", inputs=inputs, width=3, task="regression")
    with held(laws, {"signature": msgspec.to_builtins(signature)}) as model:
        rows = [{"c": 3.0, "a": 1.0, "b": 2.0}, {"a": 0.5, "b": 0.0, "c": 0.0}]
        assert model._as_matrix(rows) is not None
        assert model.predict(rows).outputs == {"prediction": [6.0, 0.5]}
        for other in ({"a": 1, "b": 2.0, "c": 3.0}, {"a": 1.0, "b": 2.0, "c": float("nan")}):
            assert model._as_matrix([other]) is None or other["c"] != other["c"]
        assert model.predict([{"a": 1.0, "b": 2.0, "c": None}]).outputs == {"prediction": [3.0]}
        with pytest.raises(Invalid, match="Row 0 has no c"):
            model.predict([{"a": 1.0, "b": 2.0}])


def test_what_an_endpoint_refuses_is_refused(laws):
    with held(laws, laws.matrix()) as model:
        with pytest.raises(Invalid, match="shape") as refused:
            model.predict([[1, 2]])
        assert refused.value.code == "predict.refused"
    with held(laws, laws.columns()) as model, pytest.raises(Invalid, match="no input strange"):
        model.predict([{"distance": 1, "delay": 0, "stops": 1, "carrier": "x", "strange": 1}])
    with (
        held(laws, laws.matrix(fail_above=1)) as model,
        pytest.raises(Unavailable, match="the model broke"),
    ):
        model.predict([[1, 2, 3]])


def test_each_answer_is_in_the_log_of_the_endpoint(workspace, laws):
    workspace.endpoint(redact=("prediction",))
    revision = workspace.deploy(laws.matrix())
    law, more = laws.matrix(), {"revision": revision.id, "spool_dir": workspace.spool}
    with held(laws, law, redact=("prediction",), **more) as model:
        ids = [model.predict([[at, 0, 0]]).prediction_id for at in range(5)]
    workspace.serving.collect(force=True)
    found = workspace.serving.predictions("e", 10)
    assert sorted(one.id for one in found) == sorted(ids)
    assert {tuple(one.outputs) for one in found} == {()}


def test_several_threads_ask_one_model_and_slow_ones_too(laws):
    with held(laws, laws.matrix(sleep_s=0.003)) as model:
        answers = []
        threads = [
            threading.Thread(
                target=lambda at=at: answers.append(
                    (at, [model.predict([[at, 0, 0]]).outputs["prediction"][0] for _ in range(5)])
                )
            )
            for at in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == [(at, [float(at)] * 5) for at in range(6)]


def test_a_raw_request_is_answered_with_the_bytes_of_http(laws):
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}
    with held(laws, laws.matrix()) as model:
        answer = model.answer(json.dumps({"inputs": [tensor], "id": "mine"}).encode())
    body = json.loads(answer.body)
    assert (answer.status, body["id"], body["outputs"][0]["data"]) == (200, "mine", [6.0])
