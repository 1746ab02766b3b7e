"""The command that plans: what a change of code, data, parameters or packages would do.

Knows the verbs and how people write suppositions; nothing of how a plan is made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clew.base.address import DEFAULT_BRANCH
from clew.base.errors import Invalid, NotFound
from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace
from clew.cli.work import OnBranch, values_of

if TYPE_CHECKING:
    from clew.base.records import Plan, SearchPreview, StepCost

SHOWN = 50
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*===?\s*([^\s;,\\]+)")

AnyFile = Annotated[
    Path | None,
    typer.Argument(help="Python file that defines pipelines; those registered without it."),
]
Places = Annotated[
    list[str] | None,
    typer.Option(
        "--put",
        metavar="REPO:/PATH=LOCAL",
        help="As if this file (or directory) were committed there; repeatable.",
    ),
]
Gone = Annotated[
    list[str] | None,
    typer.Option("--delete", metavar="REPO:/PATH", help="As if this were deleted; repeatable."),
]
Packages = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="NAME==VERSION", help="As if this were installed; repeatable."),
]
Requirements = Annotated[
    Path | None,
    typer.Option(help="As if what this requirements file pins were installed."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "--param", metavar="NAME=VALUE", help="Value of a parameter; repeatable."
    ),
]


def plan(
    file: AnyFile = None,
    set_: Sets = None,
    branch: OnBranch = DEFAULT_BRANCH,
    put: Places = None,
    delete: Gone = None,
    with_: Packages = None,
    requirements: Requirements = None,
    json: Json = False,
) -> None:
    """What apply, new data or other packages would run, skip and delete, and why; changes nothing.

    Example: clew plan --put late-flights/flights:/2013-07.parquet=july.parquet
    """
    places = dict(map(_place, put or ()))
    packages = dict(_pinned(requirements)) if requirements else {}
    packages |= dict(map(_package, with_ or ()))
    with workspace(working=True) as clew:
        plans = clew.plan(
            file,
            parameters=values_of(set_),
            branch=branch,
            put=places,
            delete=delete or (),
            packages=packages,
        )
    if json:
        print_json(plans)
        return
    for one in plans:
        _print_plan(one)


def _place(text: str) -> tuple[str, Path]:
    """``repo:/path=local`` in its two parts; both may hold a ``=``, so the one that is there."""
    cuts = [at for at, letter in enumerate(text) if letter == "="]
    if not cuts:
        raise Invalid(
            "plan.place", f"--put {text} names no local file.", hint="Write --put REPO:/PATH=LOCAL."
        )
    at = next((at for at in cuts if Path(text[at + 1 :]).exists()), cuts[-1])
    place, local = text[:at], Path(text[at + 1 :])
    if ":" not in place:
        place += ":/" if local.is_dir() else f":/{local.name}"
    return place, local


def _package(text: str) -> tuple[str, str]:
    found = _PINNED.fullmatch(text.strip())
    if found is None:
        raise Invalid(
            "plan.package",
            f"--with {text} is not a version of a package.",
            hint="Write --with NAME==VERSION, such as --with polars==2.1.0.",
        )
    return found[1], found[2]


def _pinned(file: Path) -> Iterator[tuple[str, str]]:
    """Names and versions of a requirements file; options, hashes and comments are passed over."""
    if not file.is_file():
        raise NotFound("file.unknown", f"There is no file {file}.", hint="Check the path.")
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        found = _PINNED.match(text)
        if found is None:
            raise Invalid(
                "plan.package",
                f"{file}:{number}: {text!r} pins no version, so nobody knows which it would be.",
                hint="Pin it (NAME==VERSION): uv pip compile writes such a file.",
            )
        yield found[1], found[2]


def _print_plan(plan: Plan) -> None:
    out = console()
    counts = Counter(datum.action for datum in plan.datums)
    new = "a new version" if plan.new_version else "no new version"
    total = ", ".join(f"{n} to {action}" for action, n in sorted(counts.items())) or "no datums"
    out.print(f"[bold]{plan.pipeline}[/]: {new}; {total}")
    shown = [d for d in plan.datums if d.action != "skip"][:SHOWN]
    render.table(
        out,
        ("", "step", "inputs", "why"),
        [(render.state(d.action), d.step, " ".join(d.inputs)[:60], d.reason) for d in shown],
    )
    for cost in plan.costs:
        if cost.run or cost.delete:
            out.print(f"  [dim]{_cost(cost)}[/]")
    for search in plan.searches:
        out.print(f"  [dim]{_search(search)}[/]")
    for step in plan.unknown:
        out.print(f"  [dim]? {step}: depends on what the steps above it will give[/]")
    for note in plan.notes:
        out.print(f"  [dim]· {note}[/]")


def _search(search: SearchPreview) -> str:
    """What the search of a training step will cost."""
    brackets = "; ".join(
        f"{render.amount(one.trials, 'trial')} to {', '.join(map(str, one.rungs))} steps"
        for one in search.brackets
    )
    took = "" if search.cost_s is None else f", about {render.span(search.cost_s)} of a worker"
    limits = "".join(f", {name} {value:g}" for name, value in search.limits.items())
    about = f"about {search.expected_steps:,} steps of at most {search.most_steps:,}"
    sampler = "" if search.sampler == search.searcher else f" by {search.sampler}"
    return f"{search.step}: {search.searcher}{sampler}: {brackets}: {about}{took}{limits}"


def _cost(cost: StepCost) -> str:
    about = "" if cost.sure else "about "
    took = "unknown" if cost.total_s is None else f"{cost.total_s:,.1f} s"
    return (
        f"{cost.step}: {about}{cost.run:,} run, {cost.skip:,} stay, {cost.delete:,} go; "
        f"likely time {took}"
    )
