"""The short way of reading a request gives what the long way gives, or leaves it to that."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.base.records import Column, Signature
from clew.serving import protocol, quick
from clew.serving.contract import contract_of
from clew.serving.tensors import InputError

NAMED = Signature(
    frame="polars",
    inputs=tuple(Column(name=name, type="double", nullable=True) for name in "abc"),
    width=3,
    task="regression",
)
MATRIX = Signature(frame="numpy", inputs=(), width=3, task="regression")
WHOLE = Signature(frame="numpy", inputs=(Column(name="x", type="int64"),), width=3, task="binary")

numbers = st.one_of(
    st.floats(allow_nan=True), st.integers(-(2**70), 2**70), st.none(), st.booleans(), st.text()
)
requests = st.fixed_dictionaries(
    {
        "inputs": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from(["input", "a", ""]),
                    "shape": st.sampled_from([[1, 3], [2, 3], [3], [1, 2], [0, 3], [-1, 3]]),
                    "datatype": st.sampled_from(["FP64", "FP32", "INT64", "BYTES"]),
                    "data": st.lists(numbers, min_size=3, max_size=3)
                    | st.lists(st.floats(-1e9, 1e9) | st.integers(-9, 9), min_size=6, max_size=6),
                },
                optional={"parameters": st.just({})},
            ),
            max_size=2,
        )
    },
    optional={"id": st.sampled_from(["", "mine", 7]), "parameters": st.just({"clew-key": "k"})},
)


def long_way(body, contract):
    try:
        wire = protocol.parse("v2", body)
        values, rows = protocol.check(wire, contract)
    except InputError as error:
        return str(error)
    return wire.id, wire.key, rows, np.asarray(values).tolist()


@given(requests, st.sampled_from([NAMED, MATRIX, WHOLE]))
def test_what_the_short_way_takes_is_what_the_long_way_says(request, signature):
    contract = contract_of(signature)
    body = json.dumps(request).encode()
    plain = quick.read(body)
    found = None if plain is None else quick.values_of(plain, contract)
    if found is None:
        return
    wire = quick.wire(plain)
    assert (wire.id, wire.key, found[1], found[0].tolist()) == long_way(body, contract)
    assert (wire.kind, wire.outputs, wire.binary) == ("v2", (), frozenset())


@pytest.mark.parametrize("signature", [NAMED, MATRIX])
def test_the_usual_request_goes_the_short_way(signature):
    tensor = {"name": "input", "shape": [2, 3], "datatype": "FP64", "data": [1, 2.5, 3, 4, 5, 6]}
    plain = quick.read(msgspec.json.encode({"inputs": [tensor], "id": "mine"}))
    values, rows = quick.values_of(plain, contract_of(signature))
    assert (rows, values.tolist()) == (2, [[1.0, 2.5, 3.0], [4.0, 5.0, 6.0]])
    assert values.dtype == np.float64
    assert quick.wire(plain).id == "mine"
