"""The write-ahead file of the prediction log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.serving.spool import Record, Spool, frame, records, segments

from .conftest import fuzz


def record(id="p1", **changes) -> Record:
    values = {
        "id": id, "endpoint": "e", "revision": "r", "model_version": "m", "global_id": "g",
        "at_us": 1, "latency_us": 2, "status": 200, "kind": "v2", "request_head": -1,
        "request": b"{}", "answer_head": -1, "answer": b"{}",
    }  # fmt: skip
    return Record(**(values | changes))


def read(directory) -> list[Record]:
    return [one for segment in segments(directory) for one, _ in records(segment.read(0, 1 << 30))]


@given(st.lists(st.binary(max_size=50), max_size=5), st.data())
def test_a_file_cut_anywhere_gives_the_records_before_the_cut(bodies, data):
    frames = [frame(record(f"p{at}", request=body)) for at, body in enumerate(bodies)]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    found = list(records(whole[:cut]))
    ends = [sum(map(len, frames[: at + 1])) for at in range(len(frames))]
    assert [after for _, after in found] == [end for end in ends if end <= cut]
    assert [one.request for one, _ in found] == bodies[: len(found)]


def test_a_damaged_record_and_what_follows_is_not_read():
    first, second = frame(record("p1")), bytearray(frame(record("p2")))
    second[-1] ^= 1
    assert [one.id for one, _ in records(first + bytes(second) + first)] == ["p1"]


@pytest.mark.parametrize("size", [1, 8, 64, 4096])
def test_a_tail_of_zeros_is_no_record(size):
    """What a file system leaves behind when power fails: longer, and nothing written there."""
    first = frame(record("p1"))
    assert [(one.id, after) for one, after in records(first + bytes(size))] == [("p1", len(first))]


BYTES = st.one_of(
    st.binary(max_size=40), st.just(bytes(16)), st.just(b"\xff" * 9),
    st.just(frame(record("pX"))[:-1]), st.just(frame(record("pX"))[8:]),
)  # fmt: skip
DAMAGE = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "put"]), st.integers(0, 2000), BYTES), max_size=5
)


def is_read_as_far_as_it_is_whole(count, damage):
    """Every record that is read is one that was written, in its order, up to the first damage."""
    frames = [frame(record(f"p{at}", request=bytes([at]) * at)) for at in range(count)]
    data, first = bytearray(b"".join(frames)), len(b"".join(frames))
    for act, at, more in damage:
        at = at % (len(data) + 1)
        first = min(first, at)
        if act == "flip" and data:
            at = min(at, len(data) - 1)
            first = min(first, at)
            data[at] ^= 1 << (len(more) % 8)
        elif act == "cut":
            del data[at : at + len(more)]
        else:
            data[at:at] = more
    found = list(records(bytes(data), 7))
    sure = sum(sum(map(len, frames[: at + 1])) <= first for at in range(count))
    assert [one.id for one, _ in found[:sure]] == [f"p{at}" for at in range(sure)]
    assert {one.id for one, _ in found} <= {*(f"p{at}" for at in range(count)), "pX"}
    assert [after for _, after in found] == sorted(after for _, after in found)
    assert all(7 < after <= 7 + len(data) for _, after in found)


@fuzz(300)
@given(st.integers(0, 6), DAMAGE)
def test_whatever_happens_to_a_file_what_is_whole_before_it_is_read(count, damage):
    is_read_as_far_as_it_is_whole(count, damage)


@pytest.mark.slow
@fuzz(int(os.environ.get("FUZZ_DRAWS", "20000")))
@given(st.integers(0, 6), DAMAGE)
def test_whatever_happens_for_long_what_is_whole_is_read(count, damage):
    is_read_as_far_as_it_is_whole(count, damage)


def test_a_live_file_is_read_while_it_is_written(tmp_path):
    spool = Spool(tmp_path)
    spool.append([frame(record("p1")), frame(record("p2"))])
    assert [one.id for one in read(tmp_path)] == ["p1", "p2"]
    assert [segment.final for segment in segments(tmp_path)] == [False]
    spool.close()
    assert [one.id for one in read(tmp_path)] == ["p1", "p2"]
    assert [segment.final for segment in segments(tmp_path)] == [True]


def test_a_segment_keeps_its_name_when_it_is_closed_and_can_be_read_by_a_stale_listing(tmp_path):
    spool = Spool(tmp_path)
    spool.append([frame(record("p1"))])
    before = segments(tmp_path)
    spool.close()
    assert [segment.name for segment in before] == [one.name for one in segments(tmp_path)]
    assert [one.id for one, _ in records(before[0].read(0, 1 << 20))] == ["p1"]


def test_large_spools_go_on_in_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr("clew.serving.spool.ROTATE_BYTES", 100)
    spool = Spool(tmp_path)
    for at in range(10):
        spool.append([frame(record(f"p{at}"))])
    spool.close()
    assert len(segments(tmp_path)) > 2
    assert [one.id for one in read(tmp_path)] == [f"p{at}" for at in range(10)]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    spool = Spool(tmp_path)
    spool.append([frame(record("p1"))])
    real, calls = os.write, []

    def fills_up(fd, data):
        calls.append(len(data))
        if len(calls) == 1:
            return real(fd, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clew.serving.spool.os.write", fills_up)
    with pytest.raises(OSError, match="No space"):
        spool.append([frame(record("p2"))])
    monkeypatch.undo()
    spool.append([frame(record("p3"))])
    spool.close()
    assert [one.id for one in read(tmp_path)] == ["p1", "p3"]


def test_what_was_appended_survives_kill_9_and_the_file_is_known_as_orphaned(tmp_path):
    script = f"""
        import sys
        from pathlib import Path
        from clew.serving.spool import Record, Spool, frame
        spool = Spool(Path({str(tmp_path)!r}))
        for at in range(100000):
            spool.append([frame(Record(f"p{{at}}", *"ermg", 1, 2, 200, "v2", -1, b"", -1, b""))])
            print(at, flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    for line in child.stdout:
        if int(line) == 300:
            break
    assert [segment.final for segment in segments(tmp_path)] == [False]
    child.send_signal(signal.SIGKILL)
    said = [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    found = [one.id for one in read(tmp_path)]
    assert found[: len(said) + 301] == [f"p{at}" for at in range(len(said) + 301)]
    assert [segment.final for segment in segments(tmp_path)] == [True]
