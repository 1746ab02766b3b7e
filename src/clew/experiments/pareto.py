"""Several objectives: which results no other beats.

Knows numbers alone; smaller is better in each.
"""

from __future__ import annotations

from collections.abc import Sequence


def front(losses: Sequence[tuple[float, ...]]) -> list[int]:
    """Indices of the Pareto front, ascending: those that none is at least as good as in all
    objectives and better than in one. Of equal ones all stay.
    """
    order = sorted(range(len(losses)), key=lambda index: losses[index])
    found: list[int] = []
    for index in order:  # whatever beats it comes before it
        if not any(_beats(losses[other], losses[index]) for other in found):
            found.append(index)
    return sorted(found)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
