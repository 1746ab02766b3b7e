"""Instants of schedules: the same for everybody, on the clock of a time zone."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.base.errors import Invalid
from clew.schedules import schedule


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "after", "instant"),
    [
        ("0 5 * * *", "2026-11-21T05:00:00", "2026-11-22T05:00:00"),
        ("0 5 * * *", "2026-11-21T04:59:59", "2026-11-21T05:00:00"),
        ("*/15 * * * *", "2026-11-21T05:01:00", "2026-11-21T05:15:00"),
        ("0 0 * * MON-FRI", "2026-11-20T12:00:00", "2026-11-23T00:00:00"),
        ("0 0 L * *", "2026-02-03T00:00:00", "2026-02-28T00:00:00"),
        ("*/10 * * * * *", "2026-11-21T05:00:01", "2026-11-21T05:00:10"),
        ("@daily", "2026-11-21T05:00:00", "2026-11-22T00:00:00"),
        ("@Weekly", "2026-11-21T05:00:00", "2026-11-22T00:00:00"),
        ("@every 1h30m", "2026-11-21T00:00:00", "2026-11-21T01:30:00"),
        ("  0  5 * *   * ", "2026-11-21T05:00:00", "2026-11-22T05:00:00"),
    ],
)
def test_the_next_instant_lies_behind_a_time(text, after, instant):
    assert schedule(text).next(at(after)) == at(instant)


def test_a_schedule_is_read_on_the_clock_of_its_zone():
    berlin = schedule("0 5 * * *", "Europe/Berlin")
    assert berlin.next(at("2026-07-01T12:00:00")) == at("2026-07-02T03:00:00")
    assert berlin.next(at("2026-12-01T12:00:00")) == at("2026-12-02T04:00:00")


def test_an_hour_that_the_clock_skips_is_not_lost_and_one_that_comes_twice_counts_once():
    berlin = schedule("30 2 * * *", "Europe/Berlin")
    spring = berlin.next(at("2026-03-28T12:00:00"))
    assert spring is not None
    assert spring.date() == at("2026-03-29T00:00:00").date()
    autumn = [berlin.next(at("2026-10-24T12:00:00"))]
    autumn.append(berlin.next(autumn[0]))
    assert [one.day for one in autumn] == [25, 26]


def test_instants_that_were_slept_over_are_one():
    hourly = schedule("@hourly")
    since, now = at("2026-11-21T05:00:00"), at("2026-11-21T09:30:00")
    assert hourly.due(since, now) == at("2026-11-21T09:00:00")
    assert hourly.due(at("2026-11-21T09:00:00"), now) is None
    assert hourly.due(since, at("2026-11-21T06:00:00")) == at("2026-11-21T06:00:00")
    assert schedule("never").due(since, now) is None


texts = st.sampled_from(["0 5 * * *", "*/7 3-9 * * 1,3", "@every 90s", "@monthly", "5 4 29 2 *"])
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
times = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(
    lambda time: time.replace(tzinfo=UTC)
)


@given(texts, zones, times)
def test_nothing_lies_between_the_last_instant_and_the_next(text, zone, time):
    found = schedule(text, zone)
    last, following = found.last(time), found.next(time)
    assert last <= time < following
    assert found.next(last) == following
    assert found.last(following - timedelta(seconds=1)) == last


@pytest.mark.parametrize(
    "text", ["", "0 5 * *", "61 * * * *", "0 5 * * * * *", "@sometimes", "@every", "@every 5",
             "@every 0s", "@every 500ms", "0 0 31 2 *"]
)  # fmt: skip
def test_a_schedule_that_cannot_be_read_is_refused(text):
    with pytest.raises(Invalid) as caught:
        schedule(text)
    assert caught.value.code == "schedule.invalid"
    assert caught.value.hint


def test_a_zone_that_is_not_there_is_refused():
    with pytest.raises(Invalid) as caught:
        schedule("@daily", "Mars/Olympus")
    assert caught.value.code == "schedule.zone"
