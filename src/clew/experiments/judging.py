"""A user's feasibility function, asked at each report: how far from feasible is the trial?

Runs where the trial runs; knows nothing of searches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from clew.base.errors import Invalid
from clew.experiments.measuring import INFEASIBILITY


class Judge:
    """Asks a function of (params, metrics) with the latest value of each metric."""

    def __init__(self, rule: Callable[..., Any], params: Mapping[str, Any]) -> None:
        self._rule = rule
        self._params = params
        self._latest: dict[str, float] = {}

    def with_answer(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics with ``infeasibility``: 0 where the trial is feasible, else how far it is.

        Raises:
            Invalid: ``trial.infeasibility`` where the answer is none; whatever the function raises.
        """
        self._latest |= metrics
        answer = self._rule(self._params, dict(self._latest))
        return {**metrics, INFEASIBILITY: distance(answer, getattr(self._rule, "__name__", ""))}


def distance(answer: object, name: str = "") -> float:
    """How far from feasible an answer says: True and what is not above 0 are feasible; of several
    numbers, those above 0 add up.
    """
    if answer is True or answer is False or type(answer).__name__ in {"bool", "bool_"}:
        return 0.0 if answer else 1.0
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    numbers = list(answer) if isinstance(answer, Iterable) and not isinstance(answer, str) else [
        answer
    ]  # fmt: skip
    try:
        found = [float(one) for one in numbers]  # type: ignore[arg-type]  # what is none is told below
    except (TypeError, ValueError):
        raise Invalid(
            "trial.infeasibility",
            f"The feasibility function {name} answered {answer!r}.",
            hint="Answer True or False, or numbers: above 0 is infeasible, and by how much.",
        ) from None
    return math.fsum(math.inf if math.isnan(one) else max(0.0, one) for one in found)
