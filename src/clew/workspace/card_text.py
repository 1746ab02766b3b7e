"""A model card as Markdown: the sections of Mitchell et al. (2019), then how it was trained.

Knows the record alone; everything in it is text, and nothing is left out in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from clew.base.records import Check
from clew.base.records.card_words import CardText
from clew.base.records.cards import ModelCard

SHOWN = 15
"""So many features, coefficients and columns are listed."""


def markdown_of(card: ModelCard) -> str:
    """The whole card."""
    version = card.version
    parts = [
        f"# Model card: {version.model} version {version.version}",
        card.text.description or _unsaid("description"),
        *_section("Model details", _details(card)),
        *_section("Intended use", _use(card.text)),
        *_section("Factors", _factors(card)),
        *_section("Metrics", _metrics(card)),
        *_section("Evaluation data", _evaluation(card)),
        *_section("Training data", _training_data(card)),
        *_section("Quantitative analyses", _analyses(card)),
        *_section("Ethical considerations", [card.text.ethics or _unsaid("ethics")]),
        *_section("Caveats and recommendations", _caveats(card)),
        *_section("Training", _training(card)),
        *_section("Learned parameters", _learned(card)),
        *_section("Lineage", _lineage(card)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"## {title}"
    yield from (line for line in lines if line)


def _details(card: ModelCard) -> Iterator[str]:
    version, text = card.version, card.text
    signature = version.signature
    classes = f" of {', '.join(signature.classes)}" if signature.classes else ""
    yield _table(
        ("", ""),
        [
            ("Version", f"{version.model}@{version.version} (`{version.id}`)"),
            ("State", version.state + "".join(f", {alias}" for alias in version.aliases)),
            ("Made", f"{version.created_at:%Y-%m-%d %H:%M} UTC"),
            ("Kind", f"`{card.things.learned.kind}`"),
            ("Task", f"{signature.task}{classes}, {signature.width} input columns"),
            ("Owners", ", ".join(text.owners) or _unsaid("owners")),
            ("Licence", text.license or _unsaid("license")),
            *(("Link", link) for link in text.links),
        ],
    )
    if card.text_then is not None:
        yield "_The words on this card were changed since this version was trained._"


def _use(text: CardText) -> Iterator[str]:
    yield text.intended_use or _unsaid("intended_use")
    yield f"**Out of scope.** {text.out_of_scope or _unsaid('out_of_scope')}"


def _factors(card: ModelCard) -> Iterator[str]:
    yield card.text.factors or _unsaid("factors")
    sliced = [check for check in _checks(card) if check.evidence.get("judged")]
    for check in sliced:
        yield f"{check.name}: {check.reason}"
        judged = check.evidence["judged"]
        assert isinstance(judged, Sequence)
        rows = [(one["value"], one["rows"], one["metric"]) for one in judged[:SHOWN]]
        yield _table(("group", "rows", "metric"), rows)
    for part in card.report.slices if card.report else ():
        yield f"{part.metric} by {part.by} (overall {_said(part.overall)}):"
        found = [(g.value, g.rows, g.metric, g.low, g.high) for g in part.groups[:SHOWN]]
        yield _table(("group", "rows", part.metric, "from", "to"), found)
        yield _more(len(part.groups), "group")
    if not sliced:
        yield "No gate has judged groups of rows by themselves (`candidate.slices(...)`)."


def _metrics(card: ModelCard) -> Iterator[str]:
    metrics = card.things.metrics
    names = sorted({*metrics.test, *metrics.train, *card.version.metrics})
    rows = [
        (n, metrics.test.get(n), metrics.train.get(n), card.version.metrics.get(n)) for n in names
    ]
    if rows:
        yield _table(("metric", "test rows", "training rows", "in the gate"), rows)
        yield f"On {metrics.test_rows:,} test rows and {metrics.train_rows:,} training rows."
    if card.report is not None:
        yield (
            f"On {card.report.rows:,} frozen test rows, with intervals of "
            f"{card.report.confidence:.0%} (bootstrap):"
        )
        yield _table(
            ("metric", "value", "from", "to", "champion"),
            [(m.name, m.value, m.low, m.high, m.champion) for m in card.report.metrics],
        )
    if metrics.reported:
        told = ", ".join(f"{name} {_said(value)}" for name, value in metrics.reported.items())
        yield f"Reported while it trained, last: {told}."
    if card.verdict is None:
        yield "No gate has judged it."
        return
    word = "blessed" if card.verdict.blessed else "refused"
    yield f"The gate has **{word}** it (verdict `{card.verdict.id}`)."
    yield _table(
        ("rule", "seen", "required", ""),
        [
            (one.name, one.observed, one.required, "passed" if one.passed else "failed")
            for one in card.verdict.checks
        ],
    )
    if card.verdict.overridden_by:
        who, why = card.verdict.overridden_by, card.verdict.override_reason
        yield f"Overridden by {who}: {why}"


def _evaluation(card: ModelCard) -> Iterator[str]:
    summary, lineage = card.things.summary, card.things.lineage
    yield (
        f"{summary.rows.get('test', 0):,} rows that no model learns from, frozen as commit "
        f"`{lineage.test_commit or 'unknown'}`."
    )
    yield _target(card, "test")


def _training_data(card: ModelCard) -> Iterator[str]:
    summary, lineage = card.things.summary, card.things.lineage
    yield (
        f"{summary.rows.get('train', 0):,} rows of {summary.columns} columns, cut from commit "
        f"`{lineage.features or 'unknown'}`."
    )
    yield _target(card, "train")
    if summary.missing:
        worst = sorted(summary.missing.items(), key=lambda one: -one[1])[:SHOWN]
        told = ", ".join(f"{name} {share:.1%}" for name, share in worst)
        yield f"Missing values: {told}."
    if summary.constant:
        yield f"Columns of one value: {', '.join(summary.constant)}."
    numeric = [(n, c) for n, c in card.things.features.items() if c.get("kind") == "numeric"]
    if numeric:
        rows = [
            (n, c.get("min"), c.get("quantiles", {}).get("0.5"), c.get("mean"), c.get("max"))
            for n, c in numeric[:SHOWN]
        ]
        yield _table(("column", "least", "median", "mean", "most"), rows)
        yield _more(len(numeric), "numeric column")
    others = [(n, c) for n, c in card.things.features.items() if c.get("kind") == "categorical"]
    if others:
        kinds = [(n, c.get("distinct"), _top(c)) for n, c in others[:SHOWN]]
        yield _table(("column", "values", "most frequent"), kinds)
        yield _more(len(others), "column")


def _analyses(card: ModelCard) -> Iterator[str]:
    found, charts = card.things.importances, card.things.charts
    if found.permuted:
        yield (
            f"How much worse {found.metric} gets where a column is shuffled ({found.rows:,} test "
            f"rows, {found.repeats} times):"
        )
        rows = [(one.feature, one.value, one.spread) for one in found.permuted[:SHOWN]]
        yield _table(("column", "loss of " + found.metric, "± "), rows)
        yield _more(len(found.permuted), "column")
    if found.own:
        yield f"What the model itself says ({found.own_kind}):"
        yield _table(("feature", "weight"), [(o.feature, o.value) for o in found.own[:SHOWN]])
        yield _more(len(found.own), "feature")
    confusion = charts.get("confusion")
    if confusion and len(confusion["classes"]) <= SHOWN:
        yield "Confusion on the test rows (rows: true class; columns: what the model said):"
        columns = ("", *confusion["classes"])
        pairs = zip(confusion["classes"], confusion["counts"], strict=True)
        yield _table(columns, [(name, *counts) for name, counts in pairs])
    drawn = ", ".join(name.replace("_", " ") for name in charts if charts[name])
    if drawn:
        yield f"Charts kept with it: {drawn}."


def _caveats(card: ModelCard) -> Iterator[str]:
    yield card.text.limits or _unsaid("limits")
    yield card.text.recommendations or _unsaid("recommendations")
    for note in card.things.notes:
        yield f"- {note}"


def _training(card: ModelCard) -> Iterator[str]:
    run, told = card.things.runtime, card.things.configuration
    rows: list[tuple[object, ...]] = [
        ("Steps", run.steps),
        ("Seconds of workers", f"{run.busy_s:.1f}"),
        ("Trials of its search", f"{run.trials:,} ({run.all_busy_s:.1f} s of workers)"),
        ("Seed", "unknown" if told.seed is None else str(told.seed)),
        ("Code", f"`{told.function.file}:{told.function.name}`" if told.function else "unknown"),
    ]
    if run.restarts:
        rows.append(("Restarts", run.restarts))
    if run.ended_by:
        rows.append(("Search ended early by", run.ended_by))
    for name, span in run.usage.items():
        rows.append((f"{name}, mean and most", f"{_said(span.mean)}, {_said(span.most)}"))
    rows += [(name, value) for name, value in run.machine.items()]
    yield _table(("", ""), rows)
    if told.params:
        yield _table(("parameter", "value"), told.params.items())
    if told.environment:
        packages = ", ".join(f"{name} {version}" for name, version in told.environment.items())
        yield f"Packages: {packages}."


def _learned(card: ModelCard) -> Iterator[str]:
    found = card.things.learned
    facts = "".join(f", {name} {_said(value)}" for name, value in list(found.facts.items())[:SHOWN])
    yield f"`{found.kind}`: {found.count:,} learned numbers, told by {found.by}{facts}."
    if found.coefficients:
        rows = [(one.feature, one.output, one.value) for one in found.coefficients[:SHOWN]]
        yield _table(("feature", "class", "coefficient"), rows)
    if found.splits:
        splits = [(one.feature, one.splits, one.gain) for one in found.splits[:SHOWN]]
        yield _table(("feature", "splits", "gain"), splits)
    if found.tensors:
        tensors = [
            (one.name, "x".join(map(str, one.shape)) or "1", one.norm, one.mean, one.std)
            for one in found.tensors[:SHOWN]
        ]
        yield _table(("array", "shape", "norm", "mean", "deviation"), tensors)
        yield _more(len(found.tensors) + found.left_out, "array")


def _lineage(card: ModelCard) -> Iterator[str]:
    found = card.things.lineage
    ids = {
        "Change": found.global_id,
        "Job": found.job,
        "Experiment": found.experiment,
        "Trial": found.trial,
        "Model": found.commit,
        "Features": found.features,
        "Test rows": found.test_commit,
        "Code": found.snapshot,
    }
    yield _table(("", "id"), [(name, f"`{id}`") for name, id in ids.items() if id])
    if found.sources:
        rows = [(one.repo, f"`{one.commit}`", one.files, one.size_bytes) for one in found.sources]
        yield _table(("raw data", "commit", "files", "bytes"), rows)


# ------------------------------------------------------------------------------------------------


def _checks(card: ModelCard) -> tuple[Check, ...]:
    return card.verdict.checks if card.verdict else ()


def _target(card: ModelCard, side: str) -> str:
    found = card.things.summary.target.get(side)
    name = card.things.configuration.target
    if not found:
        return ""
    if "top" in found:
        return f"The target `{name}`: {_top(found)}."
    return (
        f"The target `{name}`: {found['count']:,} known values, mean {_said(found.get('mean'))}, "
        f"deviation {_said(found.get('std'))}, from {_said(found.get('min'))} to "
        f"{_said(found.get('max'))}."
    )


def _top(column: dict[str, object]) -> str:
    top = column.get("top")
    pairs = top[:5] if isinstance(top, list) else []
    return ", ".join(f"{value} ({count:,})" for value, count in pairs) or "nothing"


def _more(number: int, noun: str) -> str:
    left = number - SHOWN
    return f"and {left:,} more {noun}{'s' * (left != 1)}." if left > 0 else ""


def _unsaid(name: str) -> str:
    value = '["…"]' if name in {"owners", "links"} else '"…"'
    return f"_Not written: `clew.card({name}={value})`._"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [tuple(_cell(one) for one in row) for row in rows]
    head = [_row(columns), _row(["---"] * len(columns))]
    return "\n".join([*head, *map(_row, lines)]) if lines else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    return " ".join(_said(value).replace("|", "\\|").split())


def _said(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value, default=str)
