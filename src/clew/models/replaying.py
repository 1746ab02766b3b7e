"""Whether a model answers through an endpoint's contract as it did where it was trained.

Knows models and requests as bytes; what an endpoint makes of a request is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl
from msgspec import Struct

from clew.base.errors import ClewError
from clew.base.records import Column, Signature
from clew.models.evaluation import Recorded
from clew.models.frames import Array
from clew.models.loading import LoadedModel

Answer = Callable[[LoadedModel, bytes], Mapping[str, Any]]

PIECE = 100
_DATATYPES = {
    "bool": "BOOL", "double": "FP64", "float": "FP32",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}  # fmt: skip


class Replayed(Struct, frozen=True, kw_only=True):
    """How many requests were asked, refused and answered otherwise; ``largest``: by how much."""

    asked: int
    refused: int
    different: int
    largest: float
    example: str = ""
    champion_asked: int = 0
    champion_same: int = 0


def request_of(signature: Signature, rows: pl.DataFrame) -> dict[str, Any]:
    """Rows as a request of the Open Inference Protocol, version 2."""
    if signature.frame == "numpy":
        values: list[Any] = rows.cast(pl.Float64).rows()
        shape = [rows.height, signature.width]
        tensor = {"name": signature.inputs[0].name, "datatype": "FP64", "shape": shape}
        return {"inputs": [{**tensor, "data": values}]}
    columns = {column.name: _told(column, rows[column.name]) for column in signature.inputs}
    return request_of_columns(signature, columns)


def request_of_columns(signature: Signature, columns: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Columns by name as such a request."""
    return {
        "inputs": [
            {
                "name": column.name,
                "datatype": _datatype(column),
                "shape": [len(columns[column.name])],
                "data": columns[column.name],
            }
            for column in signature.inputs
        ]
    }


def _told(column: Column, values: pl.Series) -> list[Any]:
    """Values as JSON has them; a duration or a time is a text then, a decimal a number."""
    if column.type.startswith("decimal"):
        return values.cast(pl.Float64).to_list()
    return values.to_list()


def _datatype(column: Column) -> str:
    decimal = column.type.startswith("decimal")
    return "FP64" if decimal else _DATATYPES.get(column.type, "BYTES")


