"""Commands that make commits: commit open, put, rm, finish, abort, many; append, cp, rm.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

import json as formats
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clew.base.address import Address, normal_path, parse_address
from clew.base.errors import ClewError, Invalid, NotFound
from clew.base.metadata import parse_meta
from clew.cli import render
from clew.cli.follow import NOTHING, exit_unless_done, follow
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clew.base.records import Commit
    from clew.base.transaction import PutPart
    from clew.base.verbs import Verbs

Message = Annotated[str, typer.Option("--message", "-m", help="What this change is about.")]
Meta = Annotated[list[str] | None, typer.Option("--meta", help="key=value; repeatable.")]
Wait = Annotated[bool, typer.Option(help="Run, and show, all that follows.")]
OpenId = Annotated[str, typer.Argument(help="Id of an open commit, or its first characters.")]

commit = typer.Typer(
    help="Commits that are written step by step, and changes of several repos.",
    no_args_is_help=True,
)


@commit.command(name="open")
def open_commit(
    repo: Annotated[str, typer.Argument(help="Repo, such as late-flights/flights.")],
    branch: Annotated[str, typer.Option("--branch", "-b")] = "main",
    message: Message = "",
    meta: Meta = None,
    json: Json = False,
) -> None:
    """Begin a commit that several puts, of any process, will write; prints its id.

    Example: clew commit open p/data -m "a slow upload"
    """
    with workspace() as clew:
        opened = clew.open_commit(repo, branch=branch, message=message, meta=parse_meta(meta or []))
    if json:
        print_json(opened)
    else:
        console().print(opened.id)


@commit.command(name="put")
def put_into(
    commit_id: OpenId,
    sources: Annotated[list[str], typer.Argument(help="Files and directories; - is stdin.")],
    path: Annotated[str, typer.Option("--path", "-p", help="Directory (or file).")] = "/",
    append: Annotated[bool, typer.Option(help="Add at the end of files.")] = False,
    json: Json = False,
) -> None:
    """Write files into an open commit.

    Example: clew commit put 4f7k part-1.csv --path /all.csv --append
    """
    files = local_files(sources, path)
    with workspace() as clew:
        told(clew.put_into(commit_id, files, append=append), json=json)


@commit.command(name="rm")
def remove_from(
    commit_id: OpenId,
    paths: Annotated[list[str], typer.Argument(help="Paths that go.")],
    json: Json = False,
) -> None:
    """Take paths out of an open commit.

    Example: clew commit rm 4f7k /old.csv
    """
    with workspace() as clew:
        told(clew.put_into(commit_id, {}, delete=paths), json=json)


@commit.command()
def finish(
    commit_id: OpenId,
    message: Message = "",
    meta: Meta = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Make an open commit the head of its branch; everything that depends on it follows.

    Example: clew commit finish 4f7k -m "all parts are there"
    """
    with workspace() as clew:
        done = clew.finish(commit_id, message=message, meta=parse_meta(meta or []))
        conclude(clew, [done], wait=wait, json=json)


@commit.command()
def abort(
    commit_id: OpenId,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the commit.")] = "",
    json: Json = False,
) -> None:
    """End an open commit without content.

    Example: clew commit abort 4f7k --reason "the wrong month"
    """
    with workspace() as clew:
        told(clew.abort(commit_id, reason=reason), json=json)


