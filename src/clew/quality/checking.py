"""Check a frame against expectations, all of them in one pass.

Knows nothing of where the frame came from or what follows from the report.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from clew.quality import rules
from clew.quality.expectations import EXISTS, OF_TYPE, ROW_COUNT, Expectation
from clew.quality.frames import plain, to_polars
from clew.quality.report import ExpectationResult, QualityReport

if TYPE_CHECKING:
    import polars as pl

_EXAMPLES = 5
_EXAMPLE_COLUMNS = 20
_OWN = {"row": "column row"}
"""Columns whose names an example needs for itself, and what they are called there."""


def check(frame: object, expectations: Sequence[Expectation]) -> QualityReport:
    """Which expectations a frame (Polars, pandas or Arrow) meets, and which rows break them.

    What cannot be checked (a missing column, a comparison of text with a number) is not met and
    says why.

    Raises:
        Invalid: ``frame.unknown`` or ``frame.mixed``.
    """
    table = to_polars(frame)
    rulings = [_rule(table, expectation) for expectation in expectations]
    masks = _one_pass(table, rulings)
    totals = _totals(table, rulings)
    results, aside = [], set[int]()
    for ruling, mask, total in zip(rulings, masks, totals, strict=True):
        result = _result(table, ruling, mask, total)
        results.append(result)
        if mask is not None and not result.passed and ruling.expectation.action == "quarantine":
            aside.update(mask.arg_true().to_list())
    passed = all(result.passed or _is_borne(result) for result in results)
    return QualityReport(
        passed=passed, rows=table.height, results=tuple(results), quarantined=tuple(sorted(aside))
    )


class _Ruling(Struct, kw_only=True):
    """An expectation on the way: decided (``verdict``), or which rows break it."""

    expectation: Expectation
    breaks: pl.Expr | None = None
    counts: pl.Expr | None = None
    verdict: str | None = None
    """Why it is not met; '' where it is."""


def _is_borne(result: ExpectationResult) -> bool:
    action = result.expectation.action
    return action == "warn" or (action == "quarantine" and bool(result.failed_rows))


def _rule(table: pl.DataFrame, expectation: Expectation) -> _Ruling:
    ruling = _Ruling(expectation=expectation)
    try:
        needed = rules.columns_of(expectation)
        missing = [name for name in needed if name not in table.columns]
        if missing:
            ruling.verdict = _missing(missing[0], table.columns)
        elif expectation.kind in {ROW_COUNT, OF_TYPE, EXISTS}:
            ruling.verdict = rules.verdict_on_table(table, expectation)
        else:
            ruling.breaks, ruling.counts = rules.expressions(table.schema, expectation)
    except rules.cannot_be_checked() as error:
        ruling.verdict = _unchecked(table, expectation, error)
    return ruling


def _one_pass(table: pl.DataFrame, rulings: list[_Ruling]) -> list[pl.Series | None]:
    """For each ruling the mask of rows that break it, or None where it is decided."""
    asked = [(str(i), r.breaks) for i, r in enumerate(rulings) if r.breaks is not None]
    try:
        found = table.lazy().select(e.alias(name) for name, e in asked).collect()
        masks = {name: found[name] for name, _ in asked}
    except rules.cannot_be_checked():
        masks = _one_by_one(table, rulings)
    return [masks.get(str(index)) for index in range(len(rulings))]


def _one_by_one(table: pl.DataFrame, rulings: list[_Ruling]) -> dict[str, pl.Series]:
    """The same where an expression cannot be computed: that one is not met, the others count."""
    masks = {}
    for index, ruling in enumerate(rulings):
        if ruling.breaks is None:
            continue
        try:
            masks[str(index)] = table.select(ruling.breaks.alias("broken"))["broken"]
        except rules.cannot_be_checked() as error:
            ruling.verdict = _unchecked(table, ruling.expectation, error)
    return masks


def _totals(table: pl.DataFrame, rulings: list[_Ruling]) -> list[int]:
    """For each ruling how many values count."""
    asked = [(str(i), r.counts) for i, r in enumerate(rulings) if r.counts is not None]
    found = table.select(counts.alias(name) for name, counts in asked)
    totals = {name: int(found[name].item()) for name, _ in asked}
    return [totals.get(str(index), table.height) for index in range(len(rulings))]


def _result(
    table: pl.DataFrame, ruling: _Ruling, mask: pl.Series | None, total: int
) -> ExpectationResult:
    expectation = ruling.expectation
    if mask is None:
        return ExpectationResult(
            expectation=expectation, passed=not ruling.verdict, failed_rows=0, total=table.height,
            message=ruling.verdict or rules.describe(expectation),
        )  # fmt: skip
    failed = int(mask.sum() or 0)
    examples = _examples(table, expectation, mask)
    return ExpectationResult(
        expectation=expectation,
        passed=failed <= (1 - expectation.mostly) * total + 1e-9,
        failed_rows=failed,
        total=total,
        message=_sentence(expectation, failed, total, examples),
        examples=examples,
    )


def _examples(
    table: pl.DataFrame, expectation: Expectation, mask: pl.Series
) -> tuple[dict[str, object], ...]:
    numbers = mask.arg_true().head(_EXAMPLES)
    own = rules.columns_of(expectation)
    others = [name for name in table.columns if name not in own]
    columns = [*own, *others][:_EXAMPLE_COLUMNS]
    rows = table.select(columns)[numbers].iter_rows(named=True)
    return tuple(
        {
            "row": number,
            **{_OWN.get(name, name): plain(v) for name, v in row.items()},
        }
        for number, row in zip(numbers.to_list(), rows, strict=True)
    )


def _sentence(
    expectation: Expectation, failed: int, total: int, examples: tuple[dict[str, object], ...]
) -> str:
    rule = rules.describe(expectation)
    if not failed:
        return rule
    first = examples[0]
    own = {name: first[name] for name in rules.columns_of(expectation) if name in first}
    seen = ", ".join(f"{name}={value!r}" for name, value in own.items())
    share = f" (at least {expectation.mostly:.4g} of them should)" if expectation.mostly < 1 else ""
    return f"{rule}: {failed} of {total} do not{share}; first row {first['row']}, {seen}"


def _missing(name: str, columns: list[str]) -> str:
    near = difflib.get_close_matches(name, columns, n=3, cutoff=0.5) or columns[:10]
    return f"There is no column {name!r}; there is {', '.join(map(repr, near)) or 'none at all'}."


def _unchecked(table: pl.DataFrame, expectation: Expectation, error: Exception) -> str:
    """What was to be checked, of what kind its columns are, and why that does not go."""
    own = [name for name in expectation.columns if name in table.schema]
    kinds = "".join(f", {name} is {table.schema[name]}" for name in own)
    why = str(error).strip().split("\n")[0][:300]
    return f"{rules.describe(expectation)}. It cannot be checked{kinds}: {why}"
