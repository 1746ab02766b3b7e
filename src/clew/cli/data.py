"""Commands about data: put, get, ls, diff, repos, create.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clew.base.address import normal_path
from clew.base.errors import Invalid, NotFound
from clew.base.metadata import parse_meta
from clew.cli import render
from clew.cli.commits import Meta
from clew.cli.follow import exit_unless_done, follow
from clew.cli.frame import Json, console, print_json, workspace

Address = Annotated[str, typer.Argument(help="repo[@branch|@id][^N][:/path]")]
Branch = Annotated[str, typer.Option("--branch", "-b", help="Branch to work on.")]
Message = Annotated[str, typer.Option("--message", "-m", help="What this change is about.")]


def put(
    repo: Annotated[str, typer.Argument(help="Repo, such as late-flights/flights.")],
    sources: Annotated[
        list[str] | None, typer.Argument(help="Files and directories; - is standard input.")
    ] = None,
    path: Annotated[
        str, typer.Option("--path", "-p", help="Directory (or file) in the repo.")
    ] = "/",
    branch: Branch = "main",
    message: Message = "",
    delete: Annotated[list[str] | None, typer.Option(help="Path that goes; repeatable.")] = None,
    replace: Annotated[bool, typer.Option(help="Drop everything that is not put.")] = False,
    meta: Meta = None,
    wait: Annotated[bool, typer.Option(help="Run, and show, all that follows.")] = True,
    json: Json = False,
) -> None:
    """Commit files; everything that depends on them follows."""
    files = _sources(sources or [], path)
    with workspace(working=wait) as clew:
        commit = clew.put(
            repo,
            files,
            branch=branch,
            message=message,
            delete=delete or [],
            replace=replace,
            meta=parse_meta(meta or []),
        )
        if not json:
            files_text = render.amount(commit.files, "file")
            console().print(
                f"[green]✓[/] {repo}@[cyan]{commit.id[:8]}[/]  {files_text}, "
                f"{render.size(commit.size_bytes)}  change [cyan]{commit.global_id[:8]}[/]"
            )
        ended = follow(clew, commit.global_id, show=not json) if wait else []
        if json:
            print_json({"commit": commit, "jobs": ended})
        exit_unless_done(ended)


def _sources(sources: list[str], path: str) -> dict[str, bytes | Path]:
    files: dict[str, bytes | Path] = {}
    directory = normal_path(path)
    for source in sources:
        if source == "-":
            files[_stdin_path(directory)] = sys.stdin.buffer.read()
            continue
        place = Path(source)
        if place.is_dir():
            files |= _tree(place, directory)
        elif place.is_file():
            named = len(sources) == 1 and Path(directory).suffix != "" and not path.endswith("/")
            files[directory if named else normal_path(f"{directory}/{place.name}")] = place
        else:
            raise NotFound(
                "file.missing",
                f"There is no file or directory {source!r}.",
                hint="Check the path; nothing was committed.",
            )
    return files


def _tree(place: Path, directory: str) -> dict[str, bytes | Path]:
    found: dict[str, bytes | Path] = {}
    for file in sorted(place.rglob("*")):
        if file.is_dir():
            continue
        if not file.is_file():
            raise Invalid(
                "file.special",
                f"{file} is neither a file nor a directory.",
                hint="Remove it or name the files to commit.",
            )
        found[normal_path(f"{directory}/{file.relative_to(place).as_posix()}")] = file
    return found


def _stdin_path(directory: str) -> str:
    if directory == "/":
        raise Invalid(
            "put.no_path",
            "Standard input has no name.",
            hint="Say where it goes: clew put REPO - --path /name.csv",
        )
    return directory


def get(
    address: Address,
    target: Annotated[Path, typer.Argument(help="File or directory to write; - prints.")] = Path(),
    json: Json = False,
) -> None:
    """Write a file, or all below a directory, to disk."""
    with workspace() as clew:
        if str(target) == "-":
            sys.stdout.buffer.write(clew.read(address))
            return
        written = clew.get(address, target)
    if json:
        print_json([str(path) for path in written])
    else:
        console().print(f"[green]✓[/] {render.amount(len(written), 'file')} → {target}")


def ls(
    address: Annotated[str, typer.Argument(help="repo[@ref][:/path]; all repos without it.")] = "",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="All files below.")] = False,
    json: Json = False,
) -> None:
    """List repos, or the files at an address."""
    if not address:
        repos(json=json)
        return
    with workspace() as clew:
        files = clew.ls(address, recursive=recursive)
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
