"""Requests of the Open Inference Protocol against a signature, and answers, as pure functions."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.base.records import Column, Signature
from clew.serving.contract import Tensor, contract_of
from clew.serving.protocol import Outputs, check, parse, read_outputs
from clew.serving.tensors import InputError, from_raw, to_raw

COLUMNS = contract_of(
    Signature(
        frame="polars",
        inputs=(
            Column(name="distance", type="double"),
            Column(name="delay", type="double", nullable=True),
            Column(name="stops", type="int32"),
            Column(name="late", type="bool"),
            Column(name="carrier", type="string"),
        ),
        width=5,
        task="regression",
    )
)
MATRIX = contract_of(Signature(frame="numpy", inputs=(), width=3, task="regression"))
NUMBERS = contract_of(
    Signature(
        frame="polars",
        inputs=(Column(name="a", type="double"), Column(name="b", type="int64")),
        width=2,
        task="regression",
    )
)


def tensor(name, datatype, data, shape=None):
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def row(**changes):
    tensors = {
        "distance": tensor("distance", "FP64", [1.5]),
        "delay": tensor("delay", "FP64", [2.5]),
        "stops": tensor("stops", "INT32", [1]),
        "late": tensor("late", "BOOL", [True]),
        "carrier": tensor("carrier", "BYTES", ["UA"]),
    } | changes
    return [value for value in tensors.values() if value is not None]


def ask(contract, inputs, **more):
    return check(parse("v2", json.dumps({"inputs": inputs, **more}).encode()), contract)


def test_named_columns_become_the_columns_of_the_signature():
    values, rows = ask(COLUMNS, row())
    assert rows == 1
    assert values == {
        "distance": [1.5], "delay": [2.5], "stops": [1], "late": [True], "carrier": ["UA"],
    }  # fmt: skip


def test_the_order_of_inputs_does_not_matter():
    assert ask(COLUMNS, row()[::-1]) == ask(COLUMNS, row())


def test_a_column_may_have_the_shape_rows_by_one_flat_or_nested():
    flat = ask(COLUMNS, row(distance=tensor("distance", "FP64", [1.5], [1, 1])))
    nested = ask(COLUMNS, row(distance=tensor("distance", "FP64", [[1.5]], [1, 1])))
    assert flat == nested == ask(COLUMNS, row())


def test_whole_numbers_are_taken_for_floats_and_narrow_types_for_wide_ones():
    values, _ = ask(COLUMNS, row(distance=tensor("distance", "INT64", [3])))
    assert values["distance"] == [3.0]
    assert type(values["distance"][0]) is float


def test_a_whole_number_is_an_integer_however_json_wrote_it():
    as_integer, as_float = tensor("stops", "INT32", [1.0]), tensor("stops", "FP64", [1.0])
    for stops in (as_integer, as_float):
        values, _ = ask(COLUMNS, row(stops=stops))
        assert values["stops"] == [1]
        assert type(values["stops"][0]) is int
    raw = np.array([7.0]).tobytes()
    assert NUMBERS.rules[1].take(Tensor("b", "FP64", (1,), None, memoryview(raw))) == [7]
    matrix = contract_of(
        Signature(frame="numpy", inputs=(Column(name="x", type="int64"),), width=2, task="binary")
    )
    values, _ = ask(matrix, [tensor("x", "FP64", [1.0, 2], [1, 2])])
    assert values.tolist() == [[1, 2]]
    assert values.dtype == np.int64
    with pytest.raises(InputError, match="a fraction"):
        ask(matrix, [tensor("x", "FP64", [1.0, 2.5], [1, 2])])


def test_a_fraction_in_raw_bytes_is_no_integer():
    raw = np.array([7.5]).tobytes()
    with pytest.raises(InputError, match="a fraction"):
        NUMBERS.rules[1].take(Tensor("b", "FP64", (1,), None, memoryview(raw)))


def test_null_is_a_missing_value_where_the_column_may_miss_one():
    values, _ = ask(COLUMNS, row(delay=tensor("delay", "FP64", [None])))
    assert values["delay"] == [None]


def test_nan_as_python_writes_it_is_read():
    values, _ = ask(MATRIX, [tensor("x", "FP64", [1.0, float("inf"), 3.0], [1, 3])])
    assert values[0, 1] == np.inf


def test_one_tensor_with_all_columns_in_order_is_taken():
    values, rows = ask(NUMBERS, [tensor("x", "INT64", [[1, 2], [3, 4]], [2, 2])])
    assert (values, rows) == ({"a": [1.0, 3.0], "b": [2, 4]}, 2)


def test_a_matrix_is_flat_or_nested_under_any_name():
    flat, rows = ask(MATRIX, [tensor("any", "FP32", [1, 2, 3, 4, 5, 6], [2, 3])])
    nested, _ = ask(MATRIX, [tensor("other", "FP64", [[1, 2, 3], [4, 5, 6]], [2, 3])])
    assert rows == 2
    assert flat.dtype == np.float64
    assert np.array_equal(flat, nested)


REFUSED = [
    (row(distance=None), "missing 'distance'"),
    (row(delay=None, late=None), "missing 'delay', 'late'"),
    (row(more=tensor("more", "FP64", [1.0])), "unknown 'more'"),
    ([*row(), tensor("late", "BOOL", [True])], "'late' is given twice"),
    (row(distance=tensor("distance", "FP64", [1.0, 2.0])), "all must agree"),
    (row(distance=tensor("distance", "FP64", [1.0], [1, 1, 1])), "expects shape [rows]"),
    (row(distance=tensor("distance", "FP64", [1.0, 2.0], [1])), "needs 1 elements"),
    (row(distance=tensor("distance", "FP64", [[1.0]], [1])), "a list"),
    (row(distance=tensor("distance", "FP64", ["1.0"])), "got text"),
    (row(distance=tensor("distance", "FP64", [True])), "got true/false"),
    (row(distance=tensor("distance", "FP64", [None])), "missing (null)"),
    (row(distance=tensor("distance", "FP64", [float("nan")])), "missing (null)"),
    (row(distance=tensor("distance", "BYTES", ["x"])), "got BYTES"),
    (row(distance=tensor("distance", "FP63", [1.0])), "datatype must be one of"),
    (row(distance=tensor("distance", "FP64", "text", [1])), "data must be a list"),
    (row(stops=tensor("stops", "FP64", [1.5])), "expects INT32 (whole numbers): got a fraction"),
    (row(stops=tensor("stops", "INT32", [float("inf")])), "got a fraction"),
    (row(stops=tensor("stops", "INT32", [1e300])), "out of its range"),
    (row(stops=tensor("stops", "BOOL", [True])), "got BOOL"),
    (row(stops=tensor("stops", "INT32", [1.5])), "got a fraction"),
    (row(stops=tensor("stops", "INT64", [2**40])), "out of its range"),
    (row(late=tensor("late", "BOOL", [1])), "got a whole number"),
    (row(carrier=tensor("carrier", "BYTES", [7])), "got a whole number"),
    (row(carrier=tensor("carrier", "BYTES", [None])), "missing (null)"),
    ([{"datatype": "FP64", "shape": [1], "data": [1]}], "needs a name"),
    ([{"name": "x", "datatype": "FP64", "shape": "1", "data": [1]}], "shape must be a list"),
    ([{"name": "x", "datatype": "FP64", "shape": [-1], "data": [1]}], "shape must be a list"),
    ([{"name": "x", "datatype": "FP64", "shape": [2**62, 9], "data": [1]}], "too large"),
    ([{"name": "x", "datatype": "FP64", "shape": [1]}], "has no data"),
    (["x"], "must be an object"),
]


@pytest.mark.parametrize(("inputs", "says"), REFUSED)
def test_wrong_columns_are_refused_with_what_is_expected(inputs, says):
    with pytest.raises(InputError) as refused:
        ask(COLUMNS, inputs)
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([tensor("x", "FP64", [1, 2], [1, 2])], "FP64 of shape [rows, 3]"),
        ([tensor("x", "FP64", [1, 2, 3], [3])], "FP64 of shape [rows, 3]"),
        ([tensor("x", "FP64", [], [0, 3])], "FP64 of shape [rows, 3]"),
        ([tensor("x", "FP64", [[1, 2], [3]], [1, 3])], "not nested as shape"),
        ([tensor("x", "FP64", [1, "2", 3], [1, 3])], "got text"),
        ([tensor("x", "FP64", [1, None, 3], [1, 3])], "missing (null or NaN)"),
        ([tensor("x", "FP64", [1, 10**400, 3], [1, 3])], "infinity"),
        ([tensor("x", "BYTES", ["1", "2", "3"], [1, 3])], "got BYTES"),
        ([tensor("x", "FP64", [1, 2, 3], [1, 3])] * 2, "one input"),
    ],
)
def test_a_wrong_matrix_is_refused_with_what_is_expected(inputs, says):
    with pytest.raises(InputError) as refused:
        ask(MATRIX, inputs)
    assert says in refused.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"{}",
        b'{"inputs":[]}',
        b'{"inputs":{}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_request_is_refused(body):
    with pytest.raises(InputError):
        parse("v2", body)


def binary(tensors, **more):
    """A request whose tensors (name, datatype, shape, raw) follow the JSON."""
    inputs = [
        {"name": n, "datatype": d, "shape": s, "parameters": {"binary_data_size": len(raw)}}
        for n, d, s, raw in tensors
    ]
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + b"".join(raw for *_, raw in tensors), len(head)


def test_raw_tensors_follow_the_json_in_order():
    strings = b"".join(struct.pack("<I", len(s)) + s for s in (b"UA", b"\xc3\xa9"))
    body, head = binary(
        [
            ("distance", "FP64", [2], np.array([1.5, 2.5]).tobytes()),
            ("delay", "FP32", [2, 1], np.array([np.nan, 1], "<f4").tobytes()),
            ("stops", "INT32", [2], np.array([1, 2], "<i4").tobytes()),
            ("late", "BOOL", [2], b"\x01\x00"),
            ("carrier", "BYTES", [2], strings),
        ]
    )
    values, rows = check(parse("v2", body, head), COLUMNS)
    assert rows == 2
    assert COLUMNS.columns(values) == {
        "distance": [1.5, 2.5], "delay": [None, 1.0], "stops": [1, 2], "late": [True, False],
        "carrier": ["UA", "é"],
    }  # fmt: skip


def test_raw_and_json_tensors_may_stand_together():
    raw = np.array([1.5]).tobytes()
    inputs = row(distance=None)
    size = {"binary_data_size": 8}
    inputs.append({"name": "distance", "datatype": "FP64", "shape": [1], "parameters": size})
    head = json.dumps({"inputs": inputs}).encode()
    values, _ = check(parse("v2", head + raw, len(head)), COLUMNS)
    assert list(values["distance"]) == [1.5]


@pytest.mark.parametrize(
    ("raw", "size", "says"),
    [
        (b"12345678", 24, "binary_data_size"),
        (b"1" * 32, 24, "follow the JSON"),
        (b"1" * 16, 16, "24 bytes"),
        (b"1" * 24, -1, "whole number"),
        (b"1" * 24, "24", "whole number"),
    ],
)
def test_raw_bytes_that_do_not_add_up_are_refused(raw, size, says):
    value = {"name": "x", "datatype": "FP64", "shape": [1, 3]}
    head = json.dumps({"inputs": [value | {"parameters": {"binary_data_size": size}}]}).encode()
    with pytest.raises(InputError) as refused:
        check(parse("v2", head + raw, len(head)), MATRIX)
    assert says in refused.value.message


def test_a_header_length_beyond_the_body_is_refused():
    with pytest.raises(InputError):
        parse("v2", b"{}", 3)


def test_typed_and_raw_contents_exclude_each_other():
    value = tensor("x", "FP64", [1, 2, 3], [1, 3]) | {"parameters": {"binary_data_size": 24}}
    head = json.dumps({"inputs": [value]}).encode()
    with pytest.raises(InputError, match="both data and binary_data_size"):
        parse("v2", head + b"1" * 24, len(head))


@pytest.mark.parametrize("raw", [b"\x05\x00\x00\x00ab", b"\x01\x00\x00", b"\x00\x00\x00\x00" * 3])
def test_strings_that_are_cut_short_or_too_many_are_refused(raw):
    with pytest.raises(InputError):
        from_raw(memoryview(raw), "BYTES", 1, "x")


def test_half_precision_and_bfloat_are_read():
    halves = from_raw(memoryview(np.array([1.5], "<f2").tobytes()), "FP16", 1, "x")
    brains = from_raw(memoryview(b"\xc0\x3f"), "BF16", 1, "x")
    assert (halves[0], brains[0]) == (1.5, 1.5)


@given(st.lists(st.text()))
def test_strings_survive_their_raw_form(words):
    raw = to_raw(np.array(words, dtype=object))
    assert from_raw(memoryview(raw), "BYTES", len(words), "x").tolist() == words


def test_v1_instances_are_objects_or_lists_in_order():
    named = {"distance": 1.5, "delay": None, "stops": 1, "late": False, "carrier": "UA"}
    body = json.dumps({"instances": [named, [2, 1.0, 0, True, "AA"]]}).encode()
    values, rows = check(parse("v1", body), COLUMNS)
    assert rows == 2
    assert values["distance"] == [1.5, 2.0]
    assert values["carrier"] == ["UA", "AA"]


@pytest.mark.parametrize(
    "instances",
    [[], [{}], [{"distance": 1}], [[1]], ["x"], [[1, 1, 1, True, "x"], {}], None],
)
def test_v1_instances_that_are_not_the_inputs_are_refused(instances):
    body = json.dumps({"instances": instances}).encode()
    with pytest.raises(InputError):
        check(parse("v1", body), COLUMNS)


# answers ----------------------------------------------------------------------------------------


OUTPUTS = {
    "label": np.array(["a", "é", "c"]),
    "score": np.array([0.25, np.nan, 1.0]),
    "pair": np.arange(6, dtype=np.int64).reshape(3, 2),
    "sure": np.array([True, False, True]),
}


def test_outputs_are_cut_by_request_with_their_shapes():
    outputs = Outputs(OUTPUTS)
    found = json.loads(outputs.json(1, 3, outputs.chosen(())))
    assert [one["name"] for one in found] == list(OUTPUTS)
    assert [one["datatype"] for one in found] == ["BYTES", "FP64", "INT64", "BOOL"]
    assert [one["shape"] for one in found] == [[2], [2], [2, 2], [2]]
    assert [one["data"] for one in found] == [
        ["é", "c"], [None, 1.0], [2, 3, 4, 5], [False, True],
    ]  # fmt: skip


def test_only_the_outputs_that_are_asked_for_are_given_in_that_order():
    outputs = Outputs(OUTPUTS)
    found = json.loads(outputs.json(0, 1, outputs.chosen(("pair", "label"))))
    assert [one["name"] for one in found] == ["pair", "label"]


def test_an_output_that_does_not_exist_is_refused_by_naming_those_that_do():
    with pytest.raises(InputError, match="'label', 'score', 'pair', 'sure'"):
        Outputs(OUTPUTS).chosen(("nope",))


@pytest.mark.parametrize("binary_names", [None, frozenset({"pair", "label"})])
def test_raw_and_json_answers_say_the_same(binary_names):
    outputs = Outputs(OUTPUTS)
    places = outputs.chosen(())
    plain = b'{"outputs":' + outputs.json(0, 3, places) + b"}"
    tensors, raw = outputs.binary(0, 3, places, binary_names)
    head = b'{"outputs":' + tensors + b"}"
    here, there = read_outputs(plain), read_outputs(head + raw, len(head))
    assert here["score"][1] is None
    assert here.pop("score")[::2] == there.pop("score")[::2]
    assert here == there


@pytest.mark.parametrize("binary_names", [None, frozenset()])
def test_an_answer_names_the_classes_of_its_probabilities_in_order(binary_names):
    grapes = ("barbera", "barolo", "grigno,lino")
    three = Outputs({"label": np.array(["barolo"]), "probabilities": np.eye(3)[1:2]}, grapes)
    label, probabilities = json.loads(three.binary(0, 1, (0, 1), binary_names)[0])
    assert json.loads(probabilities["parameters"]["clew-classes"]) == list(grapes)
    assert "clew-classes" not in label.get("parameters", {})
    two = Outputs({"probability": np.array([0.1])}, ("no", "yes"))
    assert json.loads(json.loads(two.json(0, 1, (0,)))[0]["parameters"]["clew-classes"]) == ["yes"]


def test_v1_answers_are_values_or_objects():
    assert json.loads(Outputs({"y": np.array([1.0, 2.0])}).rows(0, 2)) == [1.0, 2.0]
    two = Outputs({"y": np.array([1.0, 2.0]), "z": np.array(["a", "b"])})
    assert json.loads(two.rows(1, 2)) == [{"y": 2.0, "z": "b"}]
