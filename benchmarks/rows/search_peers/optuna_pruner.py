"""TPE and Optuna's successive halving pruner: prints the best error of each seed, as JSON.

Arguments: how many seeds, trials, epochs of a whole trial, epochs in all.
"""

import contextlib
import json
import sys
import warnings

import digits
import optuna


class Spent(Exception):
    pass


def best(seed, trials, most, budget):
    errors = []

    def objective(trial):
        params = {
            "width": trial.suggest_categorical("width", [8, 16, 32, 64]),
            "rate": trial.suggest_float("rate", 1e-5, 1.0, log=True),
            "alpha": trial.suggest_float("alpha", 1e-6, 1.0, log=True),
        }
        model = digits.made(params, seed * 1000 + trial.number)
        for step in range(1, most + 1):
            errors.append(digits.epoch(model))
            if len(errors) == budget:
                raise Spent
            trial.report(errors[-1], step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return errors[-1]

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    )
    with contextlib.suppress(Spent):
        study.optimize(objective, n_trials=trials)
    return min(errors)


warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
seeds, *numbers = map(int, sys.argv[1:])
print(json.dumps([best(seed, *numbers) for seed in range(seeds)]))
