"""Commands about versions: branch, tag, merge, squash, drop, delete, find, tree, cat, profile.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from clew.base.address import with_path
from clew.base.errors import Conflict
from clew.base.metadata import parse_meta
from clew.cli import render
from clew.cli.commits import Message, Meta, Wait, conclude
from clew.cli.data import Inner
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clew.base.records import FileInfo, Merge, Removal

Repo = Annotated[str, typer.Argument(help="Repo, such as late-flights/flights.")]
Force = Annotated[bool, typer.Option("--force", help="Pass over what may be passed over.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept.")]

branch = typer.Typer(help="Branches: list, create, move, delete.", no_args_is_help=True)
tag = typer.Typer(help="Tags, names that stay with a commit: list, add, delete.",
                  no_args_is_help=True)  # fmt: skip


# branches -----------------------------------------------------------------------------------------


@branch.command(name="list")
def list_branches(repo: Repo, json: Json = False) -> None:
    """Branches with their heads, and who reads them.

    Example: clew branch list p/data
    """
    with workspace() as clew:
        found = clew.branches(repo)
    if json:
        print_json(found)
        return
    render.table(
        console(),
        ("branch", "commit", "when", "message", "read by", "written by"),
        [
            (
                one.name,
                render.ident(one.head.id if one.head else None),
                render.ago(one.head.finished_at if one.head else None),
                one.head.message if one.head else "",
                " ".join(one.read_by),
                " ".join(one.written_by),
            )
            for one in found
        ],
    )


@branch.command(name="create")
def create_branch(
    repo: Repo,
    name: Annotated[str, typer.Argument(help="Name of the new branch.")],
    at: Annotated[str, typer.Option("--at", help="Branch, tag, id or ref^N; main without.")] = "",
    json: Json = False,
) -> None:
    """A new branch at any commit of the repo.

    Example: clew branch create p/data dev --at main^2
    """
    with workspace() as clew:
        made = clew.create_branch(repo, name, at=at)
    if json:
        print_json(made)
    else:
        where = made.head.id[:8] if made.head else "empty"
        console().print(f"[green]✓[/] {repo}@{name}  [cyan]{where}[/]")


@branch.command(name="move")
def move_branch(
    repo: Repo,
    name: Annotated[str, typer.Argument(help="Branch that moves.")],
    to: Annotated[str, typer.Option("--to", help="Branch, tag or id that it goes on from.")],
    force: Force = False,
    reason: Reason = "",
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Let a branch go on from another commit; what reads it follows.

    Example: clew branch move p/data main --to staging
    """
    with workspace() as clew:
        moved = clew.move_branch(repo, name, to, force=force, reason=reason)
        conclude(clew, [moved], wait=wait, json=json)


@branch.command(name="delete")
def delete_branch(
    repo: Repo,
    name: Annotated[str, typer.Argument(help="Branch that goes; its commits stay.")],
    force: Force = False,
    json: Json = False,
) -> None:
    """Forget a branch; its commits stay, by their ids.

    Example: clew branch delete p/data dev
    """
    with workspace() as clew:
        gone = clew.delete_branch(repo, name, force=force)
    if json:
        print_json(gone)
    else:
        where = f" (was {gone.head.id})" if gone.head else ""
        console().print(f"[green]✓[/] {repo}@{name} is gone{where}")


# tags ---------------------------------------------------------------------------------------------


@tag.command(name="list")
def list_tags(repo: Repo, json: Json = False) -> None:
    """Tags, the newest first.

    Example: clew tag list p/data
    """
    with workspace() as clew:
        found = clew.tags(repo)
    if json:
        print_json(found)
        return
    render.table(
        console(),
        ("tag", "commit", "when", "message", "metadata"),
        [
            (t.name, render.ident(t.commit), render.ago(t.at), t.message, meta_text(t.meta))
            for t in found
        ],
    )


