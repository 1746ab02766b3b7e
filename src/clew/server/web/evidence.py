"""Evidence as tables: what a refusal rests on, whatever shape its room gave it.

Knows the words that quality uses for broken rules; anything else is shown as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

_ROWS_SHOWN = 20


class Table(Struct, frozen=True, kw_only=True):
    """Columns and rows of values, for a template."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold nothing but numbers (and gaps)."""
        columns = zip(*self.rows, strict=True) if self.rows else iter([()] * len(self.columns))
        return tuple(all(_is_number(value) for value in column) for column in columns)


class BrokenRule(Struct, frozen=True, kw_only=True):
    """An expectation that was not met, with rows that broke it."""

    title: str
    failed: object
    total: object
    examples: Table | None


def broken_rules(evidence: Mapping[str, object]) -> list[BrokenRule]:
    """The expectations in a datum's evidence; none where it holds no such thing."""
    found = evidence.get("expectations")
    if not isinstance(found, Sequence):
        return []
    return [_rule(one) for one in found if isinstance(one, Mapping)]


def table_of(value: object) -> Table | None:
    """A list of mappings as a table; None for anything else."""
    if not isinstance(value, Sequence) or not value:
        return None
    rows = [row for row in value if isinstance(row, Mapping)][:_ROWS_SHOWN]
    if not rows or len(rows) < min(len(value), _ROWS_SHOWN):
        return None
    columns = tuple(dict.fromkeys(str(name) for row in rows for name in row))
    return Table(columns=columns, rows=tuple(tuple(row.get(c) for c in columns) for row in rows))


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _rule(result: Mapping[str, object]) -> BrokenRule:
    return BrokenRule(
        title=str(result.get("message") or _name(result.get("expectation", "a rule"))),
        failed=result.get("failed_rows"),
        total=result.get("total"),
        examples=table_of(result.get("examples")),
    )


def _name(expectation: object) -> str:
    if not isinstance(expectation, Mapping):
        return str(expectation)
    columns = expectation.get("columns") or ()
    named = ", ".join(map(str, columns)) if isinstance(columns, Sequence) else ""
    return f"{expectation.get('kind', 'a rule')} {named}".strip()