def replay_rows(
    model: LoadedModel,
    trained: LoadedModel,
    features: pl.DataFrame,
    answer: Answer,
    rows: int,
    tolerance: float,
) -> Replayed:
    """Test rows, asked one by one and in pieces, against the model as it was trained.

    That one is asked for all of them at once, as an evaluation does: an answer that depends on the
    other rows of a request is another answer.
    """
    every = max(1, -(-features.height // max(1, rows)))
    some = features.gather_every(every)
    expected = trained.predict(some)
    singles = [(at, at + 1) for at in range(min(some.height, PIECE))]
    pieces = [(at, min(at + PIECE, some.height)) for at in range(0, some.height, PIECE)]
    tally = _Tally(tolerance)
    for start, end in (*singles, *pieces):
        body = msgspec.json.encode(request_of(model.signature, some[start:end]))
        right = {name: values[start:end] for name, values in expected.items()}
        tally.compare(model, body, answer, right, end - start)
    return tally.found(rows=some.height)


def replay_recorded(
    model: LoadedModel,
    trained: LoadedModel,
    champion: LoadedModel | None,
    requests: Sequence[Recorded],
    answer: Answer,
    tolerance: float,
) -> Replayed:
    """Logged requests of the champion: the model must take them, and answer as it was trained.

    How many of the champion's own answers come out the same is told besides.
    """
    tally = _Tally(tolerance)
    same = 0
    for one in requests:
        body = msgspec.json.encode(_recorded(one.inputs))
        rows = len(next(iter(one.inputs.values()), []))
        expected = _try_predict(trained, one.inputs)
        tally.compare(model, body, answer, expected, rows)
        if champion is not None:
            own = _try_predict(champion, one.inputs)
            logged = {name: np.asarray(values) for name, values in one.outputs.items()}
            same += own is not None and _apart(logged, own, tolerance)[0] == 0
    asked = len(requests) if champion is not None else 0
    return msgspec.structs.replace(tally.found(), champion_asked=asked, champion_same=same)


def shapes_of(outputs: Mapping[str, Array]) -> dict[str, str]:
    """What each output holds, such as ``float64[rows, 3]``; text of any length is text."""
    return {
        name: f"{'text' if values.dtype.kind in 'UO' else values.dtype}"
        f"[rows{''.join(f', {size}' for size in values.shape[1:])}]"
        for name, values in outputs.items()
    }


class _Tally:
    """Counts what came out otherwise."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._asked = self._refused = self._different = 0
        self._largest = 0.0
        self._example = ""

    def compare(
        self,
        model: LoadedModel,
        body: bytes,
        answer: Answer,
        expected: Mapping[str, Array] | None,
        rows: int,
    ) -> None:
        self._asked += 1
        try:
            given = {name: np.asarray(one) for name, one in answer(model, body).items()}
        except ClewError as error:
            self._refused += 1
            self._example = self._example or error.message
            return
        if expected is None:
            return
        wrong, largest, example = _apart(given, expected, self._tolerance)
        self._largest = max(self._largest, largest)
        if wrong:
            self._different += 1
            self._example = self._example or f"{example} (of {rows} rows, {wrong} differ)"

    def found(self, rows: int | None = None) -> Replayed:
        return Replayed(
            asked=self._asked if rows is None else rows,
            refused=self._refused,
            different=self._different,
            largest=self._largest,
            example=self._example,
        )


def _apart(
    given: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float
) -> tuple[int, float, str]:
    """How many rows differ, by how much at most, and one of them in words."""
    wrong: set[int] = set()
    largest, example = 0.0, ""
    for name, right in expected.items():
        mine = given.get(name)
        if mine is None or len(mine) != len(right):
            return len(right), largest, f"there is no output {name!r} of {len(right)} rows"
        bad, apart = _rows_apart(mine, np.asarray(right), tolerance)
        largest = max(largest, apart)
        if len(bad) and not example:
            at = int(bad[0])
            example = f"{name} is {mine[at]} in place of {right[at]}"
        wrong.update(map(int, bad))
    return len(wrong), largest, example


def _rows_apart(mine: Array, right: Array, tolerance: float) -> tuple[Array, float]:
    close: Array
    if mine.dtype.kind in "iufb" and right.dtype.kind in "iufb":
        a, b = mine.astype(np.float64), right.astype(np.float64)
        close = np.asarray(np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True))
        gaps = np.abs(a - b)[~close]
        apart = float(np.nanmax(gaps)) if np.isfinite(gaps).any() else 0.0
    else:
        close = np.asarray(mine.astype(str) == right.astype(str))
        apart = 0.0
    if close.ndim > 1:
        close = np.asarray(close.reshape(len(close), -1).all(axis=1))
    return np.flatnonzero(~close), apart


def _try_predict(
    model: LoadedModel, columns: Mapping[str, list[Any]]
) -> Mapping[str, Array] | None:
    """What a model says of logged columns; None where it cannot read them."""
    try:
        return model.predict(_as_given(model.signature, columns))
    except Exception:  # noqa: BLE001 - requests of another model: refused is counted, not raised
        return None


def _as_given(signature: Signature, columns: Mapping[str, list[Any]]) -> Any:
    if signature.frame != "numpy":
        return columns
    only = next(iter(columns.values()))
    if len(columns) == 1 and only and isinstance(only[0], list):
        return np.asarray(only, dtype=np.float64)
    return np.column_stack([np.asarray(one, dtype=np.float64) for one in columns.values()])


def _recorded(columns: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Logged inputs as a request again; the datatype is told by the values."""
    return {"inputs": [_tensor(name, values) for name, values in columns.items()]}


def _tensor(name: str, values: list[Any]) -> dict[str, Any]:
    nested = bool(values) and isinstance(values[0], list)
    flat = [one for row in values for one in row] if nested else values
    kinds = {type(one) for one in flat if one is not None}
    if kinds <= {bool} and kinds:
        datatype = "BOOL"
    elif kinds <= {int} and kinds:
        datatype = "INT64"
    else:
        datatype = "FP64" if kinds <= {int, float} else "BYTES"
    shape = [len(values), len(values[0])] if nested else [len(values)]
    return {"name": name, "datatype": datatype, "shape": shape, "data": values}
