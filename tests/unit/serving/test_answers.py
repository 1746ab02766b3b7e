"""Answers that are read at once have the values that they have one by one."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.serving.answers import AT_ONCE, columns_of
from clew.serving.columns import outputs_of
from clew.serving.spool import MATRIX, Record

whole = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
odd = st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.integers(2**64, 2**70))
values = st.one_of(whole, numbers, odd)


def record(outputs, rows=1, head=-1) -> Record:
    body = orjson.dumps({"model_name": 'a,"outputs":[', "id": "x", "outputs": outputs})
    return Record("i", "e", "r", "m", "g", 0, 0, 200, MATRIX, rows, b"", head, body)


def output(name, data, shape, datatype="FP64"):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def one_by_one(records):
    columns: dict = {}
    for each in records:
        for name, found in outputs_of(each).items():
            columns.setdefault(name, []).extend(found)
    return columns


def listed(found):
    return {name: array.tolist() for name, array in found.items()}


def same(mine, theirs):
    return orjson.dumps(mine) == orjson.dumps(theirs)  # 1 is not 1.0


@st.composite
def batches(draw):
    """Answers of one model, mostly: names, shapes and kinds of values stay, or one is another."""
    rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kinds = [draw(st.sampled_from([whole, numbers, values])) for _ in range(2)]
    name = draw(st.sampled_from(["label", 'a"b', "[1]", 'x","data":[1]', "ü\n"]))

    def one():
        label = draw(st.lists(kinds[0], min_size=rows, max_size=rows))
        chance = draw(st.lists(kinds[1], min_size=rows * width, max_size=rows * width))
        made = [output(name, label, [rows]), output("p", chance, [rows, width])]
        return made[: draw(st.sampled_from([2, 2, 2, 2, 1]))]

    outputs = [one() for _ in range(draw(st.integers(1, 5)))]
    try:
        return [record(each, rows) for each in outputs]
    except TypeError:  # a number that JSON's writer does not take
        return [record([output("p", [1.5] * rows, [rows])], rows)]


@given(batches())
def test_what_is_read_at_once_is_what_is_read_one_by_one(records):
    found = columns_of(records)
    if found is not None:
        assert same(listed(found), one_by_one(records))


@pytest.mark.parametrize("count", [1, AT_ONCE, 2 * AT_ONCE + 1])
@pytest.mark.parametrize("rows", [1, 2])
def test_numbers_of_one_shape_are_read_at_once(count, rows):
    records = [
        record(
            [
                output("label", [at] * rows, [rows], "INT64"),
                output("p", [at / 7, 1.0] * rows, [rows, 2]),
            ],
            rows,
        )
        for at in range(count)
    ]
    found = columns_of(records)
    assert found is not None
    assert found["label"].dtype == np.int64
    assert found["p"].shape == (count * rows, 2)
    assert same(listed(found), one_by_one(records))


@pytest.mark.parametrize(
    "other",
    [
        record([output("p", [None], [1])]),
        record([output("p", [True], [1])]),
        record([output("p", ["1"], [1])]),
        record([output("p", [1], [1])]),
        record([output("q", [1.0], [1])]),
        record([output("p", [1.0], [1], "FP32")]),
        record([output("p", [1.0, 2.0], [1, 2])]),
        record([output("p", [1.0], [1, 1, 1])]),
        record([output("p", [1.0], [1]), output("q", [1.0], [1])]),
        record([output("p", [1.0, 2.0], [2])], rows=2),
        record([output("p", [1.0], [1])], head=10),
        record([]),
    ],
)
def test_what_has_another_form_is_not(other):
    usual = record([output("p", [1.5], [1])])
    assert columns_of([usual, other]) is None
    assert columns_of([other, usual]) is None
