"""An evaluation report in a terminal: metrics with intervals, slices, confusion, calibration.

Knows the record; what is printed is made by ``render``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from clew.cli import render
from clew.cli.frame import console, print_json, workspace

if TYPE_CHECKING:
    from rich.console import Console

    from clew.base.records.reports import EvaluationReport

_GROUPS = 12
_CLASSES = 12
_FEATURES = 12


def show(ref: str, *, as_json: bool) -> None:
    """Print the report of a model version."""
    with workspace() as clew:
        found = clew.report(ref)
    if as_json:
        print_json(found)
        return
    out = console()
    queries = f" in {found.queries:,} queries by {found.query}" if found.query else ""
    out.print(
        f"[bold]{found.task}[/] on {found.rows:,} test rows{queries}  [dim]commit[/] "
        f"[cyan]{found.test_commit[:8]}[/]  [dim]signed[/] {found.digest[:16]}"
    )
    _metrics(out, found)
    _slices(out, found)
    _charts(out, found.charts)
    if found.importances.permuted:
        heading = f"loss of {found.importances.metric}>"
        rows = [
            (one.feature, render.number(one.value), render.number(one.spread))
            for one in found.importances.permuted[:_FEATURES]
        ]
        render.table(out, ("column", heading, "±>"), rows)
    for note in found.notes:
        out.print(Text(f"· {note}", style="dim"), soft_wrap=True)


def _metrics(out: Console, found: EvaluationReport) -> None:
    columns = ["metric", "value>", f"{found.confidence:.0%} interval>"]
    champion = [found.champion + ">"] if found.champion else []
    rows = [
        (
            one.name,
            render.number(one.value),
            _between(one.low, one.high),
            *([render.number(one.champion)] if found.champion else []),
        )
        for one in found.metrics
    ]
    render.table(out, (*columns, *champion), rows)


def _slices(out: Console, found: EvaluationReport) -> None:
    for part in found.slices:
        columns = (part.by, "rows>", f"{part.metric}>", f"{found.confidence:.0%} interval>", "gap>")
        rows = [
            (
                one.value,
                f"{one.rows:,}",
                render.number(one.metric),
                _between(one.low, one.high),
                render.number(max(0.0, one.gap)),
            )
            for one in part.groups[:_GROUPS]
        ]
        render.table(out, columns, rows)
        more = len(part.groups) - len(rows)
        if more > 0:
            out.print(f"[dim]and {more} more groups, all of them better[/]")
        if part.left_out_rows:
            out.print(f"[dim]{part.left_out_rows:,} rows are in groups too small to tell[/]")


def _charts(out: Console, charts: dict[str, Any]) -> None:
    confusion = charts.get("confusion")
    if confusion and len(confusion["classes"]) <= _CLASSES:
        columns = ("true \\ said", *(f"{name}>" for name in confusion["classes"]))
        pairs = zip(confusion["classes"], confusion["counts"], strict=True)
        render.table(out, columns, [(name, *(f"{n:,}" for n in row)) for name, row in pairs])
    for name, columns in (
        ("calibration", ("mean", "share", "rows")),
        ("lift", ("share", "caught", "lift")),
    ):
        curve = charts.get(name)
        if curve:
            table = zip(*(curve[column] for column in columns), strict=True)
            titles = (f"{name}: {columns[0]}>", *(f"{column}>" for column in columns[1:]))
            render.table(out, titles, [tuple(map(render.number, row)) for row in table])
    quantiles = (charts.get("residuals") or {}).get("quantiles")
    if quantiles:
        render.table(
            out,
            ("residual at>", "truth - predicted>"),
            [(at, render.number(value)) for at, value in quantiles.items()],
        )


def _between(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{render.number(low)} … {render.number(high)}"
