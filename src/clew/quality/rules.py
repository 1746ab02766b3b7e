"""What each kind of expectation means, as an expression of Polars.

Knows nothing of reports: an expression says which rows break a rule.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import reduce
from typing import TYPE_CHECKING, cast

from clew.quality.expectations import (
    BETWEEN,
    EXISTS,
    IN_SET,
    MATCHES,
    NOT_IN_SET,
    NOT_NULL,
    OF_TYPE,
    ROW_COUNT,
    SATISFY,
    UNIQUE,
    UNIQUE_TOGETHER,
    Expectation,
)

if TYPE_CHECKING:
    import polars as pl

_SYNONYMS = {
    "double": "float64",
    "float": "float32 float64",
    "halffloat": "float16",
    "str": "string",
    "utf8": "string",
    "large_string": "string",
    "large_utf8": "string",
    "bool": "boolean",
    "date32": "date",
    "timestamp": "datetime",
    "dictionary": "categorical enum",
    "int": "int8 int16 int32 int64 int128 uint8 uint16 uint32 uint64",
    "integer": "int8 int16 int32 int64 int128 uint8 uint16 uint32 uint64",
    "number": "int8 int16 int32 int64 int128 uint8 uint16 uint32 uint64 float32 float64 decimal",
}
"""Names that people give to types, and Polars' names of what they mean."""


def cannot_be_checked() -> tuple[type[Exception], ...]:
    """The errors that say that a rule makes no sense for a column."""
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    return (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError)


def columns_of(expectation: Expectation) -> list[str]:
    """The columns that must be there for the rule to be checked."""
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    if expectation.kind != SATISFY:
        return list(expectation.columns)
    return list(dict.fromkeys(pl.sql_expr(_text(expectation, "predicate")).meta.root_names()))


def verdict_on_table(table: pl.DataFrame, expectation: Expectation) -> str:
    """Why a rule on the table or on a column as a whole is not met; '' where it is."""
    if expectation.kind == EXISTS:
        return ""
    if expectation.kind == ROW_COUNT:
        low, high = _bounds(expectation)
        rows = table.height
        kept = (low is None or rows >= cast(int, low)) and (high is None or rows <= cast(int, high))
        return "" if kept else f"{describe(expectation)}: there are {rows}"
    name = expectation.columns[0]
    found = str(table.schema[name].base_type()).lower()
    wanted = _text(expectation, "type_").lower().partition("[")[0]
    kept = found in _SYNONYMS.get(wanted, wanted).split()
    return "" if kept else f"{describe(expectation)}: it is {table.schema[name]}"


def expressions(schema: pl.Schema, expectation: Expectation) -> tuple[pl.Expr, pl.Expr | None]:
    """Which rows break the rule (never null), and how many rows count (None: all of them)."""
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    if expectation.kind == UNIQUE_TOGETHER:
        return pl.struct(expectation.columns).is_duplicated(), None
    if expectation.kind == SATISFY:
        return _not(pl.sql_expr(_text(expectation, "predicate"))), None
    name = expectation.columns[0]
    dtype = schema[name]
    column = pl.col(name).fill_nan(None) if dtype.is_float() else pl.col(name)
    if expectation.kind == NOT_NULL:
        return column.is_null(), None
    return _of_values[expectation.kind](column, dtype, expectation), column.count()


def describe(expectation: Expectation) -> str:
    """The rule in words."""
    where = ", ".join(expectation.columns)
    return _words[expectation.kind](where, expectation.arguments)


def _unique(column: pl.Expr, _dtype: pl.DataType, _expectation: Expectation) -> pl.Expr:
    return column.is_duplicated() & column.is_not_null()


def _between(column: pl.Expr, dtype: pl.DataType, expectation: Expectation) -> pl.Expr:
    low, high = _bounds(expectation)
    kept = []
    if low is not None:
        above = operator.gt if expectation.arguments.get("strict_min") else operator.ge
        kept.append(above(column, _literal(low, dtype)))
    if high is not None:
        below = operator.lt if expectation.arguments.get("strict_max") else operator.le
        kept.append(below(column, _literal(high, dtype)))
    return _not(reduce(operator.and_, kept))


