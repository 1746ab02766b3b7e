"""How far a frame is from a reference."""

import json
import math
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.base.errors import Invalid
from clew.quality import drift, profile
from clew.quality.distances import chance_of_psi, jensen_shannon, psi

RNG = np.random.default_rng(7)
counts = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=12)


def values_of(distances):
    return {d.column: d.value for d in distances}


def independent_psi(reference, live, edges):
    """PSI written anew: numpy's histogram over the same bins, vectorised."""
    bins = np.concatenate([[-np.inf], np.nextafter(edges, np.inf), [np.inf]])
    p = np.histogram(reference, bins)[0] + 0.5
    q = np.histogram(live, bins)[0] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)))


def test_psi_agrees_with_an_independent_computation():
    for shift, scale in [(0.0, 1.0), (0.5, 1.0), (0.0, 2.0), (3.0, 0.5)]:
        reference = RNG.normal(size=4000)
        live = RNG.normal(shift, scale, size=1500)
        summary = profile(pl.DataFrame({"x": reference}))
        (distance,) = drift(summary, pl.DataFrame({"x": live}))
        edges = np.sort(reference)[399:3999:400]
        assert distance.value == pytest.approx(independent_psi(reference, live, edges), rel=1e-12)


def test_psi_of_a_known_case_is_what_the_formula_gives_by_hand():
    # half a count added: shares of 9.5 and 11.5 in 21 against 14.5 and 6.5 in 21
    expected = (5 / 21) * math.log(14.5 / 9.5) + (-5 / 21) * math.log(6.5 / 11.5)
    assert psi([9, 11], [14, 6]) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None)
@given(counts)
def test_distances_are_symmetric_positive_and_zero_for_the_same(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    for measure in (psi, jensen_shannon):
        assert measure(first, first) == 0
        assert measure(first, second) >= -1e-12
        assert measure(first, second) == pytest.approx(measure(second, first), abs=1e-12)
    assert jensen_shannon(first, second) <= math.log(2)


def test_the_same_data_is_at_no_distance():
    frame = pl.DataFrame({"x": RNG.normal(size=500), "c": ["a", "b", None, "c", "a"] * 100})
    assert values_of(drift(profile(frame), frame)) == {"x": 0.0, "c": 0.0}


def test_what_moved_most_is_told():
    reference = profile(pl.DataFrame({"c": ["AA"] * 90 + ["UA"] * 10}))
    (distance,) = drift(reference, pl.DataFrame({"c": ["AA"] * 50 + ["UA"] * 50}))
    assert distance.detail == "'UA': 10.0% → 50.0%"
    assert distance.value > 0.2


def test_nulls_new_categories_and_missing_columns_are_a_distance():
    frame = pl.DataFrame({"x": RNG.normal(size=200), "c": ["a", "b"] * 100})
    reference = profile(frame)
    with_nulls = frame.with_columns(
        pl.when(pl.int_range(200) < 80).then(None).otherwise("x").alias("x")
    )
    found = {d.column: d for d in drift(reference, with_nulls.with_columns(c=pl.lit("new")))}
    assert found["x"].value > 0.2
    assert found["x"].detail == "null: 0.0% → 40.0%"
    assert found["c"].detail == "others: 0.0% → 100.0%"
    (missing, _) = drift(reference, frame.drop("x"))
    assert missing.detail == "the column is missing"
    assert missing.value > 0.2


def test_values_outside_of_the_reference_fall_into_its_outer_bins():
    reference = profile(pl.DataFrame({"x": RNG.uniform(0, 1, 1000)}))
    (distance,) = drift(reference, pl.DataFrame({"x": [5.0, math.inf] * 100}))
    assert distance.detail.startswith("above 0.")
    assert distance.value > 1


def test_columns_are_compared_by_value_whatever_their_type():
    reference = profile(pl.DataFrame({"x": [1, 2, 3, 4] * 50, "flag": [True, False] * 100}))
    as_text = pl.DataFrame({"x": ["1", "2", "3", "4"] * 50, "flag": ["true", "false"] * 100})
    assert values_of(drift(reference, as_text)) == {"x": 0.0, "flag": 0.0}
    as_floats = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0] * 50, "flag": [[1]] * 200})
    assert values_of(drift(reference, as_floats))["x"] == 0.0
    assert values_of(drift(reference, as_floats))["flag"] > 1


def test_moments_are_compared_only_when_asked_for():
    start = datetime(2013, 1, 1)
    frame = pl.DataFrame({"at": [start + timedelta(hours=h) for h in range(500)], "x": range(500)})
    later = frame.with_columns(pl.col("at") + timedelta(days=30))
    reference = json.loads(json.dumps(profile(frame)))
    assert [d.column for d in drift(reference, later)] == ["x"]
    found = values_of(drift(reference, later, moments=True))
    assert found["at"] > 1
    assert values_of(drift(reference, frame, moments=True))["at"] == 0.0


def test_lists_are_compared_by_their_nulls():
    reference = profile(pl.DataFrame({"l": [[1]] * 50 + [None] * 50}))
    (distance,) = drift(reference, pl.DataFrame({"l": [[1]] * 100}))
    assert distance.detail == "null: 50.0% → 0.0%"


def test_a_frame_without_rows_has_no_distances():
    frame = pl.DataFrame({"x": [1, 2]})
    assert drift(profile(frame), frame.clear()) == []
    assert drift(profile(frame.clear()), frame) == []


def test_an_unknown_statistic_is_refused():
    with pytest.raises(Invalid) as caught:
        drift(profile(pl.DataFrame({"x": [1]})), pl.DataFrame({"x": [1]}), statistic="ks")
    assert caught.value.code == "drift.statistic"


def test_js_is_bounded_where_psi_is_not():
    reference = profile(pl.DataFrame({"x": RNG.normal(size=1000)}))
    (distance,) = drift(reference, pl.DataFrame({"x": [9.0] * 1000}), statistic="js")
    assert distance.statistic == "js"
    assert 0.3 < distance.value <= math.log(2)


@pytest.mark.parametrize("statistic", ["psi", "js"])
def test_equal_distributions_rarely_exceed_chance(statistic):
    exceeded = comparisons = 0
    for _ in range(60):
        reference = profile(pl.DataFrame(RNG.normal(size=(800, 5))))
        for distance in drift(
            reference, pl.DataFrame(RNG.normal(size=(300, 5))), statistic=statistic
        ):
            comparisons += 1
            exceeded += distance.value > distance.chance
    assert comparisons == 300
    assert exceeded <= 5


def test_the_quantile_behind_chance_is_that_of_chi_square():
    # chi-square with 9 degrees of freedom exceeds 21.666 with probability 0.01
    assert chance_of_psi(10, 1000, 1000, 0.01) == pytest.approx(21.666 * 2 / 1000, rel=5e-3)
    assert chance_of_psi(1, 10, 10, 0.01) == 0.0
