"""The input of a model in the form that it wants: matrix, Polars or pandas.

Knows no model and no request. Takes a matrix, a mapping of columns, or either kind of frame; the
frame libraries are imported on first use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from clew.base.errors import Invalid
from clew.base.iso import iso_of
from clew.base.records import Column
from clew.models.held import Held, as_held, is_so

Array: TypeAlias = npt.NDArray[Any]
Data: TypeAlias = Any
"""[rows, width] array, mapping of name to values, Polars frame or pandas frame."""

_ARROW = {
    "Boolean": "bool", "Int8": "int8", "Int16": "int16", "Int32": "int32", "Int64": "int64",
    "UInt8": "uint8", "UInt16": "uint16", "UInt32": "uint32", "UInt64": "uint64",
    "Float32": "float", "Float64": "double", "String": "string", "Date": "date32[day]",
    "Time": "time64[ns]",
    "Categorical": "dictionary<values=string, indices=uint32>",
    "Enum": "dictionary<values=string, indices=uint32>", "Binary": "binary", "Null": "string",
}  # fmt: skip
_POLARS = {arrow: polars for polars, arrow in _ARROW.items() if polars not in {"Enum", "Null"}}
_NUMBERS = ("int", "uint", "float", "double", "halffloat", "decimal", "bool")
_BY_VALUE = ("decimal", "time64", "duration")
_DIGITS = Context(prec=76)


class Frame(Protocol):
    """What a Polars and a pandas frame have in common here."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""
        ...

    def __getitem__(self, name: str) -> Any:
        """A column."""
        ...


def columns_of(frame: Any) -> tuple[Column, ...]:
    """The columns of a Polars frame, with Arrow's names for their types.

    A column of floats is always nullable: whether a missing value (NaN) can be borne is for the
    model to say. Any other is where it has a null here.
    """
    return tuple(
        Column(
            name=name,
            type=_arrow_type(kind),
            nullable=kind.is_float() or frame[name].null_count() > 0,
        )
        for name, kind in frame.schema.items()
    )


def can_be_told(kind: Any) -> bool:
    """Whether values of a Polars type can be told in a request, as anything but their text."""
    return _arrow_type(kind) != "string" or type(kind).__name__ in {"String", "Null"}


def is_number(column: Column) -> bool:
    """Whether a column can stand in a matrix of floats."""
    return column.type.startswith(_NUMBERS)


def rows_of(data: Data) -> int:
    """How many rows ``data`` has."""
    if isinstance(data, Mapping):
        return len(next(iter(data.values()), ()))
    return len(data)


def plain_array(values: Any) -> Array:
    """Any column, frame, list or array as an array; a trailing axis of length 1 is dropped."""
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    array = np.asarray(values)
    if array.dtype == object and array.size and all(isinstance(v, str) for v in array.flat):
        array = array.astype(str)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def to_matrix(data: Data, names: Sequence[str], width: int) -> npt.NDArray[np.float64]:
    """[rows, width] of floats, columns in the order of ``names``; a missing value is NaN.

    Without names the columns are taken as they come.

    Raises:
        Invalid: ``input.columns`` or ``input.type``.
    """
    if isinstance(data, np.ndarray):
        if data.ndim != 2 or data.shape[1] != width:
            raise _wrong_width(data.shape, width)
        return np.asarray(data, dtype=np.float64)
    picked = _pick(data, names or list(data if isinstance(data, Mapping) else data.columns))
    columns = [_numbers(name, values) for name, values in picked.items()]
    matrix = np.column_stack(columns) if columns else np.empty((rows_of(data), 0))
    return to_matrix(matrix, (), width)


def to_own_matrix(data: Data, names: Sequence[str], width: int) -> npt.NDArray[np.float64]:
    """As :func:`to_matrix`, for code that may write into it: no memory of ``data``'s.

    Raises:
        Invalid: ``input.columns`` or ``input.type``.
    """
    found = to_matrix(data, names, width)
    shared = isinstance(data, np.ndarray) and np.may_share_memory(found, data)
    return found.copy() if shared else found


def to_polars(data: Data, columns: Sequence[Column]) -> Any:
    """A Polars frame of ``columns`` in their order and with their types.

    Raises:
        Invalid: ``input.columns`` or ``input.type``.
    """
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    picked = _pick(_named(data, columns), [column.name for column in columns])
    try:
        return pl.DataFrame([_series(pl, column, picked[column.name]) for column in columns])
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise _wrong_type(str(error)) from error


def to_pandas(data: Data, columns: Sequence[Column], held: Mapping[str, Held] | None = None) -> Any:
    """A pandas frame of ``columns`` in their order, as ``held`` says; types as pandas has them
    after Polars where nothing says it.

    Raises:
        Invalid: ``input.columns`` or ``input.type``.
    """
    import pandas as pd  # noqa: PLC0415 - heavy, and the door stays cheap

    names = [column.name for column in columns]
    if isinstance(data, pd.DataFrame):
        picked = data[list(_pick(data, names))]
        return _held_again(pd, picked, columns, held) if held else picked
    frame = to_polars(data, columns)
    if held:
        return pd.DataFrame({name: _as_held(frame[name], held[name]) for name in names})
    found = pd.DataFrame({name: _pandas_values(frame[name]) for name in names})
    moments = [column.name for column in columns if column.type.startswith(("date", "timestamp"))]
    for name in moments:
        found[name] = pd.to_datetime(found[name])
    return found


