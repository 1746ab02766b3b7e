"""A job that is cut, looked up and put together some datums at a time ends as one held whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clew.pipelines import output, work

if TYPE_CHECKING:
    from .conftest import Lab

UPPER = """
def up(raw: str) -> str:
    return raw.upper()
"""
NAMED = """
from pathlib import Path

def up(raw: str) -> Path:
    Path(raw).write_text(raw)
    return Path(raw)
"""


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "AT_ONCE", 3)
    monkeypatch.setattr(work, "_AT_ONCE", 4)
    monkeypatch.setattr(work, "_HELD", 2)


def files(*numbers: int) -> dict[str, str]:
    return {f"/{number:02}.txt": f"text {number}" for number in numbers}


def upper(*numbers: int) -> dict[str, str]:
    return {path: text.upper() for path, text in files(*numbers).items()}


def test_the_output_holds_the_files_of_all_datums(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"))
    lab.put(files(*range(30)))
    lab.run()
    assert lab.output("up") == upper(*range(30))
    job = lab.last("up")
    assert (job.total, job.done, job.skipped) == (30, 30, 0)


def test_what_is_known_is_skipped_where_much_has_changed(lab: Lab) -> None:
    lab.code(UPPER)
    lab.apply(lab.step("up", "raw/"))
    lab.put(files(*range(20)))
    lab.run()
    lab.put(files(*range(20, 35)), deletes=[f"/{number:02}.txt" for number in range(6)])
    lab.run()
    assert lab.output("up") == upper(*range(6, 35))
    job = lab.last("up")
    assert (job.total, job.done, job.skipped) == (29, 15, 14)
    lab.put(files(*range(6)))
    lab.run()
    assert lab.output("up") == upper(*range(35))
    assert lab.last("up").skipped == 35


def test_two_datums_far_apart_that_write_one_path_are_both_named(lab: Lab) -> None:
    lab.code(NAMED)
    lab.apply(lab.step("up", "raw/"))
    lab.put({f"/{n:02}.txt": "same.txt" if n in {1, 27} else f"{n}.txt" for n in range(30)})
    lab.run()
    job = lab.last("up")
    assert job.state == "failed"
    assert "same.txt" in job.reason
    assert "/01.txt" in job.reason
    assert "/27.txt" in job.reason


def test_a_clash_with_what_was_made_before_names_both(lab: Lab) -> None:
    lab.code(NAMED)
    lab.apply(lab.step("up", "raw/"))
    lab.put({f"/{n:02}.txt": f"{n}.txt" for n in range(10)})
    lab.run()
    lab.put({"/late.txt": "3.txt"})
    lab.run()
    job = lab.last("up")
    assert job.state == "failed"
    assert "/03.txt" in job.reason
    assert "/late.txt" in job.reason


def test_many_failures_are_counted_and_a_few_are_told(lab: Lab) -> None:
    lab.code("def up(raw: str) -> str:\n    assert not raw.endswith('1'), raw\n    return raw")
    lab.apply(lab.step("up", "raw/"))
    lab.put(files(*range(60)))
    lab.run()
    job = lab.last("up")
    assert (job.state, job.failed, job.done) == ("failed", 6, 54)
    assert job.reason.startswith("6 of 60 datums failed; /")
    assert job.error.count("AssertionError") <= 6
