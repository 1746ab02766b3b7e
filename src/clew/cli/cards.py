"""Commands that hold models up to the light: card.

Knows the verbs; what is printed is made by them, or by ``render``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clew.cli.frame import Json, console, print_json, workspace


def card(
    ref: Annotated[str, typer.Argument(help="Model version: its id, model@3, model@champion.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it to this file.")
    ] = None,
    json: Json = False,
) -> None:
    """The card of a model version as Markdown: what it is for, how good it is, whence it came.

    Example: clew card late-flights/model@champion -o MODEL_CARD.md
    """
    with workspace() as clew:
        found = clew.card(ref)
    if json:
        print_json(found)
    elif output is None:
        sys.stdout.write(found.markdown)
    else:
        output.write_text(found.markdown)
        console().print(f"[green]✓[/] {output}")
