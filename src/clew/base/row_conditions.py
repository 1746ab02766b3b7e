"""Conditions on a row, such as ``amount > 1000 and country in ["CH", "DE"]``.

A small part of Python's expressions, read by its own parser and evaluated here: names are columns,
``inputs["a name"]`` is a column too, ``headers["x-tenant"]`` a header of the request. Nothing else
can be named or called. A missing value makes every comparison false but ``is None``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from clew.base.errors import Invalid

Row = Mapping[str, Any]
Value = Callable[[Row, Row], Any]

_COMPARES: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_SUMS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Mod: operator.mod,
}  # fmt: skip
_SIGNS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


class Condition(Struct, frozen=True, kw_only=True):
    """A condition that was read. ``inputs`` and ``headers``: names that it asks for."""

    text: str
    inputs: tuple[str, ...]
    headers: tuple[str, ...]
    value: Value
    plain: tuple[str, str, Any] | None = None
    """Where it is one column against one constant: name, sign, constant."""

    def holds(self, row: Row, headers: Row) -> bool:
        """Whether it holds for a row.

        Raises:
            ValueError: values cannot be compared or reckoned with, such as text with a number.
        """
        try:
            return bool(self.value(row, headers))
        except (TypeError, ArithmeticError, KeyError) as error:
            raise ValueError(f"the condition {self.text!r}: {error}") from error


def read_condition(text: str) -> Condition:
    """A condition from its text.

    Raises:
        Invalid: ``graph.condition`` where it is none.
    """
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _wrong(text, f"it is no expression: {error}") from None
    reader = _Reader(text)
    value = reader.read(tree)
    return Condition(
        text=text,
        inputs=tuple(dict.fromkeys(reader.inputs)),
        headers=tuple(dict.fromkeys(reader.headers)),
        value=value,
        plain=_plain(tree),
    )


def _plain(tree: ast.expr) -> tuple[str, str, Any] | None:
    if not (isinstance(tree, ast.Compare) and len(tree.ops) == 1):
        return None
    left, right = tree.left, tree.comparators[0]
    sign = _SIGNS.get(type(tree.ops[0]), "")
    if not (isinstance(left, ast.Name) and isinstance(right, ast.Constant) and sign):
        return None
    return left.id, sign, right.value


class _Reader:
    """Turns nodes of the syntax into functions of a row and headers."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.inputs: list[str] = []
        self.headers: list[str] = []

    def read(self, node: ast.expr) -> Value:
        """The value of a node. Raises Invalid ``graph.condition``."""
        found = getattr(self, f"_{type(node).__name__.lower()}", None)
        if found is None:
            raise _wrong(self._text, f"{ast.unparse(node)!r} is not allowed in it")
        value: Value = found(node)
        return value

    def _constant(self, node: ast.Constant) -> Value:
        if not isinstance(node.value, str | int | float | bool | None):
            raise _wrong(self._text, f"{ast.unparse(node)!r} is no number, text or truth")
        return lambda _row, _headers: node.value

    def _name(self, node: ast.Name) -> Value:
        return self._column(node.id)

    def _column(self, name: str) -> Value:
        self.inputs.append(name)
        return lambda row, _headers: row[name]

    def _subscript(self, node: ast.Subscript) -> Value:
        of, key = node.value, node.slice
        if isinstance(of, ast.Name) and isinstance(key, ast.Constant) and type(key.value) is str:
            name = key.value
            if of.id == "inputs":
                return self._column(name)
            if of.id == "headers":
                self.headers.append(name.lower())
                return lambda _row, headers: headers.get(name.lower())
        raise _wrong(self._text, 'only inputs["name"] and headers["name"] have brackets')

    def _list(self, node: ast.List | ast.Tuple | ast.Set) -> Value:
        parts = [self.read(one) for one in node.elts]
        return lambda row, headers: [part(row, headers) for part in parts]

    _tuple = _set = _list

    def _boolop(self, node: ast.BoolOp) -> Value:
        parts = [self.read(one) for one in node.values]
        whole = all if isinstance(node.op, ast.And) else any
        return lambda row, headers: whole(part(row, headers) for part in parts)

    def _unaryop(self, node: ast.UnaryOp) -> Value:
        inner = self.read(node.operand)
        if isinstance(node.op, ast.Not):
            return lambda row, headers: not inner(row, headers)
        if isinstance(node.op, ast.USub):
            return lambda row, headers: -_number(inner(row, headers))
        raise _wrong(self._text, f"{ast.unparse(node)!r} is not allowed in it")

    def _binop(self, node: ast.BinOp) -> Value:
        act = _SUMS.get(type(node.op))
        if act is None:
            raise _wrong(self._text, f"{ast.unparse(node)!r} is not allowed in it")
        left, right = self.read(node.left), self.read(node.right)

        def value(row: Row, headers: Row) -> Any:
            first, second = left(row, headers), right(row, headers)
            if first is None or second is None:
                return None
            return act(_number(first), _number(second))

        return value

    def _compare(self, node: ast.Compare) -> Value:
        parts = [self.read(one) for one in (node.left, *node.comparators)]
        tests = [self._test(one) for one in node.ops]

        def value(row: Row, headers: Row) -> bool:
            values = [part(row, headers) for part in parts]
            pairs = zip(tests, values, values[1:], strict=False)
            return all(test(first, second) for test, first, second in pairs)

        return value

    def _test(self, op: ast.cmpop) -> Callable[[Any, Any], bool]:
        if isinstance(op, ast.Is | ast.IsNot):
            wanted = isinstance(op, ast.Is)
            return lambda first, second: (first is second) is wanted
        if isinstance(op, ast.In | ast.NotIn):
            wanted = isinstance(op, ast.In)
            return lambda first, second: first is not None and (first in second) is wanted
        act = _COMPARES[type(op)]
        return lambda first, second: first is not None and second is not None and act(first, second)


def _number(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _wrong(text: str, why: str) -> Invalid:
    return Invalid(
        "graph.condition",
        f"The condition {text!r} cannot be used: {why}.",
        hint='Compare columns with constants: amount > 1000 and headers["x-tenant"] == "a".',
    )
