"""What a model takes, checked: tensors of a request against the signature of a model version.

Knows nothing of transports, models or frames. Every refusal is an InputError that names what is
expected.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from math import isfinite, prod
from typing import cast

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from clew.base.iso import iso_of
from clew.base.records import Column, Signature
from clew.serving.tensors import (
    DATATYPES,
    FLOATS,
    INTEGERS,
    NUMPY,
    Array,
    InputError,
    element,
    from_raw,
    of_arrow,
)

Values = Array | dict[str, list[object] | Array]
"""Checked inputs of one request: a matrix [rows, width], or a column of ``rows`` values a name."""

_NUMBER = frozenset({float, int})
_TYPES: dict[str, frozenset[type]] = {
    **dict.fromkeys(FLOATS, _NUMBER),
    **dict.fromkeys(INTEGERS, _NUMBER),
    "BOOL": frozenset({bool}),
    "BYTES": frozenset({str}),
}
_NONE = type(None)
_WORDS = {
    "BOOL": "true or false",
    "BYTES": "text",
    **dict.fromkeys(INTEGERS, "whole numbers"),
}


class Tensor(Struct, frozen=True):
    """One tensor of a request: JSON ``data`` (flat or nested) or ``raw`` bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: object
    raw: memoryview | None

    @property
    def count(self) -> int:
        """Elements that the shape promises."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    def flat(self) -> list[object] | Array:
        """The elements, row-major: as many as the shape promises."""
        if self.raw is not None:
            return from_raw(self.raw, self.datatype, self.count, self.name)
        return _flatten(self)


def _flatten(tensor: Tensor) -> list[object]:
    if tensor.datatype == "BF16":
        raise InputError(f"Input {tensor.name!r}: BF16 has no form in JSON; send raw bytes.")
    data = tensor.data
    if not isinstance(data, list):
        raise InputError(f"Input {tensor.name!r}: data must be a list.")
    if data and type(data[0]) is list:
        for size in tensor.shape[:-1]:
            if len(data) != size or set(map(type, data)) != {list}:
                raise _wrong_nesting(tensor)
            data = list(chain.from_iterable(data))
    if len(data) != tensor.count:
        raise InputError(
            f"Input {tensor.name!r}: shape {list(tensor.shape)} needs {tensor.count} elements, "
            f"data has {len(data)}."
        )
    return data


def _wrong_nesting(tensor: Tensor) -> InputError:
    return InputError(
        f"Input {tensor.name!r}: data is not nested as shape {list(tensor.shape)} says."
    )


def read_tensor(value: object) -> Tensor:
    """A tensor from its JSON object; raw bytes are put in by the caller under ``raw``.

    Raises:
        InputError: it has no name, a datatype that does not exist, or no shape.
    """
    if not isinstance(value, dict):
        raise InputError("Each input must be an object with name, shape, datatype and data.")
    name, datatype, shape = value.get("name"), value.get("datatype"), value.get("shape")
    if not isinstance(name, str) or not name:
        raise InputError("Each input needs a name.")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise InputError(f"Input {name!r}: datatype must be one of {', '.join(sorted(DATATYPES))}.")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise InputError(f"Input {name!r}: shape must be a list of whole numbers.")
    if sum(map(int.bit_length, shape)) > 62:
        raise InputError(f"Input {name!r}: shape {shape} is too large.")
    return Tensor(name, datatype, tuple(shape), value.get("data"), value.get("raw"))


class ColumnRule:
    """What one column takes."""

    __slots__ = ("allowed", "datatype", "decimal", "dtype", "iso", "name", "nullable")

    def __init__(self, column: Column) -> None:
        self.name = column.name
        self.datatype = of_arrow(column.type)
        self.nullable = column.nullable
        self.iso = iso_of(column.type)
        self.decimal = column.type.startswith("decimal")
        types = _TYPES[self.datatype] | (_TYPES["BYTES"] if self.decimal else set())
        self.allowed = types | {_NONE} if column.nullable else types
        self.dtype = None if self.datatype == "BYTES" else _dtype(self.datatype)

    def take(self, tensor: Tensor) -> list[object] | Array:
        """The values of a tensor, checked against this column."""
        if tensor.datatype != self.datatype and not self._takes(tensor.datatype):
            raise self._refuse(f"got {tensor.datatype}")
        values = tensor.flat()
        return self.check(values) if isinstance(values, list) else self._check_array(values)

    def _takes(self, datatype: str) -> bool:
        return _fits(datatype, self.datatype) or (self.decimal and datatype == "BYTES")

    def check(self, values: list[object]) -> list[object]:
        """The values of a JSON list, checked."""
        seen = set(map(type, values))
        if not seen <= self.allowed:
            raise self._wrong_type(seen - self.allowed)
        if self.datatype in INTEGERS:
            if float in seen:
                values = self._whole(values)
            self._check_range(values)
        elif self.datatype in FLOATS and (int in seen or str in seen):
            return self._floats(values)
        return values if self.iso is None else self._read(values, self.iso.read)

    def _floats(self, values: list[object]) -> list[object]:
        try:
            return [None if value is None else _float(value) for value in values]
        except OverflowError:
            raise self._refuse("a number is out of its range") from None
        except ValueError as error:
            raise self._refuse(str(error)) from None

    def _read(self, values: list[object], read: Callable[[str], object]) -> list[object]:
        try:
            return [None if text is None else read(str(text)) for text in values]
        except ValueError as error:
            raise InputError(f"Input {self.name!r} expects {self}: {error}.") from None

    def _whole(self, values: list[object]) -> list[object]:
        """Integers for numbers such as 1.0: JSON does not tell them from 1."""
        if not _all_whole(values):
            raise self._refuse("got a fraction")
        return [None if value is None else int(cast(float, value)) for value in values]

    def _check_range(self, values: list[object]) -> None:
        numbers = [cast(int, value) for value in values if value is not None]
        limits = np.iinfo(self.datatype.lower())
        if numbers and not limits.min <= min(numbers) <= max(numbers) <= limits.max:
            raise self._refuse("a number is out of its range")

    def _check_array(self, values: Array) -> list[object] | Array:
        kind = values.dtype.kind
        if kind == "O":
            return self.check(values.tolist())
        if kind == "f" and bool(np.isnan(values).any()):
            if not self.nullable:
                raise self._refuse("a value is missing (NaN)")
            listed = [None if value != value else value for value in values.tolist()]
            return self.check(listed) if self.datatype in INTEGERS else listed
        if kind == "f" and self.datatype in INTEGERS:
            return self.check(values.tolist())
        if self.datatype in INTEGERS and values.dtype != self.dtype:
            self._check_range([int(values.min()), int(values.max())])
        return values

    def made_up(self) -> object:
        """Some value of this column."""
        if self.datatype == "BYTES":
            return "" if self.iso is None else self.iso.example
        return False if self.datatype == "BOOL" else 0

    def _wrong_type(self, wrong: set[type]) -> InputError:
        if _NONE in wrong:
            return self._refuse("a value is missing (null)")
        return self._refuse(f"got {_kinds(wrong)}")

    def _refuse(self, why: str) -> InputError:
        return InputError(f"Input {self.name!r} expects {self}: {why}.")

    def __str__(self) -> str:
        what = _WORDS.get(self.datatype, "numbers")
        what = what if self.iso is None else self.iso.words
        return f"{self.datatype} ({what}){' or null' if self.nullable else ''}"


class ColumnsContract:
    """A model that takes a frame: one tensor of shape [rows] or [rows, 1] for each column.

    One tensor of shape [rows, width] in the order of the columns is taken too.
    """

    def __init__(self, signature: Signature) -> None:
        self.frame = signature.frame
        self.rules = tuple(ColumnRule(column) for column in signature.inputs)
        self.names = frozenset(rule.name for rule in self.rules)
        self.matrix = _matrix_of(signature)

    def check(self, tensors: Sequence[Tensor]) -> tuple[Values, int]:
        """Checked columns and the number of rows."""
        by_name = {tensor.name: tensor for tensor in tensors}
        if len(by_name) < len(tensors):
            names = [tensor.name for tensor in tensors]
            raise InputError(f"Input {_first_twice(names)!r} is given twice.")
        if len(tensors) == 1 and self._is_matrix(tensors[0]):
            return self._from_matrix(tensors[0])
        self._check_names(by_name)
        rows = self._rows(by_name)
        return {rule.name: rule.take(by_name[rule.name]) for rule in self.rules}, rows

    def _rows(self, by_name: Mapping[str, Tensor]) -> int:
        rows = -1
        for name, tensor in by_name.items():
            shape = tensor.shape
            if len(shape) != 1 and not (len(shape) == 2 and shape[1] == 1):
                raise InputError(
                    f"Input {name!r} expects shape [rows] or [rows, 1], got {list(shape)}."
                )
            if rows >= 0 and shape[0] != rows:
                raise InputError(
                    f"Input {name!r} has {shape[0]} rows, others have {rows}; all must agree."
                )
            rows = shape[0]
        if rows < 1:
            raise InputError("A request needs at least one row.")
        return rows

    def _check_names(self, given: Mapping[str, object]) -> None:
        missing = [rule.name for rule in self.rules if rule.name not in given]
        unknown = [name for name in given if name not in self.names]
        if not missing and not unknown:
            return
        parts = [f"missing {_list(missing)}"] if missing else []
        parts += [f"unknown {_list(unknown)}"] if unknown else []
        raise InputError(
            f"The inputs are not those of the model: {'; '.join(parts)}. "
            f"Expected {_list(str(rule.name) for rule in self.rules)}."
        )

    def _is_matrix(self, tensor: Tensor) -> bool:
        return len(self.rules) > 1 and tensor.name not in self.names and len(tensor.shape) == 2

    def _from_matrix(self, tensor: Tensor) -> tuple[Values, int]:
        rows, width = tensor.shape
        if width != len(self.rules) or rows < 1:
            raise InputError(
                f"Input {tensor.name!r} expects shape [rows, {len(self.rules)}] in the order of "
                f"{_list(rule.name for rule in self.rules)}, got {list(tensor.shape)}."
            )
        if self.matrix is not None:
            return self.matrix.check([tensor])
        flat = tensor.flat()
        return {
            rule.name: rule.take(_part(tensor, flat[at::width], rule))
            for at, rule in enumerate(self.rules)
        }, rows

    def instances(self, rows: list[object]) -> tuple[Values, int]:
        """Checked columns from v1 instances: an object, or a list in order, for each row."""
        names = [rule.name for rule in self.rules]
        if len(names) == 1 and all(_bare(row) for row in rows):
            return self.table(rows)
        for row in rows:
            if isinstance(row, dict):
                if row.keys() != self.names:
                    self._check_names(row)
            elif not isinstance(row, list) or len(row) != len(names):
                raise InputError(
                    f"Each instance must be an object with {_list(names)}, or a list in that order."
                )
        table = [
            [row[name] for name in names] if isinstance(row, dict) else row
            for row in cast(list[dict[str, object] | list[object]], rows)
        ]
        columns = zip(*table, strict=True)
        return {
            rule.name: rule.check(_decoded(list(column)))
            for rule, column in zip(self.rules, columns, strict=True)
        }, len(rows)

    def table(self, inputs: object) -> tuple[Values, int]:
        """Checked columns from v1 inputs: a list for each name, or of the only column."""
        if not isinstance(inputs, dict):
            if len(self.rules) > 1:
                raise InputError(
                    f"'inputs' must be an object with {_list(rule.name for rule in self.rules)}."
                )
            inputs = {self.rules[0].name: inputs}
        self._check_names(inputs)
        columns = {name: _column(name, values) for name, values in inputs.items()}
        lengths = {len(values) for values in columns.values()}
        if lengths == {0} or len(lengths) > 1:
            raise InputError("Each of the 'inputs' needs the same number of rows, at least one.")
        return {rule.name: rule.check(columns[rule.name]) for rule in self.rules}, lengths.pop()

    def whole(self, raw: memoryview) -> Tensor:
        """The only tensor that a model takes, from its bytes alone (text: one element)."""
        if len(self.rules) > 1:
            if self.matrix is not None:
                return self.matrix.whole(raw)
            raise InputError(
                "Raw bytes alone are for a model with one input; this one takes "
                f"{_list(rule.name for rule in self.rules)}."
            )
        rule = self.rules[0]
        if rule.datatype == "BYTES":
            return Tensor(rule.name, "BYTES", (1,), None, memoryview(element(bytes(raw))))
        return _whole(rule.name, rule.datatype, raw, ())

    def stack(self, parts: Sequence[Values]) -> Values:
        """Several requests' columns as one; as a matrix where all of them are."""
        if len(parts) == 1:
            return parts[0]
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate(cast(Sequence[Array], parts))
        columns = [self._named(part) for part in parts]
        return {
            name: list(chain.from_iterable(_listed(part[name]) for part in columns))
            for name in columns[0]
        }

    def columns(self, values: Values) -> dict[str, list[object]]:
        """The values as they are logged."""
        return {name: _listed(column) for name, column in self._named(values).items()}

    def _named(self, values: Values) -> dict[str, list[object] | Array]:
        if isinstance(values, np.ndarray):
            return {rule.name: values[:, at] for at, rule in enumerate(self.rules)}
        return values

    def made_up(self) -> list[Tensor]:
        """One row that keeps the contract."""
        return [
            Tensor(rule.name, rule.datatype, (1,), [rule.made_up()], None) for rule in self.rules
        ]

    def describe(self) -> list[dict[str, object]]:
        """Inputs as model metadata shows them."""
        return [
            {"name": rule.name, "datatype": rule.datatype, "shape": [-1]} for rule in self.rules
        ]


