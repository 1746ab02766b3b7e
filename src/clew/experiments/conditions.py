"""Which parameters exist when, and which sets of them may be tried: nesting, conditions, rules.

Knows distributions and values; nothing of trials, samplers or seeds.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import msgspec

from clew.base.errors import Invalid
from clew.experiments.spaces import Condition, Distribution, Space, is_active, ordered

Nested = Mapping[str, "Distribution | Nested"]
"""A space as a user writes it: distributions, or further spaces below a name."""

_COMPARE: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_COUNT: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda a, b: math.pow(a, b),  # floats: no number grows beyond them
}
_CALLS: dict[str, Callable[..., Any]] = {
    "abs": abs, "min": min, "max": max, "log": math.log, "log2": math.log2, "log10": math.log10,
    "sqrt": math.sqrt,
}  # fmt: skip
METRICS = "metrics:"
"""In front of the name of a metric in the names of a rule, where it says that it is one."""

_SHAPES = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp,
    ast.Compare, ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.Tuple, ast.List,
    ast.Call, ast.Load, *_COMPARE, *_COUNT,
)  # fmt: skip


def flat(space: Nested, prefix: str = "") -> dict[str, Distribution]:
    """The parameters of a nested space by their dotted names: ``optimizer.momentum``.

    A condition inside a nested space means its neighbours first, then names from the top.

    Raises:
        Invalid: ``space.invalid`` for an empty name, or one with a dot inside a nested space.
    """
    found: dict[str, Distribution] = {}
    for name, one in space.items():
        if not name or (prefix and "." in name):
            raise _invalid(
                f"The name {name!r} of a parameter is empty, or has a dot below another name"
            )
        if isinstance(one, Mapping):
            found |= flat(one, f"{prefix}{name}.")
        else:
            found[prefix + name] = one
    here = {prefix + name for name in space}
    return {name: _absolute(one, prefix, here) for name, one in found.items()}


def nested(space: Nested, /, **when: object) -> dict[str, Any]:
    """A space whose parameters exist only where other parameters have these values.

    ``nested({"depth": randint(2, 9)}, model="forest")``; several values as a tuple or a list.
    """
    return {
        name: one.when(**when) if isinstance(one, Distribution) else nested(one, **when)
        for name, one in space.items()
    }


def active(space: Space, params: Mapping[str, object]) -> dict[str, Distribution]:
    """The part of a space that exists for these values of the others."""
    return {name: one for name, one in space.items() if is_active(one, params)}


def check_conditions(space: Space) -> None:
    """Refuse conditions on parameters that are not there, or on themselves.

    Raises:
        Invalid: ``space.invalid``.
    """
    for name, one in space.items():
        for condition in one.conditions:
            if condition.parameter not in space:
                raise _invalid(
                    f"The parameter {name!r} depends on {condition.parameter!r}, "
                    "which is not in the space"
                )
    ordered(space)


def check_constraints(constraints: Iterable[str], space: Space) -> None:
    """Refuse a rule that cannot be asked, or that misspells a parameter.

    What is in no space is a metric that trials report.

    Raises:
        Invalid: ``constraint.invalid``.
    """
    for text in constraints:
        for name in sorted(names_of(parsed(text)) - set(space)):
            near = get_close_matches(name, space, 1, 0.75)
            if near:
                raise refused(text, f"there is no parameter {name}; did you mean {near[0]}?")
            if "." in name and not name.startswith(METRICS):
                raise refused(text, f"there is no parameter {name}")


def is_feasible(constraints: Iterable[str], params: Mapping[str, object]) -> bool:
    """Whether all rules hold. A rule that speaks of a parameter that does not exist here holds.

    Raises:
        Invalid: ``constraint.invalid`` where a rule compares what cannot be compared.
    """
    for text in constraints:
        tree = parsed(text)
        if not names_of(tree) <= set(params):
            continue
        try:
            if not value_of(tree.body, params):
                return False
        except (ZeroDivisionError, OverflowError, ValueError):
            return False  # there is no such number: log(0), 1 / 0
        except TypeError as error:
            raise refused(text, str(error)) from None
    return True


@lru_cache(maxsize=256)
def parsed(text: str) -> ast.Expression:
    """A rule as a tree of what rules may say. Raises Invalid ``constraint.invalid``."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError):
        raise refused(text, "it is no expression") from None
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and (
            not isinstance(node.func, ast.Name) or node.func.id not in _CALLS or node.keywords
        )
        indexed = isinstance(node, ast.Subscript) and not _metric_named(node)
        if called or indexed or not isinstance(node, _SHAPES):
            raise refused(text, f"{ast.unparse(node)!r} is more than a rule may say")
    return tree


