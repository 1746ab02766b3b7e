"""Pause, resume, cancel, retry and restart do what they say, to what was named and no more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.records.policy import PipelinePolicy, Policy, Rate
from clew.pipelines import tables
from clew.pipelines.turns import Turns

if TYPE_CHECKING:
    from pathlib import Path

    from clew.base.records import Job

    from .conftest import Lab

STEPS = """
def up(raw: str) -> str:
    if "bad" in raw:
        raise ValueError("no good")
    return raw.upper()
def join(up: list[str]) -> str:
    return "+".join(up)
def side(raw: list[str]) -> str:
    return "-".join(raw)
"""
HELD = """
import pathlib, time
HERE = pathlib.Path({path!r})
def up(raw: str) -> str:
    with (HERE / "begun").open("a") as file:
        file.write(raw)
    while raw in "hx" and not (HERE / "go").exists():
        time.sleep(0.01)
    return raw.upper()
def join(up: list[str]) -> str:
    return "+".join(up)
"""
"""Datums "h" and "x" run until the file ``go`` is there."""


def until(lab: Lab, done: Callable[[], bool]) -> None:
    """Wait for events until something is so."""
    seen = 0
    while not done():
        lab.db.events.wait(seen, 0.05)
        seen = lab.db.events.last()


@contextmanager
def working(lab: Lab) -> Iterator[None]:
    """An engine beside the test."""
    thread = threading.Thread(target=lab.pipelines.run_until_idle)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def held(lab: Lab, tmp_path: Path) -> None:
    lab.code(HELD.format(path=str(tmp_path)))
    (tmp_path / "begun").touch()


def begun(tmp_path: Path) -> str:
    return (tmp_path / "begun").read_text()


def two_steps(lab: Lab) -> None:
    lab.code(STEPS)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"), lab.step("side", "raw"))


def states(lab: Lab, jobs: list[Job]) -> dict[str, str]:
    return {one.step: lab.pipelines.job(one.id).state for one in jobs}


# pause and resume ---------------------------------------------------------------------------


def test_a_paused_pipeline_gathers_what_is_committed_and_runs_it_when_resumed(lab: Lab) -> None:
    two_steps(lab)
    lab.pipelines.control.pause("p")
    change = lab.put({"/a.txt": "a"}).global_id
    lab.run()
    assert {job.state for job in lab.pipelines.of_change(change)} == {"paused"}
    assert not lab.pipelines.control.is_pending(change)
    assert not lab.pipelines.control.is_pending(None)
    lab.pipelines.control.resume("p")
    assert lab.pipelines.control.is_pending(change)
    lab.run()
    assert {job.state for job in lab.pipelines.of_change(change)} == {"done"}
    assert [job.state for job in lab.pipelines.of_change(lab.put({"/b.txt": "b"}).global_id)] == [
        "waiting", "waiting", "waiting"
    ]  # fmt: skip


def test_a_paused_step_holds_what_reads_it_and_nothing_else(lab: Lab) -> None:
    two_steps(lab)
    lab.pipelines.control.pause("p/up")
    change = lab.put({"/a.txt": "a"}).global_id
    lab.run()
    jobs = lab.pipelines.of_change(change)
    assert states(lab, jobs) == {"up": "paused", "join": "waiting", "side": "done"}
    assert not lab.pipelines.control.is_pending(change), "join waits for what is paused"
    lab.pipelines.control.resume("p/up")
    lab.run()
    assert set(states(lab, jobs).values()) == {"done"}


def test_a_paused_job_keeps_its_place_before_later_ones_of_its_step(lab: Lab) -> None:
    two_steps(lab)
    first = lab.put({"/a.txt": "a"})
    lab.pipelines.control.pause(first.global_id)
    second = lab.put({"/b.txt": "b"})
    lab.run()
    assert states(lab, lab.pipelines.of_change(second.global_id))["up"] == "waiting"
    assert not lab.pipelines.control.is_pending(second.global_id)
    lab.pipelines.control.resume(first.global_id)
    lab.run()
    tree = lab.repos.resolve(f"p/join@{first.global_id}").tree
    assert [one.path for one in lab.store.entries(tree)] == ["/join.txt"]
    assert lab.output("join") == {"/join.txt": "A+B"}


def test_pausing_a_running_job_lets_its_datums_end_and_begins_no_more(
    lab: Lab, tmp_path: Path
) -> None:
    held(lab, tmp_path)
    lab.apply(lab.step("up", "raw/", policy=Policy(parallel=1)), lab.step("join", "up"))
    lab.put({"/0.txt": "h", "/1.txt": "b", "/2.txt": "c", "/3.txt": "d"})
    job = lab.last("up")
    with working(lab):
        until(lab, lambda: begun(tmp_path) != "")
        assert [one.id for one in lab.pipelines.control.pause(job.id)] == [job.id]
        (tmp_path / "go").touch()
    assert lab.last("up").state == "paused"
    assert lab.states("up")["/0.txt"] == "done", "what ran came to its end"
    assert len(begun(tmp_path)) < 4, "not all began"
    done = sum(one == "done" for one in lab.states("up").values())
    lab.pipelines.control.resume(job.id)
    lab.run()
    assert lab.last("up").state == "done"
    assert lab.last("up").done == 4
    assert len(begun(tmp_path)) - 4 <= len(begun(tmp_path)) - done, "done ones ran once"
    assert begun(tmp_path).count("h") == 1
    assert lab.output("join") == {"/join.txt": "H+B+C+D"}


def test_a_wish_to_pause_survives_the_engine(lab: Lab) -> None:
    two_steps(lab)
    lab.put({"/a.txt": "a"})
    job = lab.last("up")
    with lab.db.begin() as tx:
        tx.execute(tables.UPDATE_JOB.values(state="running", pausing=1), {"job_id": job.id})
    assert lab.pipelines.recover() == 1
    assert lab.pipelines.job(job.id).state == "paused"


def test_resuming_what_is_not_paused_is_refused(lab: Lab) -> None:
    two_steps(lab)
    for subject in ("p", "p/up", lab.put({"/a.txt": "a"}).global_id):
        with pytest.raises(Conflict) as refused:
            lab.pipelines.control.resume(subject)
        assert refused.value.code == "work.not_paused"


# cancel -------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_what", ["change", "pipeline", "step", "job"])
def test_cancelling_ends_all_that_was_named(lab: Lab, of_what: str) -> None:
    two_steps(lab)
    lab.put({"/a.txt": "a"})
    lab.run()
    change = lab.put({"/b.txt": "b"}).global_id
    jobs = lab.pipelines.of_change(change)
    subject = {"change": change, "pipeline": "p", "step": "p/up", "job": jobs[0].id}[of_what]
    named = {"up", "join", "side"} if of_what in {"change", "pipeline"} else {"up"}
    assert {job.step for job in lab.pipelines.control.cancel(subject)} == named
    lab.run()
    found = states(lab, jobs)
    assert {step for step, state in found.items() if state == "cancelled"} == named
    assert found["join"] in {"cancelled", "blocked"}
    with pytest.raises(Conflict) as refused:
        lab.pipelines.control.cancel(subject)
    assert refused.value.code == "work.ended"


def test_a_running_job_is_cancelled_with_its_change(lab: Lab, tmp_path: Path) -> None:
    held(lab, tmp_path)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    change = lab.put({"/0.txt": "h"}).global_id
    with working(lab):
        until(lab, lambda: begun(tmp_path) != "")
        lab.pipelines.control.cancel(change)
    assert set(states(lab, lab.pipelines.of_change(change)).values()) == {"cancelled"}


# retry --------------------------------------------------------------------------------------


def test_a_retry_runs_what_failed_and_what_follows_for_the_same_change(
    lab: Lab, tmp_path: Path
) -> None:
    mark = tmp_path / "works"
    lab.code(
        f"""
        import pathlib
        def up(raw: str) -> str:
            with open({str(tmp_path / "runs")!r}, "a") as file:
                file.write(raw)
            if raw == "b" and not pathlib.Path({str(mark)!r}).exists():
                raise OSError("down")
            return raw.upper()
        def join(up: list[str]) -> str:
            return "+".join(up)
        """
    )
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    change = lab.put({"/a.txt": "a", "/b.txt": "b", "/c.txt": "c"}).global_id
    lab.run()
    failed = lab.last("up")
    assert failed.state == "failed"
    with pytest.raises(Conflict) as refused:
        lab.pipelines.control.retry(lab.last("join").id)
    assert refused.value.code == "job.blocked"
    mark.touch()
    made = lab.pipelines.control.retry(failed.id, priority=3)
    assert [(job.step, job.global_id, job.priority) for job in made] == [
        ("up", change, 3), ("join", change, 3)
    ]  # fmt: skip
    lab.run()
    assert lab.last("up").id == made[0].id
    assert (lab.last("up").done, lab.last("up").skipped) == (1, 2)
    assert lab.output("join") == {"/join.txt": "A+B+C"}
    assert sorted((tmp_path / "runs").read_text()) == ["a", "b", "b", "c"]
    with pytest.raises(Conflict) as refused:
        lab.pipelines.control.retry(failed.id)
    assert refused.value.code == "job.superseded"


def test_a_change_is_retried_by_its_jobs_that_failed(lab: Lab) -> None:
    two_steps(lab)
    change = lab.put({"/a.txt": "a"}).global_id
    lab.pipelines.control.cancel(change)
    assert {job.step for job in lab.pipelines.control.retry(change)} == {"up", "join", "side"}
    lab.run()
    assert lab.output("join") == {"/join.txt": "A"}
    with pytest.raises(Conflict) as refused:
        lab.pipelines.control.retry(change)
    assert refused.value.code == "job.not_failed"
    with pytest.raises(Invalid) as wrong:
        lab.pipelines.control.retry("p")
    assert wrong.value.code == "work.subject"


# restart ------------------------------------------------------------------------------------


def test_a_datum_that_is_done_can_be_made_anew_and_its_files_are_replaced(
    lab: Lab, tmp_path: Path
) -> None:
    lab.code(
        f"""
        import pathlib
        def up(raw: str) -> dict:
            log = pathlib.Path({str(tmp_path)!r}) / raw
            with log.open("a") as file:
                file.write("x")
            return {{"runs": len(log.read_text())}}
        """
    )
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a", "/b.txt": "b"})
    lab.run()
    datum = lab.datums("up")["/a.txt"]
    job = lab.pipelines.control.restart(datum.id[:8])
    lab.run()
    assert lab.pipelines.job(job.id).state == "done"
    assert lab.datums("up")["/a.txt"].reason == "its restart was asked for"
    assert lab.states("up") == {"/a.txt": "done", "/b.txt": "skipped"}
    assert lab.output("up") == {"/a.json": '{"runs":2}', "/b.json": '{"runs":1}'}
    lab.put({"/c.txt": "c"}, deletes=["/a.txt"])
    lab.run()
    assert set(lab.output("up")) == {"/b.json", "/c.json"}, "its new files go with it"
    with pytest.raises(Conflict) as refused:
        lab.pipelines.control.restart(datum.id)
    assert refused.value.code == "datum.superseded"


def test_a_datum_that_hangs_can_be_begun_anew_while_its_job_runs(lab: Lab, tmp_path: Path) -> None:
    lab.code(
        f"""
        import pathlib, time
        def up(raw: str) -> str:
            mark = pathlib.Path({str(tmp_path / "first")!r})
            if raw == "h" and not mark.exists():
                mark.touch()
                while True:
                    time.sleep(0.01)
            return raw.upper()
        """
    )
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "h", "/b.txt": "b"})
    job = lab.last("up")

    def running() -> list[str]:
        found = [one for one in lab.pipelines.datums(job.id) if one.state == "running"]
        return [one.id for one in found if one.inputs[0][0].endswith("/a.txt")]

    with working(lab):
        until(lab, lambda: (tmp_path / "first").exists() and running() != [])
        assert lab.pipelines.control.restart(running()[0]).id == job.id
    assert lab.last("up").state == "done"
    assert lab.output("up") == {"/a.txt": "H", "/b.txt": "B"}
    assert "Its restart was asked for" in lab.pipelines.log(job.id)


def test_a_datum_or_work_that_is_not_there_is_named(lab: Lab) -> None:
    two_steps(lab)
    with pytest.raises(NotFound, match="no datum"):
        lab.pipelines.control.restart("zzzzzzzzzzzzzzzz")
    for act in (lab.pipelines.control.cancel, lab.pipelines.control.pause):
        with pytest.raises(NotFound, match="no job, change, pipeline or step"):
            act("p/none")


# turns --------------------------------------------------------------------------------------


def test_of_many_changes_that_wait_only_the_newest_runs_where_that_is_wanted(lab: Lab) -> None:
    lab.code(STEPS)
    newest = Policy(every_commit=False)
    lab.apply(lab.step("up", "raw/", policy=newest), lab.step("join", "up", policy=newest))
    changes = [lab.put({f"/{n}.txt": f"{n}"}).global_id for n in range(10)]
    lab.run()
    ended = [{job.state for job in lab.pipelines.of_change(change)} for change in changes]
    assert ended == [{"superseded"}] * 9 + [{"done"}]
    assert lab.last("up").done == 10
    assert lab.output("join") == {"/join.txt": "+".join("0123456789")}
    assert "newer change" in lab.pipelines.of_change(changes[0])[0].reason


def test_ten_commits_while_a_job_runs_are_one_next_job(lab: Lab, tmp_path: Path) -> None:
    held(lab, tmp_path)
    lab.apply(lab.step("up", "raw/", policy=Policy(every_commit=False)))
    lab.put({"/0.txt": "h"})
    with working(lab):
        until(lab, lambda: begun(tmp_path) != "")
        for n in range(10):
            lab.put({f"/{n + 1}.txt": str(n)})
        (tmp_path / "go").touch()
    jobs = lab.pipelines.jobs(step="up")
    assert sorted(job.state for job in jobs) == ["done"] * 2 + ["superseded"] * 9
    assert jobs[0].state == "done"
    assert len(lab.output("up")) == 11


def test_what_was_asked_for_by_hand_is_never_passed_over(lab: Lab) -> None:
    lab.code(STEPS)
    lab.apply(lab.step("up", "raw/", policy=Policy(every_commit=False)))
    lab.put({"/a.txt": "a"})
    lab.run()
    asked = lab.pipelines.request("p", "up")[0]
    lab.put({"/b.txt": "b"})
    lab.put({"/c.txt": "c"})
    lab.run()
    assert lab.pipelines.job(asked.id).state == "done"
    assert [job.state for job in lab.pipelines.jobs(step="up")] == [
        "done", "superseded", "done", "done"
    ]  # fmt: skip


def test_jobs_of_a_higher_priority_start_first(lab: Lab) -> None:
    lab.code(STEPS)
    lab.pipelines._engine._max_jobs = 1
    lab.apply(
        lab.step("side", "raw", policy=Policy(priority=-1)),
        lab.step("up", "raw/", policy=Policy(priority=5)),
        lab.step("join", "up"),
    )
    lab.put({"/a.txt": "a"})
    lab.run()

    def order() -> list[str]:
        events = lab.db.events.after(0, {"job.started"})
        return [str(event.data["step"]) for event in events][-3:]

    assert order() == ["up", "join", "side"]
    lab.pipelines.request("p", "side", priority=9)
    lab.pipelines.request("p", "up")
    lab.run()
    assert order()[0] == "side"


def test_no_more_datums_of_a_step_or_a_pipeline_run_at_once_than_allowed(
    lab: Lab, tmp_path: Path
) -> None:
    lab.code(
        f"""
        import os, pathlib, time
        def up(raw: str) -> str:
            mine = pathlib.Path({str(tmp_path)!r}) / f"run-{{os.getpid()}}"
            mine.touch()
            time.sleep(0.02)
            others = len(list(mine.parent.glob("run-*")))
            mine.unlink()
            return str(others)
        def also(raw: str) -> str:
            return up(raw)
        """
    )
    lab.apply(lab.step("up", "raw/", policy=Policy(parallel=1)))
    lab.put({f"/{n}.txt": str(n) for n in range(8)})
    lab.run()
    assert set(lab.output("up").values()) == {"1"}
    both = lab.define(lab.step("up", "raw/"), lab.step("also", "raw/"))
    limited = type(both)(
        name="p", snapshot=both.snapshot, file="a.py", sources=both.sources, steps=both.steps,
        policy=PipelinePolicy(parallel=1),
    )  # fmt: skip
    lab.pipelines.register(limited, global_id="0" * 16)
    lab.pipelines.request("p")
    lab.run()
    assert {*lab.output("up").values(), *lab.output("also").values()} == {"1"}


def test_no_more_jobs_start_in_a_time_than_the_rate_allows(lab: Lab) -> None:
    lab.code(STEPS)
    lab.apply(lab.step("up", "raw/", policy=Policy(rate=Rate(starts=2, per_s=3600))))
    for n in range(4):
        lab.put({f"/{n}.txt": f"{n}"})
    lab.run()
    assert [job.state for job in lab.pipelines.jobs(step="up")] == [
        "waiting", "waiting", "done", "done"
    ]  # fmt: skip
    assert lab.pipelines.control.is_pending(None)
    hour_us = 3600 * 1_000_000
    with lab.db.begin() as tx:
        tx.execute(tables.jobs.update().values(started_us=tables.jobs.c.started_us - hour_us))
    lab.pipelines._engine._turns = Turns()
    lab.pipelines.recover()
    lab.run()
    assert {job.state for job in lab.pipelines.jobs(step="up")} == {"done"}


def test_a_pipeline_runs_no_more_jobs_at_once_than_it_may(lab: Lab) -> None:
    lab.code(STEPS)
    steps = lab.define(lab.step("up", "raw/"), lab.step("side", "raw"))
    one = type(steps)(
        name="p", snapshot=steps.snapshot, file="a.py", sources=steps.sources, steps=steps.steps,
        policy=PipelinePolicy(max_jobs=1),
    )  # fmt: skip
    lab.pipelines.register(one, global_id="0" * 16)
    lab.put({"/a.txt": "a"})
    lab.run()
    kinds = [e.kind for e in lab.db.events.after(0, {"job.started", "job.ended"})]
    assert kinds == ["job.started", "job.ended", "job.started", "job.ended"]


# ends ---------------------------------------------------------------------------------------


def test_a_job_that_takes_too_long_fails_and_keeps_what_is_done(lab: Lab, tmp_path: Path) -> None:
    held(lab, tmp_path)
    lab.apply(lab.step("up", "raw/", policy=Policy(job_timeout_s=2.0)))
    lab.put({"/0.txt": "a", "/1.txt": "h"})
    lab.run()
    job = lab.last("up")
    assert (job.state, job.reason) == ("failed", "It took longer than 2 s and was stopped.")
    assert "h" not in [path for path, state in lab.states("up").items() if state == "done"]


def test_an_engine_that_is_closed_lets_running_datums_end_and_begins_no_more(
    lab: Lab, new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    held(lab, tmp_path)
    lab.apply(lab.step("up", "raw/", policy=Policy(parallel=1)))
    lab.put({"/0.txt": "h", "/1.txt": "b", "/2.txt": "c", "/3.txt": "d"})
    with working(lab):
        until(lab, lambda: begun(tmp_path) != "")
        release = threading.Timer(0.1, (tmp_path / "go").touch)
        release.start()
        lab.pipelines.close(grace_s=60)
        release.join()
    assert lab.last("up").state == "waiting"
    assert lab.states("up")["/0.txt"] == "done"
    assert len(begun(tmp_path)) < 4
    after = new_lab(home=tmp_path)
    after.pipelines.recover()
    after.run()
    assert after.last("up").done == 4
    assert begun(tmp_path).count("h") == 1, "what ended in the grace is not run again"


def test_a_grace_that_is_too_short_returns_the_datum_to_the_next_engine(
    lab: Lab, new_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    held(lab, tmp_path)
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/0.txt": "h"})
    with working(lab):
        until(lab, lambda: begun(tmp_path) != "")
        lab.pipelines.close(grace_s=0.05)
    assert lab.last("up").state == "waiting"
    (tmp_path / "go").touch()
    after = new_lab(home=tmp_path)
    after.run()
    assert after.output("up") == {"/0.txt": "H"}


def test_how_far_a_job_is_and_how_long_it_takes_can_be_asked(lab: Lab, tmp_path: Path) -> None:
    held(lab, tmp_path)
    lab.apply(lab.step("up", "raw/", policy=Policy(parallel=1)))
    lab.put({f"/{n}.txt": letter for n, letter in enumerate("abcx")})
    job = lab.last("up")
    assert (job.left, job.eta_s) == (0, None), "nothing is known before it starts"
    with working(lab):
        until(lab, lambda: lab.pipelines.job(job.id).done == 3)
        now = lab.pipelines.job(job.id)
        assert (now.total, now.left) == (4, 1)
        assert now.eta_s is not None
        assert now.eta_s > 0
        (tmp_path / "go").touch()
    job = lab.pipelines.job(job.id)
    assert (job.done, job.left, job.eta_s) == (4, 0, None)
