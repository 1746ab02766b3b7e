"""How far the columns of a frame are from a profile of a reference.

Knows nothing of thresholds or of what follows: its callers decide what is too far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from clew.base.errors import Invalid
from clew.quality.frames import to_polars
from clew.quality.profiles import counts_between, kind_of, numbers_of, texts_of

if TYPE_CHECKING:
    import polars as pl

_SMOOTHING = 0.5
_FALSE_ALARMS = 0.01


class ColumnDistance(Struct, frozen=True, kw_only=True):
    """How far one column is from the reference, and what moved most.

    ``statistic`` is ``psi`` (0 is equal; above 0.2 is usually called drift) or ``js`` (the
    Jensen-Shannon divergence in nats, 0 to 0.693). ``chance`` is what two samples of these sizes
    from one distribution exceed in one of a hundred comparisons of all the columns: what is below
    it says nothing.
    """

    column: str
    statistic: str
    value: float
    chance: float
    detail: str


def drift(
    reference_profile: Mapping[str, Any],
    frame: object,
    *,
    statistic: str = "psi",
    moments: bool = False,
) -> list[ColumnDistance]:
    """The distance of each column of a profile from the same column of a frame, in its order.

    Bins are those of the reference, nulls are a bin of their own; a column that the frame lacks
    counts as all null, columns that the reference lacks are left out. So are dates and datetimes
    unless ``moments`` is true, as time always goes on. A frame without rows has no distances.

    Raises:
        Invalid: ``drift.statistic``, ``frame.unknown`` or ``frame.mixed``.
    """
    if statistic not in _MEASURES:
        raise Invalid(
            "drift.statistic",
            f"There is no statistic {statistic!r}.",
            hint=f"Use one of {', '.join(_MEASURES)}.",
        )
    table = to_polars(frame)
    columns: dict[str, dict[str, Any]] = reference_profile["columns"]
    chosen = {n: c for n, c in columns.items() if moments or c["kind"] != "moment"}
    if not table.height or not reference_profile["rows"]:
        return []
    return [_distance(name, chosen[name], table, statistic, len(chosen)) for name in chosen]


def psi(expected: Sequence[int], observed: Sequence[int]) -> float:
    """Population stability index of two rows of counts over the same bins.

    Σ (q - p) ln(q / p) with p and q the shares after adding half a count to each bin, so that an
    empty bin is a finite surprise (Siddiqi, Credit Risk Scorecards, 2006).
    """
    p, q = _shares(expected), _shares(observed)
    return sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))


def jensen_shannon(expected: Sequence[int], observed: Sequence[int]) -> float:
    """Jensen-Shannon divergence (nats) of two rows of counts, smoothed as in :func:`psi`."""
    total = 0.0
    for a, b in zip(_shares(expected), _shares(observed), strict=True):
        middle = (a + b) / 2
        total += (a * math.log(a / middle) + b * math.log(b / middle)) / 2
    return total


_MEASURES = {"psi": psi, "js": jensen_shannon}
_PER_CHI_SQUARE = {"psi": 1.0, "js": 1 / 8}
"""Near equality psi is Σ (q - p)² / p and js an eighth of it."""


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + _SMOOTHING * len(counts)
    return [(count + _SMOOTHING) / total for count in counts]


def _distance(
    name: str, reference: dict[str, Any], table: pl.DataFrame, statistic: str, columns: int
) -> ColumnDistance:
    labels, expected = _expected(reference)
    live = table[name] if name in table.columns else None
    observed = _observed(reference, live, table.height)
    used = [i for i in range(len(labels)) if expected[i] or observed[i]]
    labels = [labels[i] for i in used]
    expected, observed = [expected[i] for i in used], [observed[i] for i in used]
    noise = chance_of_psi(len(used), sum(expected), sum(observed), _FALSE_ALARMS / columns)
    return ColumnDistance(
        column=name,
        statistic=statistic,
        value=_MEASURES[statistic](expected, observed),
        chance=noise * _PER_CHI_SQUARE[statistic],
        detail=_moved(labels, expected, observed) if live is not None else "the column is missing",
    )


def _expected(reference: dict[str, Any]) -> tuple[list[str], list[int]]:
    """The bins of a column of a profile by name, and how many values each holds."""
    nulls = int(reference["nulls"])
    if reference["kind"] == "categorical":
        names = [repr(value) for value, _ in reference["top"]]
        counts = [int(count) for _, count in reference["top"]]
        return ["null", *names, "others"], [nulls, *counts, int(reference["other"])]
    if reference["kind"] == "other":
        return ["null", "values"], [nulls, int(reference["count"])]
    names = _intervals(reference["edges"])
    return ["null", *names], [nulls, *(int(count) for count in reference["counts"])]


def _observed(reference: dict[str, Any], live: pl.Series | None, rows: int) -> list[int]:
    """How many values of ``live`` fall into the bins of :func:`_expected`."""
    if reference["kind"] == "other":
        present = 0 if live is None else rows - live.null_count()
        return [rows - present, present]
    if reference["kind"] == "categorical":
        values = None if live is None else texts_of(live)
        found = {} if values is None else dict(values.value_counts().iter_rows())
        counts = [int(found.get(value, 0)) for value, _ in reference["top"]]
        present = 0 if values is None else len(values)
        return [rows - present, *counts, present - sum(counts)]
    edges = reference["edges"]
    if live is None or (kind_of(live.dtype) == "moment") != (reference["kind"] == "moment"):
        return [rows] + [0] * (len(edges) + 1)
    numbers = numbers_of(live)
    return [rows - len(numbers), *counts_between(numbers, edges)]


def _intervals(edges: list[float]) -> list[str]:
    if not edges:
        return ["all values"]
    inner = [f"{a:.6g} to {b:.6g}" for a, b in pairwise(edges)]
    return [f"up to {edges[0]:.6g}", *inner, f"above {edges[-1]:.6g}"]


def _moved(labels: list[str], expected: list[int], observed: list[int]) -> str:
    """The bin that contributes most, in words."""
    p, q = _shares(expected), _shares(observed)
    most = max(range(len(labels)), key=lambda i: (q[i] - p[i]) * math.log(q[i] / p[i]))
    before, after = expected[most] / sum(expected), observed[most] / sum(observed)
    return f"{labels[most]}: {before:.1%} → {after:.1%}"


def chance_of_psi(bins: int, expected: int, observed: int, probability: float) -> float:
    """What psi of two samples of one distribution exceeds with ``probability``.

    Near equality psi times n m / (n + m) is chi-square with ``bins - 1`` degrees of freedom
    (Yurdakul and Naranjo, 2020); its quantile by Wilson and Hilferty (1931).
    """
    freedom = bins - 1
    if freedom < 1 or not expected or not observed:
        return 0.0
    spread = 2 / (9 * freedom)
    quantile = 1 - spread + NormalDist().inv_cdf(1 - probability) * math.sqrt(spread)
    return freedom * max(quantile, 0.0) ** 3 * (1 / expected + 1 / observed)
