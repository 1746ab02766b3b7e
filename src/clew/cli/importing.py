"""The commands about many models: list them, import one.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from clew.cli.follow import NOTHING, exit_unless_done, follow
from clew.cli.frame import Json, console, print_json, workspace
from clew.cli.models import models as list_models

if TYPE_CHECKING:
    from clew.base.records import ModelVersion

_LIST = "list"


class _OrList(TyperGroup):
    """A group whose first word may be left out: ``clew models tumours/model`` lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words with the one that is meant."""
        if not args or (args[0] not in self.commands and args[0] not in {"-h", "--help"}):
            args = [_LIST, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


models = typer.Typer(help="List model versions, or import one of another tool.", cls=_OrList)
models.command(name=_LIST)(list_models)


@models.command(name="import")
def import_(
    source: Annotated[
        str, typer.Argument(help="A directory of MLflow, a file, or models:/NAME/VERSION.")
    ],
    name: Annotated[str, typer.Option("--name", help="The model that it is a version of.")],
    trust: Annotated[
        bool, typer.Option("--trust", help="Load it although it holds a pickle or code.")
    ] = False,
    example: Annotated[
        str, typer.Option("--example", help="A file of rows that it takes: CSV, Parquet, JSON.")
    ] = "",
    test: Annotated[
        str, typer.Option("--test", help="A repo of rows that it takes, with the target.")
    ] = "",
    target: Annotated[
        str, typer.Option("--target", help="The column of the truth in those rows.")
    ] = "",
    task: Annotated[
        str, typer.Option("--task", help="auto, binary, multiclass or regression.")
    ] = "auto",
    registry: Annotated[
        str, typer.Option("--registry", help="URL of the MLflow server of models:/…")
    ] = "",
    requirements: Annotated[
        list[str] | None,
        typer.Option("--requirement", help="A package of an environment of its own: NAME==1.2."),
    ] = None,
    python: Annotated[
        str, typer.Option("--python", help="The version of Python of that environment.")
    ] = "",
    own_environment: Annotated[
        bool,
        typer.Option("--own-environment", help="The environment that an MLflow model asks for."),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Run, and show, all that follows: its gate.")] = True,
    json: Json = False,
) -> None:
    """Make a model of another tool a candidate version; it is read in a worker alone.

    Under the name of a pipeline's p.model(...) it is judged on the rows and the target that are
    named there.

    Example: clew models import churn.onnx --name churn/bought
    """
    with workspace(working=wait) as clew:
        found = clew.import_model(
            source,
            name=name,
            trust=trust,
            example=example,
            test=test,
            target=target,
            task=task,
            registry=registry,
            requirements=requirements or (),
            python=python,
            own_environment=own_environment,
        )
        if not json:
            _print(found)
        ended = follow(clew, found.global_id, show=not json) if wait else NOTHING
        if json:
            print_json(clew.model(found.id) if wait else found)
    exit_unless_done(ended)


def _print(found: ModelVersion) -> None:
    signature = found.signature
    out = console()
    out.print(
        f"[green]✓[/] {found.model}@{found.version}  [cyan]{found.id[:8]}[/]  {found.state}  "
        f"[dim]{signature.task}, {signature.width} columns, change[/] "
        f"[cyan]{found.global_id[:8]}[/]"
    )