class MatrixContract:
    """A model that takes one numeric array [rows, width]; the tensor may have any name."""

    frame = "numpy"

    def __init__(self, signature: Signature) -> None:
        column = signature.inputs[0] if signature.inputs else Column(name="input", type="double")
        self.name = column.name
        self.width = signature.width
        datatype = of_arrow(column.type)
        self.datatype = "FP64" if datatype == "BYTES" else datatype
        self.dtype = _dtype(self.datatype)
        self.nullable = column.nullable

    def check(self, tensors: Sequence[Tensor]) -> tuple[Values, int]:
        """The checked matrix and the number of rows."""
        if len(tensors) != 1:
            raise InputError(
                f"Expected one input of {self}, got {len(tensors)}: "
                f"{_list(tensor.name for tensor in tensors)}."
            )
        tensor = tensors[0]
        shape = tensor.shape
        if len(shape) != 2 or shape[1] != self.width or shape[0] < 1:
            raise InputError(f"Input {tensor.name!r} expects {self}, got shape {list(shape)}.")
        if tensor.datatype != self.datatype and not _fits(tensor.datatype, self.datatype):
            raise InputError(f"Input {tensor.name!r} expects {self}, got {tensor.datatype}.")
        return self._matrix(tensor.flat(), shape, tensor.name), shape[0]

    def _matrix(self, values: list[object] | Array, shape: tuple[int, ...], name: str) -> Array:
        if not isinstance(values, list) and self.datatype in INTEGERS and values.dtype.kind == "f":
            values = cast(list[object], values.tolist())
        if isinstance(values, list):
            values = self._array(values, name)
        matrix = values.astype(self.dtype, copy=False).reshape(shape)
        if self.datatype in FLOATS and not self.nullable and np.isnan(matrix.sum()):
            self._check_missing(matrix, name)
        return matrix

    def _array(self, values: list[object], name: str) -> Array:
        seen = set(map(type, values))
        wrong = seen - _TYPES[self.datatype] - ({_NONE} if self.datatype in FLOATS else set())
        if wrong:
            raise InputError(f"Input {name!r} expects {self}, got {_kinds(wrong)} in its data.")
        if self.datatype in INTEGERS and float in seen:
            values = self._whole(values, name)
        try:
            return np.array(values, dtype=self.dtype)
        except OverflowError:
            raise InputError(
                f"Input {name!r} expects {self}: a number is out of its range."
            ) from None

    def _whole(self, values: list[object], name: str) -> list[object]:
        if not _all_whole(values):
            raise InputError(f"Input {name!r} expects {self}, got a fraction in its data.")
        return [int(cast(float, value)) for value in values]

    def _check_missing(self, matrix: Array, name: str) -> None:
        if bool(np.isnan(matrix).any()):
            raise InputError(f"Input {name!r} expects {self}: a value is missing (null or NaN).")

    def instances(self, rows: list[object]) -> tuple[Values, int]:
        """The checked matrix from v1 instances: a list of ``width`` numbers for each row."""
        shape = (len(rows), self.width)
        tensor = Tensor("instances", self.datatype, shape, rows, None)
        return self._matrix(tensor.flat(), shape, "instances"), len(rows)

    def table(self, inputs: object) -> tuple[Values, int]:
        """The checked matrix from v1 inputs: a list of rows, also under a name."""
        if isinstance(inputs, dict) and len(inputs) == 1:
            (inputs,) = inputs.values()
        if not isinstance(inputs, list) or not inputs:
            raise InputError(f"'inputs' must be a list of rows: {self}.")
        return self.instances(inputs)

    def whole(self, raw: memoryview) -> Tensor:
        """The matrix from its bytes alone."""
        return _whole(self.name, self.datatype, raw, (self.width,))

    def stack(self, parts: Sequence[Values]) -> Values:
        """Several requests' rows as one matrix."""
        return parts[0] if len(parts) == 1 else np.concatenate(cast(Sequence[Array], parts))

    def columns(self, values: Values) -> dict[str, list[object]]:
        """The values as they are logged: one list a row."""
        return {self.name: cast(Array, values).tolist()}

    def made_up(self) -> list[Tensor]:
        """One row that keeps the contract."""
        data: list[object] = [0] * self.width
        return [Tensor(self.name, self.datatype, (1, self.width), data, None)]

    def describe(self) -> list[dict[str, object]]:
        """Inputs as model metadata shows them."""
        return [{"name": self.name, "datatype": self.datatype, "shape": [-1, self.width]}]

    def __str__(self) -> str:
        return f"{self.datatype} of shape [rows, {self.width}]"


