"""What a step depends on besides its inputs and its code, and what it may read without a word.

Knows the grammar of ``depends_on`` and ``allow``; what counts into a key is for pipelines.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from msgspec import Struct

from clew.authoring.checks import invalid
from clew.base.address import DEFAULT_BRANCH, check_repo_name
from clew.pipelines import InputDefinition, StepDefinition, fingerprint
from clew.store import digest, digest_of

Dependency = object
"""A function, class or module of the project; a path or glob of its files; ``env:NAME``;
``repo:NAME[@BRANCH]``; a node of the pipeline; or a mapping of names to plain values."""

KINDS = ("file", "env", "clock", "random", "network", "program")

ENV = "env:"
REPO = "repo:"


class Declared(Struct, frozen=True, kw_only=True):
    """What was declared: a digest by name, pieces of code by name, and repos that are read."""

    digests: dict[str, str]
    parts: dict[str, str]
    repos: tuple[InputDefinition, ...]


def check_allow(allow: Iterable[str]) -> tuple[str, ...]:
    """The patterns of ``allow``, each of a kind that can be watched.

    Raises:
        Invalid: ``pipeline.definition``.
    """
    found = (allow,) if isinstance(allow, str) else tuple(allow)
    for one in found:
        if not isinstance(one, str) or (one != "*" and one.partition(":")[0] not in KINDS):
            raise invalid(
                f"allow={one!r} is no kind of read",
                f"Use {', '.join(KINDS)}, one with a pattern (file:/data/**, env:HOME), or *.",
            )
    return found


def check_depends(depends_on: object) -> tuple[Dependency, ...]:
    """What ``depends_on`` was given, as a tuple."""
    if isinstance(depends_on, list | tuple | set):
        return tuple(depends_on)
    return () if depends_on is None else (depends_on,)


def declare(
    dependencies: Iterable[Dependency],
    project_dir: Path,
    repo_of: Callable[[object], tuple[str, str] | None],
) -> Declared:
    """The digests of dependencies, as they are now.

    ``repo_of`` gives repo and branch of a node of the pipeline, None for anything else.

    Raises:
        Invalid: ``pipeline.definition`` for what cannot be depended on, and for files that the
            project does not have.
    """
    digests: dict[str, str] = {}
    parts: dict[str, str] = {}
    repos: dict[str, InputDefinition] = {}
    for one in dependencies:
        place = repo_of(one)
        if isinstance(one, str) and one.startswith(REPO):
            repo, _, branch = one.removeprefix(REPO).partition("@")
            check_repo_name(repo)
            place = repo, branch or DEFAULT_BRANCH
        if place is not None:
            name = f"@{place[0]}@{place[1]}"
            repos[name] = InputDefinition(parameter=name, repo=place[0], branch=place[1])
        elif isinstance(one, Mapping):
            digests |= {f"value:{name}": _value(str(name), value) for name, value in one.items()}
        elif isinstance(one, str) and one.startswith(ENV):
            digests[one] = StepDefinition.variable(one.removeprefix(ENV))
        elif isinstance(one, str | Path):
            digests |= _files(project_dir, str(one))
        else:
            name, found, pieces = _code(one, project_dir)
            digests[name] = found
            parts |= pieces
    return Declared(digests=digests, parts=parts, repos=tuple(repos.values()))


def _value(name: str, value: Any) -> str:
    try:
        return digest_of("code", msgspec.json.encode(value, order="sorted").decode())
    except (TypeError, ValueError):
        raise invalid(
            f"depends_on: {name!r} is a {type(value).__name__}, which is not plain",
            "Give numbers, text, booleans, None, or lists and dicts of them.",
        ) from None


def _files(project_dir: Path, pattern: str) -> dict[str, str]:
    inside = not Path(pattern).is_absolute() and ".." not in Path(pattern).parts
    places = sorted(project_dir.glob(pattern)) if inside and pattern else []
    found = [
        file
        for place in places
        for file in (sorted(place.rglob("*")) if place.is_dir() else [place])
        if file.is_file() and file.suffix != ".pyc"
    ]
    if not found:
        raise invalid(
            f"depends_on names {pattern!r}, and the project has no such file",
            "Name files below the directory of the pipeline's file; a snapshot holds code and "
            "small text. Larger data belongs in a repo.",
        )
    return {
        file.relative_to(project_dir).as_posix(): digest("code", file.read_bytes())
        for file in found
    }


def _code(one: object, project_dir: Path) -> tuple[str, str, dict[str, str]]:
    """The name, digest and pieces of a function, class or module of the project."""
    target = inspect.unwrap(one) if callable(one) else one
    if isinstance(target, ModuleType):
        file, name = getattr(target, "__file__", None) or "", ""
    elif inspect.isfunction(target) or inspect.isclass(target):
        file, name = inspect.getsourcefile(target) or "", target.__qualname__
    else:
        raise invalid(
            f"depends_on was given {one!r}",
            "Give functions, classes or modules of the project, paths of its files, 'env:NAME', "
            "'repo:NAME', nodes of the pipeline, or a dict of plain values.",
        )
    path = Path(file).resolve()
    if not path.is_relative_to(project_dir.resolve()) or "." in name:
        raise invalid(
            f"depends_on was given {name or file}, which is not at the top level of a file of the "
            "project",
            "A library counts with its version as soon as the code uses it.",
        )
    relative = path.relative_to(project_dir.resolve()).as_posix()
    if not name:
        return f"{relative}:*", digest("code", path.read_bytes()), {}
    found = fingerprint(project_dir, relative, name)
    return f"{relative}:{name}", found.digest, found.parts
