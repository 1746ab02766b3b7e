"""Rows to predict for, as plain values: what a caller holds is often a frame or an array.

Knows no table library: frames and arrays are told by the methods that turn them into plain values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from clew.base.errors import Invalid

Plain: TypeAlias = list[dict[str, object]] | list[list[object]]


def plain_rows(rows: Any) -> Plain:
    """Rows as mappings of column to value, or as lists of values; all of one kind.

    Takes a frame of Polars or pandas, an array of two dimensions, or rows one by one. Scalars of
    NumPy become those of Python.

    Raises:
        Invalid: ``predict.rows``, where there are none, or one is neither, or they are mixed.
    """
    found = [_row(number, row) for number, row in enumerate(_listed(rows))]
    if not found:
        raise Invalid("predict.rows", "There are no rows to predict for.", hint="Give one or more.")
    if len({type(row) for row in found}) > 1:
        raise _wrong("Some rows have names for their values and some have not")
    return found  # type: ignore[return-value]  # of one kind, as was just seen


def _listed(rows: Any) -> Iterable[Any]:
    if hasattr(rows, "to_dicts"):  # Polars
        return rows.to_dicts()  # type: ignore[no-any-return]  # a frame of a library, not imported here
    if hasattr(rows, "iloc"):  # pandas
        return rows.to_dict("records")  # type: ignore[no-any-return]  # a frame of a library, not imported here
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        raise _wrong(f"Rows are given one by one, not as a {type(rows).__name__}")
    return rows


def _row(number: int, row: Any) -> dict[str, object] | list[object]:
    if isinstance(row, Mapping):
        return {str(name): _scalar(value) for name, value in row.items()}
    if isinstance(row, str | bytes) or not isinstance(row, Iterable):
        raise _wrong(f"Row {number} is {str(row)[:40]!r}, not a mapping or a list")
    return [_scalar(value) for value in row]


def _scalar(value: Any) -> object:
    """A scalar of NumPy or pandas as Python's own."""
    return value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value


def _wrong(what: str) -> Invalid:
    return Invalid("predict.rows", f"{what}.", hint='Write [{"column": value, …}].')
