"""Which rows are kept for testing."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.base.errors import Invalid
from clew.models.cutting import Odd, chosen, cut, group_keys, grown, size_of
from clew.models.definitions import holdout


def days(numbers, value: float = 1.0) -> pl.DataFrame:
    return pl.DataFrame({"day": [n // 5 for n in numbers], "x": [n * value for n in numbers]})


def test_a_fraction_outside_of_zero_and_one_is_refused():
    for fraction in (0.0, 1.0, -1, 7):
        with pytest.raises(Invalid, match="leaves nothing"):
            holdout(fraction)


def test_the_share_of_groups_is_near_the_fraction():
    keys = group_keys(pl.DataFrame({"x": range(10_000)}), "x")
    assert 0.18 < len(chosen(keys, 0.2)) / 10_000 < 0.22


def test_groups_stay_together():
    train, test = cut(days(range(1000)), holdout(0.2, by="day"), None)
    assert test is not None
    assert not set(train["day"]) & set(test["day"])
    assert train.height + test.height == 1000


def test_the_choice_is_the_same_in_every_process():
    program = (
        "import polars as pl; from clew.models.cutting import group_keys;"
        "print(group_keys(pl.DataFrame({'a':['x',None],'b':[1.0,2.5]}), None))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = group_keys(pl.DataFrame({"a": ["x", None], "b": [1.0, 2.5]}), None)
    assert answers == {f"{here}\n".encode()}


def test_the_digest_of_a_group_never_changes():
    assert [key.hex() for key in group_keys(pl.DataFrame({"d": ["2013-01-01", None]}), "d")] == [
        "ecb147f7ba3936dc",
        "74234e98afe7498f",
    ]


def test_a_column_with_gaps_and_one_without_make_the_same_groups():
    whole = pl.DataFrame({"d": [1, 2]}, schema={"d": pl.Int32})
    gaps = pl.DataFrame({"d": [1.0, 2.0]})
    assert group_keys(whole, "d") == group_keys(gaps, "d")


def test_groups_may_be_an_expression_over_columns():
    frame = pl.DataFrame({"month": [1, 1, 2], "day": [1, 1, 1]})
    keys = group_keys(frame, "month * 100 + day")
    assert keys[0] == keys[1] != keys[2]


def test_an_unknown_group_names_the_columns_there_are():
    with pytest.raises(Invalid, match=r"day, x") as caught:
        group_keys(days(range(3)), "carrier")
    assert caught.value.code == "holdout.by"


def test_one_group_cannot_be_cut():
    with pytest.raises(Invalid, match="1 group,"):
        cut(days(range(4)), holdout(0.5, by="day"), None)


def test_few_groups_leave_at_least_one_on_each_side():
    for fraction in (0.001, 0.999):
        train, test = cut(days(range(10)), holdout(fraction, by="day"), None)
        assert test is not None
        assert train.height == test.height == 5


@pytest.mark.parametrize("by", ["day", None])
def test_what_is_frozen_stays_and_new_groups_all_train(by: str | None):
    definition = holdout(0.3, by=by)
    _, frozen = cut(days(range(500)), definition, None)
    assert frozen is not None
    train, again = cut(days(range(1000)), definition, frozen)
    assert again is None
    assert train.height == 1000 - frozen.height
    assert not set(train["x"]) & set(frozen["x"])
    assert set(range(500, 1000)) <= {int(x) for x in train["x"]}


def test_new_rows_of_a_frozen_group_do_not_train():
    definition = holdout(0.3, by="day")
    _, frozen = cut(days(range(500)), definition, None)
    assert frozen is not None
    late = days(range(500), value=2.0)
    train, _ = cut(pl.concat([days(range(500)), late]), definition, frozen)
    assert not set(train["day"]) & set(frozen["day"])


def test_new_columns_cut_the_same_groups_anew():
    definition = holdout(0.3, by="day")
    _, frozen = cut(days(range(500)), definition, None)
    assert frozen is not None
    wider = days(range(800)).with_columns(pl.col("x").sin().alias("wave"))
    train, again = cut(wider, definition, frozen)
    assert again is not None
    assert set(again["day"]) == set(frozen["day"])
    assert "wave" in again.columns
    assert not set(train["day"]) & set(again["day"])


def test_a_test_set_that_grows_needs_a_name_for_rows():
    with pytest.raises(Invalid, match="without `by`") as caught:
        holdout(0.3, grow=True)
    assert caught.value.code == "holdout.by"


def test_a_test_set_that_grows_goes_with_the_data():
    definition = holdout(0.3, by="day", grow=True)
    train, first, odd = grown(days(range(500)), definition, None, Odd())
    assert (first is not None, odd) == (True, Odd())
    assert first.equals(cut(days(range(500)), holdout(0.3, by="day"), None)[1])
    again = grown(days(range(500)), definition, first, odd)
    assert again[0].equals(train)
    assert again[1] is None, "nothing is new"
    train, more, _ = grown(days(range(1000)), definition, first, odd)
    assert more is not None
    assert more.height + train.height == 1000
    assert set(first["x"]) < set(more["x"])
    assert 0.2 < more.height / 1000 < 0.4
    _, corrected, _ = grown(days(range(1000), value=2.0), definition, more, odd)
    assert corrected is not None
    assert set(corrected["day"]) == set(more["day"])
    assert set(corrected["x"]) == {2 * x for x in more["x"]}


def test_rows_in_another_order_are_no_other_test_set_and_other_types_are():
    definition = holdout(0.3, by="day", grow=True)
    rows = days(range(100)).with_columns(at=pl.date(2026, 1, 1))
    _, first, odd = grown(rows, definition, None, Odd())
    assert grown(rows.sample(fraction=1, shuffle=True), definition, first, odd)[1] is None
    timed = rows.with_columns(pl.col("at").cast(pl.Datetime))
    _, anew, _ = grown(timed, definition, first, odd)
    assert anew is not None
    assert anew.schema["at"] == pl.Datetime


def test_a_test_set_that_grows_leaves_something_to_learn_from():
    definition = holdout(0.3, by="day", grow=True)
    _, first, odd = grown(days(range(100)), definition, None, Odd())
    assert first is not None
    with pytest.raises(Invalid, match="kept for testing") as caught:
        grown(first, definition, first, odd)
    assert caught.value.code == "holdout.groups"


def test_a_test_set_stands_while_none_of_its_groups_is_there():
    definition = holdout(0.3, by="day", grow=True)
    _, first, odd = grown(days(range(500)), definition, None, Odd())
    assert first is not None
    others = days(range(500)).filter(~pl.col("day").is_in(first["day"].to_list()))
    train, stands, _ = grown(others, definition, first, odd)
    assert stands is None
    assert train.equals(others)


@given(
    st.floats(0.01, 0.99),
    st.lists(st.sets(st.integers(0, 30), min_size=2), min_size=1, max_size=8),
    st.data(),
)
def test_no_group_that_was_ever_tested_on_is_ever_trained_on_while_it_grows(fraction, rounds, data):
    definition = holdout(fraction, by="day", grow=True)
    frozen, odd, trained, tested = None, Odd(), set(), set()
    for at, groups in enumerate(rounds):
        features = pl.DataFrame({"day": sorted(groups), "x": [float(at)] * len(groups)})
        if data.draw(st.booleans(), "another column"):
            features = features.with_columns(pl.lit(1).alias(f"y{at}"))
        try:
            train, test, odd = grown(features, definition, frozen, odd)
        except Invalid:
            assert not groups & trained, "all of them are for testing"
            continue
        frozen = test if test is not None else frozen
        assert frozen is not None
        assert frozen.height, "there is always something to judge on"
        trained |= set(train["day"])
        tested |= set(frozen["day"])
        assert not trained & tested
        assert train.height + features.filter(pl.col("day").is_in(list(tested))).height == len(
            groups
        )


def test_a_test_set_that_came_out_far_from_its_fraction_says_why():
    table = pl.DataFrame({"sex": ["f", "m"] * 300, "class": [1, 2, 3] * 200, "y": [0, 1] * 300})
    train, test = cut(table, holdout(0.25), None)
    assert test is not None
    kinds = test.unique().height
    assert test.height == 100 * kinds, "equal rows stay together"
    said = size_of(test.height, train.height, 0.25)
    assert said.startswith(f"{test.height:,} of 600 rows ({test.height / 600:.0%})")
    assert ("stay together" in said) == (abs(test.height / 600 - 0.25) > 0.125)
    assert size_of(26, 74, 0.25) == "26 of 100 rows (26%)"
    assert size_of(6, 94, 0.25) == (
        "6 of 100 rows (6%), where 25% were asked for: equal rows (or groups) stay together"
    )
