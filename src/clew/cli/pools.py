"""The command about resource pools: slots, who has them, what waits.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records.pools import PoolInfo


def pools(
    restore: Annotated[
        str | None,
        typer.Option("--restore", metavar="SLOT", help="Give an excluded slot back to trials."),
    ] = None,
    json: Json = False,
) -> None:
    """Resource pools: their slots, who has them, which are excluded and why, and what waits.

    Example: clew pools --restore default/gpu:0
    """
    with workspace() as clew:
        found = clew.pools() if restore is None else clew.restore_slot(restore)
    if json:
        print_json(found)
        return
    if restore is not None:
        console().print(f"[green]✓[/] {restore} is given to trials again")
        return
    for pool in found:
        _print(pool)


def _print(pool: PoolInfo) -> None:
    out = console()
    gpus = f", {pool.used_gpus} of {pool.gpus} GPU" if pool.gpus else ""
    out.print(f"[bold]{pool.name}[/]  {pool.used_cpus} of {pool.cpus} CPU{gpus} in use")
    render.table(
        out,
        ("slot", "state", "since", "by", "about"),
        [
            (
                slot.name,
                render.state(slot.state),
                render.ago(slot.since) if slot.since else "",
                slot.reason or slot.by,
                slot.about,
            )
            for slot in pool.slots
        ],
    )
    for one in pool.waiting:
        gpu = f", {one.gpus} GPU" if one.gpus else ""
        out.print(f"  [dim]waits[/] {one.label} [dim]({one.cpus} CPU{gpu}, {one.priority})[/]")
    if pool.waits > len(pool.waiting):
        out.print(f"  [dim]and {pool.waits - len(pool.waiting)} more[/]")
