"""Whether a frame is as expected, which rows are not, and what follows."""

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.base.errors import Invalid
from clew.quality import check, record


def judge(frame, say):
    return check(frame, record(say))


def one(frame, say):
    (result,) = judge(frame, say).results
    return result


def broken(frame, say):
    """Numbers of the rows that break the one expectation."""
    return list(judge(frame, lambda t: say(t, action="quarantine")).quarantined)


FRAME = pl.DataFrame(
    {
        "n": [1, 5, None, 20, 5],
        "x": [0.5, math.nan, math.inf, -1.0, None],
        "s": ["aa", "b", None, "ab", "b"],
        "day": [date(2013, 1, d) for d in (1, 2, 3, 4, 5)],
        "at": [datetime(2013, 1, d, 12) for d in (1, 2, 3, 4, 5)],
    }
)


@pytest.mark.parametrize(
    ("say", "rows"),
    [
        (lambda t, **k: t.column("n").between(2, 10, **k), [0, 3]),
        (lambda t, **k: t.column("n").between(min=5, **k), [0]),
        (lambda t, **k: t.column("n").greater_than(5, **k), [0, 1, 4]),
        (lambda t, **k: t.column("n").less_than(5, **k), [1, 3, 4]),
        (lambda t, **k: t.column("n").not_null(**k), [2]),
        (lambda t, **k: t.column("n").unique(**k), [1, 4]),
        (lambda t, **k: t.column("n").in_set([1, 5], **k), [3]),
        (lambda t, **k: t.column("n").in_set(range(100), **k), []),
        (lambda t, **k: t.column("n").in_set(range(10), **k), [3]),
        (lambda t, **k: t.column("n").in_set([None], **k), [0, 1, 3, 4]),
        (lambda t, **k: t.column("n").not_in_set([5], **k), [1, 4]),
        (lambda t, **k: t.column("n").matches("^[15]$", **k), [3]),
        (lambda t, **k: t.column("x").not_null(**k), [1, 4]),
        (lambda t, **k: t.column("x").between(0, 1, **k), [2, 3]),
        (lambda t, **k: t.column("x").between(min=0, **k), [3]),
        (lambda t, **k: t.column("s").in_set(["aa", "ab"], **k), [1, 4]),
        (lambda t, **k: t.column("s").matches("^a", **k), [1, 4]),
        (lambda t, **k: t.column("s").between("aa", "az", **k), [1, 4]),
        (lambda t, **k: t.column("day").between(date(2013, 1, 2), date(2013, 1, 4), **k), [0, 4]),
        (lambda t, **k: t.column("day").in_set([date(2013, 1, 1)], **k), [1, 2, 3, 4]),
        (lambda t, **k: t.column("at").greater_than(datetime(2013, 1, 4, 12), **k), [0, 1, 2, 3]),
        (lambda t, **k: t.column("at").less_than(date(2013, 1, 5), **k), [4]),
        (lambda t, **k: t.unique_together("n", "s", **k), [1, 4]),
        (lambda t, **k: t.where("n > 1 AND s = 'b'", **k), [0, 3]),
        (lambda t, **k: t.where("at >= day", **k), []),
    ],
)
def test_each_rule_finds_the_rows_that_break_it(say, rows):
    assert broken(FRAME, say) == rows


values = st.one_of(st.none(), st.floats(-100, 100), st.just(math.nan), st.integers(-5, 5))


@settings(max_examples=60, deadline=None)
@given(st.lists(values, max_size=30), st.floats(-50, 50), st.floats(0, 50), st.booleans())
def test_between_and_not_null_agree_with_plain_python(cells, low, width, as_pandas):
    high = low + width
    frame = pl.DataFrame({"x": cells}, schema={"x": pl.Float64}, strict=False)
    given_frame = frame.to_pandas() if as_pandas else frame
    missing = [c is None or math.isnan(c) for c in cells]
    outside = [not m and not low <= c <= high for c, m in zip(cells, missing, strict=True)]
    report = judge(given_frame, lambda t: t.column("x").between(low, high).not_null())
    between, not_null = report.results
    assert (between.failed_rows, between.total) == (sum(outside), len(cells) - sum(missing))
    assert (not_null.failed_rows, not_null.total) == (sum(missing), len(cells))
    assert report.passed == (not any(outside) and not any(missing))
    assert [e["row"] for e in between.examples] == [i for i, o in enumerate(outside) if o][:5]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=50), st.floats(0.01, 1))
