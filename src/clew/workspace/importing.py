"""A model of another tool becomes a candidate version: its files a commit, and it another.

Knows repos and models; the model itself is read in a worker alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from clew.base.address import parse_address
from clew.base.errors import Conflict, Denied, Invalid, NotFound
from clew.base.records import Commit, ModelVersion
from clew.base.records.environments import OwnEnvironment
from clew.base.records.imports import (
    EXAMPLE_DIRECTORY,
    MODEL_DIRECTORY,
    SOURCE_SUFFIX,
    ImportWish,
)
from clew.pipelines import InputDefinition, StepDefinition
from clew.workspace.rooms import Rooms

_ASKING = ("/requirements.txt", "/python_env.yaml")
_PYTHON = re.compile(r"^python:\s*['\"]?(\d+\.\d+)", re.M)


def import_model(rooms: Rooms, wish: ImportWish, author: str) -> ModelVersion:
    """The version that a wish makes; the files are there already, or fetched here.

    Raises:
        Conflict: ``import.name`` where a repo of that name is no model's.
        Denied: ``import.trained`` where a training step makes that model; ``import.untrusted``.
        Besides: what :meth:`clew.models.Models.bring` raises.
    """
    _check_name(rooms, wish.name)
    source = _source(rooms, wish, author)
    test, target = _labelled(rooms, wish, source)
    found = rooms.models.bring(
        wish.name,
        source,
        told=wish.told,
        trust=wish.trust,
        test=test,
        target=target,
        task=wish.task,
        own=_own(rooms, wish, source),
    )
    with rooms.db.begin() as tx:
        rooms.repos.create(wish.name, kind="model", tx=tx, exist_ok=True)
        opened = rooms.repos.open_commit(
            wish.name,
            global_id=source.global_id,
            provenance=[source.id, *([test.id] if test else [])],
            message=f"imported from {wish.told} ({found.flavour})",
            author=author,
            tx=tx,
        )
        commit = rooms.repos.finish(opened.id, found.package.tree, tx=tx)
        return rooms.models.create_version(found.package, commit, tx=tx)


def _labelled(rooms: Rooms, wish: ImportWish, source: Commit) -> tuple[Commit | None, str]:
    """The rows that a model is asked with and their target: as they are given, else what the
    pipeline says that its versions are judged on, if there are rows by now.
    """
    if wish.test:
        return rooms.repos.resolve(wish.test), wish.target
    declared = None if _has_example(rooms, source) else _declared(rooms, wish.name)
    if declared is None:
        return None, wish.target
    test, target = declared
    rows = rooms.repos.head(test.repo, test.branch)
    return rows, wish.target or (target if rows else "")


def _has_example(rooms: Rooms, source: Commit) -> bool:
    below = f"{EXAMPLE_DIRECTORY}/"
    return any(one.path.startswith(below) for one in rooms.store.entries(source.tree))


def _declared(rooms: Rooms, name: str) -> tuple[InputDefinition, str] | None:
    """What versions of `p.model(...)` are judged on: the source of the rows, and the target."""
    for step in _steps(rooms, name):
        inputs = {one.parameter: one for one in step.inputs}
        if step.kind == "gate" and inputs["model"].repo == name:
            return inputs["test"], step.options["gate"]["target"]
    return None


def _own(rooms: Rooms, wish: ImportWish, source: Commit) -> OwnEnvironment | None:
    """The environment of its own that a model is to have.

    Raises:
        Invalid: ``import.environment`` where the model says nothing of what it needs; what
            resolving it raises.
    """
    lines, python = list(wish.requirements), wish.python
    if wish.own_environment:
        asked, of_model = _asked_by(rooms, source)
        lines, python = [*asked, *lines], python or of_model
    if not lines and not python:
        return None
    return rooms.models.resolve(lines, python, rooms.settings.home.parent)


def _asked_by(rooms: Rooms, source: Commit) -> tuple[list[str], str]:
    """The requirements that an MLflow model brings, and its Python (``3.12``)."""
    found = {
        entry.path.rpartition("/")[2]: rooms.store.read(entry.digest).decode(errors="replace")
        for entry in rooms.store.entries(source.tree)
        if entry.path.startswith(f"{MODEL_DIRECTORY}/") and entry.path.endswith(_ASKING)
    }
    lines = [line.strip() for line in found.get("requirements.txt", "").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise Invalid(
            "import.environment",
            f"{source.repo} has no requirements.txt that would say what the model needs.",
            hint="Say it yourself: --requirement scikit-learn==1.5.2",
        )
    python = _PYTHON.search(found.get("python_env.yaml", ""))
    return lines, python[1] if python else ""


def _source(rooms: Rooms, wish: ImportWish, author: str) -> Commit:
    """The commit with the files: as it is, or with what a registry has beside it."""
    repo = wish.name + SOURCE_SUFFIX
    given = rooms.repos.resolve(f"{repo}@{wish.commit}") if wish.commit else None
    if not wish.uri:
        if given is None:
            raise Invalid("import.kind", "There is nothing to import.", hint="Name a file or URI.")
        return given
    rooms.repos.create(repo, kind="source", exist_ok=True)
    fetched = rooms.models.fetch(wish.uri, wish.registry)
    entries = {one.path: one for one in rooms.store.entries(fetched)}
    if given is not None:
        entries |= {
            one.path: one
            for one in rooms.store.entries(given.tree)
            if one.path.startswith(f"{EXAMPLE_DIRECTORY}/")
        }
    return rooms.repos.commit(
        repo,
        {},
        entries=list(entries.values()),
        replace=True,
        message=f"fetched from {wish.uri}",
        author=author,
    )


def _check_name(rooms: Rooms, name: str) -> None:
    parse_address(name)
    try:
        kind = rooms.repos.get(name).kind
    except NotFound:
        return
    if kind != "model":
        raise Conflict(
            "import.name",
            f"{name} is a repo of the kind {kind}, not a model's.",
            hint="Choose another name.",
        )
    if any(one.output_repo == name for one in _steps(rooms, name)):
        raise Denied(
            "import.trained",
            f"{name} is made by a training step: a version cannot be put beside that.",
            hint='Import it under another name, such as that of p.model("imported", ...).',
        )


def _steps(rooms: Rooms, name: str) -> Sequence[StepDefinition]:
    """The steps of the pipeline that a model belongs to by its name; none where there is none."""
    try:
        return rooms.pipelines.definition(name.partition("/")[0]).steps
    except NotFound:
        return ()
