"""scikit-learn: estimators that go on learning, by ``warm_start`` or ``partial_fit``.

Imports nothing of scikit-learn: an estimator is known by what it can do.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clew.callbacks.saving import EVERY_S, Saving, Trial

FILE = "model.pkl"


class Growing:
    """Turns of fitting one ``model``; see :func:`sklearn`."""

    def __init__(
        self, trial: Trial, every_s: float, make: Callable[[], Any], grow: str, by: int
    ) -> None:
        self._trial = trial
        self._saving = Saving(trial, every_s)
        self._grow, self._by = grow, by
        found = trial.restore()
        if found is None:
            self.model = make()
        elif isinstance(found, Path):
            self.model = pickle.loads((found / FILE).read_bytes())
        else:
            self.model = found

    def __iter__(self) -> Iterator[int]:
        """Numbers of turns; before each the estimator is told how far to grow."""
        while not self._trial.should_stop:
            self._step = self._trial.step + 1
            self._told = False
            if self._grow:
                self.model.set_params(**{self._grow: self._step * self._by})
            yield self._step
            if not self._told:
                raise RuntimeError("Call report(...) once in each turn of the loop.")
            self._saving.keep_if_due(self._step, self._write)

    def report(self, **metrics: float) -> None:
        """Report the turn that has just been fitted."""
        self._saving.report(self._step, metrics)
        self._told = True

    def _write(self, folder: Path) -> None:
        (folder / FILE).write_bytes(pickle.dumps(self.model))


def sklearn(
    trial: Trial,
    make: Callable[[], Any],
    *,
    grow: str = "n_estimators",
    by: int = 10,
    every_s: float = EVERY_S,
) -> Growing:
    """Fit an estimator turn by turn, each from where the last one ended.

    ::

        loop = clew.callbacks.sklearn(
            trial, lambda: GradientBoostingClassifier(warm_start=True, **trial.params)
        )
        for _ in loop:                       # n_estimators is 10, 20, 30, …
            loop.model.fit(x, y)
            loop.report(accuracy=loop.model.score(x_val, y_val))
        return loop.model

    Args:
        trial: The trial.
        make: A new estimator, for a trial that begins.
        grow: The parameter of an estimator with ``warm_start=True`` that grows from turn to turn;
            '' for one that is fitted with ``partial_fit``, or whose ``fit`` goes on by itself.
        by: By how much it grows.
        every_s: Seconds between checkpoints.
    """
    return Growing(trial, every_s, make, grow, by)
