"""What a job works with and what it reads, fixed when it starts; how rows become steps over trees.

Knows rows and heads; which job runs when is for ``engine``, how it runs for ``running``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from clew.base.errors import NotFound
from clew.base.records import Commit, Job
from clew.base.tracking import Tracking
from clew.compute import Compute
from clew.db import Database, Tx
from clew.pipelines import tables
from clew.pipelines.branching import trunk_of
from clew.pipelines.datums import Cut
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.jobs import Jobs
from clew.pipelines.registry import Registry
from clew.pipelines.runner import Runner
from clew.pipelines.turns import Slots
from clew.pipelines.work import Base
from clew.places import Environments
from clew.repos import Repos
from clew.store import EMPTY_TREE, Store

QUARANTINE_SUFFIX = ".quarantine"


class Tools(Struct, frozen=True, kw_only=True):
    """What a job works with."""

    db: Database
    repos: Repos
    store: Store
    jobs: Jobs
    registry: Registry
    compute: Compute
    code_dir: Callable[[str], Path]
    runners: Mapping[str, Runner]
    remembered: Collection[str]
    log_dir: Path
    environments: Environments | None = None
    slots: Slots
    tracking: Tracking


class Pinned(Struct, frozen=True, kw_only=True):
    """What a job reads, fixed when it started."""

    row: Any
    job: Job
    step: StepDefinition
    inputs: dict[str, Commit]
    head: Commit | None
    base: Base | None
    epoch: str
    version: int
    limit: int | None
    """How many datums of the pipeline run at once."""


def current_head(repos: Repos, tx: Tx, repo: str, branch: str) -> Commit | None:
    """The head of a branch; None where there is none, or no such repo yet."""
    return repos.latest(repo, branch, tx=tx)


def last_done(tx: Tx, pipeline: str, step: str) -> Any | None:
    """The last good job of a step; on a branch without one, that of the pipeline itself."""
    for name in dict.fromkeys((pipeline, trunk_of(pipeline))):
        found = tx.execute(tables.LAST_DONE, {"pipeline": name, "step": step}).first()
        if found is not None:
            return found
    return None


def base_of(tools: Tools, row: Any, head: Commit | None) -> Base | None:
    """What the head of a step's output was made from; None where no good job of ours made it."""
    if row is None or head is None or row.state != "done" or row.kind != "step":
        return None
    with tools.db.read() as tx:
        cut = cut_of(tools, row, tx)
        if cut is None:
            return None
        place = cut.step.output_repo + QUARANTINE_SUFFIX
        aside = current_head(tools.repos, tx, place, cut.step.output_branch)
    return Base(
        job=row.id,
        cut=cut,
        total=row.total,
        tree=head.tree,
        aside=aside.tree if aside else EMPTY_TREE,
        recovered=row.recovered,
    )


def cut_of(tools: Tools, row: Any, tx: Tx | None = None) -> Cut | None:
    """A job that has started, as a step over trees; None where what it read is gone."""
    if row.version is None:
        return None
    if tx is None:
        with tools.db.read() as own:
            return cut_of(tools, row, own)
    step = tools.registry.definition(tx, row.pipeline, row.version).step(row.step)
    if step is None:
        return None
    try:
        trees = {
            name: tools.repos.commit_by_id(id, tx=tx).tree for name, id in row.inputs.items() if id
        }
    except NotFound as error:  # squashed or dropped since: its datums cannot be told again
        if error.code != "commit.gone":
            raise
        return None
    return Cut(tools.store, step, trees, row.epoch)
