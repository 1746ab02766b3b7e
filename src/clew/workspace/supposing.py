"""What is not so, but might be: data that somebody would commit, packages that would be there.

Knows rooms; nothing of it is kept, and no ref is moved.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from clew.base.address import Address, check_ref_name, parse_address
from clew.base.archive import check_sources
from clew.base.errors import Denied, Invalid, NotFound
from clew.base.verbs import Source
from clew.base.walking import expand
from clew.pipelines import PipelineDefinition, StepDefinition
from clew.store import EMPTY_TREE, Entry, Overlay
from clew.workspace.placing import resolved
from clew.workspace.rooms import Rooms

_REQUIRED = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


class Supposed(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan is asked for besides the code: nothing, where all is empty.

    ``put`` maps ``repo[@branch]:/path`` to content (a Path may be a directory), ``delete`` names
    such places that go, ``packages`` gives distributions other versions.
    """

    put: Mapping[str, Source] = {}
    delete: Sequence[str] = ()
    packages: Mapping[str, str] = {}


def supposed_trees(
    rooms: Rooms, overlay: Overlay, supposed: Supposed, sources: Collection[str]
) -> dict[tuple[str, str], str]:
    """The tree that each branch would have, readable in ``overlay`` alone.

    ``sources`` are repos that applying would make.

    Raises:
        Invalid: ``plan.place``, ``address.invalid``, ``path.invalid``, ``file.unreadable``.
        NotFound: ``repo.unknown``, ``file.unknown``.
        Denied: ``repo.derived`` for a repo that Clew writes.
    """
    puts: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    gone: dict[tuple[str, str], list[str]] = defaultdict(list)
    files = expand(supposed.put)
    check_sources(files)
    for text, source in files.items():
        place = _place(text)
        digest, size_bytes = overlay.identify(source)
        entry = Entry(path=place.path, digest=digest, size_bytes=size_bytes)
        puts[place.repo, place.ref].append(entry)
    for text in supposed.delete:
        place = _place(text)
        gone[place.repo, place.ref].append(place.path)
    return {
        (repo, branch): overlay.tree(
            _before(rooms, repo, branch, sources), puts[repo, branch], gone[repo, branch]
        )
        for repo, branch in [*puts, *(at for at in gone if at not in puts)]
    }


def _place(text: str) -> Address:
    place = parse_address(text)
    if place.ancestors or place.path == "/":
        raise Invalid(
            "plan.place",
            f"{text!r} is not the place of a file on a branch.",
            hint="Write repo:/path or repo@branch:/path.",
        )
    check_ref_name(place.ref)
    return place


def _before(rooms: Rooms, repo: str, branch: str, sources: Collection[str]) -> str:
    """The tree of a branch; that of ``main`` where it would be new."""
    try:
        kind = rooms.repos.get(repo).kind
    except NotFound:
        if repo in sources:
            return EMPTY_TREE
        raise
    if kind != "source":
        raise Denied(
            "repo.derived",
            f"{repo} is written by Clew (kind: {kind}), not by hand.",
            hint="Plan a change of a source repo; `clew repos` lists them.",
        )
    head = rooms.repos.head(repo, branch) or rooms.repos.head(repo)
    return head.tree if head is not None else EMPTY_TREE


def with_environments(
    rooms: Rooms, definition: PipelineDefinition, packages: Mapping[str, str], project: Path
) -> PipelineDefinition:
    """The steps with environments of their own, as these would be resolved with other versions.

    Raises:
        Invalid: ``environment.unsatisfiable``, ``environment.python``.
        Unavailable: ``environment.no_uv``, ``environment.offline``.
    """
    wanted = {_plain(name): version for name, version in packages.items()}
    steps = tuple(_resolved(rooms, step, wanted, project) for step in definition.steps)
    return replace(definition, steps=steps)


def _resolved(
    rooms: Rooms, step: StepDefinition, wanted: Mapping[str, str], project: Path
) -> StepDefinition:
    own = {_plain(name) for name in step.packages} & wanted.keys()
    if not step.runtime.own_environment or not own:
        return step
    lines = [
        line for line in step.runtime.requirements if _name_of(line) not in own - {"python"}
    ] + [f"{name}=={wanted[name]}" for name in sorted(own - {"python"})]
    python = wanted.get("python", step.runtime.python)
    return resolved(rooms, step, lines, python, project)


def _name_of(line: str) -> str:
    found = _REQUIRED.match(line)
    return _plain(found[1]) if found else ""


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