Contract = ColumnsContract | MatrixContract


def contract_of(signature: Signature) -> Contract:
    """The contract of a signature."""
    return MatrixContract(signature) if signature.frame == "numpy" else ColumnsContract(signature)


def _bare(row: object) -> bool:
    """Whether an instance is a value by itself."""
    return row.keys() == {"b64"} if isinstance(row, dict) else not isinstance(row, list)


def _column(name: str, values: object) -> list[object]:
    """The values of a v1 column: a list, or one of lists with one value each."""
    if not isinstance(values, list):
        raise InputError(f"Input {name!r} must be a list with a value for each row.")
    if values and all(isinstance(value, list) and len(value) == 1 for value in values):
        values = [cast(list[object], value)[0] for value in values]
    return _decoded(values)


def _decoded(values: list[object]) -> list[object]:
    """Values of v1, where text may be written as ``{"b64": "…"}``."""
    if dict not in set(map(type, values)):
        return values
    return [_from_b64(value) if isinstance(value, dict) else value for value in values]


def _from_b64(value: dict[str, object]) -> object:
    try:
        return b64decode(str(value["b64"]), validate=True).decode() if len(value) == 1 else value
    except KeyError:
        return value
    except ValueError:
        raise InputError("A value in base64 is not UTF-8 text in base64.") from None


