"""The command that says what each input did to an answer.

Knows the verb; what is printed is made by ``render``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace
from clew.cli.models import read_rows

if TYPE_CHECKING:
    from clew.base.records import ExplainResult


def explain(
    endpoint: Annotated[str, typer.Argument(help="Name of the endpoint; or id of a prediction.")],
    rows: Annotated[
        str, typer.Argument(help="JSON rows, '[{\"x\": 1}]'; or @FILE.json; or - for stdin.")
    ] = "",
    row: Annotated[int, typer.Option("--row", min=0, help="Of a prediction of several.")] = 0,
    top: Annotated[int, typer.Option("--top", min=1, help="The strongest features of each.")] = 10,
    json: Json = False,
) -> None:
    """What each input did to the answers for rows: SHAP values that add up to them.

    Of a prediction of the log by its id alone: by the version that made it.

    Example: clew explain tumours '[{"radius": 17.9, "texture": 10.4}]'
    """
    with workspace() as clew:
        found = (
            clew.explain(endpoint, read_rows(rows))
            if rows
            else clew.explain_prediction(endpoint, row=row)
        )
    if json:
        print_json(found)
        return
    out = console()
    for at in range(len(found.values)):
        _print(found, at, top)
    out.print(
        f"[dim]{found.method}, of {found.output}{' in log-odds' * (found.link == 'logit')}  "
        f"explanation[/] [cyan]{found.prediction_id}[/]"
    )


def _print(found: ExplainResult, row: int, top: int) -> None:
    """One row: its strongest features, and what is left of the others."""
    out = console()
    several = isinstance(found.values[row], list)
    heads = found.classes if several else ["did"]
    parts = {name: _listed(value) for name, value in found.attributions[row].items()}
    order = sorted(parts, key=lambda name: -max(map(abs, parts[name])))
    lines: list[list[str]] = [["base", *_told(_listed(found.base_values[row]))]]
    lines += [[name, *_told(parts[name])] for name in order[:top]]
    if rest := [parts[name] for name in order[top:]]:
        sums = [sum(each) for each in zip(*rest, strict=True)]
        lines.append([f"{len(rest)} others", *_told(sums)])
    lines.append(["value", *_told(_listed(found.values[row]))])
    render.table(out, [f"row {row}", *(f"{head}>" for head in heads)], lines)


def _listed(value: Any) -> list[float]:
    return value if isinstance(value, list) else [value]


def _told(values: list[float]) -> list[str]:
    return [f"{value:+.4g}" for value in values]
