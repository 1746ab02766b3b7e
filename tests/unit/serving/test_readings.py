"""Live figures of an endpoint, each of what was asked since the last look."""

from __future__ import annotations

import json
from bisect import bisect_left

import pytest

from clew.base.errors import NotFound
from clew.serving import canary
from clew.serving.definitions import shadow
from clew.serving.readings import LEAST
from clew.serving.stats import BOUNDS_S

from .conftest import answered, loaded, process


class Looks:
    """Whoever looks again and again, and keeps between two looks what he was given, as JSON."""

    def __init__(self, workspace, figure):
        self.workspace, self.figure, self.since = workspace, figure, None

    def look(self):
        value, kept = self.workspace.serving.reading("e", self.figure, self.since)
        self.since = json.loads(json.dumps(kept))
        return value


def one_live(workspace, laws, **more):
    workspace.endpoint(**more)
    process(workspace)
    first = workspace.deploy(laws.matrix())
    loaded(workspace, first)
    return first


@pytest.mark.parametrize(
    ("figure", "more", "value"),
    [
        ("requests", {}, 100.0),
        ("requests", {"expired": 25}, 125.0),
        ("errors", {"errors": 5}, 5.0),
        ("errors", {"errors": 5, "expired": 25}, 30.0),
        ("error_rate", {"errors": 5, "expired": 25}, 0.24),
        ("overloads", {"overloads": 7}, 7.0),
    ],
)
def test_a_figure_is_of_what_came_since_the_last_look(workspace, laws, figure, more, value):
    first = one_live(workspace, laws)
    answered(workspace, first, 1_000_000, errors=3, expired=4, overloads=5)
    looks = Looks(workspace, figure)
    assert looks.look() is None  # what was before is nobody's
    answered(workspace, first, 100, **more)
    assert looks.look() == pytest.approx(value)


def test_a_latency_is_of_what_came_since_the_last_look(workspace, laws):
    first = one_live(workspace, laws)
    answered(workspace, first, 5000)
    looks = Looks(workspace, "p99_ms")
    looks.look()
    slow = [0] * (len(BOUNDS_S) + 1)
    slow[bisect_left(BOUNDS_S, 2.0)] = 50
    answered(workspace, first, 50, buckets=slow)
    assert looks.look() > 1000
    answered(workspace, first, 50)
    assert looks.look() < 2


def test_too_few_requests_wait_for_the_next_look(workspace, laws):
    first = one_live(workspace, laws)
    looks = Looks(workspace, "error_rate")
    looks.look()
    for _ in range(3):
        answered(workspace, first, 6, errors=3)
        assert looks.look() is None
    answered(workspace, first, LEAST - 18)
    assert looks.look() == 9 / LEAST
    assert looks.look() is None


def test_that_nobody_asks_is_a_figure(workspace, laws):
    first = one_live(workspace, laws)
    looks = Looks(workspace, "requests")
    looks.look()
    answered(workspace, first, 3)
    assert [looks.look(), looks.look(), looks.look()] == [3.0, 0.0, 0.0]


def test_all_that_answer_count_and_those_that_left_to_their_end(workspace, laws):
    first = one_live(workspace, laws, rollout=canary([50], hold_s=60.0))
    looks = Looks(workspace, "requests")
    looks.look()
    second = workspace.deploy(laws.matrix())
    loaded(workspace, second)
    answered(workspace, first, 10)
    answered(workspace, second, 20)
    assert looks.look() == 30
    answered(workspace, first, 1)
    workspace.serving.set_traffic("e", promote=second.id)
    answered(workspace, second, 2)
    assert looks.look() == 3


def test_a_shadow_answers_nobody_and_counts_from_when_it_does(workspace, laws):
    first = one_live(workspace, laws, rollout=shadow())
    second = workspace.deploy(laws.matrix())
    loaded(workspace, second)
    assert workspace.state(second) == "shadow"
    looks = Looks(workspace, "requests")
    looks.look()
    answered(workspace, first, 10)
    answered(workspace, second, 500)
    assert looks.look() == 10
    workspace.serving.set_traffic("e", promote=second.id)
    answered(workspace, second, 7)
    assert looks.look() == 7


def test_an_endpoint_that_gets_its_first_revision_counts_from_then(workspace, laws):
    workspace.endpoint()
    looks = Looks(workspace, "requests")
    assert looks.look() is None
    answered(workspace, workspace.deploy(laws.matrix()), 4)
    assert looks.look() == 4


def test_what_is_asked_of_nobody_is_refused(workspace):
    with pytest.raises(NotFound, match="no endpoint"):
        workspace.serving.reading("nobody", "requests", None)


def test_what_expired_and_was_refused_is_told_of_the_endpoint_and_its_arms(workspace, laws):
    first = one_live(workspace, laws)
    answered(workspace, first, 0, expired=40, overloads=3)
    found = workspace.serving.endpoint("e")
    (arm,) = workspace.serving.traffic("e").arms
    assert (found.requests, found.expired, found.overloads) == (0, 40, 3)
    assert (found.revisions[0].expired, found.revisions[0].overloads) == (40, 3)
    assert (arm.expired, arm.overloads) == (40, 3)
