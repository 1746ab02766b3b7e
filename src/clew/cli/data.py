"""Commands about data: ls, diff, repos, create.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from clew.base.address import with_path
from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace

Address = Annotated[str, typer.Argument(help="repo[@branch|@id][^N][:/path]")]
Inner = Annotated[str, typer.Argument(help="The path, where the address names none.")]
Branch = Annotated[str, typer.Option("--branch", "-b", help="Branch to work on.")]
Message = Annotated[str, typer.Option("--message", "-m", help="What this change is about.")]


def ls(
    address: Annotated[str, typer.Argument(help="repo[@ref][:/path]; all repos without it.")] = "",
    path: Inner = "",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="All files below.")] = False,
    json: Json = False,
) -> None:
    """List repos, or the files at an address."""
    if not address:
        repos(json=json)
        return
    with workspace() as clew:
        files = clew.ls(with_path(address, path), recursive=recursive)
    if json:
        print_json(files)
        return
    render.table(
        console(),
        ("size>", "digest", "path"),
        [
            (
                render.size(f.size_bytes),
                f.digest.partition(":")[2][:8],
                f.path + "/" * (f.kind == "directory"),
            )
            for f in files
        ],
    )


def repos(json: Json = False) -> None:
    """List repos with the heads of their branches."""
    with workspace() as clew:
        found = clew.repos()
    if json:
        print_json(found)
        return
    render.table(
        console(),
        ("repo", "kind", "branches"),
        [
            (r.name, r.kind, "  ".join(f"{b} {(h or 'empty')[:8]}" for b, h in r.branches.items()))
            for r in found
        ],
    )


def create(
    repo: Annotated[str, typer.Argument(help="Name: project/repo.")],
    description: Annotated[str, typer.Option("--description", "-d")] = "",
    json: Json = False,
) -> None:
    """Make a repo to commit to (apply makes those of a pipeline by itself)."""
    with workspace() as clew:
        made = clew.create_repo(repo, description=description)
    if json:
        print_json(made)
    else:
        console().print(f"[green]✓[/] {made.name}")
