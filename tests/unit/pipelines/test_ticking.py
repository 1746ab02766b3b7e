"""Cron inputs: one file for each instant, whoever asks and whenever it dies."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from clew.pipelines import InputDefinition, PipelineDefinition, SourceDefinition
from clew.pipelines.ticking import Ticks
from clew.schedules import schedule

HOURLY = SourceDefinition(name="hourly", repo="p/hourly", cron=schedule("@hourly"))


def define(lab, source: SourceDefinition = HOURLY) -> PipelineDefinition:
    lab.code("def told(tick: dict) -> dict: return {'at': tick['at']}")
    tick = InputDefinition(parameter="tick", repo=source.repo, per="file")
    definition = replace(lab.define(lab.step("told", tick)), sources=(source,))
    lab.pipelines.register(definition, global_id="g")
    return definition


def files(lab, repo: str = "p/hourly") -> dict[str, dict[str, str]]:
    head = lab.repos.head(repo)
    if head is None:
        return {}
    return {e.path: json.loads(lab.store.read(e.digest)) for e in lab.store.entries(head.tree)}


@pytest.fixture
def start(lab) -> datetime:
    """A full hour, after which the schedule is defined."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return now + timedelta(hours=1)


def test_an_instant_is_a_file_that_makes_its_step_run(lab, start) -> None:
    define(lab)
    assert not lab.pipelines.ticks.tick(start - timedelta(seconds=1))
    assert lab.pipelines.ticks.tick(start)
    assert not lab.pipelines.ticks.tick(start)
    assert not lab.pipelines.ticks.tick(start + timedelta(minutes=59))
    name = f"{start:%Y-%m-%dT%H-%M-%SZ}"
    assert files(lab) == {f"/{name}.json": {"at": start.isoformat(), "previous": None}}
    lab.run()
    assert json.loads(lab.output("told")[f"/{name}.json"]) == {"at": start.isoformat()}


def test_ticks_add_up_and_each_is_a_datum_of_its_own(lab, start) -> None:
    define(lab)
    for hours in range(3):
        assert lab.pipelines.ticks.tick(start + timedelta(hours=hours))
        lab.run()
    found = list(files(lab).values())
    assert [one["previous"] for one in found[1:]] == [one["at"] for one in found[:-1]]
    assert (lab.last("told").done, lab.last("told").skipped) == (1, 2)


def test_where_they_overwrite_only_the_last_is_there(lab, start) -> None:
    define(lab, replace(HOURLY, overwrite=True))
    for hours in range(3):
        assert lab.pipelines.ticks.tick(start + timedelta(hours=hours))
    assert [one["at"] for one in files(lab).values()] == [(start + timedelta(hours=2)).isoformat()]


def test_instants_at_which_nothing_ran_are_made_up_for_by_one(lab, start) -> None:
    define(lab)
    lab.pipelines.ticks.tick(start)
    later = start + timedelta(days=3, minutes=7)
    assert lab.pipelines.ticks.tick(later)
    last = list(files(lab).values())[1:]
    at = start + timedelta(days=3)
    assert last == [{"at": at.isoformat(), "previous": start.isoformat()}]


def test_another_engine_does_not_tick_again_for_the_same_instant(lab, start) -> None:
    define(lab)
    registry = lab.pipelines._registry
    engines = [Ticks(lab.db, lab.repos, registry) for _ in range(3)]
    assert [one.tick(start) for one in engines] == [True, False, False]
    assert len(lab.repos.log("p/hourly")) == 1


def test_a_tick_that_races_another_for_one_instant_is_no_second_commit(
    lab, start, monkeypatch
) -> None:
    define(lab)
    other = Ticks(lab.db, lab.repos, lab.pipelines._registry)
    commit = lab.repos.commit_many

    def first_the_other(*changes, **options):
        monkeypatch.setattr(lab.repos, "commit_many", commit)
        assert other.tick(start)
        return commit(*changes, **options)

    monkeypatch.setattr(lab.repos, "commit_many", first_the_other)
    lab.pipelines.ticks.tick(start)
    assert len(lab.repos.log("p/hourly")) == 1


def test_what_people_commit_to_the_repo_is_a_tick_by_hand_and_moves_no_schedule(lab, start) -> None:
    define(lab)
    lab.pipelines.ticks.tick(start)
    lab.repos.commit("p/hourly", {"/now.json": b'{"at": "now", "previous": null}'})
    lab.run()
    assert json.loads(lab.output("told")["/now.json"]) == {"at": "now"}
    assert lab.pipelines.ticks.tick(start + timedelta(hours=1))
    assert len(files(lab)) == 3


def test_a_new_schedule_counts_from_when_it_was_defined(lab, start) -> None:
    define(lab)
    lab.pipelines.ticks.tick(start)
    every = replace(HOURLY, cron=schedule("@every 10m"))
    define(lab, every)
    assert not lab.pipelines.ticks.tick(start + timedelta(minutes=9))
    assert lab.pipelines.ticks.tick(start + timedelta(minutes=10))
    define(lab, replace(HOURLY, cron=schedule("never")))
    assert not lab.pipelines.ticks.tick(start + timedelta(days=900))


def test_a_restarted_engine_goes_on_after_the_last_tick(
    new_lab: Callable[..., object], tmp_path, start
) -> None:
    lab = new_lab()
    define(lab)
    lab.pipelines.ticks.tick(start)
    again = Ticks(lab.db, lab.repos, lab.pipelines._registry)
    assert not again.tick(start + timedelta(minutes=59))
    assert again.tick(start + timedelta(minutes=60))
