"""How two tables differ: columns, rows, cells and numbers, in bounded memory.

Knows DuckDB through `sql.session` alone, and files; nothing of commits.
"""

# ruff: noqa: S608 - the queries are made of our own words and of quoted names

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from clew.base.errors import ClewError, Invalid
from clew.base.records import ColumnChange, NumbersChange, RowChange, TableDiff
from clew.repos import File
from clew.tables.sql import Limits, quoted, session
from clew.tables.tabular import Reading

Rows = Callable[[str], list[tuple[Any, ...]]]
_MEMORY = 512 << 20
_TIMEOUT_S = 120.0
_NUMBERS = ("INT", "DECIMAL", "DOUBLE", "FLOAT", "HUGEINT")
_CELL = 200


def compare_tables(
    old: File | None,
    new: File | None,
    *,
    key: Sequence[str] = (),
    limit: int = 10,
    spill: Path | None = None,
) -> TableDiff:
    """The difference of two tabular files; a side of None has no rows and is not compared further.

    ``key`` are columns that name a row. ``limit`` bounds the sample, of each kind of change.
    Without a key rows are told apart by two 64-bit hashes of their cells. ``spill`` is a directory
    for what does not fit into 512 MiB.

    Raises:
        Invalid: ``file.unreadable``, ``diff.key`` for a key that one side has not,
            ``diff.key_twice`` for one that several rows have.
    """
    reading = Reading()
    if old is None or new is None:
        return _alone(reading, old, new, tuple(key))
    tables = {"old": reading.tables([old]), "new": reading.tables([new])}
    limits = Limits(memory_bytes=_MEMORY, spill=spill, timeout_s=_TIMEOUT_S)
    try:
        with session(tables, limits) as rows:
            shape = _shape(rows, tuple(key))
            return _Comparison(rows, shape, limit).run()
    except ClewError:
        if reading.trouble is not None:
            raise reading.trouble from None
        raise


def _alone(reading: Reading, old: File | None, new: File | None, key: tuple[str, ...]) -> TableDiff:
    counts = [
        sum(_count(table) for table in reading.tables([file])) if file else 0 for file in (old, new)
    ]
    return TableDiff(
        old_rows=counts[0],
        new_rows=counts[1],
        added=counts[1],
        removed=counts[0],
        changed=0,
        key=key,
        columns=(),
        cells={},
        numbers=(),
        sample=(),
    )


def _count(table: Any) -> int:
    return int(table.count_rows() if hasattr(table, "count_rows") else table.num_rows)


class _Shape(Struct, frozen=True, kw_only=True):
    """What two tables have in common, as SQL: each shared column so that both sides compare."""

    key: tuple[str, ...]
    shared: tuple[str, ...]
    casts: dict[str, str]
    """Column to the type that both sides are cast to, where their own differ."""
    numbers: tuple[str, ...]
    columns: tuple[ColumnChange, ...]

    def cell(self, column: str, side: str = "") -> str:
        name = f"{side}.{quoted((column,))}" if side else quoted((column,))
        cast = self.casts.get(column)
        return f"CAST({name} AS {cast})" if cast else name

    def cells(self, columns: Sequence[str], side: str = "") -> str:
        return ", ".join(self.cell(column, side) for column in columns) or "NULL"

    @property
    def rest(self) -> tuple[str, ...]:
        return tuple(column for column in self.shared if column not in self.key)

    def named(self, columns: Sequence[str]) -> str:
        return ", ".join(f"{self.cell(column)} AS {quoted((column,))}" for column in columns)

    def joined(self, left: str, right: str) -> str:
        """Equality of the key, where null is like null."""
        return " AND ".join(
            f"{self.cell(one, left)} IS NOT DISTINCT FROM {self.cell(one, right)}"
            for one in self.key
        )


def _shape(rows: Rows, key: tuple[str, ...]) -> _Shape:
    old, new = (
        {name: kind for name, kind, *_ in rows(f"DESCRIBE SELECT * FROM {side}")}
        for side in ("old", "new")
    )
    shared = tuple(name for name in new if name in old)
    for one in key:
        if one not in shared:
            raise Invalid(
                "diff.key",
                f"There is no column {one} in both versions.",
                hint=f"Both have {', '.join(shared[:20])}.",
            )
    retyped = {name for name in shared if old[name] != new[name]}
    changes = [
        *(ColumnChange(name=n, kind="removed", old=old[n], new="") for n in old if n not in new),
        *(ColumnChange(name=n, kind="added", old="", new=new[n]) for n in new if n not in old),
        *(
            ColumnChange(name=n, kind="retyped", old=old[n], new=new[n])
            for n in shared
            if n in retyped
        ),
    ]
    both = {name for name in shared if _is_number(old[name]) and _is_number(new[name])}
    return _Shape(
        key=key,
        shared=shared,
        casts={name: "DOUBLE" if name in both else "VARCHAR" for name in retyped},
        numbers=tuple(name for name in shared if name in both),
        columns=tuple(changes),
    )


