"""Ray Tune with its ASHA scheduler, one trial at a time, in one warm Ray.

``digits SEEDS TRIALS EPOCHS BUDGET`` prints the best error of each seed within so many epochs;
``trivial TRIALS`` the seconds of trials that do nothing. As JSON.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ["PYTHONPATH"] = str(HERE)

import ray  # noqa: E402 - it reads the environment when it is imported
from ray import tune  # noqa: E402 - it reads the environment when it is imported
from ray.tune.schedulers import ASHAScheduler  # noqa: E402 - it reads the environment when it is imported


def best(seed, trials, most, budget, place):
    log = place / f"seed{seed}"
    log.touch()

    def train(params):
        import warnings  # noqa: PLC0415 - in Ray's process

        import digits  # noqa: PLC0415 - as above

        warnings.simplefilter("ignore")
        model = digits.made(params, params["seed"])
        for _step in range(most):
            with log.open("a") as file:
                error = digits.epoch(model)
                file.write(f"{error}\n")
            tune.report({"error": error})

    space = {
        "width": tune.choice([8, 16, 32, 64]),
        "rate": tune.loguniform(1e-5, 1.0),
        "alpha": tune.loguniform(1e-6, 1.0),
        "seed": tune.randint(0, 2**31 - 1),
    }

    tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="error",
            mode="min",
            num_samples=min(trials, budget),
            max_concurrent_trials=1,
            search_alg=tune.search.BasicVariantGenerator(random_state=seed, max_concurrent=1),
            scheduler=ASHAScheduler(max_t=most, grace_period=1, reduction_factor=3),
        ),
        run_config=tune.RunConfig(storage_path=str(place), verbose=0, stop=_Spent(log, budget)),
    ).fit()
    return min(map(float, log.read_text().splitlines()[:budget]))


class _Spent(tune.Stopper):
    """Everything ends when the epochs are used up."""

    def __init__(self, log, budget):
        self._log, self._budget = log, budget

    def __call__(self, _trial, _result):
        return self.stop_all()

    def stop_all(self):
        return len(self._log.read_text().splitlines()) >= self._budget


def trivial(trials, place):
    def train(params):
        tune.report({"loss": params["x"]})

    start = time.perf_counter()
    tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=trials, metric="loss", mode="min"),
        run_config=tune.RunConfig(storage_path=str(place), verbose=0),
    ).fit()
    return time.perf_counter() - start


what, *numbers = sys.argv[1:]
with tempfile.TemporaryDirectory() as name:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    if what == "trivial":
        found = trivial(int(numbers[0]), Path(name))
    else:
        seeds, *rest = map(int, numbers)
        found = [best(seed, *rest, Path(name)) for seed in range(seeds)]
    ray.shutdown()
print(json.dumps(found))
