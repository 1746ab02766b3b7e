"""Every cause sets off every trigger that it meets, once: firings, retries, crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import clew
from clew.base.errors import Conflict, Invalid, NotFound, NotReady
from clew.triggers import Action, Firing, Hands, Trigger

RUN = Action(kind="run", options={"pipeline": "shop", "step": "clean"})
HAPPENED = clew.on_event("thing.happened", endpoint="late")


def test_an_event_runs_the_action_once(bench):
    bench.when(HAPPENED)
    cause = bench.emit(endpoint="late")
    assert bench.tick() == ["t: thing.happened of s"]
    assert bench.tick() == []
    (kept,) = bench.room.firings()
    assert (kept.state, kept.attempts, kept.effect) == ("done", 1, "did run")
    assert (kept.cause, kept.causes, kept.global_id) == (cause, (f"event/{cause}",), "g1")
    (fired,) = bench.db.events.after(0, ["trigger.fired"])
    assert (fired.subject, fired.global_id, fired.data["cause"]) == (kept.id, "g1", cause)
    (ended,) = bench.db.events.after(0, ["trigger.ended"])
    assert (ended.subject, ended.data["state"]) == (kept.id, "done")


def test_events_that_do_not_match_set_nothing_off(bench):
    bench.when(HAPPENED)
    bench.emit(endpoint="other")
    bench.emit("thing.else", endpoint="late")
    assert bench.tick() == []
    assert bench.room.firings() == []


def test_the_subject_can_be_matched(bench):
    bench.when(clew.on_event("thing.happened", subject="report"))
    bench.emit(subject="other")
    bench.emit(subject="report")
    assert bench.tick() == ["t: thing.happened of report"]


def test_events_before_the_definition_do_not_count(bench):
    bench.emit(endpoint="late")
    bench.when(HAPPENED)
    assert bench.tick() == []


def test_defining_again_changes_nothing_and_forgets_nothing(bench):
    bench.when(clew.amount("shop/orders", commits=2))
    bench.commit("c1")
    bench.tick()
    bench.when(clew.amount("shop/orders", commits=2), cooldown_s=1)  # the condition is the same
    bench.commit("c2")
    assert len(bench.tick()) == 1
    bench.define()
    bench.commit("c3")
    assert bench.tick() == []
    assert bench.room.list() == []


def test_an_action_that_fails_is_noted_and_does_not_stop_the_others(bench, caplog):
    def trigger(name: str, kind: str) -> Trigger:
        return Trigger(name=name, when=HAPPENED, do=(Action(kind=kind),))

    bench.define(trigger("a", "rollback"), trigger("b", "notify"), trigger("c", "run"))

    def broken(firing: Firing, action: Action, finish) -> None:
        raise ZeroDivisionError("nothing to divide")

    known = {"run": bench.hands.actions["run"], "rollback": broken}
    bench.hands = Hands(actions=known)
    bench.emit(endpoint="late")
    bench.tick()
    states = {one.trigger: (one.state, one.error) for one in bench.room.firings()}
    assert states["a"] == ("failed", "ZeroDivisionError: nothing to divide")
    assert states["b"][0] == "failed"
    assert "trigger.action" in states["b"][1]
    assert states["c"] == ("done", "")


def test_what_is_not_ready_is_tried_again_with_the_same_id(bench):
    bench.when(HAPPENED)
    bench.emit(endpoint="late")
    tries: list[str] = []

    def act(firing: Firing) -> None:
        tries.append(firing.id)
        if len(tries) < 3:
            raise NotReady("data.late", "not yet")

    bench.hands = bench.doing(act)
    for _ in range(4):
        bench.tick()
    assert len(tries) == 3
    assert len(set(tries)) == 1
    assert bench.room.firings()[0].state == "done"


def test_what_is_never_ready_fails_after_five_attempts(bench):
    def act(firing: Firing) -> None:
        raise NotReady("data.late", "not yet")

    bench.hands = bench.doing(act)
    bench.when(HAPPENED)
    bench.emit(endpoint="late")
    for _ in range(7):
        bench.tick()
    assert (bench.room.firings()[0].state, bench.room.firings()[0].attempts) == ("failed", 5)


def test_several_actions_run_in_order_and_none_twice(bench):
    done: list[str] = []

    def act(firing: Firing) -> None:
        done.append(firing.actions[firing.done].kind)
        if done.count("notify") == 1:
            raise NotReady("data.late", "not yet")

    bench.hands = bench.doing(act)
    actions = tuple(Action(kind=kind) for kind in ("run", "notify", "retrain"))
    bench.define(Trigger(name="t", when=HAPPENED, do=actions))
    bench.emit(endpoint="late")
    for _ in range(3):
        bench.tick()
    assert done == ["run", "notify", "notify", "retrain"]
    (firing,) = bench.room.firings()
    assert (firing.state, firing.effect) == ("done", "did run; did notify; did retrain")


def test_an_action_that_another_engine_has_done_is_left_alone(bench):
    bench.when(HAPPENED)
    bench.emit(endpoint="late")
    done: list[str] = []

    def first(firing: Firing, action: Action, finish) -> None:
        with bench.db.begin() as tx:
            finish(tx, "first", "")
        with pytest.raises(Conflict) as taken, bench.db.begin() as tx:
            finish(tx, "second", "")
        assert taken.value.code == "trigger.taken"
        done.append(firing.id)

    bench.hands = Hands(actions={"run": first})
    bench.tick()
    assert len(done) == 1
    assert bench.room.firings()[0].effect == "first"


def test_what_is_still_being_done_is_looked_at_again(bench):
    bench.when(HAPPENED)
    bench.emit(endpoint="late")
    turns: list[str] = []

    def slow(firing: Firing, action: Action, finish) -> None:
        turns.append(firing.id)
        if len(turns) == 3:
            with bench.db.begin() as tx:
                finish(tx, "at last", "")

    bench.hands = Hands(actions={"run": slow})
    for _ in range(5):
        bench.room.tick(bench.hands)
    assert len(turns) == 3
    assert bench.room.firings()[0].attempts == 1


def test_thousands_of_events_are_each_looked_at_once(bench):
    bench.when(HAPPENED)
    met = [str(number) for number in (0, 998, 999, 1000, 2099)]
    with bench.db.begin() as tx:
        for number in range(2100):
            where = "late" if str(number) in met else "other"
            tx.emit("thing.happened", subject=str(number), data={"endpoint": where})
    bench.tick()
    assert [one.subject for one in bench.seen] == met
    assert bench.tick() == []


def test_two_engines_that_look_at_once_fire_once(bench):
    bench.when(HAPPENED)
    bench.emit(endpoint="late")
    for room in (bench.another(), bench.another()):
        room.tick(bench.hands)
    assert len(bench.seen) == 1


def test_a_cause_that_comes_again_does_not_fire_again(bench):
    """As after a restore of rows, or a cursor that was lost."""
    bench.when(clew.on_commit("shop/orders"))
    bench.commit("c1")
    assert len(bench.tick()) == 1
    bench.commit("c1")
    assert bench.tick() == []
    assert len(bench.room.firings()) == 1


def test_a_paused_trigger_looks_at_nothing_until_it_is_resumed(bench):
    bench.when(HAPPENED)
    bench.room.pause("t")
    bench.emit(endpoint="late")
    assert bench.tick() == []
    bench.room.pause("shop/t", paused=False)
    assert bench.tick() == []
    bench.emit(endpoint="late")
    assert len(bench.tick()) == 1


def test_a_trigger_can_be_set_off_by_hand(bench):
    bench.when(HAPPENED, cooldown_s=3600)
    bench.room.fire("t", reason="the backfill is in")
    bench.room.fire("t")
    assert bench.tick() == ["t: the backfill is in", "t: asked for by hand"]


def test_names_that_are_not_there_are_said(bench):
    bench.when(HAPPENED)
    for call in (bench.room.find, bench.room.pause, bench.room.fire, bench.room.info):
        with pytest.raises(NotFound) as raised:
            call("shop/u")
        assert raised.value.code == "trigger.unknown"
        assert "shop/t" in raised.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        Trigger(name="", when=HAPPENED, do=(RUN,)),
        Trigger(name="t", when=HAPPENED, do=()),
        Trigger(name="t", when=HAPPENED, do=(RUN,), cooldown_s=-1),
    ],
)
def test_a_trigger_that_cannot_be_is_refused(bench, wrong: Trigger):
    with pytest.raises(Invalid):
        bench.define(wrong)


def test_two_triggers_of_one_name_are_refused(bench):
    one = Trigger(name="t", when=HAPPENED, do=(RUN,))
    with pytest.raises(Invalid, match="same name"):
        bench.define(one, one)


CRASH = """
import os, signal, sys
from clew.db import Database
from clew.triggers import Hands, Triggers
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def act(firing, action, finish):
    if where == "before":
        die()
    with db.begin() as tx:
        with open(sys.argv[2], "a") as file:
            file.write(firing.id + "\\n")
        finish(tx, "done", "")
        if where == "inside":
            die()
    if where == "after":
        die()
db, where = Database.open(sys.argv[1]), sys.argv[3]
room = Triggers(db)
if where == "folding":
    room._note = lambda *_: die()
room.tick(Hands(actions={"run": act}))
"""


@pytest.mark.parametrize("where", ["folding", "before", "inside", "after"])
def test_a_crash_at_any_step_ends_with_one_firing_that_is_done_once(bench, tmp_path, where):
    bench.when(HAPPENED)
    bench.emit(endpoint="late")
    log = tmp_path / "log"
    command = [sys.executable, "-c", CRASH, bench.url, str(log), where]
    done = subprocess.run(command, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    bench.tick()
    bench.tick()
    (firing,) = bench.room.firings()
    assert firing.state == "done"
    assert len(bench.seen) + (where == "after") <= 1
    died = log.read_text().split() if log.exists() else []
    assert set(died) <= {firing.id}
    assert len(bench.db.events.after(0, ["trigger.ended"])) == 1
