"""When a callback keeps a checkpoint: now and then, and always before the trial pauses.

Knows a trial by what it can do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, SupportsFloat, TypeGuard

EVERY_S = 30.0
"""How much work a crash may cost, about."""


class Trial(Protocol):
    """What callbacks use of :class:`clew.Trial`."""

    @property
    def step(self) -> int:
        """Steps that are behind it."""
        ...

    @property
    def max_steps(self) -> int:
        """Steps that it has at most."""
        ...

    @property
    def should_stop(self) -> bool:
        """Whether to return now."""
        ...

    def report(self, step: int, /, **metrics: float) -> None:
        """Say how good the model is."""
        ...

    def restore(self) -> Any:
        """The latest checkpoint."""
        ...

    def checkpoint(self, *, step: int | None = None) -> AbstractContextManager[Path]:
        """A directory whose files become the checkpoint."""
        ...


class Saving:
    """Reports of a trial and its checkpoints, as often as they are worth it."""

    def __init__(self, trial: Trial, every_s: float) -> None:
        self.trial = trial
        self._every_s = every_s
        self._last_s = time.monotonic()

    def report(self, step: int, metrics: Mapping[str, object]) -> None:
        """Report what is a number."""
        numbers = {name: float(v) for name, v in metrics.items() if _is_number(v)}
        if numbers:
            self.trial.report(step, **numbers)

    @property
    def due(self) -> bool:
        """Whether a checkpoint should be kept now."""
        return time.monotonic() - self._last_s >= self._every_s or self.trial.should_stop

    def keep(self, step: int, write: Callable[[Path], object]) -> None:
        """Keep what ``write`` writes into a directory."""
        with self.trial.checkpoint(step=step) as folder:
            write(folder)
        self._last_s = time.monotonic()

    def keep_if_due(self, step: int, write: Callable[[Path], object]) -> bool:
        """Keep a checkpoint where it is due; whether training should stop."""
        if self.due:
            self.keep(step, write)
        return self.trial.should_stop


def _is_number(value: object) -> TypeGuard[SupportsFloat]:
    """A number of Python, or a scalar of NumPy or of a library of tensors."""
    if isinstance(value, bool | str):
        return False
    return isinstance(value, Real) or getattr(value, "ndim", None) == 0
