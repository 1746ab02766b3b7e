"""XGBoost: a callback for ``train``, and the booster to go on with.

The one file of this room that knows XGBoost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clew.callbacks.saving import EVERY_S, Saving, Trial

FILE = "model.ubj"


def xgboost(trial: Trial, *, every_s: float = EVERY_S) -> Any:
    """A callback that reports evaluations, keeps the booster, and ends ``train`` in time.

    ::

        watch = clew.callbacks.xgboost(trial)
        booster = xgboost.train(
            params, data, num_boost_round=trial.max_steps - trial.step,
            evals=[(held_out, "valid")], xgb_model=watch.booster, callbacks=[watch],
        )

    A step is a round; metrics are named ``valid_logloss``. ``booster`` is None for a new trial.
    """
    import xgboost as library  # noqa: PLC0415 - heavy, and only its users have it

    saving = Saving(trial, every_s)
    found = trial.restore()

    class Watch(library.callback.TrainingCallback):  # type: ignore[misc]  # it has no types
        booster = library.Booster(model_file=Path(found) / FILE) if found else None

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            del epoch  # of this run alone
            step = model.num_boosted_rounds()
            told = {
                f"{data}_{metric}": values[-1][0] if isinstance(values[-1], tuple) else values[-1]
                for data, metrics in evals_log.items()
                for metric, values in metrics.items()
            }
            saving.report(step, told)
            return saving.keep_if_due(step, lambda folder: model.save_model(folder / FILE))

    return Watch()