def _metric_named(node: ast.Subscript) -> str:
    """The name in ``metrics["val/loss"]``; '' for anything else."""
    is_plain = isinstance(node.value, ast.Name) and node.value.id == "metrics"
    name = node.slice.value if is_plain and isinstance(node.slice, ast.Constant) else ""
    return name if isinstance(name, str) else ""


def names_of(tree: ast.Expression) -> set[str]:
    """Parameters and metrics that a rule speaks of; of a dotted name, the whole."""
    inner = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Subscript)
    }
    named = {
        METRICS + _metric_named(node) for node in ast.walk(tree) if isinstance(node, ast.Subscript)
    }
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return named | {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner | called
    }


def value_of(node: ast.AST, params: Mapping[str, object]) -> Any:  # noqa: PLR0911 - one for a shape
    """What a part of a rule is worth with these values by name. Raises TypeError."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name | ast.Attribute):
        return params[ast.unparse(node)]
    if isinstance(node, ast.Subscript):
        return params[METRICS + _metric_named(node)]
    if isinstance(node, ast.Tuple | ast.List):
        return [value_of(one, params) for one in node.elts]
    if isinstance(node, ast.BoolOp):
        met = (value_of(one, params) for one in node.values)
        return all(met) if isinstance(node.op, ast.And) else any(met)
    if isinstance(node, ast.UnaryOp):
        value = value_of(node.operand, params)
        return not value if isinstance(node.op, ast.Not) else -value
    if isinstance(node, ast.BinOp):
        left, right = value_of(node.left, params), value_of(node.right, params)
        if not all(isinstance(one, int | float) for one in (left, right)):
            raise TypeError(f"{ast.unparse(node)} does not count with numbers")
        return _COUNT[type(node.op)](left, right)
    if isinstance(node, ast.Call):
        return _CALLS[ast.unparse(node.func)](*(value_of(one, params) for one in node.args))
    assert isinstance(node, ast.Compare), node
    values = [value_of(one, params) for one in (node.left, *node.comparators)]
    pairs = zip(node.ops, values, values[1:], strict=False)
    return all(_COMPARE[type(op)](left, right) for op, left, right in pairs)


def _absolute(one: Distribution, prefix: str, here: set[str]) -> Distribution:
    def named(condition: Condition) -> Condition:
        near = prefix + condition.parameter
        name = near if near in here else condition.parameter
        return msgspec.structs.replace(condition, parameter=name)

    if not isinstance(one, Distribution) or not one.conditions:
        return one
    return msgspec.structs.replace(one, conditions=tuple(map(named, one.conditions)))


def refused(text: str, why: str) -> Invalid:
    """A rule that cannot be asked, and why."""
    return Invalid(
        "constraint.invalid",
        f"The rule {text!r} cannot be asked: {why}.",
        hint="Compare parameters, metrics and numbers: 'depth * width <= 512', 'latency_ms <= 5'.",
    )


def _invalid(what: str) -> Invalid:
    return Invalid(
        "space.invalid",
        f"{what}.",
        hint="Name parameters of the space; write x.when(kind='a') for those that depend.",
    )
