"""The command about aliases: where they stand, where they stood, one step back.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clew.base.errors import Invalid
from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records import AliasMove


def alias(
    model: Annotated[str, typer.Argument(help="Name of the model, pipeline/step.")],
    name: Annotated[str, typer.Argument(help="The alias to move, such as champion.")] = "",
    version: Annotated[str, typer.Argument(help="The version it is to stand on: 3, an id.")] = "",
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Take it back to where it stood before.")
    ] = False,
    by: Annotated[str, typer.Option("--by", help="Who moves it.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, kept for good.")] = "",
    json: Json = False,
) -> None:
    """Move an alias of a model, or show all moves there ever were.

    Example: clew alias late-flights/model challenger 4
    """
    if rollback == bool(version) and name:
        raise Invalid(
            "alias.wish",
            f"Say where {name!r} is to stand: on a version, or with --rollback where it stood.",
            hint=f"clew alias {model} {name} VERSION",
        )
    with workspace() as clew:
        if not name:
            found = clew.alias_history(model)
        elif rollback:
            found = [clew.rollback_alias(model, name, by=by, reason=reason)]
        else:
            found = [clew.set_alias(model, name, version, by=by, reason=reason)]
    if json:
        print_json(found[0] if name else found)
    elif name:
        move = found[0]
        console().print(f"[green]✓[/] {move.alias} stands on {move.model}@{move.number}")
    else:
        _print_moves(found)


def _print_moves(found: list[AliasMove]) -> None:
    now: set[str] = set()
    rows = []
    for move in found:
        mark = "" if move.alias in now else "stands"
        now.add(move.alias)
        rows.append(
            (
                move.alias,
                mark,
                f"{move.model}@{move.number}",
                render.ident(move.version),
                "back" if move.back else "",
                move.moved_by or "–",
                move.reason,
                render.ago(move.moved_at),
            )
        )
    render.table(console(), ("alias", "", "version", "id", "", "by", "why", "when"), rows)
