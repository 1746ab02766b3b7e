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

from clew.base.address import DEFAULT_BRANCH, normal_path, parse_address
from clew.base.address import Address as Place
from clew.base.errors import Invalid, NotFound, NotReady
from clew.base.metadata import parse_meta
from clew.base.walking import expand
from clew.cli import render
from clew.cli.bar import Bar
from clew.cli.commits import Meta
from clew.cli.data import Address, Branch, Message
from clew.cli.follow import NOTHING, exit_unless_done, follow
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
    place = parse_address(repo) if {":", "@", "^"} & set(repo) else Place(repo=repo, ref=branch)
    repo, branch, path = _where(place, branch, path)
    files = _sources(sources or [], path, repo)
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
        ended = follow(clew, commit.global_id, show=not json) if wait and changed else NOTHING
        if json:
            print_json(
                {
                    "commit": commit,
                    "jobs": ended.jobs,
                    "changed": changed,
                    "broken": ended.broken,
                }
            )
        exit_unless_done(ended)


def _where(place: Place, branch: str, path: str) -> tuple[str, str, str]:
    """Repo, branch and path to put to, where the repo may name all three."""
    if place.ancestors or (place.ref != DEFAULT_BRANCH and branch not in {place.ref, "main"}):
        raise Invalid(
            "put.ref",
            f"{place} is no branch to put to.",
            hint=f"Name one branch: clew put {place.repo} FILES --branch NAME",
        )
    if place.path != "/" and path != "/":
        raise Invalid(
            "address.twice",
            f"{place} names a path, and --path {path} is another.",
            hint=f"Name one: clew put {place.repo} FILES --path {path}",
        )
    return (
        place.repo,
        branch if place.ref == DEFAULT_BRANCH else place.ref,
        (path if place.path == "/" else place.path),
    )


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


def _sources(sources: list[str], path: str, repo: str) -> dict[str, Source]:
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
        elif Path(repo).exists():
            others = " ".join([repo, *(one for one in sources if one != source)])
            raise _missing(source, f"The repo comes first: clew put {source} {others}")
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


def _missing(source: str, hint: str = "Check the path; nothing was committed.") -> NotFound:
    return NotFound("file.missing", f"There is no file or directory {source!r}.", hint=hint)


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
    target: Annotated[str, typer.Argument(help="File or directory to write; - prints.")] = ".",
    json: Json = False,
) -> None:
    """Write a file, or all below a directory, to disk; files of the same names are replaced."""
    with workspace() as clew:
        if target == "-":
            with clew.open_file(address) as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer, _COPY)
            return
        _check_target(clew, address, target)
        with Bar("get", show=not json) as bar:
            written = clew.get(address, Path(target), progress=bar)
    if json:
        print_json([str(path) for path in written])
    else:
        console().print(f"[green]✓[/] {render.amount(len(written), 'file')} → {target}")


def _check_target(clew: Verbs, address: str, target: str) -> None:
    """Refuse to write all of a repo into what its user meant as a path in it, or a directory onto
    a file.

    Raises:
        Invalid: ``get.target``.
    """
    place = parse_address(address)
    if place.path == "/" and Path(target).parts and not target.startswith((".", "/", "~")):
        beside = f"{address.rstrip(':/')}:/{target.strip('/')}"
        if _is_there(clew, beside):
            raise Invalid(
                "get.target",
                f"{target} is a path in {place.repo}; as it stands, it would be where to write "
                "all of it.",
                hint=f"clew get {beside}; to write all below a directory of that name: "
                f"clew get {address} ./{target}",
            )
    if Path(target).is_file() and (place.path == "/" or _is_directory(clew, place)):
        raise Invalid(
            "get.target",
            f"{target} is a file here, and {address} is a directory.",
            hint="Name another directory to write to, or one file: clew get REPO:/PATH FILE",
        )


def _is_there(clew: Verbs, address: str) -> bool:
    try:
        return bool(clew.ls(address))
    except (NotFound, NotReady, Invalid):
        return False


def _is_directory(clew: Verbs, place: Place) -> bool:
    found = clew.ls(str(place))
    return len(found) != 1 or found[0].path != place.path or found[0].kind == "directory"
