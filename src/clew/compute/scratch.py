"""Directories for workers, and their removal, also after a pool that was killed.

Knows nothing of workers or calls.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from clew.base.ids import new_id
from clew.compute.family import end_marked


class ScratchSpace:
    """A directory of this pool below ``root``, and names for its files of output in ``log_dir``.

    Held by a lock that the operating system lets go when the process ends; whoever comes next
    sweeps what has no holder.
    """

    def __init__(self, root: Path, log_dir: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        log_dir.mkdir(parents=True, exist_ok=True)
        self._log_dir = log_dir
        self._sweep(root)
        self._name = f"pool-{new_id()}"
        self.path = root.absolute() / self._name
        self._lock = self._make(root.absolute() / f"new-{self._name}")

    @property
    def name(self) -> str:
        """A name that no other pool has."""
        return self._name

    def _make(self, making: Path) -> int:
        """The directory, held before it can be seen. Again where another has swept it meanwhile."""
        while True:
            making.mkdir(exist_ok=True)
            held = _lock(making)
            if held is None:
                continue
            try:
                making.rename(self.path)
            except FileNotFoundError:
                os.close(held)
                continue
            return held

    def directory(self, worker: int) -> Path:
        """A new empty directory for a worker."""
        path = self.path / str(worker)
        path.mkdir()
        return path

    def log(self, worker: int) -> Path:
        """Where the output of a worker goes."""
        return self._log_dir / f"{self._name}-{worker}.log"

    def close(self) -> None:
        """End what workers have left running, and remove it all."""
        end_marked(self._name)
        self._remove(self.path)
        os.close(self._lock)

    def _sweep(self, root: Path) -> None:
        dead = [(path, held) for path in _pools(root) if (held := _lock(path)) is not None]
        for path, held in dead:
            end_marked(path.name)
            self._remove(path)
            os.close(held)

    def _remove(self, path: Path) -> None:
        for log in self._log_dir.glob(f"{path.name}-*.log"):
            log.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)


def _pools(root: Path) -> list[Path]:
    """Directories of pools, of those too that were killed while they made theirs."""
    return [path for pattern in ("pool-*", "new-pool-*") for path in root.glob(pattern)]


def _lock(path: Path) -> int | None:
    """A descriptor that holds the directory, or None where another process does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # swept by another process
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