def test_mostly_is_the_share_that_must_keep_the_rule(kept, mostly):
    frame = pl.DataFrame({"x": [1 if k else -1 for k in kept]})
    result = one(frame, lambda t: t.column("x").between(0, 2, mostly=mostly))
    assert result.passed == (sum(kept) / len(kept) >= mostly - 1e-9)


@pytest.mark.parametrize(
    "frame",
    [FRAME, FRAME.lazy(), FRAME.to_pandas(), FRAME.to_arrow(), FRAME.to_arrow().to_batches()[0]],
    ids=["polars", "lazy", "pandas", "arrow", "batch"],
)
def test_the_kind_of_frame_makes_no_difference(frame):
    def say(t):
        t.column("n").between(2, 10).not_null(action="quarantine")
        t.column("s").matches("^a")
        t.column("at").less_than(date(2013, 1, 5))

    def plain(report):
        return [(r.passed, r.failed_rows, r.total) for r in report.results], report.quarantined

    assert plain(judge(frame, say)) == plain(judge(FRAME, say))


def test_examples_are_up_to_five_rows_with_their_numbers_and_plain_values():
    frame = pl.DataFrame(
        {
            "row": list(range(9)),
            "x": [-1.0] * 9,
            "money": [Decimal("1.5")] * 9,
            "blob": [b"\xff"] * 9,
            "at": [datetime(2013, 1, 1, tzinfo=UTC)] * 9,
            "many": [[1, 2]] * 9,
            "pair": [{"a": 1}] * 9,
        }
    )
    report = judge(frame, lambda t: t.column("x").between(0, 1))
    (result,) = report.results
    assert [e["row"] for e in result.examples] == [0, 1, 2, 3, 4]
    assert list(result.examples[1].items())[:3] == [("row", 1), ("x", -1.0), ("column row", 1)]
    assert result.failed_rows == 9
    text = json.dumps(msgspec.to_builtins(report))
    assert '"money": "1.5"' in text
    assert '"blob": "ff"' in text


def test_a_failure_says_what_was_expected_and_shows_the_first_row():
    message = one(FRAME, lambda t: t.column("n").between(2, 10)).message
    assert message == "n should be between 2 and 10: 2 of 4 do not; first row 0, n=1"


def test_a_missing_column_is_not_met_and_near_names_are_listed():
    result = one(pl.DataFrame({"dep_delay": [1]}), lambda t: t.column("dep_dely").not_null())
    assert not result.passed
    assert result.message == "There is no column 'dep_dely'; there is 'dep_delay'."
    predicate = one(pl.DataFrame({"dep_delay": [1]}), lambda t: t.where("dep_dely > 0"))
    assert "'dep_delay'" in predicate.message


@pytest.mark.parametrize(
    "say",
    [
        lambda t: t.column("s").between(1, 2),
        lambda t: t.column("n").in_set(["a"]),
        lambda t: t.column("s").matches("(?=a)"),
        lambda t: t.column("at").greater_than("not a time"),
        lambda t: t.where("n >< 3 ("),
        lambda t: t.where("no_such_function(n) > 3"),
    ],
)
def test_what_cannot_be_checked_is_not_met_and_hides_no_other_result(say):
    def both(t):
        say(t)
        t.column("n").between(2, 10)

    first, second = judge(FRAME, both).results
    assert not first.passed
    assert ". It cannot be checked" in first.message
    assert (second.failed_rows, second.total) == (2, 4)


def test_what_cannot_be_checked_is_named_with_the_kind_of_its_column():
    """One file with NA where numbers are makes text of a whole column."""
    frame = pl.DataFrame({"bill": ["39.1", "NA"]})
    (only,) = judge(frame, lambda t: t.column("bill").between(25, 70)).results
    assert only.message.startswith(
        "bill should be between 25 and 70. It cannot be checked, bill is String: "
    )
    assert "\n" not in only.message