def _whole(name: str, datatype: str, raw: memoryview, tail: tuple[int, ...]) -> Tensor:
    size = np.dtype(NUMPY[datatype]).itemsize * prod(tail)
    if len(raw) == 0 or len(raw) % size:
        raise InputError(
            f"Input {name!r}: a row of {datatype} is {size} bytes, but the body has {len(raw)}."
        )
    return Tensor(name, datatype, (len(raw) // size, *tail), None, raw)


def _matrix_of(signature: Signature) -> MatrixContract | None:
    """The contract of all columns as one matrix; None where they are not all of FP64."""
    if not all(column.type == "double" for column in signature.inputs):
        return None
    column = Column(name="input", type="double", nullable=True)
    width = len(signature.inputs)
    return MatrixContract(replace(signature, frame="numpy", inputs=(column,), width=width))


def _dtype(datatype: str) -> np.dtype[np.generic]:
    names = {"BOOL": "bool", "BF16": "float32", "FP16": "float16", "FP32": "float32"}
    return np.dtype(names.get(datatype, datatype.lower().replace("fp", "float")))


def _fits(given: str, wanted: str) -> bool:
    numbers = FLOATS | INTEGERS
    return given in numbers and wanted in numbers


def _all_whole(values: list[object]) -> bool:
    return all(not isinstance(value, float) or value.is_integer() for value in values)


def _part(tensor: Tensor, values: list[object] | Array, rule: ColumnRule) -> Tensor:
    if isinstance(values, list):
        return Tensor(rule.name, tensor.datatype, (len(values),), values, None)
    return Tensor(rule.name, tensor.datatype, (len(values),), values.tolist(), None)


def _listed(values: list[object] | Array) -> list[object]:
    return values if isinstance(values, list) else cast(list[object], values.tolist())


def _float(value: object) -> float:
    found = float(cast(float, value))
    if isinstance(value, str) and not isfinite(found):
        raise ValueError(f"no number: {value!r}")
    return found


def _kinds(kinds: Iterable[type]) -> str:
    return ", ".join(sorted(_json_name(kind) for kind in kinds))


def _json_name(kind: type) -> str:
    names = {str: "text", bool: "true/false", dict: "an object", list: "a list", _NONE: "null"}
    return names.get(kind, "a fraction" if kind is float else "a whole number")


def _first_twice(names: Sequence[str]) -> str:
    return next(name for at, name in enumerate(names) if name in names[:at])


def _list(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
