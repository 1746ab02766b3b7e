"""Any kind of frame as a Polars frame.

Knows nothing of what is asked of it.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from clew.base.errors import Invalid

if TYPE_CHECKING:
    import polars as pl


def to_polars(frame: object) -> pl.DataFrame:
    """A Polars DataFrame of the same rows in the same order; without a copy where that can be.

    Takes Polars (lazy ones are collected), pandas (its index is left out) and Arrow.

    Raises:
        Invalid: ``frame.unknown``, or ``frame.mixed`` where a column of pandas holds values of
            several types.
    """
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        collected: pl.DataFrame = frame.collect()
        return collected
    if isinstance(frame, pl.Series):
        return frame.to_frame()
    library = type(frame).__module__.partition(".")[0]
    if library not in {"pandas", "pyarrow"}:
        raise Invalid(
            "frame.unknown",
            f"A {type(frame).__module__}.{type(frame).__qualname__} is not a table.",
            hint="Give a frame of Polars, pandas or Arrow.",
        )
    try:
        found = _from_pandas(frame) if library == "pandas" else pl.from_arrow(frame)
    except (TypeError, ValueError) as error:  # Arrow's own errors are among them
        raise Invalid(
            "frame.mixed",
            f"The table cannot be read by columns: {error}",
            hint="Give each column values of one type.",
        ) from error
    return found.to_frame() if isinstance(found, pl.Series) else found


def _from_pandas(frame: Any) -> pl.DataFrame:
    """Of a frame or series of pandas. Moments with a zone go by UTC, as pandas 3.1 warns of Arrow's
    own way with them.
    """
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    columns = frame if hasattr(frame, "columns") else frame.to_frame()
    zones = {name: dtype.tz for name, dtype in columns.dtypes.items() if hasattr(dtype, "tz")}
    if not zones:
        return pl.from_pandas(columns)
    naive = columns.assign(**{name: columns[name].dt.tz_convert(None) for name in zones})
    found = pl.from_pandas(naive).with_columns(
        pl.col(name).dt.replace_time_zone("UTC") for name in zones
    )
    keys = {
        name: getattr(zone, "key", None) or getattr(zone, "zone", None)
        for name, zone in zones.items()
    }
    return found.with_columns(
        pl.col(name).dt.convert_time_zone(key) for name, key in keys.items() if key
    )


def plain(value: object) -> object:
    """A value of a cell as JSON has it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, list):
        return [plain(each) for each in value[:20]]
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    return value[:64].hex() if isinstance(value, bytes) else str(value)
