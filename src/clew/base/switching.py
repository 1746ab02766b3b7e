"""How soon a thread lets another have the interpreter.

Knows no threads. Python's default (5 ms) is for programs that compute: where a server passes work
from thread to thread, each pass may take so long.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_S = 0.0005


@contextmanager
def switching_soon() -> Iterator[None]:
    """Inside, a thread that computes lets others wait for ``SWITCH_S`` at most."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
