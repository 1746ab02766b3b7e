"""What users say of a table is recorded in words that other tools know, and travels as JSON."""

import json
from datetime import date, datetime

import msgspec
import numpy as np
import pytest

from clew.base.errors import Invalid
from clew.quality import Expectation, record


def everything(t):
    t.column("a").exists().between(0, 10).greater_than(1).less_than(9.5, mostly=0.9)
    t.column("b").not_null().unique().in_set(["x", "y"]).not_in_set({"z"}).matches("^x")
    t.column("c").type("int64").between(date(2013, 1, 1), datetime(2013, 2, 1, 12))
    t.columns("d", "e").not_null(action="quarantine")
    t.row_count(min=1).unique_together("a", "b").where("a > c", action="warn")


def test_each_call_is_recorded_in_order_with_the_names_of_great_expectations():
    assert [e.kind for e in record(everything)] == [
        "expect_column_to_exist",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_between",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_unique",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_not_be_in_set",
        "expect_column_values_to_match_regex",
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_be_between",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_not_be_null",
        "expect_table_row_count_to_be_between",
        "expect_compound_columns_to_be_unique",
        "expect_rows_to_satisfy",
    ]


def test_arguments_are_those_of_great_expectations():
    recorded = record(everything)
    assert recorded[1].arguments == {"min_value": 0, "max_value": 10}
    assert recorded[2].arguments == {"min_value": 1, "max_value": None, "strict_min": True}
    assert recorded[3].arguments == {"min_value": None, "max_value": 9.5, "strict_max": True}
    assert recorded[3].mostly == 0.9
    assert recorded[10].arguments == {
        "min_value": "2013-01-01",
        "max_value": "2013-02-01T12:00:00",
    }
    assert [e.columns for e in recorded[11:13]] == [("d",), ("e",)]
    assert recorded[14].columns == ("a", "b")


def test_expectations_survive_json():
    recorded = record(everything)
    text = json.dumps(msgspec.to_builtins(recorded))
    assert msgspec.convert(json.loads(text), tuple[Expectation, ...]) == recorded


def test_scalars_of_numpy_are_recorded_as_numbers():
    (expectation,) = record(lambda t: t.column("a").between(np.int64(1), np.float32(2)))
    assert expectation.arguments == {"min_value": 1, "max_value": 2.0}


@pytest.mark.parametrize(
    "say",
    [
        lambda t: t.column("a").between(),
        lambda t: t.column("a").between(2, 1),
        lambda t: t.column("a").not_null(mostly=0),
        lambda t: t.column("a").not_null(mostly=1.1),
        lambda t: t.column("a").not_null(action="panic"),
        lambda t: t.column("a").in_set([object()]),
        lambda t: t.row_count(),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_said(say):
    with pytest.raises(Invalid) as caught:
        record(say)
    assert caught.value.code == "expectation.invalid"
    assert caught.value.hint


def test_a_function_that_expects_nothing_is_refused():
    with pytest.raises(Invalid) as caught:
        record(lambda t: None)
    assert caught.value.code == "expectation.none"
