"""Commands that ask: status and why.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text
from rich.tree import Tree

from clew.base.ids import short
from clew.cli import render
from clew.cli.follow import next_try
from clew.cli.frame import Json, console, print_json, workspace
from clew.cli.knowing import print_causes
from clew.cli.models import print_verdict, print_versions
from clew.cli.work import print_jobs

if TYPE_CHECKING:
    from clew.base.records import ChangeStatus, Explanation, Node, Status


SHOWN = 12
"""Jobs of one kind at a glance."""


def status(
    global_id: Annotated[str | None, typer.Argument(help="All that this change caused.")] = None,
    json: Json = False,
) -> None:
    """What runs, what waits, what is broken now; or all that one change caused."""
    with workspace() as clew:
        caused = clew.change(global_id) if global_id else None
        glance = None if caused else clew.status()
    if json:
        print_json(caused or glance)
    elif caused is not None:
        print_change(caused)
    elif glance is not None:
        _print_status(glance)


def _print_status(answer: Status) -> None:
    out = console()
    out.print(f"[bold]{answer.workspace}[/]")
    for title, jobs in (
        ("running", answer.running),
        ("waiting", answer.waiting),
        ("broken now", answer.refused),
        ("recent", answer.recent),
    ):
        if jobs:
            out.print(f"\n[dim]{title}[/]")
            print_jobs(list(jobs[:SHOWN]))
        if title == "broken now":
            _print_next(answer)
    if answer.endpoints:
        out.print("\n[dim]endpoints[/]")
        lost = any(e.overloads or e.expired for e in answer.endpoints)
        render.table(
            out,
            (
                "endpoint",
                "live",
                "traffic",
                "requests>",
                "errors>",
                *(("429>", "504>") if lost else ()),
                "p50>",
                "url",
            ),
            [
                (
                    e.name,
                    render.ident(
                        next((r.model_version for r in e.revisions if r.state == "live"), None)
                    ),
                    " ".join(f"r{r.number}:{r.traffic}%" for r in e.revisions if r.traffic),
                    f"{e.requests:,}",
                    f"{e.errors:,}",
                    *((f"{e.overloads:,}", f"{e.expired:,}") if lost else ()),
                    f"{e.p50_ms:.1f} ms" if e.p50_ms is not None else "–",
                    e.place,
                )
                for e in answer.endpoints
            ],
        )
    _print_drift(answer)
    if not (answer.recent or answer.running or answer.waiting or answer.refused):
        out.print("[dim]Nothing has run yet. Try: clew apply FILE.py, then clew put REPO FILES[/]")


def _print_drift(answer: Status) -> None:
    """Endpoints whose newest report has drifted, and where its columns are."""
    out = console()
    for report in answer.drift:
        if report.drifted:
            names = ", ".join(one.column for one in report.columns if one.drifted)
            when = f"{report.rows:,} rows, {render.ago(report.created_at)}"
            out.print(f"[yellow]drift[/] at {report.endpoint}: {names} [dim]({when})[/]")
            out.print(f"[dim]  Look: clew drift {report.endpoint}[/]")


def _print_next(answer: Status) -> None:
    """What to do about what is broken, and where the rest is."""
    out = console()
    if answer.refused:
        first = answer.refused[0]
        again = next_try(first.id, first.state)
        out.print(f"[dim]Look: clew job {short(first.id)} --log. Again: {again}[/]")
    if left := answer.refused_before + len(answer.refused[SHOWN:]):
        out.print(
            f"[dim]{left:,} more failed, were refused or blocked before (tried again since, or of "
            "steps that are gone): clew jobs --state failed (refused, blocked)[/]"
        )


def print_change(answer: ChangeStatus) -> None:
    """All that carries one global id, in the order in which it happens."""
    out = console()
    out.print(f"change [cyan]{answer.global_id}[/]")
    if answer.commits:
        out.print("\n[dim]commits[/]")
        render.table(
            out,
            ("commit", "repo", "state", "files>", "size>"),
            [
                (
                    render.ident(c.id),
                    f"{c.repo}@{c.branch}",
                    render.state(c.state),
                    c.files,
                    render.size(c.size_bytes),
                )
                for c in answer.commits
            ],
        )
    if answer.jobs:
        out.print("\n[dim]jobs[/]")
        print_jobs(list(answer.jobs))
    for experiment in answer.experiments:
        out.print(
            f"\n[dim]experiment[/] [cyan]{experiment.id[:8]}[/] {experiment.searcher}, "
            f"{render.amount(experiment.trials, 'trial')}, best {experiment.metric} "
            f"{render.number(experiment.best_value)}"
        )
    if answer.model_versions:
        out.print("\n[dim]models[/]")
        print_versions(list(answer.model_versions))
    for verdict in answer.verdicts:
        print_verdict(verdict)
    for revision in answer.revisions:
        out.print(
            f"[dim]revision[/] [cyan]{revision.id[:8]}[/] {revision.endpoint} r{revision.number} "
            f"{revision.state}, {revision.traffic} %"
        )
    for report in answer.drift_reports:
        said = "drift" if report.drifted else "clear"
        out.print(f"[dim]drift report[/] [cyan]{report.id[:8]}[/] {said}")
    if answer.predictions:
        out.print(f"[dim]predictions[/] {answer.predictions:,}")


def why(
    subject: Annotated[str, typer.Argument(help="Any id, or a file: repo@ref:/path.")],
    down: Annotated[bool, typer.Option("--down", help="What came from it, instead.")] = False,
    json: Json = False,
) -> None:
    """Where a thing came from, back to the raw files; or all that came from it."""
    with workspace() as clew:
        answer = clew.why(subject, down=down)
    if json:
        print_json(answer)
    else:
        print_explanation(answer)


def print_explanation(answer: Explanation) -> None:
    """The thread as a tree; a thing that was shown already is named, not unfolded again."""
    out = console()
    for sentence in answer.sentences:
        out.print(Text(sentence))
    print_causes(answer.causes)
    nodes = {node.id: node for node in answer.nodes} | {answer.subject.id: answer.subject}
    below: dict[str, list[tuple[str, str]]] = {}
    for edge in answer.edges:
        if answer.direction == "down":
            label = FORWARD.get(edge.label, edge.label)
            below.setdefault(edge.source, []).append((edge.target, label))
        else:
            below.setdefault(edge.target, []).append((edge.source, edge.label))
    tree = Tree(_node(answer.subject, ""), guide_style="dim")
    _grow(tree, answer.subject.id, nodes, below, {answer.subject.id})
    out.print(tree)


FORWARD = {
    "read": "read by",
    "provenance": "led to",
    "judged on": "test rows of",
    "serves": "served by",
    "blessed by": "let through",
    "reported": "report of",
    "committed in": "in",
    "packaged": "packaged as",
    "watched": "watched by",
}
"""How a label reads from the cause to the effect."""


def _grow(
    tree: Tree,
    start: str,
    nodes: dict[str, Node],
    below: dict[str, list[tuple[str, str]]],
    seen: set[str],
) -> None:
    fresh = [
        (end, label, end not in seen)
        for end, label in below.get(start, [])
        if end in nodes and not _is_dead_end(nodes[end], below)
    ]
    seen |= {end for end, _, _ in fresh}
    for end, label, first in fresh:
        branch = tree.add(_node(nodes[end], label))
        if first:
            _grow(branch, end, nodes, below, seen)


def _is_dead_end(node: Node, below: dict[str, list[tuple[str, str]]]) -> bool:
    """A trial that led to nothing; a search has many, and `clew experiment` lists them."""
    return node.kind == "trial" and not below.get(node.id)


TELLING = ("state", "value", "reason", "files", "traffic", "params", "outputs")
"""Details worth a place on the line; `--json` has all."""


def _node(node: Node, label: str) -> Text:
    told = {name: node.detail[name] for name in TELLING if node.detail.get(name) not in (None, "")}
    identifier = str(node.detail["digest"]) if node.kind == "file" else node.id
    if node.kind in {"code", "file"}:
        identifier = identifier.partition(":")[2] or node.id
    return Text.assemble(
        (f"{label} " if label else "", "dim"),
        (node.kind.replace("_", " "), "bold"),
        " ",
        (identifier if node.kind == "prediction" else short(identifier), "cyan"),
        f"  {node.title}",
        ("".join(f"  {_detail(name, value)}" for name, value in told.items()), "dim"),
    )


def _detail(name: str, value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={_value(v)}" for k, v in value.items())
    if name in {"reason", "state"}:
        return str(value)
    return f"{name}={_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, list):
        shown = ", ".join(render.number(one) for one in value[:3])
        return shown if len(value) <= 3 else f"{shown}, … ({len(value)})"
    return render.number(value)
