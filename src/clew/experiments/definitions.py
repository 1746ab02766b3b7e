"""What a search is: the record, and the four ways to write one.

Knows nothing of how trials run; :mod:`clew.experiments.searchers` reads it.
"""

from __future__ import annotations

from msgspec import Struct

from clew.base.errors import Invalid

SEARCHERS = ("asha", "random", "grid", "single")
SAMPLERS = ("tpe", "random")
MODES = ("min", "max")
DEFAULT_STEPS = 27


class SearchDefinition(Struct, frozen=True, kw_only=True):
    """A search as its author wrote it. JSON-able; write one with :func:`asha` and its siblings.

    ``max_steps``, ``min_steps`` count units of resource (epochs, rounds, …: what the user's loop
    over ``trial.steps()`` does once). ``trials`` 0 is the whole grid. ``complete_best``: where
    halving leaves nobody at the last rung, train the best that far. ``max_failures``: the share of
    trials that may fail before the search gives up.
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


def asha(
    *,
    metric: str,
    mode: str = "min",
    trials: int,
    max_steps: int = DEFAULT_STEPS,
    reduction: int = 3,
    min_steps: int = 1,
    sampler: str = "tpe",
    seed: int = 0,
    complete_best: bool = True,
    max_failures: float = 0.5,
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
        sampler: ``tpe`` learns from earlier trials (Optuna); ``random`` does not.
        seed: All parameters and the seeds of trials are derived from it.
        complete_best: Train the best trial up to ``max_steps`` even if halving would not.
        max_failures: The share of trials that may fail before the search gives up.

    Raises:
        Invalid: ``search.invalid``.
    """
    return _checked(
        SearchDefinition(
            searcher="asha",
            metric=metric,
            mode=mode,
            trials=trials,
            max_steps=max_steps,
            min_steps=min_steps,
            reduction=reduction,
            sampler=sampler,
            seed=seed,
            complete_best=complete_best,
            max_failures=max_failures,
        )
    )


def random(
    *,
    metric: str,
    mode: str = "min",
    trials: int,
    max_steps: int = DEFAULT_STEPS,
    seed: int = 0,
    max_failures: float = 0.5,
) -> SearchDefinition:
    """``trials`` independent random sets of parameters, each trained for ``max_steps``.

    Raises:
        Invalid: ``search.invalid``.
    """
    return _checked(
        SearchDefinition(
            searcher="random",
            metric=metric,
            mode=mode,
            trials=trials,
            max_steps=max_steps,
            min_steps=max_steps,
            seed=seed,
            max_failures=max_failures,
        )
    )


def grid(
    *,
    metric: str,
    mode: str = "min",
    trials: int = 0,
    max_steps: int = DEFAULT_STEPS,
    seed: int = 0,
    max_failures: float = 0.5,
) -> SearchDefinition:
    """Every combination of a space of choices and stepped ranges (the first ``trials`` of them).

    Raises:
        Invalid: ``search.invalid``.
    """
    return _checked(
        SearchDefinition(
            searcher="grid",
            metric=metric,
            mode=mode,
            trials=trials,
            max_steps=max_steps,
            min_steps=max_steps,
            seed=seed,
            max_failures=max_failures,
        )
    )


def single(
    *, metric: str = "", mode: str = "min", max_steps: int = DEFAULT_STEPS, seed: int = 0
) -> SearchDefinition:
    """One trial. Without a ``metric`` it need not report anything.

    Raises:
        Invalid: ``search.invalid``.
    """
    return _checked(
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


def _checked(one: SearchDefinition) -> SearchDefinition:
    """The definition itself, if it can be carried out."""
    least = 0 if one.searcher == "grid" else 1
    rules = (
        (one.mode in MODES, f"mode={one.mode!r} is neither min nor max"),
        (one.sampler in SAMPLERS, f"sampler={one.sampler!r} is none of {', '.join(SAMPLERS)}"),
        (bool(one.metric) or one.searcher == "single", "it has no metric to decide by"),
        (one.trials >= least, f"trials={one.trials} is less than {least}"),
        (1 <= one.min_steps <= one.max_steps, f"{one.min_steps} to {one.max_steps} steps is empty"),
        (one.reduction >= 2, f"reduction={one.reduction} is less than 2"),
        (0 <= one.max_failures <= 1, f"max_failures={one.max_failures} is not a share"),
    )
    for holds, why in rules:
        if not holds:
            raise Invalid(
                "search.invalid",
                f"This {one.searcher} search cannot run: {why}.",
                hint="Correct the arguments of the search.",
            )
    return one
