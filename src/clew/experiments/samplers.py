"""Parameters for the next trial, from those before it. The only file that knows Optuna.

Knows no database and no clock: the study is built anew from the trials that it is told of, so a
restart changes nothing, and the answer depends on them, the seed and the number alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from msgspec import Struct

from clew.base.errors import Unavailable
from clew.experiments.definitions import SearchDefinition
from clew.experiments.spaces import Distribution, Space, draw, grid_point, last_value, sampler_seed


class Told(Struct, frozen=True, kw_only=True):
    """What a sampler learns of one earlier trial.

    ``state``: running, paused, done or failed; ``loss`` (smaller is better, None before the first
    rung) after ``step`` steps.
    """

    params: dict[str, object]
    state: str
    step: int
    loss: float | None


def suggest(
    definition: SearchDefinition, space: Space, number: int, told: Sequence[Told]
) -> dict[str, object]:
    """Parameters for trial ``number``, whose predecessors are ``told`` in order.

    Raises:
        Unavailable: ``sampler.missing`` where Optuna is wanted and not installed.
    """
    if definition.searcher == "grid":
        return grid_point(space, number)
    if definition.sampler != "tpe" or definition.searcher != "asha" or not space:
        return draw(space, definition.seed, number)
    return _tpe(space, sampler_seed(definition.seed, number), told)


def _tpe(space: Space, seed: int, told: Sequence[Told]) -> dict[str, object]:
    optuna = _optuna()
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    distributions = {name: _distribution(optuna, one) for name, one in space.items()}
    for trial in told:
        study.add_trial(_frozen(optuna, trial, space, distributions))
    chosen = study.ask(distributions).params
    return {name: _outside(one, chosen[name]) for name, one in space.items()}


def _frozen(optuna: ModuleType, trial: Told, space: Space, distributions: dict[str, Any]) -> Any:
    """The trial as Optuna has it.

    A paused trial is told as PRUNED with its value and step: left RUNNING it would teach TPE
    nothing, and COMPLETE would rank it with those that trained longer.
    """
    states = optuna.trial.TrialState
    common = {
        "params": {name: _inside(one, trial.params[name]) for name, one in space.items()},
        "distributions": distributions,
    }
    if trial.state == "failed":
        return optuna.trial.create_trial(state=states.FAIL, **common)
    if trial.loss is None:
        return optuna.trial.create_trial(state=states.RUNNING, **common)
    loss = min(trial.loss, math.nextafter(math.inf, 0))  # Optuna takes no infinities for the worst
    if trial.state == "done":
        return optuna.trial.create_trial(state=states.COMPLETE, value=loss, **common)
    return optuna.trial.create_trial(
        state=states.PRUNED, value=loss, intermediate_values={trial.step: loss}, **common
    )


def _distribution(optuna: ModuleType, one: Distribution) -> Any:
    kinds = optuna.distributions
    if one.kind == "choice":
        return kinds.CategoricalDistribution(range(len(one.options)))
    if one.kind == "randint":
        last = int(last_value(one))
        return kinds.IntDistribution(int(one.low), last, log=one.log, step=int(one.step))
    return kinds.FloatDistribution(one.low, last_value(one), log=one.log, step=one.step or None)


def _inside(one: Distribution, value: object) -> object:
    """A value as Optuna keeps it: of a choice, the index (options may be equal, as 1 and True)."""
    if one.kind != "choice":
        return value
    same = [
        index
        for index, option in enumerate(one.options)
        if type(option) is type(value) and option == value
    ]
    return same[0]


def _outside(one: Distribution, value: Any) -> object:
    return one.options[value] if one.kind == "choice" else value


def _optuna() -> ModuleType:
    try:
        import optuna  # noqa: PLC0415 - heavy, and wanted by one sampler only
    except ImportError:
        raise Unavailable(
            "sampler.missing",
            "The sampler 'tpe' needs Optuna, which is not installed.",
            hint='Run pip install "clew[standard]", or use sampler="random".',
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna  # type: ignore[no-any-return,unused-ignore]
