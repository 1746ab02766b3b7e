"""Groups of test rows: by a column, by an SQL expression, or those that a table suggests itself.

Knows frames and metrics; no model and no gate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct, field

from clew.base.errors import Invalid
from clew.models.bootstrap import interval
from clew.models.metrics import Floats, Ints, Metric, Scored
from clew.models.targets import class_text

FEW_VALUES = 20
"""A numeric column of more distinct values than this is sliced by its quartiles."""

MOST_COLUMNS = 8
MOST_GROUPS = 50
MISSING = "missing"

Labels = np.ndarray[Any, np.dtype[np.str_]]


class Slice(Struct, frozen=True, kw_only=True):
    """Test rows that share a value: how many, and how well the model does on them.

    ``low`` and ``high`` bound the metric with 95 % (bootstrap); None where nobody asked.
    """

    value: str
    rows: int
    metric: float
    low: float | None = None
    high: float | None = None


class Slices(Struct, frozen=True, kw_only=True):
    """Slices large enough to judge, worst first, and how many rows are in none of them."""

    overall: float
    judged: tuple[Slice, ...]
    left_out_rows: int
    undefined: tuple[str, ...] = field(default=())


def labels_of(frame: pl.DataFrame, by: str) -> Labels:
    """The group of each row: the value of a column (quartiles of a number of many) or expression.

    Raises:
        Invalid: ``gate.column`` where it is neither.
    """
    column = frame[by] if by in frame.columns else _expression(frame, by)
    if column.dtype.is_numeric() and column.n_unique() > FEW_VALUES:
        return _quartiles(column.cast(pl.Float64).to_numpy())
    known = {
        value: MISSING if value is None else class_text(value)
        for value in column.unique().to_list()
        if value == value
    }
    return np.array([known.get(value, MISSING) for value in column.to_list()])


def groups_of(labels: Labels) -> Iterator[tuple[str, Ints]]:
    """Each group with its rows, by its name."""
    names, places = np.unique(labels, return_inverse=True)
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(np.bincount(places, minlength=len(names)))
    for name, rows in zip(names, np.split(order, ends[:-1]), strict=True):
        yield str(name), rows


def slices(
    scored: Scored, labels: Labels, metric: Metric, min_rows: int, *, sure: bool = False
) -> Slices:
    """The metric by group, worst first; with ``sure`` each has its interval."""
    judged: list[Slice] = []
    undefined: list[str] = []
    left_out = 0
    for name, rows in groups_of(labels):
        if len(rows) < min_rows:
            left_out += len(rows)
            continue
        mine = scored.take(rows)
        value = metric.of(mine)
        if not np.isfinite(value):
            undefined.append(name)
            continue
        found = interval(metric, mine) if sure and len(judged) < MOST_GROUPS else None
        judged.append(
            Slice(
                value=name,
                rows=len(rows),
                metric=value,
                low=_defined(found.low) if found else None,
                high=_defined(found.high) if found else None,
            )
        )
    overall = metric.of(scored)
    judged.sort(key=lambda one: metric.better_by(one.metric, overall))
    return Slices(
        overall=overall,
        judged=tuple(judged),
        left_out_rows=left_out,
        undefined=tuple(undefined),
    )


def suggested(frame: pl.DataFrame, leave_out: Sequence[str]) -> list[str]:
    """Columns that a table is worth slicing by: text, truth, whole numbers of few values."""
    found = []
    for name, kind in frame.schema.items():
        fits = kind.is_integer() or kind in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)
        if name not in leave_out and fits and 2 <= frame[name].n_unique() <= FEW_VALUES:
            found.append(name)
    return found[:MOST_COLUMNS]


def _quartiles(values: Floats) -> Labels:
    """The quarter of each number; missing ones by themselves."""
    there = np.isfinite(values)
    edges = np.unique(np.quantile(values[there], [0.25, 0.5, 0.75]))
    bounds = ["-inf", *(f"{edge:g}" for edge in edges), "inf"]
    names = np.array([f"({low}, {high}]" for low, high in pairwise(bounds)])
    found = names[np.searchsorted(edges, values, side="left").clip(0, len(edges))]
    return np.where(there, found, MISSING)


def _expression(frame: pl.DataFrame, by: str) -> pl.Series:
    try:
        found = frame.select(pl.sql_expr(by).alias("group"))["group"]
    except pl.exceptions.PolarsError as error:
        raise Invalid(
            "gate.column",
            f"The test rows have no column {by!r}, and it is no SQL expression: "
            f"{str(error).partition(chr(10))[0]}",
            hint=f"Use one of {', '.join(frame.columns)}, or an expression over them.",
        ) from None
    if len(found) != frame.height:
        raise Invalid(
            "gate.column",
            f"{by!r} gives {len(found)} values for {frame.height} test rows.",
            hint="Write an expression that gives one value for each row.",
        )
    return found


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None
