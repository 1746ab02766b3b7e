"""What goes wrong is put on the right datum, named, and never touches what was good."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from clew.base.errors import Conflict, NotFound
from clew.repos import RepoChange

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Lab

MAYBE = """
def up(raw: str) -> str:
    if "bad" in raw:
        raise ValueError("no good: " + raw)
    return raw.upper()

def join(up: list[str]) -> str:
    return "+".join(up)

def count(join: str) -> int:
    return len(join)
"""

EXPECT = {
    "kind": "expect_column_values_to_be_between",
    "columns": ["n"],
    "arguments": {"min_value": 0},
}
ROWS = """
import polars as pl
def rows(raw: pl.DataFrame) -> pl.DataFrame:
    return raw
def total(rows: pl.DataFrame) -> int:
    return rows["n"].sum()
"""


def test_a_failing_datum_fails_the_job_and_blocks_what_follows(lab: Lab) -> None:
    lab.code(MAYBE)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"), lab.step("count", "join"))
    lab.put({"/a.txt": "a"})
    lab.run()
    change = lab.put({"/b.txt": "bad", "/c.txt": "c"}).global_id
    lab.run()
    jobs = {job.step: job for job in lab.pipelines.of_change(change)}
    assert {step: job.state for step, job in jobs.items()} == {
        "up": "failed", "join": "blocked", "count": "blocked"
    }  # fmt: skip
    assert jobs["up"].reason == "1 of 3 datums failed; /b.txt: ValueError: no good: bad"
    assert 'File "a.py", line 4' in jobs["up"].error
    assert jobs["join"].reason == jobs["count"].reason == f"up failed (job {jobs['up'].id[:8]})."
    assert lab.states("up") == {"/a.txt": "skipped", "/b.txt": "failed", "/c.txt": "done"}
    assert lab.output("count") == {"/count.json": "1"}
    commits = {commit.repo: commit.state for commit in lab.repos.of_change(change)}
    assert (commits["p/up"], commits["p/join"]) == ("aborted", "aborted")


def test_the_next_change_starts_from_the_last_good_output(lab: Lab) -> None:
    lab.code(MAYBE)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.put({"/a.txt": "a"})
    lab.run()
    lab.put({"/b.txt": "bad", "/c.txt": "c"})
    lab.run()
    lab.put({"/b.txt": "b"})
    lab.run()
    assert lab.states("up") == {"/a.txt": "skipped", "/b.txt": "done", "/c.txt": "skipped"}
    assert lab.output("join") == {"/join.txt": "A+B+C"}


def test_a_file_that_cannot_be_imported_fails_the_job_with_its_line(lab: Lab) -> None:
    lab.code("import nothing_such\ndef up(raw: str) -> str: return raw")
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a"})
    lab.run()
    job = lab.last("up")
    assert job.state == "failed"
    assert "nothing_such" in job.reason
    assert 'File "a.py", line 1' in job.error


def test_a_result_that_breaks_an_expectation_is_refused_with_the_rows(lab: Lab) -> None:
    lab.code(ROWS)
    lab.apply(lab.step("rows", "raw/", expectations=(EXPECT,)), lab.step("total", "rows"))
    lab.put({"/a.csv": "n\n1\n", "/b.csv": "n\n5\n-3\n"})
    lab.run()
    job = lab.last("rows")
    assert job.state == "refused"
    assert lab.states("rows") == {"/a.csv": "done", "/b.csv": "refused"}
    evidence = lab.datums("rows")["/b.csv"].evidence
    assert evidence["expectations"][0]["examples"] == [{"row": 1, "n": -3}]
    assert lab.last("total").reason == f"rows was refused (job {job.id[:8]})."
    assert lab.repos.head("p/rows") is None


def test_a_warning_lets_the_result_pass_and_is_kept(lab: Lab) -> None:
    lab.code(ROWS)
    lab.apply(lab.step("rows", "raw/", expectations=({**EXPECT, "action": "warn"},)))
    lab.put({"/b.csv": "n\n5\n-3\n"})
    lab.run()
    assert lab.last("rows").state == "done"
    assert lab.datums("rows")["/b.csv"].evidence["expectations"]


def test_quarantined_rows_go_to_a_repo_of_their_own(lab: Lab) -> None:
    lab.code(ROWS)
    lab.apply(
        lab.step("rows", "raw/", expectations=({**EXPECT, "action": "quarantine"},)),
        lab.step("total", "rows"),
    )
    lab.put({"/a.csv": "n\n1\n", "/b.csv": "n\n5\n-3\n"})
    lab.run()
    assert lab.output("total") == {"/total.json": "6"}
    assert lab.last("rows").reason.endswith(" 1 row is in quarantine: p/rows.quarantine.")
    assert "quarantine" not in lab.last("total").reason
    aside = lab.repos.head("p/rows.quarantine")
    assert aside is not None
    assert [one.path for one in lab.store.entries(aside.tree)] == ["/b.parquet"]
    lab.put({"/b.csv": "n\n5\n"})
    lab.run()
    aside = lab.repos.head("p/rows.quarantine")
    assert aside is not None
    assert aside.files == 0
    assert "quarantine" not in lab.last("rows").reason


def test_a_datum_that_hangs_is_stopped_and_the_others_go_on(lab: Lab) -> None:
    lab.code(
        """
        import threading
        def up(raw: str) -> str:
            if raw == "hang":
                threading.Event().wait()
            return raw.upper()
        """
    )
    lab.apply(lab.step("up", "raw/", timeout_s=0.5))
    lab.put({"/a.txt": "a", "/b.txt": "hang", "/c.txt": "c", "/d.txt": "d"})
    lab.run()
    assert lab.states("up") == {
        "/a.txt": "done", "/b.txt": "failed", "/c.txt": "done", "/d.txt": "done"
    }  # fmt: skip
    assert lab.datums("up")["/b.txt"].error == "It took longer than 0.5 s and was stopped."


def test_a_datum_that_takes_too_much_memory_fails_alone(lab: Lab) -> None:
    lab.code(
        """
        def up(raw: str) -> str:
            if raw == "big":
                x = [bytearray(8 << 20) for _ in range(200)]
                return str(len(x))
            return raw.upper()
        """
    )
    lab.apply(lab.step("up", "raw/", memory_bytes=700 << 20))
    lab.put({"/a.txt": "a", "/b.txt": "big", "/c.txt": "c"})
    lab.run()
    assert lab.states("up") == {"/a.txt": "done", "/b.txt": "failed", "/c.txt": "done"}
    assert "memory" in lab.datums("up")["/b.txt"].error.lower()


def test_a_worker_that_is_killed_once_is_no_fault_of_the_datum(lab: Lab, tmp_path: Path) -> None:
    lab.code(
        f"""
        import os, pathlib, signal
        def up(raw: str) -> str:
            mark = pathlib.Path({str(tmp_path / "mark")!r})
            if raw == "c" and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return raw.upper()
        """
    )
    lab.apply(lab.step("up", "raw/"))
    lab.put({f"/{letter}.txt": letter for letter in "abcdef"})
    lab.run()
    assert lab.last("up").state == "done"
    assert len(lab.output("up")) == 6


def test_a_datum_that_kills_its_worker_each_time_fails_alone(lab: Lab) -> None:
    lab.code(
        """
        import os
        def up(raw: str) -> str:
            if raw == "c":
                os._exit(3)
            return raw.upper()
        """
    )
    lab.apply(lab.step("up", "raw/"))
    lab.put({f"/{letter}.txt": letter for letter in "abcdef"})
    lab.run()
    assert [path for path, state in lab.states("up").items() if state == "failed"] == ["/c.txt"]
    assert lab.last("up").done == 5


def test_a_failing_datum_is_tried_again_as_often_as_asked(lab: Lab, tmp_path: Path) -> None:
    lab.code(
        f"""
        import pathlib
        def up(raw: str) -> str:
            log = pathlib.Path({str(tmp_path / "tries")!r})
            with log.open("a") as file:
                file.write("x")
            if len(log.read_text()) < 3:
                raise OSError("not yet")
            return raw
        """
    )
    lab.apply(lab.step("up", "raw/", retries=2))
    lab.put({"/a.txt": "a"})
    lab.run()
    assert lab.last("up").state == "done"
    assert (tmp_path / "tries").read_text() == "xxx"


def test_what_the_code_prints_is_in_the_log_of_the_job(lab: Lab) -> None:
    lab.code("def up(raw: str) -> str:\n    print('saw', raw)\n    return raw")
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a"})
    lab.run()
    assert "saw a" in lab.pipelines.log(lab.last("up").id)


def test_files_left_in_the_working_directory_are_gone_for_the_next_datum(lab: Lab) -> None:
    lab.code(
        """
        from pathlib import Path
        def up(raw: Path) -> Path:
            assert not list(Path.cwd().glob("*.out"))
            Path("x.out").write_text(raw.read_text().upper())
            target = Path(raw.stem + ".up")
            Path("x.out").rename(target)
            return target
        """
    )
    lab.apply(lab.step("up", "raw/"))
    lab.put({f"/{letter}.txt": letter for letter in "abc"})
    lab.run()
    assert lab.output("up") == {"/a.up": "A", "/b.up": "B", "/c.up": "C"}


def test_two_changes_get_jobs_of_their_own_and_run_in_order(lab: Lab) -> None:
    lab.code(MAYBE)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    first = lab.put({"/a.txt": "a"}).global_id
    second = lab.put({"/b.txt": "b"}).global_id
    assert [job.state for job in lab.pipelines.of_change(first)] == ["waiting", "waiting"]
    lab.run()
    one, two = (
        {job.step: job for job in lab.pipelines.of_change(change)} for change in (first, second)
    )
    assert [job.state for job in (*one.values(), *two.values())] == ["done"] * 4
    tree = {change: lab.repos.resolve(f"p/join@{change}").tree for change in (first, second)}
    texts = [lab.store.read(lab.store.get(t, "/join.txt").digest) for t in tree.values()]
    assert texts == [b"A", b"A+B"]
    assert two["up"].skipped == 1


def test_a_change_of_two_repos_runs_a_step_once(lab: Lab) -> None:
    lab.code("def both(raw: list[str], side: str) -> str: return ''.join(raw) + side")
    lab.sources = ("p/raw", "p/side")
    lab.apply(lab.step("both", "raw", "side"))
    commits = lab.repos.commit_many(
        [
            RepoChange(repo="p/raw", puts={"/a.txt": b"a"}),
            RepoChange(repo="p/side", puts={"/s.txt": b"s"}),
        ]
    )
    assert len(lab.pipelines.of_change(commits[0].global_id)) == 1
    lab.run()
    assert lab.output("both") == {"/both.txt": "as"}


def test_a_step_whose_other_input_comes_later_waits_for_nothing(lab: Lab) -> None:
    """The change that brings the missing input runs it with what came before, even unfinished."""
    lab.code(MAYBE + "\ndef both(up: list[str], side: str) -> str: return ''.join(up) + side")
    lab.sources = ("p/raw", "p/side")
    lab.apply(lab.step("up", "raw/"), lab.step("both", "up", "side"))
    lab.put({"/a.txt": "a"})
    lab.put({"/s.txt": "s"}, repo="p/side")
    lab.run()
    assert lab.output("both") == {"/both.txt": "As"}


def test_a_waiting_job_can_be_cancelled_and_blocks_what_follows(lab: Lab) -> None:
    lab.code(MAYBE)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.put({"/a.txt": "a"})
    job = lab.last("up")
    lab.pipelines.cancel(job.id)
    lab.run()
    assert lab.last("up").state == "cancelled"
    assert lab.last("join").reason == f"up was cancelled (job {job.id[:8]})."
    with pytest.raises(Conflict):
        lab.pipelines.cancel(job.id)


def test_a_running_job_can_be_cancelled(lab: Lab, tmp_path: Path) -> None:
    lab.code(
        f"""
        import pathlib, threading
        def up(raw: str) -> str:
            pathlib.Path({str(tmp_path / "started")!r}).touch()
            threading.Event().wait()
        """
    )
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a"})
    worker = threading.Thread(target=lab.run)
    worker.start()
    seen = 0
    while not any(event.kind == "job.started" for event in lab.db.events.after(0)):
        lab.db.events.wait(seen, 10)
        seen = lab.db.events.last()
    lab.pipelines.cancel(lab.last("up").id)
    worker.join()
    assert lab.last("up").state == "cancelled"


def test_on_stop_a_running_job_waits_again_and_keeps_what_was_done(lab: Lab) -> None:
    lab.code(
        """
        import time
        def up(raw: str) -> str:
            if raw == "slow":
                time.sleep(30)
            return raw
        """
    )
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a", "/b.txt": "slow"})
    stop = threading.Event()
    worker = threading.Thread(target=lab.pipelines.run_until_idle, args=(stop,))
    worker.start()
    seen = 0
    while lab.last("up").done < 1:  # told although the other datum of its batch goes on
        lab.db.events.wait(seen, 10)
        seen = lab.db.events.last()
    stop.set()
    worker.join()
    job = lab.last("up")
    assert job.state == "waiting"
    assert lab.states("up") == {"/a.txt": "done"}


def test_a_step_that_is_taken_out_cancels_its_waiting_jobs(lab: Lab) -> None:
    lab.code(MAYBE)
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    lab.put({"/a.txt": "a"})
    lab.apply(lab.step("up", "raw/"))
    lab.run()
    assert lab.last("up").state == "done"
    assert lab.last("join").state == "cancelled"


def test_an_unknown_job_pipeline_or_step_is_named(lab: Lab) -> None:
    lab.code(MAYBE)
    lab.apply(lab.step("up", "raw/"))
    with pytest.raises(NotFound, match="There is no job"):
        lab.pipelines.job("zzzzzzzz")
    with pytest.raises(NotFound, match="There is no pipeline"):
        lab.pipelines.get("q")
    with pytest.raises(NotFound) as caught:
        lab.pipelines.request("p", "upp")
    assert caught.value.hint == "Did you mean up?"
    with pytest.raises(Conflict, match="has no data yet"):
        lab.pipelines.request("p", "up")


def test_lineage_leads_from_the_output_to_the_source_over_job_and_code(lab: Lab) -> None:
    lab.code(MAYBE)
    lab.apply(lab.step("up", "raw/"))
    source = lab.put({"/a.txt": "a"})
    lab.run()
    job = lab.last("up")
    assert job.output is not None
    nodes, _ = lab.lineage.walk(job.output, "up")
    assert {node.kind for node in nodes} == {"job", "commit", "code"}
    assert {source.id, job.id} <= {node.id for node in nodes}
