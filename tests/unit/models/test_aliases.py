"""Aliases move with a history that only grows; a step back goes where they stood before."""

from __future__ import annotations

import pytest
from sklearn.linear_model import LogisticRegression

from clew.base.errors import Conflict, Denied, Invalid, NotFound
from clew.models.aliasing import _before
from clew.models.filtering import filter_of

NAMES = ("distance", "hour")


@pytest.fixture
def three(house, flights):
    """Three versions of a model that nobody has judged."""
    split = house.split(flights())
    made = []
    for depth in (1, 2, 3):
        model = LogisticRegression(C=depth).fit(flights().select(NAMES), flights()["late"])
        made.append(house.version(house.package(model, split)))
    return made


def move(house, alias, version):
    return house.models.set_alias("flights/model", alias, version, by="ann", reason="to try")


def back(house):
    return house.models.rollback_alias("flights/model", "challenger", by="ann", reason="no good")


def test_two_steps_back_go_two_back_and_the_history_keeps_all(house, three):
    for number in (1, 2, 3):
        move(house, "challenger", str(number))
    assert [back(house).number, back(house).number] == [2, 1]
    with pytest.raises(Conflict) as caught:
        back(house)
    assert caught.value.code == "alias.first"
    move(house, "challenger", "3")
    assert back(house).number == 1
    found = house.models.alias_history("flights/model")
    assert [(one.number, one.back) for one in found] == [
        (1, True), (3, False), (1, True), (2, True), (3, False), (2, False), (1, False),
    ]  # fmt: skip
    assert {one.moved_by for one in found} == {"ann"}
    assert house.models.get("flights/model@challenger").version == 1


def test_an_alias_that_is_there_already_does_not_move(house, three):
    move(house, "challenger", "2")
    move(house, "challenger", "challenger")
    assert len(house.models.alias_history("flights/model")) == 1


def test_what_nobody_blessed_is_no_champion(house, three):
    with pytest.raises(Denied) as caught:
        move(house, "champion", "1")
    assert caught.value.code == "model.not_blessed"
    house.models.override("flights/model@1", by="ann", reason="now")
    move(house, "production", "1")
    with pytest.raises(Denied):
        move(house, "champion", "1")


def test_an_alias_stands_on_versions_of_its_own_model_alone(house, three):
    with pytest.raises(Invalid) as caught:
        house.models.set_alias("other/model", "challenger", three[0].id, by="", reason="")
    assert caught.value.code == "alias.model"
    with pytest.raises(NotFound) as missing:
        back(house)
    assert missing.value.code == "alias.unknown"


def test_an_empty_history_has_nothing_before():
    assert _before([]) is None


# search -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("version > 1", [3, 2]),
        ("version in (1, 3)", [3, 1]),
        ("NOT version = 2 AND model LIKE 'flights/%'", [3, 1]),
        ("(version = 1 OR version = 2) AND state = 'candidate'", [2, 1]),
        ("name ILIKE 'FLIGHTS/_odel'", [3, 2, 1]),
        ("params.depth >= 3 and params.depth = '3'", [3, 2, 1]),
        ("params.depth > 3", []),
        ("metrics.roc_auc > 0", []),
        ("metrics.`roc_auc` IS NULL", [3, 2, 1]),
        ("alias = 'challenger'", [2]),
        ('alias is null and task = "binary"', [3, 1]),
        ("attributes.version != 3", [2, 1]),
        ("created_at > '2020-01-01'", [3, 2, 1]),
    ],
)
def test_versions_are_found_by_a_filter(house, three, where, numbers):
    move(house, "challenger", "2")
    assert [one.version for one in house.models.versions(where=where)] == numbers


@pytest.mark.parametrize(
    "where",
    ["", "metrics.roc_auc >", "speed > 1", "state = blessed", "state 'x'", "(version = 1",
     "version = 1 version = 2", "version ~ 1", "version in 1", "and", "metrics.a is 3",
     "version not = 3"],
)  # fmt: skip
def test_a_filter_that_is_not_understood_is_refused(where):
    with pytest.raises(Invalid) as caught:
        filter_of(where)
    assert caught.value.code == "model.where"