def _in_set(column: pl.Expr, dtype: pl.DataType, expectation: Expectation) -> pl.Expr:
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    values = cast(list[object], expectation.arguments["value_set"])
    equal = [column == _literal(v, dtype) for v in values if v is not None]
    if not equal:
        return column.is_not_null()
    if len(equal) > 20:
        return _not(column.is_in(pl.Series(values, strict=True)))
    return _not(reduce(operator.or_, equal))


def _not_in_set(column: pl.Expr, dtype: pl.DataType, expectation: Expectation) -> pl.Expr:
    return ~_in_set(column, dtype, expectation) & column.is_not_null()


def _matches(column: pl.Expr, _dtype: pl.DataType, expectation: Expectation) -> pl.Expr:
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    return _not(column.cast(pl.String).str.contains(_text(expectation, "regex")))


_of_values: dict[str, Callable[[pl.Expr, pl.DataType, Expectation], pl.Expr]] = {
    UNIQUE: _unique,
    BETWEEN: _between,
    IN_SET: _in_set,
    NOT_IN_SET: _not_in_set,
    MATCHES: _matches,
}


def _not(kept: pl.Expr) -> pl.Expr:
    """Rows where ``kept`` is false; unknown is not false."""
    return (~kept).fill_null(value=False)


def _literal(value: object, dtype: pl.DataType) -> pl.Expr:
    """A recorded value as the column's type has it (moments are recorded as ISO text)."""
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    if not isinstance(value, str):
        return pl.lit(value)
    if isinstance(dtype, pl.Date):
        return pl.lit(date.fromisoformat(value[:10]))
    if isinstance(dtype, pl.Datetime):
        return _moment(datetime.fromisoformat(value), dtype.time_zone)
    return pl.lit(value)


def _moment(moment: datetime, time_zone: str | None) -> pl.Expr:
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    if time_zone is None:
        naive = moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
        return pl.lit(naive)
    if moment.tzinfo is None:
        return pl.lit(moment).dt.replace_time_zone(time_zone)
    return pl.lit(moment.astimezone(UTC)).dt.convert_time_zone(time_zone)


def _bounds(expectation: Expectation) -> tuple[object, object]:
    return expectation.arguments.get("min_value"), expectation.arguments.get("max_value")


def _text(expectation: Expectation, name: str) -> str:
    return str(expectation.arguments[name])


def _range_words(arguments: dict[str, object]) -> str:
    low, high = arguments.get("min_value"), arguments.get("max_value")
    if high is None:
        return f"{'above' if arguments.get('strict_min') else 'at least'} {low}"
    if low is None:
        return f"{'below' if arguments.get('strict_max') else 'at most'} {high}"
    return f"between {low} and {high}"


def _set_words(arguments: dict[str, object]) -> str:
    values = cast(list[object], arguments["value_set"])
    shown = ", ".join(map(repr, values[:8]))
    return f"{shown}, ..." if len(values) > 8 else shown


_words: dict[str, Callable[[str, dict[str, object]], str]] = {
    EXISTS: lambda where, _: f"{where} should exist",
    BETWEEN: lambda where, a: f"{where} should be {_range_words(a)}",
    NOT_NULL: lambda where, _: f"{where} should not be null",
    UNIQUE: lambda where, _: f"{where} should be unique",
    UNIQUE_TOGETHER: lambda where, _: f"{where} should be unique together",
    IN_SET: lambda where, a: f"{where} should be one of {_set_words(a)}",
    NOT_IN_SET: lambda where, a: f"{where} should be none of {_set_words(a)}",
    MATCHES: lambda where, a: f"{where} should match {a['regex']}",
    OF_TYPE: lambda where, a: f"{where} should be of type {a['type_']}",
    ROW_COUNT: lambda _, a: f"The number of rows should be {_range_words(a)}",
    SATISFY: lambda _, a: f"Rows should satisfy {a['predicate']}",
}
