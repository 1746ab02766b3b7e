"""What fails is tried again when it pays, with pauses that grow and differ; then it is handled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.base.records import CodeRef
from clew.base.records.policy import Backoff, Policy
from clew.pipelines.tries import Tries, pause_of

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Lab

AT_ONCE = Backoff(first_s=0)


@dataclass(frozen=True)
class Thing:
    key: str

    @property
    def unit(self) -> Thing:
        return self


@given(
    tries=st.integers(0, 2000),
    first_s=st.floats(0.001, 100),
    factor=st.floats(1, 10),
    jitter=st.floats(0, 1),
)
def test_pauses_grow_up_to_the_longest_and_are_only_ever_shortened(
    tries: int, first_s: float, factor: float, jitter: float
) -> None:
    whole = Backoff(first_s=first_s, factor=factor, max_s=120, jitter=0)
    longest = pause_of(whole, tries)
    assert longest <= 120
    assert longest <= pause_of(whole, tries + 1)
    assert longest == pytest.approx(min(120, first_s * factor ** min(tries, 60)))
    shortened = pause_of(Backoff(first_s=first_s, factor=factor, max_s=120, jitter=jitter), tries)
    assert longest * (1 - jitter) <= shortened <= longest


def test_datums_that_failed_together_do_not_come_back_together() -> None:
    pauses = {pause_of(Backoff(jitter=0.5), 3) for _ in range(20)}
    assert len(pauses) > 1


@pytest.mark.parametrize(
    ("retry_on", "evidence", "again"),
    [
        ((), {"code": "step.raised", "types": ["KeyError"]}, True),
        ((), {"code": "step.memory"}, True),
        (("OSError",), {"code": "step.raised", "types": ["ConnectionError", "OSError"]}, True),
        (("OSError",), {"code": "step.raised", "types": ["ValueError", "Exception"]}, False),
        (("OSError",), {"code": "step.timeout"}, False),
        (("step.timeout", "step.died"), {"code": "step.timeout"}, True),
        (("step.timeout", "step.died"), {"code": "step.memory"}, False),
    ],
)
def test_only_failures_that_are_worth_it_are_tried_again(
    retry_on: tuple[str, ...], evidence: dict[str, object], again: bool
) -> None:
    tries = Tries[Thing](1, Policy(retry_on=retry_on, backoff=AT_ONCE))
    thing = Thing("k")
    assert (tries.again(thing, evidence) is not None) == again
    assert list(tries.due()) == ([thing] if again else [])
    assert tries.again(thing, evidence) is None, "there is one retry"


FLAKY = """
import pathlib
class Flaky(OSError): ...
def up(raw: str) -> str:
    log = pathlib.Path({path!r}) / raw.split()[0]
    with log.open("a") as file:
        file.write("x")
    if "wrong" in raw:
        raise ValueError("no good")
    if "flaky" in raw and len(log.read_text()) < 3:
        raise Flaky("not yet")
    return raw
"""


def test_a_step_tries_again_what_its_retry_on_names_and_nothing_else(
    lab: Lab, tmp_path: Path
) -> None:
    (tmp_path / "tries").mkdir()
    lab.code(FLAKY.format(path=str(tmp_path / "tries")))
    policy = Policy(retry_on=("OSError",), backoff=AT_ONCE)
    lab.apply(lab.step("up", "raw/", retries=5, policy=policy))
    lab.put({"/a.txt": "a flaky", "/b.txt": "b wrong", "/c.txt": "c"})
    lab.run()
    assert lab.states("up") == {"/a.txt": "done", "/b.txt": "failed", "/c.txt": "done"}
    counts = {path.name: len(path.read_text()) for path in (tmp_path / "tries").iterdir()}
    assert counts == {"a": 3, "b": 1, "c": 1}


HANDLED = """
import os, pathlib
def up(raw: str) -> str:
    if "bad" in raw:
        raise ValueError("no good: " + raw)
    if "dies" in raw:
        os._exit(3)
    return raw.upper()

def rescue(raw: str, error) -> None:
    print("rescued", raw, error.code, error.message)
    if "worse" in raw:
        raise RuntimeError("beyond help")

def join(up: list[str]) -> str:
    return "+".join(up)
"""


def handled(lab: Lab) -> Policy:
    return Policy(on_error=CodeRef(snapshot=lab.snapshot, file="a.py", name="rescue"))


def test_a_datum_whose_error_is_handled_recovers_and_the_job_goes_on_without_it(lab: Lab) -> None:
    lab.code(HANDLED)
    lab.apply(lab.step("up", "raw/", policy=handled(lab)), lab.step("join", "up"))
    lab.put({"/a.txt": "a", "/b.txt": "bad", "/c.txt": "c", "/d.txt": "dies"})
    lab.run()
    job = lab.last("up")
    assert (job.state, job.done, job.recovered, job.failed) == ("done", 2, 2, 0)
    assert "2 datums failed and recovered" in job.reason
    found = lab.datums("up")
    assert {path: one.state for path, one in found.items()} == {
        "/a.txt": "done", "/b.txt": "recovered", "/c.txt": "done", "/d.txt": "recovered"
    }  # fmt: skip
    assert "no good: bad" in found["/b.txt"].error
    assert lab.output("join") == {"/join.txt": "A+C"}
    log = lab.pipelines.log(job.id)
    assert "rescued bad step.raised ValueError: no good: bad" in log
    assert "rescued dies step.died" in log


def test_a_recovered_datum_runs_again_in_the_next_job_and_in_a_retry(lab: Lab) -> None:
    lab.code(HANDLED)
    lab.apply(lab.step("up", "raw/", policy=handled(lab)))
    lab.put({"/a.txt": "a", "/b.txt": "bad"})
    lab.run()
    lab.put({"/c.txt": "c"})
    lab.run()
    assert lab.states("up") == {"/a.txt": "skipped", "/b.txt": "recovered", "/c.txt": "done"}
    lab.pipelines.control.retry(lab.last("up").id)
    lab.run()
    assert lab.states("up") == {"/a.txt": "skipped", "/b.txt": "recovered", "/c.txt": "skipped"}
    lab.put({"/b.txt": "b"})
    lab.run()
    assert lab.output("up") == {"/a.txt": "A", "/b.txt": "B", "/c.txt": "C"}
    lab.put({}, deletes=["/b.txt"])
    lab.run()
    assert lab.output("up") == {"/a.txt": "A", "/c.txt": "C"}


def test_where_the_handler_fails_too_the_datum_has_failed_with_both_errors(lab: Lab) -> None:
    lab.code(HANDLED)
    lab.apply(lab.step("up", "raw/", policy=handled(lab)))
    lab.put({"/a.txt": "a", "/b.txt": "bad and worse"})
    lab.run()
    assert lab.last("up").state == "failed"
    error = lab.datums("up")["/b.txt"].error
    assert "no good" in error
    assert "on_error failed: RuntimeError: beyond help" in error


def test_what_handles_errors_changes_no_key(lab: Lab) -> None:
    lab.code(HANDLED)
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a"})
    lab.run()
    before = lab.last("up").id
    lab.apply(lab.step("up", "raw/", policy=handled(lab), retries=3))
    lab.run()
    assert lab.last("up").id == before
