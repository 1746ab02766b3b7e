"""What datums print can be read while they run, in order, and is there when their worker is not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from clew.base.ids import new_id
from clew.pipelines import logs
from clew.pipelines.logs import append_log, read_log, rest_of, whole_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from .conftest import Lab


def pages(directory: Path, job: str, **options: object) -> list[tuple[str, str]]:
    """A whole log, read a page at a time."""
    found, at = list[tuple[str, str]](), 0
    while True:
        entries, after = read_log(directory, job, after=at, limit=3, **options)
        if after == at:
            return found
        found += [(one.datum, one.text) for one in entries]
        at = after


def test_a_log_is_read_page_by_page_in_the_order_in_which_it_was_written(tmp_path: Path) -> None:
    said = [("a", "one\n"), ("b", "two\n"), ("", "of the job\n"), ("a", "three"), ("b", "")]
    append_log(tmp_path, "J", said[:2])
    append_log(tmp_path, "J", said[2:])
    assert pages(tmp_path, "J") == said[:4]
    assert pages(tmp_path, "J", datum="a") == [("a", "one\n"), ("a", "three")]
    assert whole_log(tmp_path, "J") == "one\ntwo\nof the job\nthree\n"
    assert whole_log(tmp_path, "none") == ""


def test_a_long_log_keeps_its_end_and_places_in_it_stay_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 1000)
    at, followed = 0, list[str]()
    for n in range(500):
        append_log(tmp_path, "J", [("", f"line {n}\n")])
        if n % 7 == 0:
            entries, at = read_log(tmp_path, "J", after=at)
            followed += [one.text for one in entries]
    entries, at = read_log(tmp_path, "J", after=at)
    followed += [one.text for one in entries]
    assert followed == [f"line {n}\n" for n in range(500)], "a follower misses nothing"
    kept = [text for _, text in pages(tmp_path, "J")]
    assert kept == followed[-len(kept) :], "the end, without gaps"
    assert 0 < sum(path.stat().st_size for path in tmp_path.iterdir()) < 2500


def test_a_line_that_a_kill_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    append_log(tmp_path, "J", [("a", "whole\n")])
    with (tmp_path / "J.jsonl").open("ab") as file:
        file.write(b'[1,"a","hal')
    assert pages(tmp_path, "J") == [("a", "whole\n")]
    append_log(tmp_path, "J", [("a", "after\n")])
    assert pages(tmp_path, "J") == [("a", "whole\n"), ("a", "after\n")]


@given(text=st.text(max_size=200), told=st.integers(0, 300))
def test_only_what_has_not_been_told_is_taken_from_the_end_of_a_call(text: str, told: int) -> None:
    data = text.encode(errors="replace")
    rest = rest_of(data.decode(), told)
    assert rest == data[told:].decode(errors="replace")
    cut = f"[{len(data)} bytes before this are not kept]\nend"
    assert rest_of(cut, len(data) + 1) == "nd"


SAYS = """
import pathlib, sys, time
def up(raw: str) -> str:
    print("begin", raw)
    print("warned", raw, file=sys.stderr)
    while raw == "h" and not pathlib.Path({go!r}).exists():
        time.sleep(0.01)
    print("end", raw)
    return raw
"""


def test_what_a_datum_prints_is_there_while_it_runs_and_by_datum(lab: Lab, tmp_path: Path) -> None:
    lab.code(SAYS.format(go=str(tmp_path / "go")))
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a", "/b.txt": "b", "/h.txt": "h"})
    job = lab.last("up").id
    worker = threading.Thread(target=lab.run)
    worker.start()
    seen = 0
    while "warned h" not in lab.pipelines.log(job):
        lab.db.events.wait(seen, 0.05)
        seen = lab.db.events.last()
    page = lab.pipelines.log_page(job)
    assert not page.ended
    assert "end h" not in lab.pipelines.log(job)
    (tmp_path / "go").touch()
    worker.join()
    rest = lab.pipelines.log_page(job, after=page.next)
    assert rest.ended
    assert "end h" in "".join(one.text for one in rest.entries)
    ids = {path: datum.id for path, datum in lab.datums("up").items()}
    for letter in "abh":
        found = lab.pipelines.log_page(job, datum=ids[f"/{letter}.txt"][:10]).entries
        text = "".join(one.text for one in found)
        assert text == f"begin {letter}\nwarned {letter}\nend {letter}\n"


def test_what_a_worker_printed_before_it_died_is_kept_once(lab: Lab) -> None:
    lab.code(
        """
        import os
        def up(raw: str) -> str:
            print("begin", raw, flush=True)
            if raw == "k":
                os._exit(3)
            return raw
        """
    )
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a", "/k.txt": "k"})
    lab.run()
    found = lab.datums("up")
    page = lab.pipelines.log_page(lab.last("up").id, datum=found["/k.txt"].id)
    assert "".join(one.text for one in page.entries).count("begin k") == 2, "each of two tries once"
    whole = lab.pipelines.log(lab.last("up").id)
    assert whole.count("begin a") == 1


def test_tries_are_told_in_the_log(lab: Lab, new_lab: Callable[..., Lab]) -> None:
    lab.code("def up(raw: str) -> str:\n    raise OSError(f'no {raw}')")
    lab.apply(lab.step("up", "raw/", retries=1))
    lab.put({"/a.txt": "a"})
    lab.run()
    assert "[It failed and is tried again in " in lab.pipelines.log(lab.last("up").id)
    assert lab.pipelines.log_page(lab.last("up").id, datum=new_id()).entries == ()
