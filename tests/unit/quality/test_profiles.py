"""What a profile says of a frame."""

import json
import math
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.quality import profile

MIXED = pl.DataFrame(
    {
        "whole": [1, 2, 3, None],
        "real": [0.5, math.nan, None, math.inf],
        "text": ["a", "b", "a", None],
        "flag": [True, False, True, None],
        "day": [date(2013, 1, 1), date(2013, 1, 3), None, None],
        "at": [datetime(2013, 1, 1, tzinfo=UTC)] * 3 + [None],
        "clock": [time(0, 1), time(0, 2), time(0, 3), None],
        "span": [timedelta(seconds=1), timedelta(seconds=2), None, None],
        "list": [[1], [2], None, []],
        "nothing": pl.Series([None] * 4, dtype=pl.Float64),
        "void": pl.Series([None] * 4, dtype=pl.Null),
        "kind": pl.Series(["x", "y", "x", None], dtype=pl.Categorical),
    }
)


def test_a_profile_is_json():
    text = json.dumps(profile(MIXED), allow_nan=False)
    assert json.loads(text) == profile(MIXED)


def test_each_column_has_its_kind_and_its_nulls():
    found = profile(MIXED)
    assert found["rows"] == 4
    kinds = {name: (c["kind"], c["count"], c["nulls"]) for name, c in found["columns"].items()}
    assert kinds == {
        "whole": ("numeric", 3, 1),
        "real": ("numeric", 2, 2),
        "text": ("categorical", 3, 1),
        "flag": ("categorical", 3, 1),
        "day": ("moment", 2, 2),
        "at": ("moment", 3, 1),
        "clock": ("numeric", 3, 1),
        "span": ("numeric", 2, 2),
        "list": ("other", 3, 1),
        "nothing": ("numeric", 0, 4),
        "void": ("other", 0, 4),
        "kind": ("categorical", 3, 1),
    }


def test_moments_are_seconds_and_show_their_ends_in_iso():
    columns = profile(MIXED)["columns"]
    day = columns["day"]
    assert (day["first"], day["last"]) == ("2013-01-01", "2013-01-03")
    assert day["max"] - day["min"] == 2 * 86_400
    assert columns["at"]["min"] == datetime(2013, 1, 1, tzinfo=UTC).timestamp()
    assert columns["clock"]["max"] == 180
    assert columns["span"]["mean"] == 1.5


def test_few_values_have_a_bin_each():
    column = profile(pl.DataFrame({"x": [0] * 7 + [1] * 2 + [5]}))["columns"]["x"]
    assert column["edges"] == [0.5, 3.0]
    assert column["counts"] == [7, 2, 1]


def test_many_values_have_bins_of_equal_counts():
    column = profile(pl.DataFrame({"x": range(1000)}))["columns"]["x"]
    assert column["counts"] == [100] * 10


def test_a_value_that_is_most_of_the_column_has_bins_of_its_own_size():
    values = [0.0] * 900 + [float(n) for n in range(1, 101)]
    column = profile(pl.DataFrame({"x": values}))["columns"]["x"]
    assert column["edges"][0] == 0.0
    assert column["counts"][0] == 900
    assert sum(column["counts"]) == 1000


def test_numbers_agree_with_numpy():
    values = np.random.default_rng(0).gamma(2.0, 3.0, 5000)
    column = profile(pl.DataFrame({"x": values}))["columns"]["x"]
    assert column["mean"] == pytest.approx(values.mean())
    assert column["std"] == pytest.approx(values.std(ddof=1))
    assert column["quantiles"]["0.95"] == pytest.approx(np.quantile(values, 0.95))
    assert (column["min"], column["max"]) == (values.min(), values.max())


def test_categories_beyond_the_top_are_others():
    frame = pl.DataFrame({"c": ["a"] * 3 + ["b"] * 2 + ["c", "d"]})
    column = profile(frame, top=2)["columns"]["c"]
    assert column["top"] == [["a", 3], ["b", 2]]
    assert column["other"] == 2
    assert column["distinct"] == 4


numbers = st.lists(st.none() | st.floats() | st.integers(-3, 3), min_size=0, max_size=60)


@settings(max_examples=60, deadline=None)
@given(numbers, st.integers(2, 12))
def test_every_value_falls_into_one_bin(cells, bins):
    frame = pl.DataFrame({"x": cells}, schema={"x": pl.Float64}, strict=False)
    column = profile(frame, bins=bins)["columns"]["x"]
    assert sum(column["counts"]) == column["count"]
    assert column["count"] + column["nulls"] == len(cells)
    assert len(column["counts"]) == len(column["edges"]) + 1 <= bins
    assert column["edges"] == sorted(set(column["edges"]))
    json.dumps(column, allow_nan=False)


def test_frames_of_pandas_and_arrow_have_the_same_profile():
    frame = MIXED.select("whole", "text", "flag", "at")
    assert profile(frame.to_arrow()) == profile(frame)
    assert profile(frame.select("text", "at").to_pandas()) == profile(frame.select("text", "at"))
