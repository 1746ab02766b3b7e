from __future__ import annotations

import subprocess
import sys
import threading

import pytest


def emit(db, kind, **more):
    with db.begin() as tx:
        tx.emit(kind, subject="s", **more)


def test_events_come_in_order_with_all_that_was_said(db):
    with db.begin() as tx:
        tx.emit("a.one", subject="x", global_id="g", data={"n": 1})
        tx.emit("a.two", subject="y")
    first, second = db.events.after(0)
    assert (first.seq, first.kind, first.subject) == (1, "a.one", "x")
    assert (first.global_id, first.data) == ("g", {"n": 1})
    assert (second.seq, second.global_id, second.data) == (2, None, {})
    assert first.at.tzinfo is not None
    assert db.events.after(1) == [second]
    assert db.events.last() == 2


def test_events_are_chosen_by_kind_and_by_change_and_bounded(db):
    for number in range(6):
        emit(db, f"kind.{number % 2}", global_id=f"g{number % 3}")
    assert [e.seq for e in db.events.after(0, kinds=["kind.0"])] == [1, 3, 5]
    assert [e.seq for e in db.events.after(0, global_id="g0")] == [1, 4]
    assert [e.seq for e in db.events.after(0, kinds={"kind.1"}, global_id="g0")] == [4]
    assert [e.seq for e in db.events.after(2, limit=2)] == [3, 4]
    assert db.events.after(0, kinds=[]) == []


def test_waiting_for_what_has_happened_returns_at_once(db):
    emit(db, "a")
    assert db.events.wait(0, timeout_s=0) is True
    assert db.events.wait(1, timeout_s=0) is False


def test_a_waiter_hears_of_another_thread(db):
    heard = []
    waiter = threading.Thread(target=lambda: heard.append(db.events.wait(0, timeout_s=30)))
    waiter.start()
    emit(db, "a")
    waiter.join()
    assert heard == [True]


EMIT = """
import sys
from clew.db import Database
db = Database.open(sys.argv[1])
with db.begin() as tx:
    tx.emit("from.afar", subject="s")
"""


def test_a_waiter_hears_of_another_process(db, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", EMIT, f"sqlite:///{tmp_path / 'clew.db'}"])
    assert db.events.wait(0, timeout_s=60) is True
    assert child.wait() == 0
    assert [event.kind for event in db.events.after(0)] == ["from.afar"]


def test_a_commit_without_events_wakes_nobody_for_good(db):
    with db.begin():
        pass
    assert db.events.wait(0, timeout_s=0.05) is False


def test_numbers_are_not_used_twice_after_a_roll_back(db):
    emit(db, "a")

    def fail():
        with db.begin() as tx:
            tx.emit("b", subject="s")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    emit(db, "c")
    assert [(e.seq, e.kind) for e in db.events.after(0)] == [(1, "a"), (2, "c")]


def test_whether_anything_but_some_kinds_came_is_told_also_beyond_what_is_remembered(db):
    emit(db, "loud")
    start = db.events.last()
    assert not db.events.any_after(start)
    for _ in range(3):
        emit(db, "quiet")
    assert db.events.any_after(start)
    assert not db.events.any_after(start, but={"quiet"})
    emit(db, "loud")
    assert db.events.any_after(start, but={"quiet"})
    last = db.events.last()
    with db.begin() as tx:
        for _ in range(700):
            tx.emit("quiet", subject="s")
    assert db.events.last() == last + 700
    assert not db.events.any_after(last, but={"quiet"})
    assert db.events.any_after(last - 1, but={"quiet"})
    assert db.events.any_after(0, but={"quiet"})
    for seq in (0, start, last):
        assert db.events.any_after(seq, kinds={"quiet"})
        assert db.events.any_after(seq, kinds={"loud"}) == (seq < last)
        assert not db.events.any_after(seq, kinds={"never"})