@pytest.mark.parametrize(
    ("column", "name", "met"),
    [
        ("n", "int64", True),
        ("n", "integer", True),
        ("n", "number", True),
        ("n", "double", False),
        ("x", "double", True),
        ("x", "float64", True),
        ("s", "string", True),
        ("s", "str", True),
        ("day", "date32", True),
        ("at", "timestamp[us]", True),
        ("at", "datetime", True),
        ("at", "date", False),
    ],
)
def test_types_go_by_the_names_of_arrow_and_of_polars(column, name, met):
    assert one(FRAME, lambda t: t.column(column).type(name)).passed is met


def test_the_number_of_rows_is_checked():
    assert one(FRAME, lambda t: t.row_count(min=5, max=5)).passed
    result = one(FRAME, lambda t: t.row_count(min=6))
    assert result.message == "The number of rows should be at least 6: there are 5"


def test_only_unmet_expectations_that_fail_refuse_the_frame():
    assert not judge(FRAME, lambda t: t.column("n").not_null()).passed
    warned = judge(FRAME, lambda t: t.column("n").not_null(action="warn"))
    assert warned.passed
    assert [r.failed_rows for r in warned.warnings] == [1]
    aside = judge(FRAME, lambda t: t.column("n").not_null(action="quarantine"))
    assert aside.passed
    assert aside.quarantined == (2,)
    assert len(aside.failures) == 1


def test_quarantine_without_rows_to_put_aside_refuses_the_frame():
    assert not judge(FRAME, lambda t: t.column("nn").not_null(action="quarantine")).passed
    assert not judge(FRAME, lambda t: t.row_count(min=9, action="quarantine")).passed


def test_rows_that_are_mostly_right_are_not_put_aside():
    report = judge(FRAME, lambda t: t.column("n").not_null(mostly=0.5, action="quarantine"))
    assert report.passed
    assert report.quarantined == ()


def test_moments_are_compared_across_time_zones():
    at = pl.Series("at", [datetime(2013, 1, 1, 12, tzinfo=UTC)])
    frame = pl.DataFrame([at.dt.convert_time_zone("America/New_York")])
    noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    assert one(frame, lambda t: t.column("at").between(noon, noon)).passed
    assert one(frame, lambda t: t.column("at").less_than(datetime(2013, 1, 1, 8))).passed
    naive = pl.DataFrame({"at": [datetime(2013, 1, 1, 12)]})
    assert one(naive, lambda t: t.column("at").between(noon, noon)).passed


def test_an_empty_frame_breaks_no_rule_about_values():
    empty = FRAME.clear()
    report = judge(empty, lambda t: t.column("n").between(0, 1).not_null().unique())
    assert report.passed
    assert report.rows == 0


def test_a_thing_that_is_no_table_is_refused():
    with pytest.raises(Invalid) as caught:
        judge({"a": [1]}, lambda t: t.column("a").not_null())
    assert caught.value.code == "frame.unknown"


def test_a_pandas_column_of_mixed_types_is_refused_by_name():
    with pytest.raises(Invalid) as caught:
        judge(pd.DataFrame({"a": [1, "x", object()]}), lambda t: t.column("a").not_null())
    assert caught.value.code == "frame.mixed"


def test_categories_and_dictionaries_are_text():
    frame = pa.table({"c": pa.array(["a", "b", "a"]).dictionary_encode()})
    say = lambda t: t.column("c").in_set(["a"]).matches("^a")  # noqa: E731 - shown twice below
    assert [r.failed_rows for r in judge(frame, say).results] == [1, 1]
    categorical = frame.to_pandas()
    assert str(categorical["c"].dtype) == "category"
    assert [r.failed_rows for r in judge(categorical, say).results] == [1, 1]


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "UTC+02:00", None])
def test_moments_of_pandas_keep_their_instant_and_their_nulls(zone):
    at = pd.to_datetime(pd.Series(["2013-01-01 12:00", None])).dt.tz_localize(zone)
    frame = pd.DataFrame({"at": at, "x": [1.0, None]})
    moment = at[0].to_pydatetime()
    report = judge(frame, lambda t: t.column("at").between(moment, moment).not_null())
    assert [r.failed_rows for r in report.results] == [0, 1]
