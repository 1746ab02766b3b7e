"""The card of a run or registered version of an MLflow client, as Markdown.

Knows the record alone; the sections are those of every model card, and what nobody has said is
said to be unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from clew.base.records.run_cards import LoggedDataset, LoggedField, RunCard

SHOWN = 30
"""So many rows of a table are shown."""


def markdown_of(card: RunCard) -> str:
    """The whole card."""
    parts = [
        f"# Model card: {card.title}",
        card.description or "_No description: write one in the MLflow pages, or as a tag._",
        *_section("Model details", _details(card)),
        *_section("What it takes and gives", _signature(card)),
        *_section("Metrics", _metrics(card)),
        *_section("Training data", _data(card)),
        *_section("Training", _training(card)),
        *_section("Environment", _environment(card)),
        *_section("History", _history(card)),
        *_section("Unknown", (f"- {one}" for one in card.unknown)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = [line for line in lines if line]
    if found:
        yield f"## {title}"
        joint = "\n" if all(line.startswith("- ") for line in found) else "\n\n"
        yield joint.join(found)


def _details(card: RunCard) -> Iterator[str]:
    logged = card.logged
    rows: list[tuple[str, object]] = [
        ("Name", f"`{card.subject}`"),
        ("Aliases", ", ".join(card.aliases)),
        ("Stage", card.stage),
        ("Run", f"`{card.run}`" if card.run else ""),
        ("Name of the run", card.run_name),
        ("Experiment", card.experiment),
        ("State", card.state),
        ("Made by", card.user),
        ("Started", f"{card.started_at:%Y-%m-%d %H:%M} UTC" if card.started_at else ""),
        ("Ended", f"{card.ended_at:%Y-%m-%d %H:%M} UTC" if card.ended_at else ""),
        ("Change", f"`{card.global_id}`" if card.global_id else ""),
        ("Flavours", ", ".join(logged.flavours) if logged else ""),
        ("Files", f"{logged.files:,} ({logged.size_bytes:,} bytes)" if logged else ""),
    ]
    yield _table(("", ""), [row for row in rows if row[1]])
    tags = {**card.tags, **card.version_tags}
    if tags:
        yield _table(("tag", "value"), list(tags.items())[:SHOWN])
        yield _more(len(tags), "tag")


def _signature(card: RunCard) -> Iterator[str]:
    if card.logged is None or not card.logged.inputs:
        return
    yield _fields("input", card.logged.inputs)
    if card.logged.outputs:
        yield _fields("output", card.logged.outputs)
    if card.logged.example:
        yield "An example of its input was logged with it."


def _metrics(card: RunCard) -> Iterator[str]:
    if not card.metrics:
        yield "None were logged."
        return
    yield _table(("metric", "last value"), list(card.metrics.items())[:SHOWN])
    yield _more(len(card.metrics), "metric")
    yield "As the run reported them: on which rows, only its author knows."


def _data(card: RunCard) -> Iterator[str]:
    if not card.datasets:
        yield "No dataset was logged."
    for one in card.datasets:
        yield f"**{one.name}**{f' ({one.context})' if one.context else ''}: {_told(one)}."
        if one.columns:
            yield _table(("column", "type"), one.columns[:SHOWN])
            yield _more(len(one.columns), "column")


def _training(card: RunCard) -> Iterator[str]:
    if card.params:
        yield _table(("parameter", "value"), list(card.params.items())[:SHOWN])
        yield _more(len(card.params), "parameter")
    code = f"`{card.code}`" if card.code else "unknown"
    version = f"commit `{card.code_version}`" if card.code_version else "version unknown"
    yield f"Code: {code}, {version}."
    if card.steps:
        yield f"Steps: {card.steps:,}."


def _environment(card: RunCard) -> Iterator[str]:
    if card.logged is None or not (card.logged.requirements or card.logged.python):
        return
    python = f"Python {card.logged.python}" if card.logged.python else "Python unknown"
    yield f"{python}. Packages: {', '.join(card.logged.requirements) or 'unknown'}."


def _history(card: RunCard) -> Iterator[str]:
    for act in card.history:
        yield f"- {act.at:%Y-%m-%d %H:%M} UTC: {act.what}"


# ------------------------------------------------------------------------------------------------


def _told(one: LoggedDataset) -> str:
    rows = "rows unknown" if one.rows is None else f"{one.rows:,} rows"
    source = f", from {one.source or one.source_type}" if one.source or one.source_type else ""
    return f"{rows}, {len(one.columns)} columns, digest `{one.digest}`{source}"


def _fields(side: str, fields: Sequence[LoggedField]) -> str:
    rows = [(one.name, one.type, "" if one.required else "optional") for one in fields[:SHOWN]]
    more = _more(len(fields), side)
    return _table((side, "type", ""), rows) + (f"\n\n{more}" if more else "")


def _more(number: int, noun: str) -> str:
    left = number - SHOWN
    return f"and {left:,} more {noun}{'s' * (left != 1)}." if left > 0 else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    head = [f"| {' | '.join(columns)} |", f"| {' | '.join(['---'] * len(columns))} |"]
    return "\n".join([*head, *lines]) if lines else ""


def _cell(value: object) -> str:
    if value is None:
        return "–"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())
