"""Optuna's samplers over the trials of a search, and what it says of parameters.

Knows no database: a study here is a list of trials in memory that follows what it is told, and can
be made anew from it at any time. A paused trial is in it as PRUNED with its value and step: left
RUNNING it would teach nothing, and COMPLETE would rank it with those that trained longer.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import ModuleType
from typing import Any

from msgspec import Struct, field

from clew.base.errors import Unavailable
from clew.experiments.definitions import SearchDefinition
from clew.experiments.measuring import measured
from clew.experiments.spaces import Distribution, Space, is_active, last_value, ordered, same

_EXTRAS = {"cmaes": "cmaes", "torch": "gp"}
_BEGUN = datetime(2020, 1, 1, tzinfo=UTC)  # samplers ask for the order of trials, not for times
_STUDY = 0
_CONSTRAINTS = "constraints"
MOST_POPULATION, LEAST_POPULATION, GENERATIONS = 50, 4, 5


class Told(Struct, frozen=True, kw_only=True):
    """What a sampler learns of one earlier trial.

    ``breaches``: by how much it broke each rule over what was measured (above 0 is infeasible).
    ``state``: running, paused, done or failed; ``loss`` (smaller is better, None before the first
    rung) after ``step`` steps; ``others``: the losses by the further objectives. ``noted``: what
    the sampler itself wants to know of it again.
    """

    params: Mapping[str, object]
    state: str
    step: int
    loss: float | None
    others: tuple[float, ...] = ()
    noted: Mapping[str, object] = field(default_factory=dict)
    breaches: tuple[float, ...] = ()


class Adviser:
    """A study that follows the trials of one search, and a sampler over it."""

    def __init__(
        self, definition: SearchDefinition, space: Space, prior: Sequence[Told] = ()
    ) -> None:
        self._definition = definition
        self._space = space
        self._names = ordered(space)
        self._rules = len(measured(definition, space))
        self._optuna = _optuna(definition.sampler)
        self._kinds = {name: _distribution(self._optuna, one) for name, one in space.items()}
        self._rows = _Rows(self._optuna, max(1, len(definition.objectives)))
        self._study = self._optuna.create_study(
            storage=self._rows, directions=["minimize"] * self._rows.objectives
        )
        self._prior = len(prior)
        self._told: list[Told] = []
        for one in prior:
            self._rows.trials.append(self._frozen(len(self._rows.trials), one))

    def ask(
        self, number: int, seed: int, told: Sequence[Told]
    ) -> tuple[dict[str, object], dict[str, object]]:
        """Parameters for trial ``number``, and what the sampler wants kept with them."""
        if self._definition.sampler == "qmc":
            self._rows.sequence_at(number, self._first_point())
        else:
            self._follow(told)
        self._study.sampler = self._sampler(seed)
        self._rows.noted = {}
        asked = self._study.ask()
        chosen: dict[str, object] = {}
        for name in self._names:
            if is_active(self._space[name], chosen):
                value = _suggested(asked, name, self._kinds[name])
                chosen[name] = _outside(self._space[name], value)
        del self._rows.trials[-1]  # it comes back as told
        params = {name: chosen[name] for name in self._space if name in chosen}
        return params, self._rows.noted if self._definition.sampler in {"cmaes", "nsga2"} else {}

    def _follow(self, told: Sequence[Told]) -> None:
        """Only what changed since the last time is made anew."""
        rows, known = self._rows.trials, self._told
        for index, one in enumerate(told):
            if index < len(known) and known[index] is one:
                continue
            place = self._prior + index
            frozen = self._frozen(place, one)
            if index < len(known):
                rows[place] = frozen
            else:
                rows.append(frozen)
        self._told = list(told)

    def _frozen(self, place: int, told: Told) -> Any:
        states = self._optuna.trial.TrialState
        names = [name for name in told.params if name in self._space]
        params = {name: _inside(self._space[name], told.params[name]) for name in names}
        state, values, between = states.RUNNING, None, {}
        if told.state == "failed":
            state = states.FAIL
        elif told.loss is not None:
            values = [_finite(loss) for loss in (told.loss, *told.others)]
            state = states.COMPLETE
            if told.state != "done" and self._rows.objectives == 1:
                state, between = states.PRUNED, {told.step: values[0]}
        return self._optuna.trial.FrozenTrial(
            number=place,
            trial_id=place,
            state=state,
            value=None,
            values=values,
            datetime_start=_BEGUN,
            datetime_complete=None if state == states.RUNNING else _BEGUN,
            params=params,
            distributions={name: self._kinds[name] for name in names},
            user_attrs={},
            system_attrs=dict(told.noted) | self._constraints(told, state == states.RUNNING),
            intermediate_values=between,
        )

    def _constraints(self, told: Told, runs: bool) -> dict[str, object]:
        """What Optuna keeps of constraints with a trial; a rule of which nothing is known holds."""
        if not self._rules or runs:
            return {}
        known = told.breaches if len(told.breaches) == self._rules else (0.0,) * self._rules
        return {_CONSTRAINTS: known}

    def _first_point(self) -> Any:
        """A trial that shows a sequence which parameters there are."""
        params: dict[str, object] = {}
        for name in self._names:
            if not self._space[name].conditions:
                one = self._space[name]
                params[name] = one.options[0] if one.kind == "choice" else _number_in(one)
        return self._frozen(0, Told(params=params, state="done", step=1, loss=0.0))

    def _sampler(self, seed: int) -> Any:
        samplers, definition = self._optuna.samplers, self._definition
        # What Optuna calls experimental, our own tests hold in place.
        warnings.filterwarnings("ignore", category=self._optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message=".*constraints_func.*", category=FutureWarning)
        conditional = any(one.conditions for one in self._space.values())
        # Optuna asks the function of trials that it ran itself; ours bring their answers along.
        ruled: dict[str, Any] = {"constraints_func": _kept} if self._rules else {}
        if definition.sampler == "tpe":
            return samplers.TPESampler(seed=seed, multivariate=True, group=conditional, **ruled)
        if definition.sampler == "cmaes":
            return samplers.CmaEsSampler(
                seed=seed,
                popsize=definition.population or None,
                warn_independent_sampling=False,
            )
        if definition.sampler == "qmc":
            return samplers.QMCSampler(
                seed=definition.seed, scramble=True, warn_independent_sampling=False,
                independent_sampler=samplers.RandomSampler(seed=seed),
            )  # fmt: skip
        if definition.sampler == "gp":
            return samplers.GPSampler(seed=seed, warn_independent_sampling=False, **ruled)
        return samplers.NSGAIISampler(seed=seed, population_size=population(definition), **ruled)


def _kept(trial: Any) -> Sequence[float]:
    found: Sequence[float] = trial.system_attrs.get(_CONSTRAINTS, ())
    return found


def population(definition: SearchDefinition) -> int:
    """Trials of a generation of NSGA-II: so that there are five generations, from 4 to 50."""
    asked = definition.population or definition.trials // GENERATIONS
    return max(LEAST_POPULATION, min(asked, definition.population or MOST_POPULATION))


def importances(space: Space, told: Sequence[Told]) -> dict[str, float]:
    """How much of the variation of the loss each parameter explains, the most first.

    By fANOVA (Hutter, Hoos and Leyton-Brown, ICML 2014) over the trials that have a finite loss;
    shares of 1. Conditional parameters are weighed by PED-ANOVA (Watanabe et al., IJCAI 2023),
    which takes trials that lack a parameter.

    Raises:
        Unavailable: ``sampler.missing`` without Optuna (and scikit-learn).
    """
    optuna = _optuna("importances")
    definition = SearchDefinition(searcher="sampled", sampler="tpe", metric="loss")
    whole = [
        Told(params=one.params, state="done", step=one.step, loss=one.loss)
        for one in told
        if one.loss is not None and math.isfinite(one.loss)
    ]
    adviser = Adviser(definition, space, whole)
    varied = {
        name for name, one in space.items()
        if len({repr(trial.params[name]) for trial in whole if name in trial.params}) > 1
    }  # fmt: skip
    losses = {one.loss for one in whole}
    if len(whole) < 4 or not varied or len(losses) < 2:
        return {}
    conditional = any(space[name].conditions for name in varied)
    kinds = optuna.importance
    evaluator = (
        kinds.PedAnovaImportanceEvaluator()
        if conditional
        else kinds.FanovaImportanceEvaluator(seed=0)
    )
    found = optuna.importance.get_param_importances(
        adviser._study, evaluator=evaluator, params=None if conditional else sorted(varied)
    )
    shares = {name: float(found.get(name, 0.0)) for name in space}
    return dict(sorted(shares.items(), key=lambda one: (-one[1], one[0])))


class _Rows:
    """The part of ``optuna.storages.BaseStorage`` that samplers call, over a list."""

    def __init__(self, optuna: ModuleType, objectives: int) -> None:
        self._optuna = optuna
        self.objectives = objectives
        self.trials: list[Any] = []
        self.noted: dict[str, object] = {}
        self._at: int | None = None

    def sequence_at(self, number: int, first: Any) -> None:
        """Make as if a sequence had given ``number`` points: its next is point ``number``."""
        self.trials = [first]
        self._at = number

    def create_new_study(self, _directions: object, _name: object = None) -> int:
        return _STUDY

    def get_study_id_from_name(self, _name: str) -> int:
        return _STUDY

    def get_study_name_from_id(self, _study: int) -> str:
        return "search"

    def get_study_directions(self, _study: int) -> list[Any]:
        return [self._optuna.study.StudyDirection.MINIMIZE] * self.objectives

    def get_study_user_attrs(self, _study: int) -> dict[str, Any]:
        return {}

    def get_study_system_attrs(self, _study: int) -> Mapping[str, Any]:
        return {} if self._at is None else _Everywhere(self._at - 1)

    def set_study_system_attr(self, _study: int, _key: str, _value: Any) -> None:
        """Kept by nobody: NSGA-II would choose other parents from what it keeps than anew."""

    def create_new_trial(self, _study: int, _template: object = None) -> int:
        number = len(self.trials)
        self.trials.append(
            self._optuna.trial.FrozenTrial(
                number=number, trial_id=number, state=self._optuna.trial.TrialState.RUNNING,
                value=None, values=None, datetime_start=_BEGUN, datetime_complete=None, params={},
                distributions={}, user_attrs={}, system_attrs={}, intermediate_values={},
            )
        )  # fmt: skip
        return number

    def set_trial_param(self, trial: int, name: str, inside: float, kind: Any) -> None:
        one = self.trials[trial]
        one.params = {**one.params, name: kind.to_external_repr(inside)}
        one.distributions = {**one.distributions, name: kind}

    def set_trial_system_attr(self, trial: int, key: str, value: Any) -> None:
        self.noted[key] = value
        one = self.trials[trial]
        one.system_attrs = {**one.system_attrs, key: value}

    def get_trial(self, trial: int) -> Any:
        return self.trials[trial]

    def get_all_trials(
        self, _study: int, deepcopy: bool = True, states: Any = None
    ) -> Sequence[Any]:
        del deepcopy  # nobody changes what is told
        if states is None:
            return list(self.trials)
        return [one for one in self.trials if one.state in states]


class _Everywhere(dict[str, Any]):
    """A mapping that says the same for every name."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self._value = value

    def get(self, _key: str, _default: object = None) -> Any:
        return self._value


