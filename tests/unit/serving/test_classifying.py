"""The classification extension: the top classes of an output in place of its numbers."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from clew.base.records import Column, Signature
from clew.serving.classifying import top_classes
from clew.serving.columns import outputs_of
from clew.serving.dataplane import DataPlane, Route
from clew.serving.describing import server
from clew.serving.messages import MESSAGES
from clew.serving.protocol import read_outputs
from clew.serving.runtime import Identity, Runtime
from clew.serving.spool import Spool, records, segments
from clew.serving.tensors import InputError
from clew.serving.transcoding import body_of, bytes_of

CLASSES = ("bad", "good", "odd")
IDENTITY = Identity(
    endpoint="e", revision="r", number=1, model_version="m", version="1", global_id="g"
)


class Flowers:
    """Shares of three classes, their label, and a number that has no classes."""

    platform = "test"
    signature = Signature(
        frame="numpy", inputs=(Column(name="x", type="double"),), width=3, task="multiclass",
        classes=CLASSES,
    )  # fmt: skip

    def predict(self, data):
        values = np.asarray(data, dtype=np.float64)
        label = np.array(CLASSES)[values.argmax(axis=1)]
        return {"label": label, "probabilities": values, "scores": (values * 100).astype(np.int32)}


ROWS = [[0.1, 0.7, 0.2], [0.6, 0.15, 0.25]]
SCORES = [[10, 70, 20], [60, 15, 25]]


def asked(*, outputs, rows=ROWS, spool=None, binary=None, **route):
    """The answer to a request for outputs."""
    parameters = {} if binary is None else {"binary_data_output": binary}
    shape = [len(rows), 3]
    tensor = {
        "name": "x",
        "datatype": "FP64",
        "shape": shape,
        "data": [each for row in rows for each in row],
    }
    body = json.dumps({"inputs": [tensor], "outputs": outputs, "parameters": parameters}).encode()
    return answered(body, -1, spool=spool, **route)


def answered(body, head, *, spool=None, **route):
    async def ask():
        plane = DataPlane(asyncio.get_running_loop(), spool)
        runtime = Runtime(IDENTITY, Flowers())
        plane.routes = {"e": Route("e", [(runtime, 100)], **route)}
        answer = await plane.infer("e", body, head=head)
        plane.close()
        return answer

    return asyncio.run(ask())


def wanted(k, name="probabilities", **more):
    return {"name": name, "parameters": {"classification": k, **more}}


def test_the_top_classes_come_with_value_index_and_label():
    body = json.loads(asked(outputs=[wanted(2)]).body)
    (tensor,) = body["outputs"]
    assert (tensor["datatype"], tensor["shape"]) == ("BYTES", [2, 2])
    assert tensor["data"] == ["0.7:1:good", "0.2:2:odd", "0.6:0:bad", "0.25:2:odd"]
    assert "parameters" not in tensor, "the order of classes is that of their values here"


def test_outputs_without_classes_have_indices_and_others_come_as_they_are():
    outputs = [wanted(9, "scores"), {"name": "label"}, {"name": "probabilities"}]
    found = {each["name"]: each for each in json.loads(asked(outputs=outputs).body)["outputs"]}
    assert list(found) == ["scores", "label", "probabilities"]
    assert found["scores"]["data"] == ["70:1", "20:2", "10:0", "60:0", "25:2", "15:1"]
    assert found["scores"]["shape"] == [2, 3], "as many as there are"
    assert found["probabilities"]["data"] == [*ROWS[0], *ROWS[1]]
    assert json.loads(found["probabilities"]["parameters"]["clew-classes"]) == list(CLASSES)


@pytest.mark.parametrize("binary", [True, False])
def test_classes_come_as_raw_bytes_where_those_are_asked_for(binary):
    answer = asked(outputs=[wanted(1, binary_data=binary), {"name": "label"}], binary=True)
    found = read_outputs(answer.body, answer.head)
    assert found == {
        "probabilities": [["0.7:1:good"], ["0.6:0:bad"]], "label": ["good", "bad"],
    }  # fmt: skip
    head = json.loads(answer.body[: answer.head])["outputs"]
    assert ("data" in head[0]) != binary


def test_grpc_has_the_same_classes():
    request = MESSAGES["ModelInferRequest"](model_name="e")
    request.inputs.add(name="x", datatype="FP64", shape=[2, 3])
    request.raw_input_contents.append(np.array(ROWS).tobytes())
    output = request.outputs.add(name="probabilities")
    output.parameters["classification"].int64_param = 2
    answer = answered(*body_of(request))
    response = MESSAGES["ModelInferResponse"].FromString(bytes_of(answer, request))
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("BYTES", [2, 2])
    raw = response.raw_output_contents[0]
    assert raw == b"".join(
        len(each).to_bytes(4, "little") + each
        for each in (b"0.7:1:good", b"0.2:2:odd", b"0.6:0:bad", b"0.25:2:odd")
    )


@pytest.mark.parametrize("k", [0, -1, 1.5, "2", True, [1]])
def test_a_number_of_classes_that_is_none_is_refused(k):
    answer = asked(outputs=[wanted(k)])
    assert answer.status == 400
    assert b"a whole number of 1 or more" in answer.body


def test_text_has_no_classes():
    answer = asked(outputs=[wanted(1, "label")])
    assert (answer.status, b"it is text" in answer.body) == (400, True)


def test_equal_values_come_by_index_and_nan_last():
    values = np.array([[0.5, np.nan, 0.5], [np.nan, 2.0, 3.0]])
    assert top_classes("x", values, 3, ()).tolist() == [
        ["0.5:0", "0.5:2", "nan:1"], ["3.0:2", "2.0:1", "nan:0"],
    ]  # fmt: skip
    whole = np.array([[250, 7, 250]], dtype=np.uint8)
    assert top_classes("x", whole, 3, ()).tolist() == [["250:0", "250:2", "7:1"]]
    flags = np.array([[False, True]])
    assert top_classes("x", flags, 2, ()).tolist() == [["1:1", "0:0"]]


def test_the_top_of_two_classes_is_what_the_model_says():
    told = top_classes("probability", np.array([0.25, 0.75]), 2, ("no", "yes"))
    assert told.tolist() == [["0.75:0:no", "0.25:1:yes"], ["0.75:1:yes", "0.25:0:no"]]
    alone = top_classes("prediction", np.array([4.5], dtype=np.float32), 2, ())
    assert alone.tolist() == [["4.5:0"]]
    with pytest.raises(InputError):
        top_classes("word", np.array(["a"], dtype=object), 1, ())


@pytest.mark.parametrize("redact", [frozenset(), frozenset({"probabilities"})])
def test_the_log_keeps_the_values_that_the_classes_stand_for(tmp_path, redact):
    spool = Spool(tmp_path)
    asked(outputs=[wanted(1), {"name": "label"}], spool=spool, redact=redact)
    spool.close()
    (one,) = [one for each in segments(tmp_path) for one, _ in records(each.read(0, 1 << 20))]
    found = {"label": ["good", "bad"], "scores": SCORES, "probabilities": ROWS}
    assert outputs_of(one) == {name: each for name, each in found.items() if name not in redact}


@pytest.mark.parametrize("redact", [frozenset(), frozenset({"scores"})])
@pytest.mark.parametrize("binary", [True, False])
def test_the_log_keeps_all_outputs_whichever_are_asked_for(tmp_path, redact, binary):
    spool = Spool(tmp_path)
    answer = asked(outputs=[{"name": "label"}], binary=binary, spool=spool, redact=redact)
    head = None if answer.head < 0 else answer.head
    assert read_outputs(answer.body, head) == {"label": ["good", "bad"]}
    spool.close()
    (one,) = [one for each in segments(tmp_path) for one, _ in records(each.read(0, 1 << 20))]
    found = {"label": ["good", "bad"], "scores": SCORES, "probabilities": ROWS}
    assert outputs_of(one) == {name: each for name, each in found.items() if name not in redact}


def test_the_server_says_that_it_has_the_extension():
    assert "classification" in server("1")["extensions"]
