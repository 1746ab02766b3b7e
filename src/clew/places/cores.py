"""How many cores a datum may use: what its thread starts runs on so many, whatever it asks for.

Knows the scheduler of Linux; elsewhere nothing is limited.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_cores(count: int | None) -> Iterator[None]:
    """Within, this thread and all that it starts run on ``count`` cores of those it has now."""
    if count is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, random.sample(sorted(before), min(count, len(before))))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