def _suggested(asked: Any, name: str, kind: Any) -> Any:
    if hasattr(kind, "choices"):
        return asked.suggest_categorical(name, kind.choices)
    step = {} if kind.step is None else {"step": kind.step}
    if isinstance(kind.low, int):
        return asked.suggest_int(name, kind.low, kind.high, log=kind.log, **step)
    return asked.suggest_float(name, kind.low, kind.high, log=kind.log, **step)


def _distribution(optuna: ModuleType, one: Distribution) -> Any:
    kinds = optuna.distributions
    if one.kind == "choice":
        return kinds.CategoricalDistribution(range(len(one.options)))
    if one.kind == "randint":
        last = int(last_value(one))
        return kinds.IntDistribution(int(one.low), last, log=one.log, step=int(one.step))
    return kinds.FloatDistribution(one.low, last_value(one), log=one.log, step=one.step or None)


def _number_in(one: Distribution) -> float | int:
    return int(one.low) if one.kind == "randint" else one.low


def _inside(one: Distribution, value: object) -> object:
    """A value as Optuna keeps it: of a choice, the index (options may be equal, as 1 and True)."""
    if one.kind != "choice":
        return value
    return next(index for index, option in enumerate(one.options) if same(option, value))


def _outside(one: Distribution, value: Any) -> object:
    return one.options[value] if one.kind == "choice" else value


def _finite(loss: float) -> float:
    return min(loss, math.nextafter(math.inf, 0))  # Optuna takes no infinities for the worst


@lru_cache(maxsize=8)
def _optuna(sampler: str) -> ModuleType:
    try:
        import optuna  # noqa: PLC0415 - heavy, and wanted by some samplers only

        if sampler == "cmaes":
            import cmaes  # noqa: F401, PLC0415 - Optuna's sampler fails late without it
        if sampler == "gp":
            import torch  # noqa: F401, PLC0415 - as above
    except ImportError as error:
        raise _missing(sampler, error) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna  # type: ignore[no-any-return,unused-ignore]  # not installed everywhere


def _missing(sampler: str, error: ImportError) -> Unavailable:
    extra = _EXTRAS.get(error.name or "", "standard")
    what = {"cmaes": "the package cmaes", "gp": "PyTorch"}.get(extra, "Optuna")
    return Unavailable(
        "sampler.missing",
        f"The sampler {sampler!r} needs {what}, which is not installed.",
        hint=f'Run pip install "clew[{extra}]", or use sampler="random".',
    )