def _held_again(pd: Any, frame: Any, columns: Sequence[Column], held: Mapping[str, Held]) -> Any:
    """A caller's own frame, as the model learned from frames: what is so already stays."""
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    other = [one for one in columns if not is_so(frame[one.name], held[one.name])]
    if not other:
        return frame
    try:
        new = {one.name: _as_held(_series(pl, one, frame[one.name]), held[one.name])
               for one in other}  # fmt: skip
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise _wrong_type(str(error)) from error
    whole = {name: new[name].set_axis(frame.index) if name in new else frame[name]
             for name in frame.columns}  # fmt: skip
    return pd.DataFrame(whole, index=frame.index)


def _as_held(series: Any, held: Held) -> Any:
    try:
        return as_held(series, held)
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong_type(f"column {series.name}: {error}") from error


def _pandas_values(series: Any) -> Any:
    """Values as pandas would hold them itself: NaN for missing numbers, text as text."""
    kind = series.dtype
    if kind.is_numeric():
        return series.to_numpy()
    if str(kind) == "Boolean" and not series.null_count():
        return series.to_numpy()
    return series.to_list()


def _named(data: Data, columns: Sequence[Column]) -> Data:
    if not isinstance(data, np.ndarray):
        return data
    if data.ndim != 2 or data.shape[1] != len(columns):
        raise _wrong_width(data.shape, len(columns))
    return {column.name: data[:, number] for number, column in enumerate(columns)}


def _pick(data: Mapping[str, Any] | Frame, names: Sequence[str]) -> dict[str, Any]:
    there = data if isinstance(data, Mapping) else data.columns
    missing = [name for name in names if name not in there]
    if missing:
        raise Invalid(
            "input.columns",
            f"The input has no column {', '.join(missing)}.",
            hint=f"The model takes {', '.join(names)}.",
        )
    return {name: data[name] for name in names}


def _numbers(name: str, values: Any) -> npt.NDArray[np.float64]:
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _wrong_type(f"column {name} holds something that is no number: {error}") from error


def _series(pl: Any, column: Column, values: Any) -> Any:
    if isinstance(values, pl.Series):
        series = values.alias(column.name)
    elif isinstance(values, np.ndarray):
        series = pl.Series(column.name, values)
    elif type(values).__module__.startswith("pandas"):
        series = pl.from_pandas(values).alias(column.name)
    else:
        series = _from_list(pl, column, list(values))
    kind = polars_type(column)
    if series.dtype == pl.String and column.type.startswith(("date", "timestamp")):
        return series.str.to_datetime(time_unit="us").cast(kind)
    if series.dtype != kind and column.type.startswith(_BY_VALUE):
        return _from_list(pl, column, series.to_list())
    if column.nullable and series.dtype.is_float():
        series = series.fill_nan(None)
    return series if series.dtype == kind else series.cast(kind)


def _from_list(pl: Any, column: Column, values: list[Any]) -> Any:
    if column.type.startswith("decimal"):
        values = [_decimal(value, decimal_places(column.type)[1]) for value in values]
    texts = any(isinstance(value, str) for value in values)
    if texts and column.type.startswith(("time64", "duration")):
        iso = iso_of(column.type)
        assert iso is not None, "both are written in ISO 8601"
        values = [iso.read(value) if isinstance(value, str) else value for value in values]
    if texts and column.type.startswith(("date", "timestamp")):
        return pl.Series(column.name, values, dtype=pl.String)
    return pl.Series(column.name, values, dtype=polars_type(column))


def polars_type(column: Column) -> Any:
    """The type of a column in a frame of Polars."""
    import polars as pl  # noqa: PLC0415 - heavy, and the door stays cheap

    if column.type.startswith("timestamp"):
        unit, _, zone = column.type.removeprefix("timestamp[").rstrip("]").partition(", tz=")
        return pl.Datetime(cast(Any, unit), zone or None)
    if column.type.startswith("dictionary"):
        return pl.Categorical()
    if column.type.startswith("duration"):
        return pl.Duration(cast(Any, column.type.removeprefix("duration[").rstrip("]")))
    if column.type.startswith("decimal"):
        return pl.Decimal(*decimal_places(column.type))
    return getattr(pl, _POLARS.get(column.type, "String"))()


def decimal_places(kind: str) -> tuple[int, int]:
    """Digits of ``decimal128(10, 2)``, and those of them behind the point."""
    digits, behind = kind.partition("(")[2].rstrip(")").split(",")
    return int(digits), int(behind)


def _decimal(value: Any, behind: int) -> Decimal | None:
    """A number as the nearest decimal of so many places; None where it is missing."""
    if value is None or value != value:
        return None
    plain = value if isinstance(value, Decimal | str | int) else repr(float(value))
    try:
        return Decimal(plain).quantize(Decimal(1).scaleb(-behind), context=_DIGITS)
    except InvalidOperation:
        raise ValueError(f"{value!r} is no decimal with {behind} places") from None


def _arrow_type(kind: Any) -> str:
    name = type(kind).__name__ if not isinstance(kind, type) else kind.__name__
    if name == "Datetime":
        zone = f", tz={kind.time_zone}" if kind.time_zone else ""
        return f"timestamp[{kind.time_unit}{zone}]"
    if name == "Duration":
        return f"duration[{kind.time_unit}]"
    if name == "Decimal":
        return f"decimal128({kind.precision or 38}, {kind.scale})"
    return _ARROW.get(name, "string")


def _wrong_width(shape: tuple[int, ...], width: int) -> Invalid:
    return Invalid(
        "input.columns",
        f"The input has the shape {list(shape)}; the model takes [rows, {width}].",
        hint="Give one value for each input of the model, in its order.",
    )


def _wrong_type(why: str) -> Invalid:
    return Invalid(
        "input.type", f"The input cannot be read: {why}", hint="Look at the model's signature."
    )
