"""Ends what a run of the tests started and did not end: also where the run was killed itself.

Run as a program, with a mark, it waits until its standard input closes. Every process that has the
mark in its environment was started by that run, whatever has become of its parents.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time

import psutil

VARIABLE = "TESTED_BY"
PATIENCE_S = 30
"""How long what was told to end may take."""


def marked(mark: str) -> list[psutil.Process]:
    """The processes with a mark, this one left out."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(VARIABLE) == mark:
                found.append(process)
    return found


def outliving(mark: str, patience_s: float = PATIENCE_S) -> list[psutil.Process]:
    """What still runs after so long, and at once where nothing does."""
    end = time.monotonic() + patience_s
    while (found := marked(mark)) and time.monotonic() < end:
        psutil.wait_procs(found, timeout=1)
    return found


class Guard:
    """Marks all that this process starts from now on."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self._process = subprocess.Popen(
            [sys.executable, __file__, self.mark],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is not for it
        )
        os.environ[VARIABLE] = self.mark

    def close(self, patience_s: float = PATIENCE_S) -> list[str]:
        """End what is left after so long, and tell it."""
        del os.environ[VARIABLE]
        left = [told(process) for process in outliving(self.mark, patience_s)]
        self._process.communicate()
        return left


def told(process: psutil.Process) -> str:
    """Number and command line."""
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:300]}"
    except psutil.Error:
        return f"{process.pid}: it has ended by now"


def main(mark: str) -> None:
    """Wait for the end of the tests, then kill."""
    sys.stdin.read()
    for _ in range(3):  # what is killed may have started others meanwhile
        for process in outliving(mark, 2):
            with contextlib.suppress(psutil.Error):
                process.kill()


if __name__ == "__main__":
    main(sys.argv[1])
