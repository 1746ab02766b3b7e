"""LightGBM: a callback for ``train``, and the booster to go on with.

The one file of this room that knows LightGBM.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clew.callbacks.saving import EVERY_S, Saving, Trial

FILE = "model.txt"


class Watch:
    """What ``lightgbm.train`` calls after each round; see :func:`lightgbm`."""

    order = 30
    before_iteration = False

    def __init__(self, trial: Trial, every_s: float) -> None:
        import lightgbm as library  # noqa: PLC0415 - heavy, and only its users have it

        self._over = library.callback.EarlyStopException
        self._saving = Saving(trial, every_s)
        found = trial.restore()
        self.booster = str(Path(found) / FILE) if found else None

    def __call__(self, env: Any) -> None:
        """Report, keep, and end in time."""
        results = env.evaluation_result_list or []
        step = env.iteration + 1
        self._saving.report(step, {f"{data}_{name}": value for data, name, value, *_ in results})
        if self._saving.keep_if_due(step, lambda to: env.model.save_model(str(to / FILE))):
            raise self._over(env.iteration, results)


def lightgbm(trial: Trial, *, every_s: float = EVERY_S) -> Watch:
    """A callback that reports evaluations, keeps the booster, and ends ``train`` in time.

    ::

        watch = clew.callbacks.lightgbm(trial)
        booster = lightgbm.train(
            params, data, num_boost_round=trial.max_steps - trial.step,
            valid_sets=[held_out], valid_names=["valid"],
            init_model=watch.booster, callbacks=[watch],
        )

    A step is a round; metrics are named ``valid_binary_logloss``. ``booster`` is the file of the
    checkpoint, or None. Data must be made with ``free_raw_data=False`` to go on.
    """
    return Watch(trial, every_s)
