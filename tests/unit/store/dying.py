"""A process that dies at every step of writing: run as ``dying.py TEMPLATE DIRECTORY``.

For n = 1, 2, ... it copies the store TEMPLATE to DIRECTORY/n and forks; the child commits to the
copy and kills itself at its n-th step on the disk (in the middle of it, where it writes). Each
digest that a flush has made durable is appended to DIRECTORY/n.log. Ends when a child survives.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from clew.store import EMPTY_TREE, Entry, Store
from clew.store.local import Disk


class Dying(Disk):
    """Kills the process with signal 9 at the n-th step, before it is done."""

    def __init__(self, n: int) -> None:
        self._left = n

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, descriptor: int, parts: Sequence[bytes]) -> None:
        data = b"".join(parts)
        super().write(descriptor, [data[: len(data) // 2]])
        self._step()
        super().write(descriptor, [data[len(data) // 2 :]])

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def sync_directory(self, directory: Path) -> None:
        self._step()
        super().sync_directory(directory)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)


def commit(home: Path, log: int, n: int) -> None:
    """Three commits of files and a tree, and what merging they set off."""
    store = Store.open(home, disk=Dying(n))
    tree = EMPTY_TREE
    for number in range(3):
        with store.writer() as writer:
            content = b"commit %d " % number * (300_000 if number == 1 else 1)
            name, size = writer.put(content)
            tree = writer.tree(tree, [Entry(path=f"/{number}", digest=name, size_bytes=size)])
        os.write(log, f"{name} {tree}\n".encode())


def main() -> None:
    """See the module."""
    template, directory = Path(sys.argv[1]), Path(sys.argv[2])
    n = 0
    while True:
        n += 1
        shutil.copytree(template, directory / f"{n}")
        log = os.open(directory / f"{n}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        child = os.fork()
        if child == 0:
            commit(directory / f"{n}", log, n)
            os._exit(0)
        os.close(log)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
