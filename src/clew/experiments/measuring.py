"""Rules over what trials measured: which they are, and by how much each is broken.

A rule that names a metric (``latency_ms <= 5``) cannot be kept by choosing parameters; it is judged
where a trial reaches a rung. Knows rules and values; nothing of trials, samplers or rows.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clew.experiments.conditions import METRICS, names_of, parsed, refused, value_of
from clew.experiments.definitions import SearchDefinition
from clew.experiments.spaces import Space

INFEASIBILITY = "infeasibility"
"""The metric that a feasibility function gives: how far a trial is from feasible; 0 is feasible."""

FEASIBLE = f"{INFEASIBILITY} <= 0"

_TOUCH = 1e-12
"""By how much a strict rule is broken where both sides are equal."""

_WHOLLY = 1.0
"""By how much a rule is broken that is either kept or not."""

Breaches = dict[str, float | None]
"""By how much each rule is broken, 0 where it is kept; None: it could not be measured."""


def measured(definition: SearchDefinition, space: Space) -> tuple[str, ...]:
    """The constraints that name something besides parameters, in order."""
    return tuple(one for one in definition.constraints if metrics_of(one, space))


def metrics_of(rule: str, space: Space) -> set[str]:
    """The metrics that a rule names."""
    names = names_of(parsed(rule))
    return {one.removeprefix(METRICS) for one in names if one not in space}


def breaches(
    rules: Iterable[str], params: Mapping[str, object], metrics: Mapping[str, float]
) -> Breaches:
    """By how much these values break each rule.

    Raises:
        Invalid: ``constraint.invalid`` where a rule compares what cannot be compared.
    """
    values = {**metrics, **{METRICS + name: value for name, value in metrics.items()}, **params}
    return {rule: _finite(_asked(rule, values)) for rule in rules}


def violation(found: Mapping[str, float | None]) -> float:
    """How far from feasible in all; infinite where something could not be measured."""
    return math.fsum(math.inf if one is None else one for one in found.values())


def amounts(found: Mapping[str, float | None], rules: Sequence[str]) -> tuple[float, ...]:
    """The breaches in the order of the rules, as samplers take them: above 0 is infeasible."""
    most = math.nextafter(math.inf, 0)
    return tuple(most if (one := found.get(rule, 0.0)) is None else one for rule in rules)


def _asked(rule: str, values: Mapping[str, object]) -> float:
    tree = parsed(rule)
    if not names_of(tree) <= set(values):
        return 0.0  # it speaks of a parameter that does not exist here
    try:
        return _breach(tree.body, values)
    except (ZeroDivisionError, OverflowError, ValueError):
        return math.inf  # there is no such number: log(0), 1 / 0
    except TypeError as error:
        raise refused(rule, str(error)) from None


def _breach(node: ast.AST, values: Mapping[str, object]) -> float:
    if isinstance(node, ast.BoolOp):
        each = [_breach(one, values) for one in node.values]
        return math.fsum(each) if isinstance(node.op, ast.And) else min(each)
    if not isinstance(node, ast.Compare):
        return 0.0 if value_of(node, values) else _WHOLLY
    sides = [value_of(one, values) for one in (node.left, *node.comparators)]
    return math.fsum(
        _pair(op, left, right) for op, left, right in zip(node.ops, sides, sides[1:], strict=False)
    )


def _pair(op: ast.cmpop, left: Any, right: Any) -> float:
    """By how much one comparison fails."""
    if isinstance(op, ast.In | ast.NotIn):
        return 0.0 if (left in right) is isinstance(op, ast.In) else _WHOLLY
    if isinstance(op, ast.NotEq):
        return 0.0 if left != right else _WHOLLY
    if not all(isinstance(one, int | float) for one in (left, right)):
        if isinstance(op, ast.Eq):
            return 0.0 if left == right else _WHOLLY
        raise TypeError(f"{left!r} and {right!r} have no order")
    if math.isnan(left) or math.isnan(right):
        return math.inf
    if isinstance(op, ast.Eq):
        return float(abs(left - right))
    over = left - right if isinstance(op, ast.Lt | ast.LtE) else right - left
    touches = over == 0 and isinstance(op, ast.Lt | ast.Gt)
    return _TOUCH if touches else float(max(0.0, over))


def _finite(amount: float) -> float | None:
    return amount if math.isfinite(amount) else None
