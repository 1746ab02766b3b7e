"""What a search is: the record, and the ways to write one.

Knows nothing of how trials run; :mod:`clew.experiments.searchers` reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypedDict, Unpack

from msgspec import Struct, field

from clew.base.errors import Invalid
from clew.experiments.conditions import Nested, check_conditions, check_constraints, flat
from clew.experiments.spaces import Distribution, check_space

BRACKETED = ("hyperband", "hyperband-stopping")
STOPPING = ("stopping", "hyperband-stopping")
"""Searchers by which a trial that is not good enough at a rung is stopped for good."""

SAMPLERS = ("tpe", "random", "qmc", "cmaes", "gp", "nsga2")
HALVING = ("asha", "stopping", *BRACKETED)
HALVING_SAMPLERS = ("tpe", "random", "qmc")
"""The others learn from whole trials alone, and halving leaves few of those."""

LEARNING = ("tpe", "gp")
"""Samplers that can be told of trials they did not propose."""

MODES = ("min", "max")
WARM_STARTS = ("", "told", "enqueued")
DEFAULT_STEPS = 27


class SearchDefinition(Struct, frozen=True, kw_only=True):
    """A search as its author wrote it. JSON-able; write one with :func:`asha` and its siblings.

    ``max_steps``, ``min_steps`` count units of resource (epochs, rounds, …: what the user's loop
    over ``trial.steps()`` does once). ``trials`` 0 is the whole grid, or what Hyperband asks for.
    ``complete_best``: where halving leaves nobody at the last rung, train the best that far.
    ``max_failures``: the share of trials that may fail before the search gives up.

    ``brackets``: of Hyperband; 0 is all. ``objectives``: metric to min or max, where several
    matter; ``metric`` is then the first of them. ``constraints``: rules over the parameters.
    ``population``: of NSGA-II and CMA-ES; 0 lets them choose. Limits are 0 where there is none:
    ``max_time_s`` (since the search began), ``max_cost_s`` (seconds of workers), ``patience``
    (trials that ended without making the best better by more than ``min_delta``).
    ``warm_start``: what the last search of the step gives: told (its trials to the sampler) or
    enqueued (its best parameters go first).
    """

    searcher: str
    metric: str = ""
    mode: str = "min"
    trials: int = 1
    max_steps: int = DEFAULT_STEPS
    min_steps: int = 1
    reduction: int = 3
    sampler: str = "random"
    seed: int = 0
    complete_best: bool = True
    max_failures: float = 0.5
    brackets: int = 0
    objectives: dict[str, str] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    population: int = 0
    max_time_s: float = 0.0
    max_cost_s: float = 0.0
    patience: int = 0
    min_delta: float = 0.0
    warm_start: str = ""

    OPEN_END: ClassVar[int] = 2**31 - 1
    """``max_steps`` of trials of which nobody knows how long they are: they end by themselves."""

    @property
    def name(self) -> str:
        """What people call it: the searcher, or of whole trials the sampler."""
        return self.sampler if self.searcher == "sampled" else self.searcher

    def over(self, space: Nested) -> dict[str, Distribution]:
        """The parameters of a space that this search may have, by their dotted names.

        Raises:
            Invalid: ``space.invalid``, ``constraint.invalid``.
        """
        found = flat(space)
        check_space(found)
        check_conditions(found)
        check_constraints(self.constraints, found)
        return found


class SearchOptions(TypedDict, total=False):
    """What every search over a space takes besides; see :class:`SearchDefinition`."""

    seed: int
    max_failures: float
    constraints: Sequence[str]
    max_time_s: float
    max_cost_s: float
    patience: int
    min_delta: float
    warm_start: str


def asha(
    *,
    metric: str,
    mode: str = "min",
    trials: int,
    max_steps: int = DEFAULT_STEPS,
    reduction: int = 3,
    min_steps: int = 1,
    sampler: str = "tpe",
    complete_best: bool = True,
    promote: bool = True,
    **options: Unpack[SearchOptions],
) -> SearchDefinition:
    """Asynchronous successive halving that promotes paused trials from their checkpoints.

    Every trial first trains for ``min_steps``; the best 1/``reduction`` of those that got as far
    go on to ``reduction`` times as many steps, and so on up to ``max_steps``. With ``min_steps``
    equal to ``max_steps`` nothing is halved: a plain search with the ``sampler``.

    Args:
        metric: Name of the reported metric to decide by.
        mode: ``min`` or ``max``.
        trials: How many sets of parameters are tried.
        max_steps: Steps of the last rung.
        reduction: η of the paper: one in so many is promoted; 2 or more.
        min_steps: Steps of the first rung.
        sampler: ``tpe`` learns from earlier trials (Optuna); ``random`` and ``qmc`` do not.
        complete_best: Train the best trial up to ``max_steps`` even if halving would not.
        promote: False stops for good a trial that is not among the best of its rung when it gets
            there, and needs no checkpoints (the stopping rule).
        options: What every search takes: ``seed``, ``max_failures``, ``constraints``,
            ``max_time_s``, ``max_cost_s``, ``patience``, ``min_delta``, ``warm_start``.

    Raises:
        Invalid: ``search.invalid``.
    """
    return checked(
        SearchDefinition(
            searcher="asha" if promote else "stopping",
            metric=metric,
            mode=mode,
            trials=trials,
            max_steps=max_steps,
            min_steps=min_steps,
            reduction=reduction,
            sampler=sampler,
            complete_best=complete_best,
            **_tidy(options),
        )
    )


def hyperband(
    *,
    metric: str,
    mode: str = "min",
    max_steps: int = DEFAULT_STEPS,
    reduction: int = 3,
    min_steps: int = 1,
    trials: int = 0,
    brackets: int = 0,
    sampler: str = "tpe",
    complete_best: bool = True,
    **options: Unpack[SearchOptions],
) -> SearchDefinition:
    """Hyperband: several brackets of halving, from many short trials to few whole ones.

    For when it is not known how early a trial shows what it is worth. Every bracket is halved
    asynchronously, with promotion from checkpoints.

    Args:
        metric: Name of the reported metric to decide by.
        mode: ``min`` or ``max``.
        max_steps: R of the paper: steps of the last rung.
        reduction: η of the paper.
        min_steps: No bracket begins with fewer steps.
        trials: How many in all, shared out so that brackets cost about the same; 0 is the number
            that Hyperband asks for.
        brackets: How many, those with the most halving first; 0 is all.
        sampler: As in :func:`asha`.
        complete_best: As in :func:`asha`.
        options: As in :func:`asha`.

    Raises:
        Invalid: ``search.invalid``.
    """
    return checked(
        SearchDefinition(
            searcher="hyperband",
            metric=metric,
            mode=mode,
            trials=trials,
            max_steps=max_steps,
            min_steps=min_steps,
            reduction=reduction,
            brackets=brackets,
            sampler=sampler,
            complete_best=complete_best,
            **_tidy(options),
        )
    )


def random(
    *,
    metric: str,
    mode: str = "min",
    trials: int,
    max_steps: int = DEFAULT_STEPS,
    **options: Unpack[SearchOptions],
) -> SearchDefinition:
    """``trials`` independent random sets of parameters, each trained for ``max_steps``.

    Raises:
        Invalid: ``search.invalid``.
    """
    return _plain("random", "random", metric, mode, trials, max_steps, options)


def grid(
    *,
    metric: str,
    mode: str = "min",
    trials: int = 0,
    max_steps: int = DEFAULT_STEPS,
    **options: Unpack[SearchOptions],
) -> SearchDefinition:
    """Every combination of a space of choices and stepped ranges (the first ``trials`` of them).

    Raises:
        Invalid: ``search.invalid``.
    """
    return _plain("grid", "random", metric, mode, trials, max_steps, options)


def tpe(
    *,
    metric: str,
    mode: str = "min",
    trials: int,
    max_steps: int = DEFAULT_STEPS,
    **options: Unpack[SearchOptions],
) -> SearchDefinition:
    """Whole trials whose parameters a tree-structured Parzen estimator chooses (multivariate).

    Raises:
        Invalid: ``search.invalid``.
    """
    return _plain("sampled", "tpe", metric, mode, trials, max_steps, options)


def qmc(
    *,
    metric: str,
    mode: str = "min",
    trials: int,
    max_steps: int = DEFAULT_STEPS,
    **options: Unpack[SearchOptions],
) -> SearchDefinition:
    """Whole trials over a scrambled Sobol sequence: spread more evenly than random ones.

    Raises:
        Invalid: ``search.invalid``.
    """
    return _plain("sampled", "qmc", metric, mode, trials, max_steps, options)


def gp(
    *,
    metric: str,
    mode: str = "min",
    trials: int,
    max_steps: int = DEFAULT_STEPS,
    **options: Unpack[SearchOptions],
) -> SearchDefinition:
    """Whole trials chosen by a Gaussian process: for few and costly ones. Needs ``clew[gp]``.

    Raises:
        Invalid: ``search.invalid``.
    """
    return _plain("sampled", "gp", metric, mode, trials, max_steps, options)


def cmaes(
    *,
    metric: str,
    mode: str = "min",
    trials: int,
    max_steps: int = DEFAULT_STEPS,
    population: int = 0,
    **options: Unpack[SearchOptions],
) -> SearchDefinition:
    """Whole trials by covariance matrix adaptation, for spaces of numbers. Needs ``clew[cmaes]``.

    Choices are drawn at random beside it. ``population``: trials of a generation.

    Raises:
        Invalid: ``search.invalid``.
    """
    return _plain("sampled", "cmaes", metric, mode, trials, max_steps, options, population)


def nsga2(
    *,
    objectives: Mapping[str, str],
    trials: int,
    max_steps: int = DEFAULT_STEPS,
    population: int = 0,
    **options: Unpack[SearchOptions],
) -> SearchDefinition:
    """Several objectives at once: whole trials bred by NSGA-II, and the Pareto front kept.

    Args:
        objectives: Name of a reported metric to ``min`` or ``max``. Of the trials on the front,
            the one that is best by the first objective gives the model.
        trials: How many sets of parameters are tried.
        max_steps: Steps of each trial.
        population: Trials of a generation; 0 is a fifth of all, from 4 to 50.
        options: As in :func:`asha`.

    Raises:
        Invalid: ``search.invalid``.
    """
    metric = next(iter(objectives), "")
    return checked(
        SearchDefinition(
            searcher="sampled",
            metric=metric,
            mode=objectives.get(metric, "min"),
            objectives=dict(objectives),
            trials=trials,
            max_steps=max_steps,
            min_steps=max_steps,
            sampler="nsga2",
            population=population,
            **_tidy(options),
        )
    )


def single(
    *, metric: str = "", mode: str = "min", max_steps: int = DEFAULT_STEPS, seed: int = 0
) -> SearchDefinition:
    """One trial. Without a ``metric`` it need not report anything.

    Raises:
        Invalid: ``search.invalid``.
    """
    return checked(
        SearchDefinition(
            searcher="single",
            metric=metric,
            mode=mode,
            max_steps=max_steps,
            min_steps=max_steps,
            seed=seed,
            max_failures=0.0,
        )
    )


def _plain(
    searcher: str,
    sampler: str,
    metric: str,
    mode: str,
    trials: int,
    max_steps: int,
    options: SearchOptions,
    population: int = 0,
) -> SearchDefinition:
    """A search of whole trials."""
    return checked(
        SearchDefinition(
            searcher=searcher,
            sampler=sampler,
            metric=metric,
            mode=mode,
            trials=trials,
            max_steps=max_steps,
            min_steps=max_steps,
            population=population,
            **_tidy(options),
        )
    )


def _tidy(options: SearchOptions) -> dict[str, Any]:
    """Constraints as a tuple, so that equal definitions are equal."""
    given = options.get("constraints", ())
    return {**options, "constraints": (given,) if isinstance(given, str) else tuple(given)}


def checked(one: SearchDefinition) -> SearchDefinition:
    """The definition itself, if it can be carried out."""
    for holds, why in (*_shape(one), *_sampling(one)):
        if not holds:
            raise Invalid(
                "search.invalid",
                f"This {one.searcher} search cannot run: {why}.",
                hint="Correct the arguments of the search.",
            )
    return one


def _shape(one: SearchDefinition) -> Iterator[tuple[bool, str]]:
    """What must hold of its numbers, each with what is wrong where it does not."""
    least = 0 if one.searcher in {"grid", *BRACKETED} else 1
    limits = (one.max_time_s, one.max_cost_s, one.patience, one.min_delta, one.population)
    modes = {one.mode, *one.objectives.values()}
    yield modes <= set(MODES), f"mode={one.mode!r} is neither min nor max"
    yield bool(one.metric) or one.searcher == "single", "it has no metric to decide by"
    yield one.trials >= least, f"trials={one.trials} is less than {least}"
    steps = f"{one.min_steps} to {one.max_steps} steps is empty"
    yield 1 <= one.min_steps <= one.max_steps, steps
    yield one.reduction >= 2, f"reduction={one.reduction} is less than 2"
    yield one.brackets >= 0, f"brackets={one.brackets} is less than 0"
    yield 0 <= one.max_failures <= 1, f"max_failures={one.max_failures} is not a share"
    yield min(limits) >= 0, "a limit is less than 0"


def _sampling(one: SearchDefinition) -> Iterator[tuple[bool, str]]:
    """As above, of how parameters are chosen."""
    known = one.sampler in SAMPLERS
    yield known, f"sampler={one.sampler!r} is none of {', '.join(SAMPLERS)}"
    halved = one.searcher in HALVING and one.min_steps < one.max_steps
    whole = f"sampler={one.sampler!r} learns from whole trials alone; halving takes one of "
    yield not halved or one.sampler in HALVING_SAMPLERS, whole + ", ".join(HALVING_SAMPLERS)
    warm = f"warm_start={one.warm_start!r} is neither told nor enqueued"
    yield one.warm_start in WARM_STARTS, warm
    deaf = f"sampler={one.sampler!r} learns nothing from trials it is told of, so enqueue them"
    yield one.warm_start != "told" or one.sampler in LEARNING, deaf
    several = one.sampler != "nsga2" or len(one.objectives) > 1
    yield several, "NSGA-II weighs several objectives against each other"