def _is_number(kind: str) -> bool:
    return any(word in kind for word in _NUMBERS) and "[" not in kind and "(" not in kind[:6]


class _Comparison:
    """One comparison, on a session that has the tables ``old`` and ``new``."""

    def __init__(self, rows: Rows, shape: _Shape, limit: int) -> None:
        self._rows = rows
        self._shape = shape
        self._limit = limit

    def run(self) -> TableDiff:
        old_rows, new_rows = (
            int(self._rows(f"SELECT count(*) FROM {side}")[0][0]) for side in ("old", "new")
        )
        found = self._by_key() if self._shape.key else self._by_row()
        same = not (found.added or found.removed or found.changed)
        return TableDiff(
            old_rows=old_rows,
            new_rows=new_rows,
            added=found.added,
            removed=found.removed,
            changed=found.changed,
            key=self._shape.key,
            columns=self._shape.columns,
            cells=found.cells,
            numbers=() if same else self._numbers(),
            sample=tuple(found.sample),
        )

    # rows by their content ------------------------------------------------------------------

    def _by_row(self) -> _Found:
        """Rows as a multiset: what one side has more often than the other."""
        cells = self._shape.cells(self._shape.shared)
        print_ = f"hash({cells}) AS one, hash(1, {cells}) AS two"
        self._rows(
            f"CREATE TEMP TABLE odd AS SELECT one, two, sum(n) AS n FROM ("
            f"SELECT {print_}, 1 AS n FROM new UNION ALL SELECT {print_}, -1 FROM old"
            f") GROUP BY one, two HAVING sum(n) <> 0"
        )
        counted = self._rows("SELECT sum(n) FILTER (n > 0), -sum(n) FILTER (n < 0) FROM odd")[0]
        added, removed = (int(count or 0) for count in counted)
        sample = [
            *self._odd("new", "added", "n > 0"),
            *self._odd("old", "removed", "n < 0"),
        ]
        return _Found(added=added, removed=removed, changed=0, cells={}, sample=sample)

    def _odd(self, side: str, kind: str, which: str) -> list[RowChange]:
        cells = self._shape.cells(self._shape.shared)
        found = self._rows(
            f"SELECT {self._shape.named(self._shape.shared)} FROM {side} "
            f"WHERE (hash({cells}), hash(1, {cells})) IN "
            f"(SELECT (one, two) FROM odd WHERE {which}) ORDER BY ALL LIMIT {self._limit}"
        )
        return [_row(kind, (), self._shape.shared, row) for row in found]

    # rows by their key ----------------------------------------------------------------------

    def _by_key(self) -> _Found:
        shape = self._shape
        rest = shape.cells(shape.rest)
        for side in ("old", "new"):
            self._check_unique(side)
            self._rows(
                f"CREATE TEMP TABLE {side}_keys AS SELECT {shape.named(shape.key)}, "
                f"hash({rest}) AS one, hash(1, {rest}) AS two FROM {side}"
            )
        keys = " AND ".join(
            f"a.{quoted((one,))} IS NOT DISTINCT FROM b.{quoted((one,))}" for one in shape.key
        )
        added, removed = (
            int(self._rows(f"SELECT count(*) FROM {a}_keys a ANTI JOIN {b}_keys b ON {keys}")[0][0])
            for a, b in (("new", "old"), ("old", "new"))
        )
        chosen = ", ".join(f"a.{quoted((one,))}" for one in shape.key)
        self._rows(
            f"CREATE TEMP TABLE changed AS SELECT {chosen} FROM new_keys a JOIN old_keys b "
            f"ON {keys} WHERE a.one <> b.one OR a.two <> b.two"
        )
        changed = int(self._rows("SELECT count(*) FROM changed")[0][0])
        sample = [
            *(self._changed() if changed else ()),
            *(self._missing("new", "old", "added") if added else ()),
            *(self._missing("old", "new", "removed") if removed else ()),
        ]
        cells = self._cells() if changed else {}
        return _Found(added=added, removed=removed, changed=changed, cells=cells, sample=sample)

    def _check_unique(self, side: str) -> None:
        keys = self._shape.cells(self._shape.key)
        twice = self._rows(
            f"SELECT {keys}, count(*) FROM {side} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
        )
        if twice:
            told = ", ".join(
                f"{name} = {value}" for name, value in zip(self._shape.key, twice[0], strict=False)
            )
            raise Invalid(
                "diff.key_twice",
                f"{twice[0][-1]} rows of the {side} version have {told}.",
                hint="Name all columns that make a row unique: --key A --key B",
            )

    def _both(self) -> str:
        shape = self._shape
        changed = " AND ".join(
            f"c.{quoted((one,))} IS NOT DISTINCT FROM {shape.cell(one, 'n')}" for one in shape.key
        )
        return f"FROM new n JOIN changed c ON {changed} JOIN old o ON {shape.joined('o', 'n')}"

    def _cells(self) -> dict[str, int]:
        shape = self._shape
        counts = ", ".join(
            f"count_if({shape.cell(one, 'o')} IS DISTINCT FROM {shape.cell(one, 'n')})"
            for one in shape.rest
        )
        found = self._rows(f"SELECT {counts} {self._both()}")[0]
        return {
            name: int(count) for name, count in zip(shape.rest, found, strict=True) if int(count)
        }

    def _changed(self) -> list[RowChange]:
        shape = self._shape
        every = [*shape.key, *shape.rest]
        found = self._rows(
            f"SELECT {shape.cells(every, 'o')}, {shape.cells(every, 'n')} {self._both()} "
            f"ORDER BY ALL LIMIT {self._limit}"
        )
        sample = []
        for row in found:
            old, new = _named(every, row[: len(every)]), _named(every, row[len(every) :])
            differ = [name for name in shape.rest if _differ(old[name], new[name])]
            sample.append(
                RowChange(
                    kind="changed",
                    key={name: new[name] for name in shape.key},
                    old={name: old[name] for name in differ},
                    new={name: new[name] for name in differ},
                )
            )
        return sample

    def _missing(self, side: str, other: str, kind: str) -> list[RowChange]:
        shape = self._shape
        keys = " AND ".join(
            f"{shape.cell(one, 'a')} IS NOT DISTINCT FROM b.{quoted((one,))}" for one in shape.key
        )
        found = self._rows(
            f"SELECT {shape.cells([*shape.key, *shape.rest], 'a')} FROM {side} a "
            f"ANTI JOIN {other}_keys b ON {keys} ORDER BY ALL LIMIT {self._limit}"
        )
        return [_row(kind, shape.key, [*shape.key, *shape.rest], row) for row in found]

    # numbers --------------------------------------------------------------------------------

    def _numbers(self) -> tuple[NumbersChange, ...]:
        columns = self._shape.numbers
        if not columns:
            return ()
        asked = ", ".join(
            f"count({c}), count(*) - count({c}), avg({c}), min({c}), max({c})"
            for c in (f"CAST({quoted((name,))} AS DOUBLE)" for name in columns)
        )
        old, new = (self._rows(f"SELECT {asked} FROM {side}")[0] for side in ("old", "new"))
        found = []
        for at, name in enumerate(columns):
            before, after = old[at * 5 : at * 5 + 5], new[at * 5 : at * 5 + 5]
            if before != after:
                found.append(NumbersChange(name=name, old=_summary(before), new=_summary(after)))
        return tuple(found)


class _Found(Struct, frozen=True, kw_only=True):
    added: int
    removed: int
    changed: int
    cells: dict[str, int]
    sample: list[RowChange]


def _summary(values: Sequence[Any]) -> dict[str, float | None]:
    names = ("count", "nulls", "mean", "min", "max")
    return {
        name: None if value is None else float(value)
        for name, value in zip(names, values, strict=True)
    }


def _row(kind: str, key: Sequence[str], names: Sequence[str], values: Sequence[Any]) -> RowChange:
    row = _named(names, values)
    return RowChange(
        kind=kind,
        key={name: row[name] for name in key},
        old=row if kind == "removed" else {},
        new=row if kind == "added" else {},
    )


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return {name: _cell(value) for name, value in zip(names, values, strict=True)}


def _differ(old: object, new: object) -> bool:
    if isinstance(old, float) and isinstance(new, float) and math.isnan(old):
        return not math.isnan(new)
    return old != new


def _cell(value: Any) -> object:
    """A value as JSON has it; long texts are cut."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= _CELL else f"{text[:_CELL]}…"
