"""gRPC's usual request and its answer: the short way says what the long way says."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

pytest.importorskip("google.protobuf", reason='not installed: pip install "clew[grpc]"')
from clew.serving.dataplane import Answer
from clew.serving.messages import MESSAGES
from clew.serving.protocol import V2, Outputs, parse
from clew.serving.runtime import Identity
from clew.serving.transcoding import body_of, bytes_of, response_of, usual_of

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def request(name="x", datatype="FP64", shape=(1, 3), raw=None, **more):
    raw = bytes(int(np.prod(shape)) * (8 if datatype == "FP64" else 4)) if raw is None else raw
    tensor = {"name": name, "datatype": datatype, "shape": shape}
    return MESSAGES["ModelInferRequest"](
        **{"model_name": "m", "inputs": [tensor], "raw_input_contents": [raw], **more}
    )


@given(
    name=NAMES.filter(bool),
    id=NAMES,
    datatype=st.sampled_from(["FP64", "FP32"]),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_a_usual_request_is_read_as_the_same_request_over_the_long_way(name, id, datatype, shape):
    asked = request(name, datatype, shape, id=id)
    usual = usual_of(asked)
    told = parse(V2, usual.body, usual.head)
    assert replace(told, tensors=tuple(told.tensors), table=[]) == usual.wire
    body, head = body_of(asked)
    assert (body[head:], body[:head]) == (usual.body[usual.head :], usual.body[: usual.head])


@pytest.mark.parametrize(
    "asked",
    [
        request(shape=(3,)),
        request(shape=(1, 3), raw=b"short"),
        request(shape=(0, 3), raw=b""),
        request(shape=(-1, -3), raw=bytes(24)),
        request(name=""),
        request(datatype="INT32"),
        request(outputs=[{"name": "y"}]),
        request(parameters={"timeout": {"int64_param": 5}}),
        request(raw_input_contents=[]),
        request(inputs=[]),
    ],
)
def test_whatever_else_it_is_goes_the_long_way(asked):
    assert usual_of(asked) is None


@given(id=NAMES, endpoint=NAMES, rows=st.integers(1, 200), words=st.lists(NAMES, min_size=1))
def test_an_answer_is_the_same_message_over_both_ways(id, endpoint, rows, words):
    identity = Identity(
        endpoint=endpoint, revision="r" * 16, number=1, model_version="m" * 16, version="3",
        global_id="g" * 16,
    )  # fmt: skip
    arrays = {
        "label": np.array(words * rows)[:rows],
        "probabilities": np.full((rows, 2), 0.5),
        endpoint: np.arange(rows),
    }
    tensors, raw = Outputs(arrays, ('"a",', "é")).binary(0, rows, range(len(arrays)), None)
    told = {name.replace("_", "-"): value for name, value in {
        "clew_global_id": "g" * 16, "clew_revision": "r" * 16, "clew_model_version": "m" * 16,
        "clew_prediction_id": "p" * 17}.items()}  # fmt: skip
    opening = {"model_name": endpoint, "model_version": "3", "id": id, "parameters": told}
    head = orjson.dumps(opening)[:-1] + b',"outputs":' + tensors + b"}"
    answer = Answer(200, head + raw, len(head), identity, "p" * 17)
    asked = request(id=id)
    assert MESSAGES["ModelInferResponse"].FromString(bytes_of(answer, asked)) == response_of(
        answer, asked
    )


def test_an_answer_of_a_graph_names_its_nodes_also_as_raw_bytes():
    identity = Identity(
        endpoint="g", revision="r", number=1, model_version="m", version="1", global_id="g"
    )
    opening = {
        "model_name": "g", "model_version": "1", "id": "x",
        "parameters": {"clew-prediction-id": "p" * 17, "clew-nodes": '{"n":1}'},
        "outputs": [{"name": "o", "datatype": "FP64", "shape": [1],
                     "parameters": {"binary_data_size": 8}}],
    }  # fmt: skip
    head = orjson.dumps(opening)
    answer = Answer(200, head + bytes(8), len(head), identity, "p" * 17)
    told = MESSAGES["ModelInferResponse"].FromString(bytes_of(answer, request()))
    assert told.parameters["clew-nodes"].string_param == '{"n":1}'
