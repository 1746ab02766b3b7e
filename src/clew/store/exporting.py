"""Files from the store to a disk: many at once, each whole or not at all.

Knows the file system; how bytes come from packs is a function to it.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from clew.base.ids import new_id
from clew.base.progress import Amount, Progress
from clew.store.local import storage_errors

HANDS = 4  # creating a file is the system's work: Python waits
_BATCH_FILES = 1000  # two threads in one directory would wait for each other
_BATCH_BYTES = 8 * 1024 * 1024
_BATCHES_AHEAD = 2 * HANDS
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

Pieces = Callable[[str], Iterable[bytes]]
"""The content of a file by its digest, verified, in pieces. Called from several threads."""


class Outgoing(NamedTuple):
    """A file to be written at ``name`` below the target; ``name`` is relative, with slashes."""

    digest: str
    name: str
    size_bytes: int


def export_many(pieces: Pieces, files: Iterable[Outgoing], target: Path, seen: Progress) -> None:
    """Write files below ``target``, made with what is above it.

    Where there is nothing at ``target`` yet, the directory appears whole at the end or not at all;
    else each file takes the place of the one of its name, and others stay.

    Raises:
        Unavailable: ``disk.full``, ``workspace.read_only``.
    """
    with storage_errors(target):
        if target.exists():
            _write_all(pieces, files, str(target), seen, replace=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        early = target.parent / f".{new_id()}.tmp"
        try:
            early.mkdir()
            _write_all(pieces, files, str(early), seen, replace=False)
            early.rename(target)
        except BaseException:
            shutil.rmtree(early, ignore_errors=True)
            raise


def write_file(pieces: Iterable[bytes], target: Path) -> None:
    """Write one file, whole or not at all."""
    temporary = target.parent / f".{new_id()}.tmp"
    try:
        with temporary.open("xb", buffering=0) as stream:
            for piece in pieces:
                _write(stream.fileno(), piece)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_all(
    pieces: Pieces, files: Iterable[Outgoing], root: str, seen: Progress, *, replace: bool
) -> None:
    made: set[str] = set()
    told = Amount(0, 0)
    waiting: deque[tuple[Future[None], Amount]] = deque()
    with ThreadPoolExecutor(HANDS, thread_name_prefix="clew-get") as hands:
        try:
            for directory, batch in _batches(files):
                place = f"{root}/{directory}" if directory else root
                if place not in made:
                    Path(place).mkdir(parents=True, exist_ok=True)
                    made.add(place)
                amount = Amount(len(batch), sum(file.size_bytes for file in batch))
                future = hands.submit(_write_batch, pieces, batch, place, replace=replace)
                waiting.append((future, amount))
                while len(waiting) > _BATCHES_AHEAD:
                    told = _done(waiting, told, seen)
            while waiting:
                told = _done(waiting, told, seen)
        except BaseException:
            hands.shutdown(cancel_futures=True)
            raise


def _done(waiting: deque[tuple[Future[None], Amount]], told: Amount, seen: Progress) -> Amount:
    future, amount = waiting.popleft()
    future.result()
    told = Amount(told.files + amount.files, told.size_bytes + amount.size_bytes)
    seen(told)
    return told


def _batches(files: Iterable[Outgoing]) -> Iterator[tuple[str, list[Outgoing]]]:
    """Files that follow one another in one directory, up to some hundred."""
    batch: list[Outgoing] = []
    size = 0
    current = ""
    for file in files:
        directory = file.name.rpartition("/")[0]
        if batch and (directory != current or len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES):
            yield current, batch
            batch, size = [], 0
        current = directory
        batch.append(file)
        size += file.size_bytes
    if batch:
        yield current, batch


def _write_batch(pieces: Pieces, batch: Sequence[Outgoing], place: str, *, replace: bool) -> None:
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for file in batch:
            name = file.name.rpartition("/")[2]
            if replace:
                early = f".{new_id()}.tmp"
                try:
                    _write_one(pieces(file.digest), early, directory)
                    os.rename(early, name, src_dir_fd=directory, dst_dir_fd=directory)
                except BaseException:
                    _remove(early, directory)
                    raise
            else:
                _write_one(pieces(file.digest), name, directory)
    finally:
        os.close(directory)


def _write_one(pieces: Iterable[bytes], name: str, directory: int) -> None:
    descriptor = os.open(name, _CREATE, 0o666, dir_fd=directory)
    try:
        for piece in pieces:
            _write(descriptor, piece)
    finally:
        os.close(descriptor)


def _remove(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return


def _write(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
