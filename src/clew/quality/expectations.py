"""What users expect of a table, recorded in Great Expectations' vocabulary.

Knows no frame: it records and checks nothing.
https://greatexpectations.io/expectations/ (``expect_rows_to_satisfy`` is Clew's own).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from typing import Any, Self

from msgspec import Struct, field

from clew.base.errors import Invalid

ACTIONS = ("fail", "quarantine", "warn")

EXISTS = "expect_column_to_exist"
BETWEEN = "expect_column_values_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"
UNIQUE = "expect_column_values_to_be_unique"
IN_SET = "expect_column_values_to_be_in_set"
NOT_IN_SET = "expect_column_values_to_not_be_in_set"
MATCHES = "expect_column_values_to_match_regex"
OF_TYPE = "expect_column_values_to_be_of_type"
ROW_COUNT = "expect_table_row_count_to_be_between"
UNIQUE_TOGETHER = "expect_compound_columns_to_be_unique"
SATISFY = "expect_rows_to_satisfy"


class Expectation(Struct, frozen=True, kw_only=True):
    """One rule. ``mostly`` is the share of the values (nulls apart) that must keep it.

    ``arguments`` are plain JSON, dates as ISO text. ``action`` says what follows where the rule is
    not kept: ``fail`` refuses the table, ``quarantine`` puts the failing rows aside, ``warn`` only
    tells.
    """

    kind: str
    columns: tuple[str, ...] = ()
    arguments: dict[str, object] = field(default_factory=dict)
    mostly: float = 1.0
    action: str = "fail"


class Table:
    """What an ``@expect`` function is given: each call on it records an expectation."""

    def __init__(self) -> None:
        self._recorded: list[Expectation] = []

    @property
    def expectations(self) -> tuple[Expectation, ...]:
        """What was recorded, in order."""
        return tuple(self._recorded)

    def column(self, name: str) -> Column:
        """The column to say something of."""
        return Column(self._add, (name,))

    def columns(self, *names: str) -> Column:
        """Several columns of which the same is said, each for itself."""
        return Column(self._add, names)

    def row_count(
        self, min: int | None = None, max: int | None = None, *, action: str = "fail"
    ) -> Self:
        """So many rows, both bounds included."""
        _check_bounds(min, max, strict=False)
        self._add(ROW_COUNT, (), {"min_value": min, "max_value": max}, 1.0, action)
        return self

    def unique_together(self, *names: str, mostly: float = 1.0, action: str = "fail") -> Self:
        """No two rows have the same values in all of these columns."""
        self._add(UNIQUE_TOGETHER, names, {}, mostly, action)
        return self

    def where(self, predicate: str, *, mostly: float = 1.0, action: str = "fail") -> Self:
        """Every row keeps a condition in SQL over the columns, such as ``arr_time > dep_time``.

        As in a CHECK of SQL, a row where the condition is null keeps it.
        """
        self._add(SATISFY, (), {"predicate": predicate}, mostly, action)
        return self

    def _add(
        self,
        kind: str,
        columns: tuple[str, ...],
        arguments: dict[str, object],
        mostly: float,
        action: str,
    ) -> None:
        if not 0 < mostly <= 1:
            raise _invalid(
                f"mostly={mostly} is no share of the rows", "Give a number above 0, to 1."
            )
        if action not in ACTIONS:
            raise _invalid(f"There is no action {action!r}", f"Use one of {', '.join(ACTIONS)}.")
        plain = {name: _plain(value) for name, value in arguments.items()}
        self._recorded.append(
            Expectation(kind=kind, columns=columns, arguments=plain, mostly=mostly, action=action)
        )


_Add = Callable[[str, tuple[str, ...], dict[str, object], float, str], None]


class Column:
    """One or more columns; each call records an expectation on each and returns the same again.

    Nulls (and NaN, which counts as null) keep every rule but :meth:`not_null`.
    """

    def __init__(self, add: _Add, names: tuple[str, ...]) -> None:
        self._record = add
        self._names = names

    def exists(self, *, action: str = "fail") -> Self:
        """The column is there."""
        return self._add(EXISTS, {}, 1.0, action)

    def between(
        self, min: object = None, max: object = None, *, mostly: float = 1.0, action: str = "fail"
    ) -> Self:
        """From ``min`` to ``max``, both included; None is no bound. Numbers, dates or text."""
        return self._bounds(min, max, {}, mostly, action)

    def greater_than(self, value: object, *, mostly: float = 1.0, action: str = "fail") -> Self:
        """Above ``value``."""
        return self._bounds(value, None, {"strict_min": True}, mostly, action)

    def less_than(self, value: object, *, mostly: float = 1.0, action: str = "fail") -> Self:
        """Below ``value``."""
        return self._bounds(None, value, {"strict_max": True}, mostly, action)

    def not_null(self, *, mostly: float = 1.0, action: str = "fail") -> Self:
        """No value is missing."""
        return self._add(NOT_NULL, {}, mostly, action)

    def unique(self, *, mostly: float = 1.0, action: str = "fail") -> Self:
        """No value comes twice; all rows of one that does fail."""
        return self._add(UNIQUE, {}, mostly, action)

    def in_set(
        self, values: Iterable[object], *, mostly: float = 1.0, action: str = "fail"
    ) -> Self:
        """One of ``values``."""
        return self._add(IN_SET, {"value_set": list(values)}, mostly, action)

    def not_in_set(
        self, values: Iterable[object], *, mostly: float = 1.0, action: str = "fail"
    ) -> Self:
        """None of ``values``."""
        return self._add(NOT_IN_SET, {"value_set": list(values)}, mostly, action)

    def matches(self, regex: str, *, mostly: float = 1.0, action: str = "fail") -> Self:
        """The text has a match of ``regex`` anywhere (Rust's regex syntax: no look-around)."""
        return self._add(MATCHES, {"regex": regex}, mostly, action)

    def type(self, name: str, *, action: str = "fail") -> Self:
        """The column's type, as Arrow or Polars names it: int64, double, string, bool, date32, ...

        ``integer``, ``float``, ``number`` and ``datetime`` stand for any of theirs.
        """
        return self._add(OF_TYPE, {"type_": name}, 1.0, action)

    def _bounds(
        self, low: object, high: object, more: dict[str, object], mostly: float, action: str
    ) -> Self:
        _check_bounds(low, high, strict=bool(more))
        return self._add(BETWEEN, {"min_value": low, "max_value": high, **more}, mostly, action)

    def _add(self, kind: str, arguments: dict[str, object], mostly: float, action: str) -> Self:
        for name in self._names:
            self._record(kind, (name,), arguments, mostly, action)
        return self


def record(function: Callable[[Table], object]) -> tuple[Expectation, ...]:
    """What a user's function expects, in the order in which it says it.

    Raises:
        Invalid: ``expectation.none`` where it says nothing, ``expectation.invalid`` where it says
            something that cannot be meant.
    """
    table = Table()
    function(table)
    if not table.expectations:
        name = getattr(function, "__name__", "The function")
        raise Invalid(
            "expectation.none",
            f"{name} expects nothing of its table.",
            hint='Say something of it, such as t.column("x").not_null().',
        )
    return table.expectations


def _check_bounds(low: object, high: object, *, strict: bool) -> None:
    if low is None and high is None:
        raise _invalid("Neither bound is given", "Give min, max or both.")
    if strict or low is None or high is None:
        return
    try:
        wrong = _comparable(low) > _comparable(high)
    except TypeError:
        raise _invalid(
            f"min={low!r} and max={high!r} cannot be compared", "Give both the same type."
        ) from None
    if wrong:
        raise _invalid(f"min={low!r} is above max={high!r}", "Exchange them.")


def _comparable(bound: Any) -> Any:
    """A date as the moment that it begins."""
    if isinstance(bound, date) and not isinstance(bound, datetime):
        return datetime.combine(bound, time.min)
    return bound


def _plain(value: object) -> object:
    """``value`` as JSON has it."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "item"):  # a scalar of NumPy
        return _plain(value.item())
    raise _invalid(f"{value!r} cannot be recorded", "Use numbers, text, dates and lists of them.")


def _invalid(what: str, hint: str) -> Invalid:
    return Invalid("expectation.invalid", f"{what}.", hint=hint)
