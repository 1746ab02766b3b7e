"""A step that waited for another starts in the transaction that ends it, where nothing forbids."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from clew.base.records.policy import PipelinePolicy
from clew.pipelines import PipelineDefinition

CHAIN = """
    def one(raw: list[str]) -> dict: return {"n": len(raw)}
    def two(one: dict) -> dict: return {"n": one["n"] + 1}
    def three(two: dict) -> dict: return {"n": two["n"] + 1}
    def aside(one: dict) -> dict: return {"n": -one["n"]}
"""


@pytest.fixture
def turns(lab):
    """Kinds and steps of the events of each write transaction, from when it is asked for."""
    told: list[list[tuple[str, str]]] = []
    begin = lab.db.begin

    @contextmanager
    def watched():
        with begin() as tx:
            emit, mine = tx.emit, list[tuple[str, str]]()

            def heard(kind, **told):
                mine.append((kind, (told.get("data") or {}).get("step", "")))
                emit(kind, **told)

            tx.emit = heard
            yield tx
        told.append([one for one in mine if one[0] in {"job.started", "job.ended"}])

    lab.db.begin = watched
    return told


def test_a_chain_runs_in_one_transaction_for_each_step_and_one_before(lab, turns):
    lab.code(CHAIN)
    lab.apply(lab.step("one", "raw"), lab.step("two", "one"), lab.step("three", "two"))
    turns.clear()
    lab.put({"/a": "a"})
    lab.run()
    assert [one for one in turns if one] == [
        [("job.started", "one")],
        [("job.ended", "one"), ("job.started", "two")],
        [("job.ended", "two"), ("job.started", "three")],
        [("job.ended", "three")],
    ]
    assert lab.output("three") == {"/three.json": '{"n":3}'}


def test_of_two_that_waited_one_is_handed_on_and_the_other_starts_too(lab):
    lab.code(CHAIN)
    lab.apply(lab.step("one", "raw"), lab.step("two", "one"), lab.step("aside", "one"))
    for number in range(3):
        lab.put({f"/{number}": "x"})
        lab.run()
    assert lab.output("two") == {"/two.json": '{"n":4}'}
    assert lab.output("aside") == {"/aside.json": '{"n":-3}'}


def test_where_limits_decide_nothing_is_handed_on(lab, turns):
    lab.code(CHAIN)
    steps = (lab.step("one", "raw"), lab.step("two", "one"))
    plain = lab.define(*steps)
    limited = PipelineDefinition(
        name="p",
        snapshot=lab.snapshot,
        file="a.py",
        sources=plain.sources,
        steps=plain.steps,
        policy=PipelinePolicy(max_jobs=1),
    )
    lab.pipelines.register(limited, global_id="g")
    lab.put({"/a": "a"})
    lab.run()
    assert lab.last("two").state == "done"
    assert not any(("job.ended", "one") in one and ("job.started", "two") in one for one in turns)


def test_a_step_that_is_paused_is_not_handed_on(lab):
    lab.code(CHAIN)
    lab.apply(lab.step("one", "raw"), lab.step("two", "one"))
    lab.pipelines.control.pause("p/two")
    lab.put({"/a": "a"})
    lab.run()
    assert (lab.last("one").state, lab.last("two").state) == ("done", "paused")


def test_an_engine_that_closes_in_a_chain_leaves_what_was_handed_on_to_the_next(lab, tmp_path):
    told, go_on = tmp_path / "told", tmp_path / "go"
    lab.code(f"""
        import time
        from pathlib import Path
        def one(raw: list[str]) -> dict: return {{"n": len(raw)}}
        def two(one: dict) -> dict:
            Path({str(told)!r}).touch()
            while not Path({str(go_on)!r}).exists():
                time.sleep(0.01)
            return {{"n": one["n"] + 1}}
    """)
    lab.apply(lab.step("one", "raw"), lab.step("two", "one"))
    lab.put({"/a": "a"})
    while not told.exists():
        lab.pipelines.run_until_idle(timeout_s=0.05)
    lab.pipelines.interrupt()
    assert (lab.last("one").state, lab.last("two").state) == ("done", "waiting")
    go_on.touch()
    lab.run()
    assert lab.output("two") == {"/two.json": '{"n":2}'}


def test_who_interrupts_while_a_job_begins_waits_for_its_thread(lab, monkeypatch):
    lab.code(CHAIN)
    lab.apply(lab.step("one", "raw"))
    lab.put({"/a": "a"})
    start, errors = threading.Thread.start, list[BaseException]()
    monkeypatch.setattr(threading, "excepthook", lambda told: errors.append(told.exc_value))
    closer = threading.Thread(target=lab.pipelines.interrupt)

    def begin(thread):
        if thread.name.startswith("job ") and not closer.is_alive():
            start(closer)
            closer.join(0.2)  # it waits for the job; without a thread to wait for it has failed
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", begin)
        lab.pipelines.tick()
    closer.join()
    lab.run()
    assert not errors
    assert lab.output("one") == {"/one.json": '{"n":1}'}
