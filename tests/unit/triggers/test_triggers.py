"""Every event sets off every trigger that it meets, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.base.errors import Invalid, NotReady
from clew.db import Database
from clew.testing.postgres import database_url
from clew.triggers import Firing, Trigger, Triggers

RETRAIN = Trigger(
    name="retrain",
    event="drift.seen",
    match={"endpoint": "late"},
    action="retrain",
    arguments={"step": "model"},
)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = Database.open(database_url(tmp_path))
    db.create()
    yield db
    db.close()


def emit(db: Database, endpoint: str = "late", kind: str = "drift.seen", gid: str = "g1") -> int:
    with db.begin() as tx:
        tx.emit(kind, subject="report", global_id=gid, data={"endpoint": endpoint})
    return db.events.last()


def define(db: Database, *triggers: Trigger, retry_s: float = 0.0) -> Triggers:
    room = Triggers(db, retry_s=retry_s)
    with db.begin() as tx:
        room.define(tx, "flights", triggers)
    return room


def test_an_event_runs_the_action_once(db):
    room = define(db, RETRAIN)
    cause = emit(db)
    seen: list[Firing] = []
    assert room.tick({"retrain": seen.append})
    assert not room.tick({"retrain": seen.append})
    (firing,) = seen
    assert (firing.cause, firing.global_id, firing.arguments) == (cause, "g1", {"step": "model"})
    (kept,) = room.firings()
    assert (kept.state, kept.attempts) == ("done", 1)
    (fired,) = db.events.after(0, ["trigger.fired"])
    assert (fired.subject, fired.global_id) == (firing.id, "g1")
    assert fired.data["cause"] == cause


def test_events_that_do_not_match_set_nothing_off(db):
    room = define(db, RETRAIN)
    emit(db, endpoint="other")
    emit(db, kind="drift.clear")
    assert not room.tick({"retrain": pytest.fail})
    assert room.firings() == []


def test_the_subject_can_be_matched(db):
    room = define(
        db, Trigger(name="t", event="drift.seen", match={"subject": "report"}, action="a")
    )
    emit(db)
    seen: list[Firing] = []
    room.tick({"a": seen.append})
    assert len(seen) == 1


def test_events_before_the_definition_do_not_count(db):
    emit(db)
    room = define(db, RETRAIN)
    assert not room.tick({"retrain": pytest.fail})


def test_defining_again_changes_nothing_and_forgets_nothing(db):
    room = define(db, RETRAIN)
    emit(db)
    define(db, RETRAIN)
    seen: list[Firing] = []
    room.tick({"retrain": seen.append})
    assert len(seen) == 1
    define(db)
    emit(db)
    assert not room.tick({"retrain": pytest.fail})
    assert room.list() == []


def test_the_cool_down_skips_and_says_so(db):
    room = define(db, Trigger(name="t", event="drift.seen", action="a", cooldown_s=3600))
    emit(db)
    emit(db)
    seen: list[Firing] = []
    room.tick({"a": seen.append})
    assert len(seen) == 1
    assert [(one.state, "within 3600 s" in one.reason) for one in room.firings()] == [
        ("skipped", True),
        ("done", False),
    ]
    assert len(db.events.after(0, ["trigger.fired"])) == 1


def test_an_action_that_fails_is_noted_and_does_not_stop_the_others(db, caplog):
    room = define(
        db,
        Trigger(name="a", event="drift.seen", action="broken"),
        Trigger(name="b", event="drift.seen", action="unknown"),
        Trigger(name="c", event="drift.seen", action="good"),
    )
    emit(db)
    seen: list[Firing] = []

    def broken(firing: Firing) -> None:
        raise ZeroDivisionError("nothing to divide")

    room.tick({"broken": broken, "good": seen.append})
    states = {one.trigger: (one.state, one.error) for one in room.firings()}
    assert states["a"] == ("failed", "ZeroDivisionError: nothing to divide")
    assert states["b"][0] == "failed"
    assert "trigger.action" in states["b"][1]
    assert states["c"] == ("done", "")


def test_what_is_not_ready_is_tried_again_with_the_same_id(db):
    room = define(db, RETRAIN)
    emit(db)
    tries: list[str] = []

    def act(firing: Firing) -> None:
        tries.append(firing.id)
        if len(tries) < 3:
            raise NotReady("data.late", "not yet")

    for _ in range(4):
        room.tick({"retrain": act})
    assert len(tries) == 3
    assert len(set(tries)) == 1
    assert room.firings()[0].state == "done"


def test_what_is_never_ready_fails_after_five_attempts(db):
    room = define(db, RETRAIN)
    emit(db)

    def act(firing: Firing) -> None:
        raise NotReady("data.late", "not yet")

    for _ in range(7):
        room.tick({"retrain": act})
    assert (room.firings()[0].state, room.firings()[0].attempts) == ("failed", 5)


def test_a_retry_waits_for_its_time(db):
    room = define(db, RETRAIN, retry_s=3600)
    emit(db)
    tries: list[str] = []

    def act(firing: Firing) -> None:
        tries.append(firing.id)
        raise NotReady("data.late", "not yet")

    room.tick({"retrain": act})
    room.tick({"retrain": act})
    assert len(tries) == 1


def test_thousands_of_events_are_each_looked_at_once(db):
    room = define(db, RETRAIN)
    with db.begin() as tx:
        for number in range(1100):
            tx.emit("drift.seen", subject=str(number), data={"endpoint": "late"})
            tx.emit("commit.finished", subject=str(number))
    seen: list[str] = []
    room.tick({"retrain": lambda firing: seen.append(firing.subject)})
    assert seen == [str(number) for number in range(1100)]


@pytest.mark.parametrize(
    "wrong",
    [
        Trigger(name="t", event="trigger.fired", action="a"),
        Trigger(name="", event="e", action="a"),
        Trigger(name="t", event="e", action="a", cooldown_s=-1),
    ],
)
def test_a_trigger_that_cannot_be_is_refused(db, wrong: Trigger):
    with pytest.raises(Invalid):
        define(db, wrong)


def test_two_triggers_of_one_name_are_refused(db):
    with pytest.raises(Invalid, match="same name"):
        define(db, RETRAIN, RETRAIN)


CRASH = """
import os, signal, sys
from clew.db import Database
from clew.testing.postgres import database_url
from clew.triggers import Triggers
def act(firing):
    with open(sys.argv[2], "a") as file:
        file.write(firing.id + "\\n")
    os.kill(os.getpid(), signal.SIGKILL)
Triggers(Database.open(sys.argv[1])).tick({"retrain": act})
"""


def test_a_crash_in_the_action_runs_it_again_with_the_same_id(db, tmp_path: Path):
    room = define(db, RETRAIN)
    emit(db)
    log = tmp_path / "log"
    url = database_url(tmp_path)
    done = subprocess.run([sys.executable, "-c", CRASH, url, str(log)], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert room.firings()[0].state == "pending"
    seen: list[Firing] = []
    room.tick({"retrain": seen.append})
    assert [log.read_text().strip()] == [one.id for one in seen]
    assert len(room.firings()) == 1
