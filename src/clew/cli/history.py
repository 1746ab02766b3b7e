"""Commands that look at commits: log and show.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from clew.base.address import parse_address, with_path
from clew.base.errors import Invalid
from clew.base.metadata import parse_meta
from clew.cli import render
from clew.cli.data import Inner
from clew.cli.frame import Json, console, print_json, workspace
from clew.cli.versions import meta_text, profile

if TYPE_CHECKING:
    from clew.base.records import Change, Commit, Tag


def log(
    address: Annotated[str, typer.Argument(help="repo[@ref][:/path], a directory or glob too.")],
    path: Inner = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20,
    since: Annotated[str, typer.Option("--since", help="Day or time, UTC: 2026-11-01.")] = "",
    until: Annotated[str, typer.Option("--until", help="Day (with all of it) or time.")] = "",
    author: Annotated[str, typer.Option("--author", help="Part of the author's name.")] = "",
    meta: Annotated[
        list[str] | None, typer.Option("--meta", help="key=value, or key= for any value.")
    ] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Draw where merges came in.")] = False,
    json: Json = False,
) -> None:
    """Commits of a branch, newest first; aborted ones with the reason.

    Example: clew log "p/data:/2013/*.csv" --since 2026-11-01
    """
    place, _, inner = with_path(address, path).partition(":")
    where = parse_address(place)
    ref = where.ref + (f"^{where.ancestors}" if where.ancestors else "")
    with workspace() as clew:
        commits = clew.log(
            where.repo,
            branch=ref,
            limit=limit,
            path=inner,
            since=_moment(since, "since") if since else None,
            until=_moment(until, "until", end=True) if until else None,
            author=author,
            meta=parse_meta(meta or []),
        )
        tags = [] if json else clew.tags(where.repo)
    if json:
        print_json(commits)
        return
    named = _by_commit(tags)
    rows = [_row(c, named[c.id]) for c in commits]
    columns = ["commit", "change", "state", "files>", "size>", "when", "tags", "message"]
    if graph:
        columns.insert(0, "")
        rows = [("◆" if c.merged else "*", *row) for c, row in zip(commits, rows, strict=True)]
    render.table(console(), columns, rows)


def _row(commit: Commit, tags: list[str]) -> tuple[object, ...]:
    merged = f"⇐ {commit.merged[:8]}  " if commit.merged else ""
    noted = f"  {meta_text(commit.meta)}" if commit.meta else ""
    return (
        render.ident(commit.id),
        render.ident(commit.global_id),
        render.state(commit.state),
        f"{commit.files:,}",
        render.size(commit.size_bytes),
        render.ago(commit.finished_at or commit.started_at),
        " ".join(tags),
        merged + (commit.error or commit.message) + noted,
    )


def _by_commit(tags: list[Tag]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for tag in tags:
        found[tag.commit].append(tag.name)
    return found


def _moment(text: str, option: str, *, end: bool = False) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(
            "log.time",
            f"--{option} {text!r} is no day and no time.",
            hint="Write 2026-11-01, or 2026-11-01T12:30 (UTC, or with +02:00).",
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment + timedelta(days=1, microseconds=-1) if end and len(text) == 10 else moment


def show(
    ref: Annotated[str, typer.Argument(help="repo@ref, a commit id, or a table in a commit.")],
    json: Json = False,
) -> None:
    """One commit: its change, where it came from, and what it changed; or the profile of a table.

    Example: clew show p/data@v1
    """
    if ":" in ref:
        profile(ref, json=json)
        return
    with workspace() as clew:
        commit = clew.commit(ref)
        parent = clew.commit(commit.parent) if commit.parent else None
        changes = clew.diff(parent.id, commit.id) if parent and commit.tree else []
        tags = [tag for tag in clew.tags(commit.repo) if tag.commit == commit.id]
    if json:
        print_json({"commit": commit, "changes": changes, "tags": tags})
        return
    _print_facts(commit, tags)
    print_changes(changes)


def _print_facts(commit: Commit, tags: list[Tag]) -> None:
    out = console()
    out.print(f"[bold]{commit.repo}@{commit.branch}[/]  {commit.id}  ", render.state(commit.state))
    out.print(
        f"change {commit.global_id}  {render.amount(commit.files, 'file')}, "
        f"{render.size(commit.size_bytes)}"
    )
    if commit.message:
        out.print(commit.message, markup=False)
    for key, value in commit.meta.items():
        out.print(f"  {key}={value}", markup=False)
    for tag in tags:
        out.print(f"  tag [cyan]{tag.name}[/] {tag.message}")
    for name, source in (("parent", commit.parent), ("merged", commit.merged)):
        if source:
            out.print(f"  {name} [cyan]{source[:8]}[/]")
    for source in commit.provenance:
        out.print(f"  from [cyan]{source[:8]}[/]")


def print_changes(changes: list[Change]) -> None:
    """Paths that differ, one a line."""
    rows = [
        (render.state(c.kind), c.path, render.size(c.new.size_bytes) if c.new else "–")
        for c in changes
    ]
    render.table(console(), ("", "path", "size>"), rows)
