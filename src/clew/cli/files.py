"""Commands that move files: put and get, with globs, directories, standard input and output.

Knows the verbs and the file system of the caller; what is printed is made by ``render``.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clew.base.address import normal_path
from clew.base.errors import Invalid, NotFound, NotReady
from clew.base.metadata import parse_meta
from clew.base.walking import expand
from clew.cli import render
from clew.cli.bar import Bar
from clew.cli.commits import Meta
from clew.cli.data import Address, Branch, Message
from clew.cli.follow import exit_unless_done, follow
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records import Commit
    from clew.base.verbs import Source, Verbs

_COPY = 1 << 20


def put(
    repo: Annotated[str, typer.Argument(help="Repo, such as late-flights/flights.")],
    sources: Annotated[
        list[str] | None, typer.Argument(help="Files, directories, globs; - is standard input.")
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
    alone = not any(isinstance(one, Path) and one.is_dir() for one in files.values())
    with workspace(working=wait and alone) as clew:  # to look at a directory takes every core
        before = _head(clew, repo, branch)
        with Bar("put", show=not json) as bar:
            commit = clew.put(
                repo,
                files,
                branch=branch,
                message=message,
                delete=delete or [],
                replace=replace,
                meta=parse_meta(meta or []),
                progress=bar,
            )
        changed = before is None or commit.id != before.id
        if not json:
            _print(repo, commit, changed=changed)
        ended = follow(clew, commit.global_id, show=not json) if wait and changed else []
        if json:
            print_json({"commit": commit, "jobs": ended, "changed": changed})
        exit_unless_done(ended)


def _head(clew: Verbs, repo: str, branch: str) -> Commit | None:
    try:
        return clew.commit(f"{repo}@{branch}")
    except (NotFound, NotReady):  # nothing is there yet; what is wrong, put will say
        return None


def _print(repo: str, commit: Commit, *, changed: bool) -> None:
    mark, note = ("[green]✓[/]", "") if changed else ("[dim]=[/]", "  nothing changed")
    console().print(
        f"{mark} {repo}@[cyan]{commit.id[:8]}[/]  {render.amount(commit.files, 'file')}, "
        f"{render.size(commit.size_bytes)}  change [cyan]{commit.global_id[:8]}[/]{note}"
    )


def _sources(sources: list[str], path: str) -> dict[str, Source]:
    """What goes where: files by their names, directories and globs by what lies below them."""
    found: dict[str, Source] = {}
    directory = normal_path(path)
    for source in sources:
        place = Path(source)
        if source == "-":
            found[_stdin_path(directory)] = sys.stdin.buffer
        elif place.is_dir():
            found |= {directory: place} if directory not in found else expand({directory: place})
        elif place.is_file():
            named = len(sources) == 1 and Path(directory).suffix != "" and not path.endswith("/")
            found[directory if named else normal_path(f"{directory}/{place.name}")] = place
        elif place.exists() or place.is_symlink():
            raise Invalid(
                "file.special",
                f"{source} is neither a file nor a directory.",
                hint="Name files and directories; nothing was committed.",
            )
        elif glob.has_magic(source):
            found |= {normal_path(f"{directory}/{name}"): file for name, file in _matches(source)}
        else:
            raise _missing(source)
    return found


def _matches(pattern: str) -> Iterator[tuple[str, Path]]:
    """The files that match, by their names below what stands before the first wildcard."""
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    names = glob.glob(os.path.join(*parts[fixed:]), root_dir=root, recursive=True)  # noqa: PTH118, PTH207 - root_dir
    files = [name for name in sorted(names) if (root / name).is_file()]
    if not files:
        raise _missing(pattern)
    for name in files:
        yield name, root / name


def _missing(source: str) -> NotFound:
    return NotFound(
        "file.missing",
        f"There is no file or directory {source!r}.",
        hint="Check the path; nothing was committed.",
    )


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
    """Write a file, or all below a directory, to disk; files of the same names are replaced."""
    with workspace() as clew:
        if str(target) == "-":
            with clew.open_file(address) as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer, _COPY)
            return
        with Bar("get", show=not json) as bar:
            written = clew.get(address, target, progress=bar)
    if json:
        print_json([str(path) for path in written])
    else:
        console().print(f"[green]✓[/] {render.amount(len(written), 'file')} → {target}")
