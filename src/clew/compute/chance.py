"""Randomness that nobody seeded: the system's, and shared generators of Python, NumPy and Torch.

Runs in worker processes only. Shared generators are not wrapped (that would make drawing slow):
whether one has moved is told from its state, before and after.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

Note = Callable[[str, str], None]


class _Seeds:
    """How often the shared generators of this process were seeded on purpose."""

    counts: dict[str, int] = {}  # noqa: RUF012 - one for the process, on purpose
    arrived: dict[str, object] = {}  # noqa: RUF012 - as above
    """How generators stood when their library was loaded."""


def _python() -> object:
    return random.getstate()


def _numpy() -> object:
    found = sys.modules.get("numpy.random")
    if found is None:
        return None
    name, keys, place, *rest = found.get_state()
    return name, keys.tobytes(), place, rest


def _torch() -> object:
    found = sys.modules.get("torch")
    state = getattr(found, "get_rng_state", None)
    return bytes(state().numpy()) if state is not None else None


_SHARED: dict[str, Callable[[], object]] = {
    "random": _python,
    "numpy.random": _numpy,
    "torch": _torch,
}


class Chance:
    """Whether shared generators have moved without a seed since :meth:`begin`."""

    def __init__(self) -> None:
        self._before: dict[str, object] = {}
        self._seeds: dict[str, int] = {}

    def begin(self) -> None:
        """Remember how the generators stand."""
        self._before = {name: state() for name, state in _SHARED.items()}
        self._seeds = dict(_Seeds.counts)

    def imported(self) -> None:
        """A module is about to be imported: what libraries draw meanwhile is not the user's."""
        if "random" in self._before:
            self._before["random"] = _python()

    def drawn(self) -> list[str]:
        """Generators that numbers were drawn from and that were not seeded meanwhile."""
        found = []
        for name, state in _SHARED.items():
            now = state()
            before = self._before.get(name) or _Seeds.arrived.get(name)
            seeded = _Seeds.counts.get(name, 0) != self._seeds.get(name, 0)
            if not seeded and before is not None and now != before:
                found.append(f"{name} (not seeded)")
            self._before[name] = now
        self._seeds = dict(_Seeds.counts)
        return found


def watch_chance(note: Note) -> None:
    """Have ``note`` told of each use of the system's randomness, for the life of the process."""
    real = os.urandom

    @wraps(real)
    def urandom(size: int, /) -> bytes:
        note("random", "os.urandom")
        return real(size)

    os.urandom = urandom
    setattr(random, "_urandom", urandom)  # noqa: B010 - secrets and SystemRandom use it
    _watch_seeds(note)


def _watch_seeds(note: Note) -> None:
    seed = random.Random.seed
    shared: random.Random = random._inst

    @wraps(seed)
    def seeded(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None:
            note("random", "random.Random() (not seeded)")
        elif self is shared:
            _Seeds.counts["random"] = _Seeds.counts.get("random", 0) + 1
        seed(self, a, version)

    random.Random.seed = seeded  # type: ignore[method-assign]  # it tells, and then does the same
    random.seed = shared.seed


def arrived(name: str) -> None:
    """The library of a shared generator has been loaded."""
    _Seeds.arrived[name] = _SHARED[name]()


def count_seed(name: str) -> None:
    """A shared generator was seeded."""
    _Seeds.counts[name] = _Seeds.counts.get(name, 0) + 1
