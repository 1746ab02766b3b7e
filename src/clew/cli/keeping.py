"""Commands that keep a workspace in order: gc, fsck, du, rebuild.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clew.base.settings import read_settings
from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records.keeping import Collected, Problem

_NAMED = 10


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; change nothing.")
    ] = False,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Rewrite every pack with garbage, not those mostly so."),
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait-s", help="How long to wait for those who write, in seconds.")
    ] = 60.0,
    json: Json = False,
) -> None:
    """Free the disk of what nothing refers to; others may write meanwhile.

    Example: clew gc --dry-run
    """
    with workspace() as clew:
        found = clew.gc(dry_run=dry_run, thorough=thorough, wait_s=wait_s)
    if json:
        print_json(found)
        return
    out = console()
    for line in _told(found):
        out.print(line)


def _told(found: Collected) -> list[str]:
    would = "would go" if found.dry_run else "went"
    lines = []
    if found.logs:
        lines.append(f"[green]✓[/] logs of {render.amount(found.logs, 'job')} went")
    if found.feedback:
        lines.append(f"[green]✓[/] {render.amount(found.feedback, 'row')} of old feedback went")
    if found.waiting:
        lines.append(
            f"[yellow]…[/] {found.condemned_objects:,} objects, "
            f"{render.size(found.condemned_bytes)}, are condemned and go with the next "
            f"[bold]clew gc[/]: {len(found.waiting)} that write may still need them"
        )
    else:
        lines.append(
            f"[green]✓[/] {found.objects:,} objects, {render.size(found.freed_bytes)}, {would}: "
            f"{found.packs_removed} packs removed, {found.packs_rewritten} rewritten, "
            f"{found.packs_merged} merged"
        )
    lines.append(f"  {found.live_objects:,} objects, {render.size(found.live_bytes)}, are in use")
    if found.kept_bytes:
        lines.append(
            f"  {render.size(found.kept_bytes)} of garbage stay in packs that are mostly in use; "
            "[bold]--thorough[/] frees them"
        )
    return lines


def fsck(
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended without losing anything.")
    ] = False,
    json: Json = False,
) -> None:
    """Verify every byte, tree, commit and ref; exit status 1 where something is wrong.

    Example: clew fsck
    """
    with workspace() as clew:
        found = clew.fsck(repair=repair, seen=None if json else _progress)
    wrong = [one for one in found.problems if not one.repaired]
    if json:
        print_json(found)
    else:
        out = console()
        for problem in found.problems:
            for line in _problem(problem):
                out.print(line)
        mark = "[red]✗[/]" if wrong else "[green]✓[/]"
        out.print(
            f"{mark} {found.packs:,} packs, {found.objects:,} objects, "
            f"{render.size(found.size_bytes)}, {found.commits:,} commits, {found.refs:,} refs: "
            + (f"{len(wrong)} problems" if wrong else "all is well")
        )
    if wrong:
        raise typer.Exit(1)


def _problem(problem: Problem) -> list[str]:
    mark = "[green]mended[/]" if problem.repaired else "[red]✗[/]"
    lines = [f"{mark} {problem.message}  [dim]{problem.code}[/]"]
    lines += [f"    {path}" for path in problem.paths[:_NAMED]]
    if problem.repaired:
        lines.append(f"  [dim]→[/] {problem.repaired}")
    elif problem.hint:
        lines.append(f"  [dim]→[/] {problem.hint}")
    return lines


def _progress(done: int, total: int) -> None:
    """One line that is written over and over, where a person looks."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        text = f"\r  {render.size(done)} of {render.size(total)} read\x1b[K{end}"
        sys.stderr.write(text)
        sys.stderr.flush()


def du(
    address: Annotated[
        str, typer.Argument(help="repo, repo@branch or repo@commit; all repos without it.")
    ] = "",
    json: Json = False,
) -> None:
    """What repos take on disk, and what deleting them would free.

    Example: clew du late-flights/flights
    """
    with workspace() as clew:
        found = clew.du(address)
    if json:
        print_json(found)
        return
    render.table(
        console(),
        ("", "commits>", "files>", "logical>", "stored>", "exclusive>"),
        [
            (
                one.name,
                f"{one.commits:,}",
                f"{one.files:,}",
                render.size(one.logical_bytes),
                render.size(one.stored_bytes),
                render.size(one.exclusive_bytes),
            )
            for one in found
        ],
    )


def rebuild(json: Json = False) -> None:
    """Make the database of this workspace anew from its store, where it was lost.

    Works on the files of a directory, never through a server: one without a database cannot be
    served.

    Example: clew rebuild
    """
    settings = read_settings(os.environ, Path())
    found = import_module("clew.workspace").rebuild_workspace(settings)
    if json:
        print_json(found)
        return
    out = console()
    out.print(
        f"[green]✓[/] {found.repos} repos, {found.branches} branches, {found.commits:,} commits, "
        f"{found.tags} tags"
    )
    for commit in found.unconfirmed:
        out.print(f"  [yellow]?[/] {commit} is taken, although nothing confirms it")
    for commit in found.left_out:
        out.print(f"  [yellow]?[/] {commit} is kept beside its branch: nothing confirms it")
    out.print("Not in the store, and so not here:")
    for line in found.lost:
        out.print(f"  {line}")