@commit.command()
def many(
    file: Annotated[str, typer.Argument(help="JSON file with the changes; - is standard input.")],
    message: Message = "",
    meta: Meta = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Commit to several repos as one change, all of it or nothing.

    FILE holds a list of {"repo", "branch", "put": {path: local file}, "delete": [path], "replace"}.

    Example: clew commit many changes.json -m "both or none"
    """
    parts = _parts(file)
    with workspace() as clew:
        done = clew.put_many(parts, message=message, meta=parse_meta(meta or []))
        conclude(clew, done, wait=wait, json=json)


def append(
    address: Annotated[str, typer.Argument(help="repo[@branch]:/path")],
    source: Annotated[str, typer.Argument(help="File; - is standard input.")],
    message: Message = "",
    meta: Meta = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Commit bytes at the end of a file, or a new file of them.

    Example: clew append p/data:/log.csv today.csv
    """
    place = parse_address(address)
    if place.path == "/":
        file = "name.csv" if source == "-" else Path(source).name
        raise Invalid(
            "append.no_path",
            f"{address} names no file to append to.",
            hint=f"clew append {place.repo}:/{file} {source}",
        )
    content = sys.stdin.buffer.read() if source == "-" else existing(source)
    with workspace() as clew:
        done = clew.append(
            place.repo,
            {place.path: content},
            branch=place.ref,
            message=message,
            meta=parse_meta(meta or []),
        )
        conclude(clew, [done], wait=wait, json=json)


def copy(
    source: Annotated[str, typer.Argument(help="repo[@ref]:/path, of any commit.")],
    target: Annotated[str, typer.Argument(help="repo[@branch]:/path, or @ID of an open commit.")],
    message: Message = "",
    meta: Meta = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Copy files within and between repos; no bytes move.

    Example: clew cp p/data@v1:/2013 p/archive:/2013
    """
    with workspace() as clew:
        try:
            done = clew.copy(source, target, message=message, meta=parse_meta(meta or []))
        except (Invalid, NotFound) as error:
            if ":" in target or error.code not in {"repo.unknown", "repo.name"}:
                raise
            raise _no_target(error, source, target) from None
        conclude(clew, [done], wait=wait and done.state == "finished", json=json)


def remove(
    address: Annotated[str, typer.Argument(help="repo[@branch][:/path]")],
    more: Annotated[list[str] | None, typer.Argument(help="Paths, or more, of that repo.")] = None,
    message: Message = "",
    meta: Meta = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Commit that paths go (a directory goes whole). A repo goes with: clew delete REPO.

    Example: clew rm p/data old.csv /older.csv
    """
    place = parse_address(address)
    named = [] if place.path == "/" and more else [place.path]
    paths = named + [_in_same(one, place) for one in more or []]
    if "/" in paths:
        raise Invalid(
            "rm.everything",
            f"{' '.join([address, *(more or [])])} names no path, or all there is.",
            hint=f"Name what goes: clew rm {place.repo} PATH; or forget the whole repo: "
            f"clew delete {place.repo}",
        )
    with workspace() as clew:
        done = clew.put(
            place.repo,
            {},
            branch=place.ref,
            delete=paths,
            message=message,
            meta=parse_meta(meta or []),
        )
        conclude(clew, [done], wait=wait, json=json)


# ------------------------------------------------------------------------------------------------


def _no_target(error: Invalid | NotFound, source: str, target: str) -> ClewError:
    """A path without a repo, or of this machine, was given as where a copy goes."""
    repo = source.partition(":")[0].partition("@")[0]
    hint = (
        f"In a repo: clew cp {source} {repo}:/{target.strip('/')}; to this machine: "
        f"clew get {source} {target}"
    )
    return type(error)(error.code, error.message, hint=hint)


def _in_same(text: str, place: Address) -> str:
    """The path that one more word means: a path, or an address in the same branch."""
    if ":" not in text:
        return normal_path(text)
    try:
        other = parse_address(text)
    except Invalid:  # a path may have a colon
        return normal_path(text)
    if (other.repo, other.ref, other.ancestors) != (place.repo, place.ref, place.ancestors):
        raise Invalid(
            "rm.elsewhere",
            f"{text} is not in {place.repo}@{place.ref}.",
            hint="A commit is of one branch: give the command once for each, or one change of "
            "several repos: clew commit many",
        )
    return other.path


def conclude(clew: Verbs, commits: Sequence[Commit], *, wait: bool, json: bool) -> None:
    """Show commits, and what follows from them; ends with status 1 where that went wrong."""
    if not json:
        for one in commits:
            _print_commit(one)
    ended = follow(clew, commits[0].global_id, show=not json) if wait else NOTHING
    if json:
        shown: dict[str, Any] = (
            {"commit": commits[0]} if len(commits) == 1 else {"commits": list(commits)}
        )
        print_json(shown | {"jobs": ended.jobs, "broken": ended.broken})
    exit_unless_done(ended)


def told(commit: Commit, *, json: bool) -> None:
    """Show a commit that nothing follows from yet."""
    if json:
        print_json(commit)
    else:
        _print_commit(commit)


def local_files(sources: Sequence[str], path: str) -> dict[str, bytes | Path]:
    """Files of this machine by where they go; a directory with all below it."""
    files: dict[str, bytes | Path] = {}
    one = len(sources) == 1
    for source in sources:
        if source == "-":
            files[path] = sys.stdin.buffer.read()
            continue
        place = existing(source)
        if place.is_dir():
            inside = sorted(file for file in place.rglob("*") if file.is_file())
            files |= {_below(path, file.relative_to(place).as_posix()): file for file in inside}
        else:
            named = one and Path(path).suffix != "" and not path.endswith("/")
            files[path if named else _below(path, place.name)] = place
    return files


def existing(source: str) -> Path:
    """A path of this machine. Raises NotFound ``file.missing``."""
    place = Path(source)
    if not place.exists():
        raise NotFound(
            "file.missing",
            f"There is no file or directory {source!r}.",
            hint="Check the path; nothing was committed.",
        )
    return place


def _below(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"


def _parts(file: str) -> list[PutPart]:
    part = import_module("clew.base.transaction").PutPart  # help must not pay for the records
    text = sys.stdin.read() if file == "-" else existing(file).read_text()
    try:
        return [
            part(
                repo=one["repo"],
                branch=one.get("branch", "main"),
                files={path: existing(local) for path, local in one.get("put", {}).items()},
                delete=one.get("delete", []),
                replace=one.get("replace", False),
            )
            for one in formats.loads(text)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(
            "commit.changes",
            f"{file} does not hold a list of changes: {type(error).__name__} {error}.",
            hint='Write [{"repo": "p/data", "put": {"/a.csv": "a.csv"}, "delete": ["/b.csv"]}].',
        ) from None


def _print_commit(commit: Commit) -> None:
    what = {"open": "[cyan]▸[/]", "aborted": "[red]✗[/]"}.get(commit.state, "[green]✓[/]")
    console().print(
        f"{what} {commit.repo}@[cyan]{commit.id[:8]}[/]  {render.amount(commit.files, 'file')}, "
        f"{render.size(commit.size_bytes)}  change [cyan]{commit.global_id[:8]}[/]"
    )