@tag.command(name="add")
def add_tag(
    ref: Annotated[str, typer.Argument(help="repo@ref, or the id of a commit.")],
    name: Annotated[str, typer.Argument(help="Name; then repo@NAME is that commit.")],
    message: Message = "",
    meta: Meta = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Name a commit for good; --force moves a name that is taken.

    Example: clew tag add p/data@main v1 -m "what the paper used"
    """
    with workspace() as clew:
        made = clew.tag(ref, name, message=message, meta=parse_meta(meta or []), force=force)
    if json:
        print_json(made)
    else:
        console().print(f"[green]✓[/] {made.repo}@{made.name} is [cyan]{made.commit[:8]}[/]")


@tag.command(name="delete")
def delete_tag(
    repo: Repo,
    name: Annotated[str, typer.Argument(help="Tag that goes; its commit stays.")],
    json: Json = False,
) -> None:
    """Forget a tag; the commit stays.

    Example: clew tag delete p/data v1
    """
    with workspace() as clew:
        gone = clew.delete_tag(repo, name)
    if json:
        print_json(gone)
    else:
        console().print(f"[green]✓[/] {repo}@{name} is gone (was {gone.commit})")


# merge --------------------------------------------------------------------------------------------


def merge(
    repo: Repo,
    source: Annotated[str, typer.Argument(help="Branch, tag or id that is brought in.")],
    into: Annotated[str, typer.Option("--into", help="Branch that gets it.")] = "main",
    strategy: Annotated[
        str, typer.Option("--strategy", help="Where both changed a path: fail, ours or theirs.")
    ] = "fail",
    message: Message = "",
    meta: Meta = None,
    dry_run: DryRun = False,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Bring one branch into another, three ways; conflicts are listed and nothing is written.

    Example: clew merge p/data dev --into main --dry-run
    """
    with workspace() as clew:
        try:
            done = clew.merge(
                repo,
                source,
                into=into,
                strategy=strategy,
                message=message,
                meta=parse_meta(meta or []),
                dry_run=dry_run,
            )
        except Conflict as error:
            if error.code == "merge.conflict" and not json:
                _print_merge(clew.merge(repo, source, into=into, strategy=strategy, dry_run=True))
            raise
        if dry_run or done.kind == "nothing" or done.commit is None:
            if json:
                print_json(done)
            else:
                _print_merge(done)
            raise typer.Exit(1 if done.conflicts and strategy == "fail" else 0)
        conclude(clew, [done.commit], wait=wait, json=json)


def _print_merge(merge: Merge) -> None:
    out = console()
    if merge.kind == "nothing":
        out.print(f"[dim]= {merge.repo}@{merge.into} has all of it[/]")
        return
    out.print(f"{merge.kind}: {render.amount(len(merge.changes), 'change')}, "
              f"{render.amount(len(merge.conflicts), 'conflict')}")  # fmt: skip
    render.table(out, ("", "path"), [(render.state(c.kind), c.path) for c in merge.changes[:50]])
    if merge.conflicts:
        render.table(
            out,
            ("conflict", "base", "ours", "theirs"),
            [(c.path, _side(c.base), _side(c.ours), _side(c.theirs)) for c in merge.conflicts],
        )


def _side(file: FileInfo | None) -> str:
    if file is None:
        return "–"
    return f"{file.digest.partition(':')[2][:8]} {render.size(file.size_bytes)}"


# history ------------------------------------------------------------------------------------------


def squash(
    first: Annotated[str, typer.Argument(help="repo@ref or id of the commit that goes.")],
    last: Annotated[str, typer.Argument(help="Up to this one; that one alone without it.")] = "",
    force: Force = False,
    dry_run: DryRun = False,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Fold commits into the one after them: later contents stay as they are.

    Example: clew squash p/data@main^5 p/data@main^2 --dry-run
    """
    with workspace() as clew:
        _show_removal(
            clew.squash(first, last=last, force=force, dry_run=dry_run, reason=reason), json=json
        )


def drop(
    ref: Annotated[str, typer.Argument(help="repo@branch, or the id of a head.")],
    force: Force = False,
    dry_run: DryRun = False,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Take a head away with what was made from it; its branches go back one commit.

    Example: clew drop p/data@main --reason "the wrong month"
    """
    with workspace() as clew:
        _show_removal(clew.drop(ref, force=force, dry_run=dry_run, reason=reason), json=json)


def delete(
    repo: Repo,
    force: Force = False,
    dry_run: DryRun = False,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Forget a repo with its branches and commits.

    Example: clew delete p/scratch
    """
    with workspace() as clew:
        _show_removal(
            clew.delete_repo(repo, force=force, dry_run=dry_run, reason=reason), json=json
        )


def _show_removal(removal: Removal, *, json: bool) -> None:
    if json:
        print_json(removal)
        return
    out = console()
    mark = "[green]✓[/]" if removal.done else "[dim]would be[/]"
    out.print(f"{mark} {removal.how}: {render.amount(len(removal.commits), 'commit')}")
    render.table(
        out,
        ("commit", "repo", "size>", "message"),
        [
            (render.ident(c.id), f"{c.repo}@{c.branch}", render.size(c.size_bytes), c.message)
            for c in removal.commits
        ],
    )
    for name, head in removal.heads.items():
        out.print(f"  {name} goes back to [cyan]{head[:8] if head else 'empty'}[/]")
    for holder in removal.holders:
        passes = "--force passes over it" if holder.yields else "in the way"
        out.print(f"  [yellow]![/] {holder.reason} [dim]({passes})[/]")


def find(
    address: Annotated[str, typer.Argument(help="repo[@ref]:/path; a directory or glob too.")],
    path: Inner = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20,
    json: Json = False,
) -> None:
    """The history of a path: which commit added, changed or deleted it; newest first.

    Example: clew find "p/data:/2013/*.csv"
    """
    with workspace() as clew:
        found = clew.find(with_path(address, path), limit=limit)
    if json:
        print_json(found)
        return
    render.table(
        console(),
        ("commit", "when", "", "path", "size>", "message"),
        [
            (
                render.ident(one.commit.id),
                render.ago(one.commit.finished_at),
                render.state(one.change.kind),
                one.change.path,
                render.size(one.change.new.size_bytes) if one.change.new else "–",
                one.commit.message,
            )
            for one in found
        ],
    )


# looking ------------------------------------------------------------------------------------------


def tree(
    address: Annotated[str, typer.Argument(help="repo[@ref][:/path]")],
    depth: Annotated[int, typer.Option("--depth", "-d", min=0, help="Levels; 0 is all.")] = 0,
    json: Json = False,
) -> None:
    """Files as a tree.

    Example: clew tree p/data@main:/2013 --depth 2
    """
    with workspace() as clew:
        files = clew.ls(address, recursive=True)
    if json:
        print_json(files)
        return
    out = console()
    out.print(address, markup=False)
    above = _parent_parts(address)
    for line in _branches(sorted(files, key=lambda f: f.path.split("/")), above, depth):
        out.print(line, markup=False)
    out.print(f"[dim]{render.amount(len(files), 'file')}, "
              f"{render.size(sum(f.size_bytes for f in files))}[/]")  # fmt: skip


def _parent_parts(address: str) -> int:
    """How many parts of every path are the address itself."""
    path = address.partition(":")[2].strip("/")
    return len(path.split("/")) if path else 0


def _branches(files: Iterable[FileInfo], above: int, depth: int) -> Iterator[str]:
    shown: list[str] = []
    for file in files:
        parts = file.path.strip("/").split("/")[above:] or [file.path.rpartition("/")[2]]
        same = 0
        while same < min(len(shown), len(parts) - 1) and shown[same] == parts[same]:
            same += 1
        for level in range(same, len(parts)):
            if depth and level >= depth:
                break
            last = level == len(parts) - 1
            size = f"  {render.size(file.size_bytes)}" if last else "/"
            yield f"{'  ' * level}{parts[level]}{size}"
        shown = parts[:-1]


def cat(
    address: Annotated[str, typer.Argument(help="repo[@ref]:/path")],
    path: Inner = "",
) -> None:
    """The bytes of a file on standard output.

    Example: clew cat p/data@v1:/readme.txt
    """
    with workspace() as clew, clew.open_file(with_path(address, path)) as stream:
        shutil.copyfileobj(stream, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def profile(
    address: Annotated[str, typer.Argument(help="repo[@ref]:/file.parquet (or .csv, .feather)")],
    path: Inner = "",
    json: Json = False,
) -> None:
    """Columns of a table: types, nulls, bounds, distinct values. Found out once for each content.

    Example: clew profile p/data:/2013/07.parquet
    """
    with workspace() as clew:
        found = clew.profile(with_path(address, path))
    if json:
        print_json(found)
        return
    out = console()
    out.print(
        f"{found.format}, {render.amount(found.rows, 'row')}, {render.size(found.size_bytes)}"
    )
    render.table(
        out,
        ("column", "type", "nulls>", "low", "high", "distinct>"),
        [
            (
                c.name,
                c.type,
                render.number(c.nulls),
                c.low if c.low is not None else "–",
                c.high if c.high is not None else "–",
                render.number(c.distinct),
            )
            for c in found.columns
        ],
    )


def meta_text(meta: dict[str, str]) -> str:
    """Metadata in one line."""
    return " ".join(f"{key}={value}" for key, value in meta.items())
