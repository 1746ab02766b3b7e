"""Which pipelines there are: their definitions by version, and which steps read a branch.

Knows rows of pipelines only; jobs are elsewhere. Definitions never change once written, so they
are kept in memory.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from clew.base import clock
from clew.base.errors import NotFound
from clew.base.records import PipelineInfo, StepInfo
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.definitions import (
    PipelineDefinition,
    StepDefinition,
    from_builtins,
    to_builtins,
)
from clew.repos import Repos

Branch = tuple[str, str]
"""Repo and branch."""

StepName = tuple[str, str]
"""Pipeline and step."""


class Graph(Struct, frozen=True):
    """All pipelines in their current versions."""

    versions: dict[str, int]
    pipelines: dict[str, PipelineDefinition]
    readers: dict[Branch, list[StepName]]
    """Steps that a commit on a branch makes run."""

    def step(self, name: StepName) -> StepDefinition | None:
        """A step as it is defined now."""
        pipeline = self.pipelines.get(name[0])
        return pipeline.step(name[1]) if pipeline else None


class Registry:
    """Definitions of pipelines. Thread-safe."""

    def __init__(self, repos: Repos) -> None:
        self._lock = threading.Lock()
        self._repos = repos
        self._known: dict[tuple[str, int], PipelineDefinition] = {}
        self._graph = Graph({}, {}, {})
        self._wished: frozenset[Branch] = frozenset()
        """Branches that inputs of the graph prefer."""
        self._there: frozenset[Branch] = frozenset()

    def graph(self, tx: Tx) -> Graph:
        """All pipelines as ``tx`` sees them."""
        versions = {row.name: row.version for row in tx.execute(tables.VERSIONS)}
        with self._lock:
            graph, wished, there = self._graph, self._wished, self._there
        if versions == graph.versions and there == self._existing(tx, wished):
            return graph
        written = {name: self.definition(tx, name, at) for name, at in versions.items()}
        wished = frozenset(place for one in written.values() for place in _wishes(one))
        there = self._existing(tx, wished)
        pipelines = {name: _settled(one, there) for name, one in written.items()}
        graph = Graph(versions, pipelines, _readers(pipelines))
        with self._lock:
            self._graph, self._wished, self._there = graph, wished, there
        return graph

    def settled(
        self, tx: Tx, definition: PipelineDefinition, there: Collection[Branch] = ()
    ) -> PipelineDefinition:
        """A pipeline whose inputs have the branch that they prefer, where there is one.

        ``there``: branches that are taken to exist.
        """
        return _settled(definition, self._existing(tx, frozenset(_wishes(definition))).union(there))

    def _existing(self, tx: Tx, places: frozenset[Branch]) -> frozenset[Branch]:
        return frozenset(one for one in places if self._repos.latest(*one, tx=tx) is not None)

    def definition(self, tx: Tx, name: str, version: int) -> PipelineDefinition:
        """A pipeline in one of its versions."""
        with self._lock:
            known = self._known.get((name, version))
        if known is None:
            row = tx.execute(tables.VERSION, {"name": name, "version": version}).one()
            known = from_builtins(row.definition)
            with self._lock:
                self._known[name, version] = known
        return known

    def add(
        self, tx: Tx, definition: PipelineDefinition, *, version: int, global_id: str, author: str
    ) -> None:
        """Write a new version and make it the current one."""
        row = {
            "name": definition.name,
            "version": version,
            "digest": definition.digest(),
            "definition": to_builtins(definition),
            "global_id": global_id,
            "author": author,
            "created_us": clock.to_us(clock.now()),
        }
        tx.execute(tables.pipeline_versions.insert(), row)
        current = {"name": definition.name, "version": version}
        tx.upsert(tables.pipelines, [current], key=["name"], refresh=["version"])


def current(tx: Tx, name: str) -> Any | None:
    """The row of a pipeline's current version."""
    return tx.execute(tables.CURRENT, {"name": name}).first()


class Users(Struct, frozen=True, kw_only=True):
    """Who uses a repo: branch and ``pipeline/step``."""

    readers: tuple[tuple[str, str], ...]
    writers: tuple[tuple[str, str], ...]


def users(graph: Graph, repo: str) -> Users:
    """The steps that read a repo and those that write it, in the present versions."""
    steps = [
        (f"{pipeline}/{step.name}", step)
        for pipeline, definition in sorted(graph.pipelines.items())
        for step in definition.in_order()
    ]
    reads = [(one.branch, one.repo, name) for name, step in steps for one in step.inputs]
    return Users(
        readers=tuple(dict.fromkeys((at, name) for at, read, name in reads if read == repo)),
        writers=tuple(
            (step.output_branch, name) for name, step in steps if step.output_repo == repo
        ),
    )


def info(row: Any) -> PipelineInfo:
    """The record of a row of ``pipeline_versions``. Endpoints are for others to add."""
    definition = from_builtins(row.definition)
    sources = [
        StepInfo(name=one.name, kind="source", repo=one.repo, inputs=())
        for one in definition.sources
    ]
    steps = [
        StepInfo(
            name=step.name,
            kind=step.kind,
            repo=step.output_repo,
            inputs=tuple(one.repo for one in step.inputs),
            per=next((one.per for one in step.inputs if one.per != "repo"), "repo"),
            function=f"{step.function.file}:{step.function.name}",
            fingerprint=step.fingerprint,
        )
        for step in definition.in_order()
    ]
    return PipelineInfo(
        name=row.name,
        version=row.version,
        snapshot=definition.snapshot,
        file=definition.file,
        steps=(*sources, *steps),
        endpoints=(),
        created_at=clock.from_us(row.created_us),
        global_id=row.global_id,
        parameters=definition.parameters,
    )


def unknown(tx: Tx, name: str) -> NotFound:
    """The error for a pipeline that is not there."""
    names = [row.name for row in tx.execute(tables.VERSIONS)]
    near = get_close_matches(name, names, 3, 0.5)
    known = ", ".join(names[:5]) or "none yet"
    return NotFound(
        "pipeline.unknown",
        f"There is no pipeline {name!r}.",
        hint=f"Did you mean {' or '.join(near)}?" if near else f"Registered: {known}.",
    )


def _wishes(pipeline: PipelineDefinition) -> Iterator[Branch]:
    return ((i.repo, i.prefers) for step in pipeline.steps for i in step.inputs if i.prefers)


def _settled(pipeline: PipelineDefinition, there: frozenset[Branch]) -> PipelineDefinition:
    """The pipeline, reading the branches that are there where its inputs prefer them."""
    if not any((i.repo, i.prefers) in there for step in pipeline.steps for i in step.inputs):
        return pipeline
    steps = tuple(
        replace(
            step,
            inputs=tuple(
                replace(i, branch=i.prefers) if (i.repo, i.prefers) in there else i
                for i in step.inputs
            ),
        )
        for step in pipeline.steps
    )
    return replace(pipeline, steps=steps)


def _readers(pipelines: dict[str, PipelineDefinition]) -> dict[Branch, list[StepName]]:
    readers: dict[Branch, list[StepName]] = defaultdict(list)
    for pipeline in pipelines.values():
        for step in pipeline.in_order():
            for one in step.inputs:
                name = (pipeline.name, step.name)
                if one.drives and name not in readers[one.repo, one.branch]:
                    readers[one.repo, one.branch].append(name)
    return dict(readers)
