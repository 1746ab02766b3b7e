"""kill -9 and loss of power at every step of writing: what was flushed is there, all is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from clew.store import EMPTY_TREE, Entry, Store, digest
from clew.store.local import Disk

_PACKS_BEFORE = 30  # two short of a merge
OLD = [b"old %d" % number for number in range(_PACKS_BEFORE)]


def fill(home: Path) -> Store:
    store = Store.open(home)
    for data in OLD:
        with store.writer() as writer:
            writer.put(data)
    return store


def check(home: Path, flushed: Sequence[tuple[str, str]]) -> None:
    store = Store.open(home)
    assert store.fsck() == []
    assert [store.read(digest("file", data)) for data in OLD] == OLD
    for name, tree in flushed:
        assert store.read(name).startswith(b"commit ")
        assert any(entry.digest == name for entry in store.entries(tree))
    with store.writer() as writer:
        name, _ = writer.put(b"life goes on")
    assert Store.open(home).read(name) == b"life goes on"
    assert [path.name for path in (home / "tmp").glob("*.tmp")] == []


def test_kill_9_at_any_step_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    fill(tmp_path / "template")
    script = Path(__file__).with_name("dying.py")
    (tmp_path / "runs").mkdir()
    arguments = [sys.executable, script, tmp_path / "template", tmp_path / "runs"]
    subprocess.run(arguments, check=True, timeout=120)
    logs = sorted((tmp_path / "runs").glob("*.log"), key=lambda path: int(path.stem))
    counts = []
    for log in logs:
        flushed = [tuple(line.split(" ")) for line in log.read_text().splitlines()]
        check(log.with_suffix(""), [(name, tree) for name, tree in flushed])
        counts.append(len(flushed))
    assert counts[0] == 0
    assert counts[-1] == 3
    assert counts == sorted(counts)
    assert len(counts) > 3 * 4 + _PACKS_BEFORE


class PowerLoss(BaseException):
    """The machine is off."""


class Volatile(Disk):
    """A disk that forgets at the n-th step what was not synced.

    Bytes that were not synced are gone. Of names that were not synced, ``keep`` says whether they
    reached the medium all the same: both can happen.
    """

    def __init__(self, n: int, *, keep: bool) -> None:
        self._left = n
        self._keep = keep
        self._unsynced: dict[int, int] = {}
        self._renamed: list[tuple[Path, Path, bytes | None]] = []
        self._removed: list[tuple[Path, bytes]] = []

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._forget()
            raise PowerLoss
        if self._left < 0:
            raise PowerLoss

    def _forget(self) -> None:
        for _, target, before in reversed(self._renamed):
            if target.exists() and target.stat().st_ino in self._unsynced:
                os.truncate(target, target.stat().st_size // 3)
            if not self._keep:
                target.unlink()
                if before is not None:
                    target.write_bytes(before)
        for path, data in self._removed if not self._keep else ():
            path.write_bytes(data)

    def write(self, descriptor: int, parts: Sequence[bytes]) -> None:
        self._unsynced[os.fstat(descriptor).st_ino] = 1
        self._step()
        super().write(descriptor, parts)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)
        self._unsynced.pop(os.fstat(descriptor).st_ino, None)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        before = target.read_bytes() if target.exists() else None
        super().rename(source, target)
        self._renamed.append((source, target, before))

    def sync_directory(self, directory: Path) -> None:
        self._step()
        super().sync_directory(directory)
        self._renamed = [item for item in self._renamed if item[1].parent != directory]
        self._removed = [item for item in self._removed if item[0].parent != directory]

    def remove(self, path: Path) -> None:
        self._step()
        self._removed.append((path, path.read_bytes()))
        super().remove(path)


@pytest.mark.parametrize("keep", [True, False])
def test_loss_of_power_at_any_step_loses_nothing_that_was_flushed(
    tmp_path: Path, keep: bool
) -> None:
    fill(tmp_path / "template")
    flushed: list[tuple[str, str]] = []
    n = 0
    while len(flushed) < 4:
        n += 1
        home = tmp_path / f"{n}"
        shutil.copytree(tmp_path / "template", home)
        flushed = []
        store = Store.open(home, disk=Volatile(n, keep=keep))
        tree = EMPTY_TREE
        try:
            for number in range(4):
                with store.writer() as writer:
                    name, size = writer.put(b"commit %d" % number)
                    entry = Entry(path=f"/{number}", digest=name, size_bytes=size)
                    tree = writer.tree(tree, [entry])
                flushed.append((name, tree))
        except PowerLoss:
            pass
        check(home, flushed)
    assert n > 40
