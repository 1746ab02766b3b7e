"""Rows that two forms of a model are compared on: real, random, extreme, missing, and at edges.

Knows columns and numbers; no format. The same rows for the same data, every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from clew.base.records import Column
from clew.models.frames import Array

SEED = 20_130_101
MOST_REAL = 5_000
MOST_RANDOM = 1_000
MOST_COLUMNS = 64
"""Of a wider model so many columns are varied one by one, spread evenly over it."""
_FLOAT32 = np.finfo(np.float32)
_EXTREMES = (
    0.0, -0.0, float(_FLOAT32.max), -float(_FLOAT32.max), float(_FLOAT32.tiny),
    float(_FLOAT32.smallest_subnormal), 1e30, -1e30, 1e-30, 16_777_217.0, 0.1, 1 / 3,
)  # fmt: skip
BEYOND = (1e39, -1e39, 1e300)
_UNSEEN = ("", "never seen", "É", " ")


class Rows(Struct, frozen=True, kw_only=True):
    """Columns of equal length. ``kinds``: float, whole, truth or text; numbers are float64.

    ``matrix``: the model takes them as one array.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    columns: tuple[Array, ...]
    matrix: bool

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.columns[0]) if self.columns else 0

    def take(self, places: Any) -> Rows:
        """Some of the rows."""
        return replace(self, columns=tuple(values[places] for values in self.columns))

    def put(self, at: int, rows: Any, value: Any) -> None:
        """Another value in one column; of rows that are this object's own."""
        self.columns[at][rows] = value

    def copies(self, count: int) -> Rows:
        """So many rows, the own ones again and again; the arrays are new."""
        return self.take(np.arange(count) % self.count)

    def data(self) -> Any:
        """The rows as a request brings them: a matrix, or a list of values a column."""
        if self.matrix:
            return np.column_stack([values.astype(np.float64) for values in self.columns])
        listed = zip(self.names, self.kinds, self.columns, strict=True)
        return {name: _listed(kind, values) for name, kind, values in listed}

    def shown(self, at: int) -> dict[str, Any]:
        """One row for people."""
        data = {
            name: _listed(kind, values[at : at + 1])[0]
            for name, kind, values in zip(self.names, self.kinds, self.columns, strict=True)
        }
        return {name: _plain(value) for name, value in data.items()}

    def places(self, *kinds: str) -> list[int]:
        """Places of the columns of these kinds; at most 64, spread evenly."""
        found = [at for at, kind in enumerate(self.kinds) if kind in kinds]
        return found if len(found) <= MOST_COLUMNS else evenly(found, MOST_COLUMNS)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def _listed(kind: str, values: Array) -> list[Any]:
    listed = values.tolist()
    if kind == "text":
        return list(listed)
    make: Callable[[Any], Any] = {"float": float, "whole": int, "truth": bool}[kind]
    return [None if value != value else make(value) for value in listed]


