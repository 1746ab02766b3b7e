"""What a definition needs before it becomes a version, and what of it is accepted.

Knows rows and repos of one transaction; :class:`clew.pipelines.Pipelines` writes the version.
"""

from __future__ import annotations

from msgspec.structs import replace

from clew.base.errors import Conflict, Invalid, NotFound
from clew.db import Tx
from clew.pipelines import registry, tables
from clew.pipelines.accepting import accepted
from clew.pipelines.definitions import PipelineDefinition, StepDefinition
from clew.pipelines.jobs import near_step
from clew.pipelines.registry import Graph, Registry
from clew.pipelines.work import differences
from clew.repos import Repos

FOLLOWS = "follows"
"""The option of a step that reads the model that an alias stands on."""

REPO_KINDS = {"step": "output", "train": "model", "gate": "report"}


def make_repos(repos: Repos, tx: Tx, definition: PipelineDefinition) -> None:
    """Make the repos that a pipeline reads and writes, where they are missing.

    Raises NotFound ``repo.unknown`` for an input that nothing of the pipeline makes.
    """
    for source in definition.sources:
        if not _exists(repos, tx, source.repo):
            repos.create(source.repo, tx=tx)
    for step in definition.steps:
        kind = REPO_KINDS.get(step.kind, "output")
        if not _exists(repos, tx, step.output_repo):
            repos.create(step.output_repo, kind=kind, tx=tx)
    for step in definition.steps:
        for one in step.inputs:
            outside = one.parameter == "model" and (step.kind == "gate" or FOLLOWS in step.options)
            if outside and not _exists(repos, tx, one.repo):  # imported, or where an alias stands
                repos.create(one.repo, kind="model", tx=tx)
            if one.kind == "data":
                repos.get(one.repo, tx=tx)


def _exists(repos: Repos, tx: Tx, repo: str) -> bool:
    try:
        repos.get(repo, tx=tx)
    except NotFound:
        return False
    return True


def check_outputs(graph: Graph, definition: PipelineDefinition) -> None:
    """That a repo is written by one step only, and sources by none.

    Raises Invalid ``pipeline.output``.
    """
    others = {
        (step.output_repo, step.output_branch): f"{other.name}.{step.name}"
        for other in graph.pipelines.values()
        if other.name != definition.name
        for step in other.steps
    }
    sources = {one.repo for one in definition.sources}
    for step in definition.steps:
        place = step.output_repo, step.output_branch
        if place in others or step.output_repo in sources:
            writer = others.get(place, "a source")
            raise Invalid(
                "pipeline.output",
                f"{step.output_repo} is the output of {step.name} and of {writer}.",
                hint="Rename the step, or the pipeline.",
            )


def why_anew(step: StepDefinition, old: StepDefinition | None) -> str:
    """Why a new version makes a step run; '' where its meaning is the same."""
    if old is None:
        return "First run."
    if old.meaning() == step.meaning():
        return ""
    causes = "; ".join(differences(old, step)) or "it is defined anew"
    return f"{causes[0].upper()}{causes[1:]}."


def to_accept(
    tx: Tx,
    known: Registry,
    pipeline: str,
    step: str | None,
    *,
    environment: bool,
    by: str,
    reason: str,
    undo: bool,
) -> tuple[PipelineDefinition, dict[str, StepDefinition]]:
    """A pipeline as it is, and its steps with the keys of before (or, ``undo``, of now).

    Raises:
        NotFound: ``pipeline.unknown``, ``step.unknown``.
        Conflict: ``accept.nothing``.
    """
    row = registry.current(tx, pipeline)
    if row is None:
        raise registry.unknown(tx, pipeline)
    now = known.definition(tx, pipeline, row.version)
    if step is not None and now.step(step) is None:
        raise near_step(known.graph(tx), (pipeline, step))
    changed = {}
    for one in now.steps if step is None else filter(None, [now.step(step)]):
        if undo:
            found = replace(one, accepted={}) if one.accepted else None
        else:
            key = {"pipeline": pipeline, "step": one.name}
            last = tx.execute(tables.LAST_DONE, key).first()
            old = known.definition(tx, pipeline, last.version) if last else None
            before = old.step(one.name) if old else None
            found = before and accepted(one, before, environment=environment, by=by, reason=reason)
        if found:
            changed[one.name] = found
    if not changed:
        raise Conflict(
            "accept.nothing",
            f"{pipeline}{f'.{step}' if step else ''}: "
            + ("nothing was accepted." if undo else "its results are of this code."),
            hint="See what differs: clew plan FILE, clew why JOB",
        )
    return now, changed
