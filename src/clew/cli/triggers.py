"""Commands about triggers: triggers, trigger, backtest.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clew.base.errors import Invalid
from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records.feeds import TriggerInfo

_DAYS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]


def triggers(json: Json = False) -> None:
    """Triggers: when each fires, how far it is, when it fired last.

    Example: clew triggers
    """
    with workspace() as clew:
        found = clew.triggers()
    if json:
        print_json(found)
        return
    render.table(
        console(),
        ("trigger", "state", "when", "does", "fired>", "last", "next"),
        [
            (
                f"{one.pipeline}/{one.name}",
                render.state(one.state),
                one.when,
                one.action,
                f"{one.fired:,}",
                render.ago(one.fired_at),
                f"{one.next_at:%Y-%m-%d %H:%M} UTC" if one.next_at else "–",
            )
            for one in found
        ],
    )


def trigger(
    name: Annotated[str, typer.Argument(help="pipeline/trigger, or its own name.")],
    pause: Annotated[bool, typer.Option("--pause", help="Let it look at nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Let it look again.")] = False,
    fire: Annotated[bool, typer.Option("--fire", help="Set it off by hand.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Kept with a firing by hand.")] = "",
    limit: Annotated[int, typer.Option("--limit", help="So many firings.")] = 20,
    json: Json = False,
) -> None:
    """One trigger with its firings; with an option, what to do with it.

    Example: clew trigger shop/nightly --fire --reason "the backfill is in"
    """
    if pause + resume + fire > 1:
        raise Invalid("command.usage", "One of --pause, --resume and --fire at a time.")
    with workspace() as clew:
        if pause or resume:
            clew.pause_trigger(name, paused=pause)
        if fire:
            clew.fire_trigger(name, reason=reason)
        found, firings = clew.trigger(name), clew.firings(name, limit=limit)
    if json:
        print_json({"trigger": found, "firings": firings})
        return
    out = console()
    for line in _lines(found):
        out.print(line, markup=True)
    render.table(
        out,
        ("firing", "state", "when", "why", "done"),
        [
            (
                render.ident(one.id),
                render.state(one.state),
                render.ago(one.created_at),
                one.reason,
                one.error or one.effect or "–",
            )
            for one in firings
        ],
    )


def backtest(
    what: Annotated[str, typer.Argument(help="A trigger, or a file that writes some.")],
    since: Annotated[
        datetime | None, typer.Option("--since", formats=_DAYS, help="From this day or time (UTC).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", formats=_DAYS, help="Up to this day or time.")
    ] = None,
    json: Json = False,
) -> None:
    """When triggers would have fired over history, and why, against when they did.

    Example: clew backtest shop/nightly --since 2024-01-01
    """
    with workspace() as clew:
        if Path(what).is_file():
            found = clew.backtest_file(what, since=since, until=until)
        else:
            found = clew.backtest(what, since=since, until=until)
    if json:
        print_json(found)
        return
    out = console()
    words = {"both": "fired", "only_replayed": "would have", "only_fired": "fired alone"}
    render.table(
        out,
        ("at", "trigger", "", "why", "firing"),
        [
            (
                f"{one.at:%Y-%m-%d %H:%M:%S}",
                f"{one.pipeline}/{one.trigger}",
                words[one.kind],
                one.reason,
                render.ident(one.firing or None),
            )
            for one in found
        ],
    )
    both = sum(one.kind == "both" for one in found)
    would = sum(one.kind == "only_replayed" for one in found)
    alone = sum(one.kind == "only_fired" for one in found)
    out.print(f"{both} as it was, {would} that did not fire, {alone} that would not have fired")


def _lines(one: TriggerInfo) -> list[str]:
    lines = [
        f"[bold]{one.pipeline}/{one.name}[/]  {one.state}",
        f"  when     {one.when}",
        f"  does     {one.action}",
        f"  fired    {one.fired:,} times, last {render.ago(one.fired_at)}",
    ]
    if one.held:
        lines.append(f"  waits    {one.held}")
    return [*lines, *(f"  so far   {line}" for line in one.progress)]