def evenly(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, spread evenly over all."""
    if len(values) <= most:
        return list(values)
    return [values[at] for at in np.linspace(0, len(values) - 1, most).astype(int)]


def real(frame: pl.DataFrame, columns: Sequence[Column], *, matrix: bool, named: bool) -> Rows:
    """Test rows, at most 5,000, spread evenly.

    Raises:
        NotImplementedError: a column is neither a number, nor true or false, nor text.
    """
    if frame.height > MOST_REAL:
        frame = frame.gather_every(-(-frame.height // MOST_REAL))
    if not named:
        kinds = ("float",) * frame.width
        names = tuple(frame.columns)
    else:
        names = tuple(column.name for column in columns)
        kinds = tuple(_kind(column) for column in columns)
    found = tuple(_values(frame[name], kind) for name, kind in zip(names, kinds, strict=True))
    return Rows(names=names, kinds=kinds, columns=found, matrix=matrix)


def _kind(column: Column) -> str:
    if column.type.startswith(("int", "uint")):
        return "whole"
    if column.type in {"double", "float", "halffloat"} or column.type.startswith("decimal"):
        return "float"
    if column.type == "bool":
        return "truth"
    if column.type == "string" or column.type.startswith("dictionary"):
        return "text"
    raise NotImplementedError(f"column {column.name!r} holds {column.type}")


def _values(series: pl.Series, kind: str) -> Array:
    if kind == "text":
        return np.array(series.cast(pl.String).to_list(), dtype=object)
    return series.cast(pl.Float64).to_numpy().astype(np.float64)


def random(rows: Rows) -> Rows:
    """Half of the rows uniform in the range of each column, half with each column shuffled."""
    draw = np.random.default_rng(SEED)
    found = rows.copies(MOST_RANDOM)
    half = MOST_RANDOM // 2
    for at, kind in enumerate(rows.kinds):
        values = rows.columns[at]
        found.put(at, slice(None), draw.choice(values, MOST_RANDOM))
        if kind in {"float", "whole"} and np.isfinite(values).any():
            low, high = np.nanmin(values), np.nanmax(values)
            drawn = draw.uniform(low, high, half)
            found.put(at, slice(half), np.rint(drawn) if kind == "whole" else drawn)
    return found


def varied(rows: Rows, kinds: Sequence[str], values_of: Callable[[int], Sequence[Any]]) -> Rows:
    """A row for each value of each column of these kinds, then rows with it in all of them."""
    places = rows.places(*kinds)
    each = [(at, value) for at in places for value in values_of(at)]
    most = max((len(values_of(at)) for at in places), default=0)
    found = rows.copies(len(each) + most if each else 0)
    for row, (at, value) in enumerate(each):
        found.put(at, row, value)
    for at in places:
        for row, value in enumerate(values_of(at)):
            found.put(at, len(each) + row, value)
    return found


def extreme(rows: Rows, *, negative: bool = False) -> Rows:
    """The limits of float32, what float32 cannot hold, and the ends of the data.

    ``negative``: whole numbers below zero too, which a net's embedding refuses.
    """

    def values_of(at: int) -> list[float]:
        known = rows.columns[at][np.isfinite(rows.columns[at])]
        ends = [known.min(), known.max()] if len(known) else [0.0]
        if rows.kinds[at] == "whole":
            return [0.0, 1.0, ends[0], ends[-1], ends[-1] + 1, *([-1.0] if negative else ())]
        return [*_EXTREMES, *ends, np.nextafter(ends[0], -np.inf), np.nextafter(ends[-1], np.inf)]

    return varied(rows, ("float", "whole"), values_of)


def infinite(rows: Rows) -> Rows:
    """Infinities, and numbers beyond float32."""
    return varied(rows, ("float",), lambda _: (np.inf, -np.inf, *BEYOND))


def missing(rows: Rows, nullable: Sequence[bool]) -> Rows:
    """A missing value in each column that may have one."""
    numbers = varied(rows, ("float",), lambda _: (np.nan,))
    texts = varied(rows, ("text",), lambda at: (None,) if nullable[at] else ())
    return joined([numbers, texts])


def unseen(rows: Rows) -> Rows:
    """Texts that the model has not learned."""
    return varied(rows, ("text",), lambda _: _UNSEEN)


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows, one after the other."""
    columns = zip(*(part.columns for part in parts), strict=True)
    return replace(parts[0], columns=tuple(np.concatenate(values) for values in columns))


# edges ------------------------------------------------------------------------------------------

_ONE_BY_ONE = 300
_TOGETHER = 1_000
_PAIRS = 96
_CUTS = 15
_ROUNDS = 14
_STEP = 1e-6
SINGLE_STEP = 1e-4
"""The same for a model that computes in float32, whose last bit is a ten-millionth."""
Answers = Callable[[Rows], Array]
"""Rows → one value a row; another value is another answer."""


def beside_thresholds(rows: Rows, pairs: Sequence[tuple[int, float]]) -> Rows:
    """Values at and right beside the thresholds of trees: in float64 and in float32.

    Each by itself in a real row, then rows in which every column holds such a value.
    """
    some = evenly(pairs, _ONE_BY_ONE)
    alone = rows.copies(len(some) * _BESIDE)
    for row, (at, threshold) in enumerate(some):
        alone.put(at, slice(row * _BESIDE, (row + 1) * _BESIDE), _beside(threshold))
    draw = np.random.default_rng(SEED)
    together = rows.copies(_TOGETHER)
    by_column: dict[int, list[float]] = {}
    for at, threshold in pairs:
        by_column.setdefault(at, []).append(threshold)
    for at, values in by_column.items():
        near = np.concatenate([_beside(value) for value in evenly(values, _TOGETHER)])
        together.put(at, slice(None), draw.choice(near, _TOGETHER))
    return joined([alone, together])


_BESIDE = 7


def _beside(threshold: float) -> Array:
    single = np.float32(threshold)
    near = (
        threshold,
        np.nextafter(threshold, -np.inf),
        np.nextafter(threshold, np.inf),
        float(single),
        float(np.nextafter(single, np.float32(-np.inf))),
        float(np.nextafter(single, np.float32(np.inf))),
        (threshold + float(np.nextafter(single, np.float32(np.inf)))) / 2,
    )
    return np.array(near)


def edges(rows: Rows, label: Answers | None, value: Answers, *, step: float = _STEP) -> Rows:
    """Rows on both sides of where the original's answer changes, found by asking it.

    Between two real rows the change is narrowed down to neighbouring numbers. Where the answer
    jumps there (trees, neighbours) the rows are those; where it moves on smoothly (its label turns
    at a probability of one half) they stand a millionth of the way apart, since the last bit of a
    sum is nobody's (``step``: how far apart).
    """
    draw = np.random.default_rng(SEED)
    floats = [at for at, kind in enumerate(rows.kinds) if kind == "float"]
    if not floats or rows.count < 2:
        return rows.take(slice(0, 0))
    found = [
        _narrowed(rows, floats, *_any_two(rows, draw), value, one_column=True, draw=draw, step=step)
    ]
    if label is not None:
        first, second = _of_two_labels(label(rows), draw)
        found.append(_narrowed(rows, floats, first, second, label, value=value, step=step))
    return joined(found)


def _any_two(rows: Rows, draw: np.random.Generator) -> tuple[Array, Array]:
    return draw.integers(0, rows.count, _PAIRS), draw.integers(0, rows.count, _PAIRS)


def _of_two_labels(labels: Array, draw: np.random.Generator) -> tuple[Array, Array]:
    """Pairs of rows with different labels."""
    first = draw.integers(0, len(labels), 8 * _PAIRS)
    second = draw.integers(0, len(labels), 8 * _PAIRS)
    differ = np.flatnonzero(labels[first] != labels[second])[:_PAIRS]
    return first[differ], second[differ]


def _narrowed(
    rows: Rows,
    floats: list[int],
    first: Array,
    second: Array,
    answer: Answers,
    *,
    value: Answers | None = None,
    one_column: bool = False,
    step: float = _STEP,
    draw: np.random.Generator | None = None,
) -> Rows:
    start = rows.take(first)
    begin = np.column_stack([rows.columns[at][first] for at in floats])
    way = np.column_stack([rows.columns[at][second] for at in floats]) - begin
    if one_column and draw is not None:
        keep = np.zeros_like(way)
        keep[np.arange(len(way)), draw.integers(0, len(floats), len(way))] = 1.0
        way = way * keep

    def at(shares: Array) -> Rows:
        """Rows at shares [pairs, n] of the way, pair by pair."""
        n = shares.shape[1]
        moved = (begin[:, None, :] + shares[:, :, None] * way[:, None, :]).reshape(-1, len(floats))
        found = start.take(np.repeat(np.arange(start.count), n))
        for place, column in enumerate(floats):
            found.put(column, slice(None), moved[:, place])
        return found

    pairs = start.count
    if not pairs:
        return start
    low, high = np.zeros(pairs), np.ones(pairs)
    origin = answer(at(low[:, None]))
    turned = answer(at(high[:, None])) != origin
    steps = np.arange(1, _CUTS + 1) / (_CUTS + 1)
    for _ in range(_ROUNDS):
        shares = low[:, None] + (high - low)[:, None] * steps
        changed = (answer(at(shares)).reshape(pairs, _CUTS)) != origin[:, None]
        bounds = np.column_stack([low, shares, high])
        place = np.where(changed.any(axis=1), changed.argmax(axis=1), _CUTS)
        low, high = bounds[np.arange(pairs), place], bounds[np.arange(pairs), place + 1]
    measure = value or answer
    left, right = measure(at(low[:, None])), measure(at(high[:, None]))
    size = np.maximum(1.0, np.abs(left))
    with np.errstate(invalid="ignore"):
        jumps = np.abs(left - right) > _STEP * size
    apart = np.where(jumps, 0.0, step)
    sides = np.column_stack([low - apart, high + apart])
    return at(sides).take(np.flatnonzero(np.repeat(turned, 2)))
