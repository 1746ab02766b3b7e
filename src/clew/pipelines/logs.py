"""Logs of jobs: what datums printed, in order, in files of bounded size that can be followed.

Knows files only. A log is lines of JSON in ``JOB.jsonl``; when that is full it becomes
``JOB.old.jsonl`` and a new one begins, so that the end of a long log is what is kept.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from clew.base import clock
from clew.base.records import LogEntry

FILE_BYTES = 4 << 20
"""At most twice as much is kept of a job."""

_CUT = re.compile(r"\[(\d+) bytes before this are not kept\]\n")
_locks = [threading.Lock() for _ in range(16)]


class _Line(msgspec.Struct, array_like=True):
    """One line: when, which datum ('' for the job), what."""

    at_us: int
    datum: str
    text: str


class _Start(msgspec.Struct, array_like=True):
    """The first line of a file that goes on another: how many bytes were before it."""

    start: int


def append_log(directory: Path, job_id: str, pieces: Sequence[tuple[str, str]]) -> None:
    """Add what datums (by id; '' is the job) printed. Thread-safe."""
    if not any(text for _, text in pieces):
        return
    now_us = clock.to_us(clock.now())
    lines = [_Line(now_us, datum, text) for datum, text in pieces if text]
    data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    directory.mkdir(parents=True, exist_ok=True)
    path = _path(directory, job_id)
    with _locks[hash(job_id) % len(_locks)], path.open("ab+") as file:
        size = file.tell()
        if size > FILE_BYTES:
            file.seek(0)
            head = msgspec.json.encode(_Start(_start(file) + size)) + b"\n"
            path.replace(_old(directory, job_id))
            path.write_bytes(head + data)
            return
        if size and not _ends_line(file, size):
            data = b"\n" + data  # an engine was killed in the middle of a line
        file.write(data)


def read_log(
    directory: Path, job_id: str, *, after: int = 0, datum: str = "", limit: int = 1000
) -> tuple[list[LogEntry], int]:
    """Up to ``limit`` entries from place ``after`` on, and the place after them.

    Of one datum alone where its id (or the beginning of it) is given.
    """
    entries: list[LogEntry] = []
    at = after
    for line, end in _lines(directory, job_id, after):
        at = end
        with suppress(msgspec.DecodeError):  # a line that a kill has cut off
            found = msgspec.json.decode(line, type=_Line)
            if found.datum.startswith(datum):
                when = clock.from_us(found.at_us)
                entries.append(LogEntry(at=when, datum=found.datum, text=found.text))
        if len(entries) >= limit:
            break
    return entries, at


def whole_log(directory: Path, job_id: str) -> str:
    """All that is kept, as one text."""
    entries, _ = read_log(directory, job_id, limit=1 << 62)
    return "".join(one.text if one.text.endswith("\n") else f"{one.text}\n" for one in entries)


def drop_logs(directory: Path, before: datetime, running: Collection[str]) -> int:
    """Remove logs that nothing was written to since a time, but those of ``running`` jobs.

    How many jobs lost theirs. Anybody may read meanwhile: a log that is gone is an empty one.
    """
    dropped = set[str]()
    for file in directory.glob("*.jsonl"):
        job = file.name.partition(".")[0]
        with suppress(FileNotFoundError):  # another process drops it too
            if job not in running and file.stat().st_mtime < before.timestamp():
                file.unlink()
                dropped.add(job)
    return len(dropped)


def rest_of(log: str, told: int) -> str:
    """What of the end of a call's output has not been told yet, of ``told`` bytes that were."""
    match = _CUT.match(log)
    start = int(match[1]) if match else 0
    body = log[match.end() :] if match else log
    if not told:
        return body
    return body.encode()[max(0, told - start) :].decode(errors="replace")


def _lines(directory: Path, job_id: str, after: int) -> Iterator[tuple[bytes, int]]:
    """Whole lines from a place on, each with the place after it."""
    with ExitStack() as stack:
        files = list[BinaryIO]()
        for path in (_path(directory, job_id), _old(directory, job_id)):  # it may turn meanwhile
            with suppress(FileNotFoundError):
                files.insert(0, stack.enter_context(path.open("rb")))
        at = after
        for file in files:
            start = _start(file)
            at = max(at, start)
            file.seek(at - start)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                at += len(line)
                yield line, at


def _start(file: BinaryIO) -> int:
    """How many bytes of the log were before a file."""
    try:
        return msgspec.json.decode(file.readline(), type=_Start).start
    except msgspec.DecodeError:
        return 0


def _ends_line(file: BinaryIO, size: int) -> bool:
    file.seek(size - 1)
    return file.read(1) == b"\n"


def _path(directory: Path, job_id: str) -> Path:
    return directory / f"{job_id}.jsonl"


def _old(directory: Path, job_id: str) -> Path:
    return directory / f"{job_id}.old.jsonl"
