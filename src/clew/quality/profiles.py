"""What the columns of a frame look like, in a few numbers and bins.

Knows nothing of the frames that will be compared with it: bins come from this one alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from clew.quality.frames import plain, to_polars

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_EXACT_ROWS = 1_000_000


def profile(frame: object, *, bins: int = 10, top: int = 20) -> dict[str, Any]:
    """A frame (Polars, pandas or Arrow) in numbers, as JSON has them.

    ``{"rows": n, "columns": {name: column}}``, where each column has ``type`` (Polars' name),
    ``kind`` (numeric, categorical, moment or other), ``count`` (values that are not null),
    ``nulls`` (NaN among them) and ``distinct``. Numbers have ``min``, ``max``, ``mean``, ``std``
    and ``quantiles`` over the finite values, and a histogram: ``edges`` (inner ones, ascending; a
    value falls into the first bin whose edge is not below it; the outer bins are open) with
    ``counts``, one more. Edges are quantiles, or lie between the values where these are few.
    Moments are numbers of seconds since the epoch, with ``first`` and ``last`` in ISO. Categories
    have ``top``, ``[[value, count], ...]`` by count, and ``other``, the count of all the rest.

    Raises:
        Invalid: ``frame.unknown`` or ``frame.mixed``.
    """
    table = to_polars(frame)
    columns = {c.name: _column(c, bins, top) for c in table.get_columns()}
    return {"rows": table.height, "columns": columns}


def _column(column: pl.Series, bins: int, top: int) -> dict[str, Any]:
    kind = kind_of(column.dtype)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    values = column.drop_nulls()
    summary: dict[str, Any] = {
        "type": str(column.dtype.base_type()).lower(),
        "kind": kind,
        "count": len(values),
        "nulls": column.null_count(),
    }
    if kind == "other":
        return summary
    large = len(values) > _EXACT_ROWS
    summary["distinct"] = cast(int, values.approx_n_unique()) if large else values.n_unique()
    if kind == "categorical":
        return summary | _categories(values, top)
    if kind == "moment":
        summary |= {"first": plain(values.min()), "last": plain(values.max())}
    return summary | _numbers(values, bins)


def kind_of(dtype: pl.DataType) -> str:
    """What can be asked of a column: numeric, categorical, moment or other."""
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    if dtype.is_numeric() or dtype in (pl.Duration, pl.Time):
        return "numeric"
    if dtype in (pl.Date, pl.Datetime):
        return "moment"
    if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
        return "categorical"
    return "other"


def numbers_of(column: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The values that are numbers; seconds for what is a time. Nulls and NaN are left out.

    Of a column of text, those that read as numbers.
    """
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if column.dtype in (pl.Datetime, pl.Duration):
        column = column.dt.cast_time_unit("us").to_physical() / 1e6
    elif column.dtype == pl.Time:
        column = column.to_physical() / 1e9
    if kind_of(column.dtype) == "other":
        return pl.Series([], dtype=pl.Float64).to_numpy()
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    return column.cast(pl.Float64, strict=False).fill_nan(None).drop_nulls().to_numpy()


def texts_of(column: pl.Series) -> pl.Series:
    """The values as text (booleans are ``true`` and ``false``), without nulls."""
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    if kind_of(column.dtype) == "other":
        return pl.Series([], dtype=pl.String)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    return column.drop_nulls().cast(pl.String)


def _categories(values: pl.Series, top: int) -> dict[str, Any]:
    counted = (
        texts_of(values)
        .alias("value")
        .value_counts()
        .sort(["count", "value"], descending=[True, False])
    )
    head = counted.head(top)
    kept = [[value, count] for value, count in head.iter_rows()]
    return {"top": kept, "other": len(values) - int(head["count"].sum() or 0)}


def _numbers(values: pl.Series, bins: int) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - heavy, and the door stays cheap

    numbers = numbers_of(values)
    finite = np.sort(numbers[np.isfinite(numbers)])
    if not len(finite):
        return {"edges": [], "counts": [len(numbers)]}
    edges = _edges(finite, bins)
    with np.errstate(over="ignore", invalid="ignore"):  # numbers near the end of the float's range
        quantiles = np.quantile(finite, _QUANTILES)
        mean, std = finite.mean(), finite.std(ddof=1) if len(finite) > 1 else 0.0
    return {
        "min": float(finite[0]),
        "max": float(finite[-1]),
        "mean": _json(mean),
        "std": _json(std),
        "quantiles": {f"{q:g}": _json(v) for q, v in zip(_QUANTILES, quantiles, strict=True)},
        "edges": edges,
        "counts": counts_between(numbers, edges),
    }


def _json(value: Any) -> float | None:
    """A number of JSON, which knows no infinity."""
    return float(value) if math.isfinite(value) else None


def _edges(finite: np.ndarray[Any, np.dtype[np.float64]], bins: int) -> list[float]:
    """Inner edges for ascending numbers: between few values, else their distinct quantiles."""
    import numpy as np  # noqa: PLC0415 - heavy, and the door stays cheap

    distinct = finite[np.append(True, finite[1:] != finite[:-1])]
    if len(distinct) <= bins:
        low, high = distinct[:-1], distinct[1:]
        middle = low / 2 + high / 2
        return [float(edge) for edge in np.where((low <= middle) & (middle < high), middle, low)]
    inner = [finite[-(-len(finite) * k // bins) - 1] for k in range(1, bins)]
    edges = np.unique(np.asarray(inner))
    return [float(edge) for edge in edges[edges < distinct[-1]]]


def counts_between(numbers: np.ndarray[Any, np.dtype[np.float64]], edges: list[float]) -> list[int]:
    """How many numbers fall into each of the ``len(edges) + 1`` bins."""
    import numpy as np  # noqa: PLC0415 - heavy, and the door stays cheap

    places = np.searchsorted(np.asarray(edges, dtype=np.float64), numbers, side="left")
    return [int(count) for count in np.bincount(places, minlength=len(edges) + 1)]
