"""What is said of searches before and after they run: what one will cost, and what mattered.

Values alone.
"""

from __future__ import annotations

from msgspec import Struct


class BracketPlan(Struct, frozen=True, kw_only=True):
    """So many ``trials``, compared at these ``rungs`` (steps, ascending)."""

    trials: int
    rungs: tuple[int, ...]


class SearchPreview(Struct, frozen=True, kw_only=True):
    """What a search will cost, before it starts.

    ``expected_steps`` if promotion goes by the book, ``most_steps`` if every trial went to its end.
    ``cost_s``: seconds of workers for the expected steps, by what a step of the last search of this
    training step took; None where there was none. ``points``: how many sets of parameters there
    are, None where they are without number.
    """

    step: str
    searcher: str
    sampler: str
    metric: str
    mode: str
    trials: int
    brackets: tuple[BracketPlan, ...]
    expected_steps: int
    most_steps: int
    points: int | None = None
    cost_s: float | None = None
    limits: dict[str, float] = {}
    """``max_time_s``, ``max_cost_s``, ``patience``: those that are set."""


class Importance(Struct, frozen=True, kw_only=True):
    """How much of the variation of the metric a parameter explains: a share of 1."""

    parameter: str
    share: float
