"""Commands about sources that commit by themselves: sources, source.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clew.base.errors import Invalid
from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records.feeds import SourceInfo


def sources(json: Json = False) -> None:
    """Sources that commit by themselves: how far each is, and what keeps it.

    Example: clew sources
    """
    with workspace() as clew:
        found = clew.sources()
    if json:
        print_json(found)
        return
    out = console()
    render.table(
        out,
        ("source", "kind", "state", "commits>", "items>", "lag>", "polled", "last commit"),
        [
            (
                one.name,
                one.kind,
                render.state(one.state),
                f"{one.commits:,}",
                f"{one.items:,}",
                render.number(one.lag),
                render.ago(one.polled_at),
                render.ident(one.commit),
            )
            for one in found
        ],
    )
    for one in found:
        if one.error:
            out.print(f"[red]✗[/] {one.name}: {one.error}", markup=True)


def source(
    name: Annotated[str, typer.Argument(help="pipeline/source, or its last part.")],
    poll: Annotated[bool, typer.Option("--poll", help="Read it now.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Read it no more.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Read it again.")] = False,
    json: Json = False,
) -> None:
    """One source that commits by itself; with an option, what to do with it.

    Example: clew source shop/orders --poll
    """
    if poll + pause + resume > 1:
        raise Invalid("command.usage", "One of --poll, --pause and --resume at a time.")
    with workspace() as clew:
        if pause or resume:
            clew.pause_source(name, paused=pause)
        commits = clew.poll_source(name) if poll else []
        found = clew.source(name)
    if json:
        print_json({"source": found, "commits": commits} if poll else found)
        return
    out = console()
    for commit in commits:
        out.print(
            f"[green]✓[/] {commit.repo}@{commit.branch} {commit.message}  [dim]{commit.id}[/]"
        )
    if poll and not commits:
        out.print("[dim]=[/] nothing new")
    for line in _lines(found):
        out.print(line)


def _lines(one: SourceInfo) -> list[str]:
    lines = [
        f"[bold]{one.name}[/]  {one.kind}  {one.place}",
        f"  to       {one.repo}@{one.branch}",
        f"  state    {one.state}" + (f", {one.note}" if one.note else ""),
        f"  so far   {one.commits:,} commits, {one.items:,} items, {render.size(one.size_bytes)}",
    ]
    if one.lag is not None:
        lines.append(f"  lag      {one.lag:,}")
    if one.error:
        lines.append(f"  [red]error[/]    {one.error}")
        lines.append(f"  tried    {one.failures} times")
    return lines
