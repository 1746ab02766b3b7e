"""Kinds of steps that are plugged in: run once for equal inputs, refused with their evidence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from clew.base.errors import Invalid
from clew.base.records import Commit
from clew.db import Tx
from clew.pipelines import RunResult, StepRun
from clew.store import EMPTY_TREE, Entry, Store

if TYPE_CHECKING:
    from .conftest import Lab

CODE = """
def up(raw: str) -> str: return raw.upper()
def model(up: str) -> str: return up
def after(model: str) -> str: return model + "!"
"""


class Writes:
    """A runner that writes what it read, and refuses what says so."""

    def __init__(self) -> None:
        self.store: Store
        self.seen: list[list[str]] = []
        self.finished: list[str] = []
        self.release = threading.Event()
        self.release.set()

    def run(self, run: StepRun) -> RunResult:
        commit = run.inputs["up"]
        paths = run.paths("up")
        self.seen.append(paths)
        self.release.wait(30)
        content = b"".join(self.store.read(self._get(commit, path).digest) for path in paths)
        run.progress(1, 2)
        run.log("trained")
        if content == b"TRACE":
            raise Invalid(
                "call.raised", "ValueError: no", hint="Traceback:\n  a.py\nValueError: no"
            )
        if content == b"RAISE":
            raise ValueError("the runner broke")
        with self.store.writer() as writer:
            digest, size = writer.put(content)
            tree = writer.tree(EMPTY_TREE, [Entry(path="/m.txt", digest=digest, size_bytes=size)])

        def on_finish(tx: Tx, commit: Commit) -> None:
            tx.emit("model.created", subject=commit.id)
            if content == b"LATE":
                raise ValueError("not in this transaction")
            self.finished.append(commit.id)

        refused = content == b"BAD"
        return RunResult(
            tree=tree,
            state="refused" if refused else "done",
            reason="It is bad." if refused else "",
            extra={"size": size},
            on_finish=on_finish,
        )

    def _get(self, commit: Commit, path: str) -> Entry:
        entry = self.store.get(commit.tree, path)
        assert entry is not None
        return entry


@pytest.fixture
def runner() -> Writes:
    return Writes()


@pytest.fixture
def lab(new_lab: Callable[..., Lab], runner: Writes) -> Lab:
    lab = new_lab({"train": runner})
    runner.store = lab.store
    lab.code(CODE)
    lab.apply(
        lab.step("up", "raw/"),
        lab.step("model", "up", kind="train", options={"trials": 1}),
        lab.step("after", "model"),
    )
    return lab


def test_a_plugged_step_runs_and_what_follows_reads_its_tree(lab: Lab, runner: Writes) -> None:
    lab.put({"/a.txt": "a"})
    lab.run()
    job = lab.last("model")
    assert (job.state, job.kind, job.total, job.done) == ("done", "train", 2, 1)
    assert lab.output("after") == {"/after.txt": "A!"}
    assert runner.finished == [job.output]
    assert lab.pipelines.extra(job.id) == {"size": 1}
    assert lab.pipelines.log(job.id) == "trained\n"


def test_equal_inputs_skip_it_and_keep_its_tree(lab: Lab, runner: Writes) -> None:
    lab.put({"/a.txt": "a"})
    lab.run()
    first = lab.last("model")
    lab.put({"/a.txt": "A"})
    lab.run()
    job = lab.last("model")
    assert (job.state, job.skipped) == ("done", 1)
    assert job.reason == f"Nothing to do: unchanged since job {first.id[:8]}."
    assert len(runner.seen) == 1
    assert lab.output("model") == {"/m.txt": "A"}


def test_other_options_run_it_again(lab: Lab, runner: Writes) -> None:
    lab.put({"/a.txt": "a"})
    lab.run()
    lab.apply(lab.step("up", "raw/"), lab.step("model", "up", kind="train", options={"trials": 2}))
    lab.run()
    assert len(runner.seen) == 2
    assert lab.last("up").total == 1


def test_asked_for_it_runs_again(lab: Lab, runner: Writes) -> None:
    lab.put({"/a.txt": "a"})
    lab.run()
    change = lab.pipelines.request("p", "model", reason="Drift.")[0].global_id
    lab.run()
    jobs = {job.step: job for job in lab.pipelines.of_change(change)}
    assert jobs.keys() == {"model", "after"}
    assert len(runner.seen) == 2
    assert jobs["after"].skipped == 1


def test_a_refusal_keeps_the_report_and_blocks_what_follows(lab: Lab) -> None:
    lab.put({"/a.txt": "bad"})
    lab.run()
    job = lab.last("model")
    assert (job.state, job.reason) == ("refused", "It is bad.")
    assert lab.output("model") == {"/m.txt": "BAD"}
    after = lab.last("after")
    assert (after.state, after.reason) == ("blocked", f"model was refused (job {job.id[:8]}).")


def test_an_error_of_a_runner_fails_the_job(lab: Lab) -> None:
    lab.put({"/a.txt": "raise"})
    lab.run()
    assert lab.last("model").state == "failed"
    assert "the runner broke" in lab.last("model").reason
    assert lab.last("after").state == "blocked"


def test_the_reason_of_a_failed_job_is_one_line_and_the_traceback_stands_below(lab: Lab) -> None:
    lab.put({"/a.txt": "trace"})
    lab.run()
    job = lab.last("model")
    assert (job.state, job.reason) == ("failed", "ValueError: no")
    assert job.error.splitlines()[0] == "ValueError: no"
    assert "Traceback:\n  a.py" in job.error


def test_an_error_in_the_finishing_transaction_leaves_nothing_of_it(lab: Lab) -> None:
    lab.put({"/a.txt": "late"})
    lab.run()
    assert lab.last("model").state == "failed"
    assert lab.repos.head("p/model") is None
    assert [event for event in lab.db.events.after(0) if event.kind == "model.created"] == []


def test_a_long_training_holds_up_nothing_else(lab: Lab, runner: Writes) -> None:
    runner.release.clear()
    lab.put({"/a.txt": "a"})
    worker = threading.Thread(target=lab.run)
    worker.start()
    seen = 0
    while not runner.seen:
        lab.db.events.wait(seen, 1)
        seen = lab.db.events.last()
    second = lab.put({"/a.txt": "b"}).global_id
    while [job.state for job in lab.pipelines.of_change(second) if job.step == "up"] != ["done"]:
        lab.db.events.wait(seen, 5)
        seen = lab.db.events.last()
    assert lab.last("model").state == "waiting"
    runner.release.set()
    worker.join()
    assert lab.output("after") == {"/after.txt": "B!"}


def test_a_kind_that_nothing_runs_fails_its_job(new_lab: Callable[..., Lab]) -> None:
    lab = new_lab()
    lab.code(CODE)
    lab.apply(lab.step("up", "raw/"), lab.step("model", "up", kind="magic"))
    lab.put({"/a.txt": "a"})
    lab.run()
    assert lab.last("model").state == "failed"
    assert "magic" in lab.last("model").reason
