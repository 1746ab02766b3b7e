"""A small workspace for the engine: real rows, bytes and processes, and steps written as text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from clew.authoring.inputs import arrange
from clew.authoring.manifest import input_of
from clew.base.ids import new_id
from clew.base.records import CodeRef, Commit, Datum, Job
from clew.compute import ProcessPool
from clew.db import Database
from clew.lineage import Lineage
from clew.pipelines import (
    InputDefinition,
    PipelineDefinition,
    Pipelines,
    Runner,
    SourceDefinition,
    StepDefinition,
    environment_of,
    fingerprint,
)
from clew.pipelines.datums import Cut, Unit
from clew.repos import Repos
from clew.store import EMPTY_TREE, Entry, Store
from clew.testing.postgres import database_url


class Lab:
    """A workspace in a directory. ``code`` writes the project; ``apply`` registers steps of it."""

    def __init__(self, home: Path, pool: ProcessPool, runners: Mapping[str, Runner]) -> None:
        self.home = home
        self.db = Database.open(database_url(home))
        self.db.create()
        self.store = Store.open(home / "store")
        self.repos = Repos(self.db, self.store)
        self.lineage = Lineage(self.db)
        self.pipelines = Pipelines(
            self.db,
            self.repos,
            self.store,
            self.lineage,
            pool,
            lambda snapshot: home / "code" / snapshot,
            runners,
            log_dir=home / "logs",
        )
        self.snapshot = ""
        self.sources: tuple[str, ...] = ("p/raw",)

    def close(self) -> None:
        self.pipelines.close()
        self.db.close()

    def code(self, text: str) -> None:
        self.snapshot = new_id()
        directory = self.home / "code" / self.snapshot
        directory.mkdir(parents=True)
        (directory / "a.py").write_text(dedent(text))

    def step(self, name: str, *inputs: str | InputDefinition, **options: Any) -> StepDefinition:
        """A step reading repos; ``raw/`` at the end of a name means one datum per file."""
        found = fingerprint(
            self.home / "code" / self.snapshot, "a.py", options.pop("function", name)
        )
        environment = environment_of(found)
        return StepDefinition(
            **{
                "name": name,
                "inputs": tuple(_input(one) for one in inputs),
                "function": CodeRef(snapshot=self.snapshot, file="a.py", name=name),
                "fingerprint": found.digest,
                "parts": found.parts,
                "environment": environment.digest,
                "packages": environment.packages,
                "output_repo": f"p/{name}",
                **options,
            }
        )

    def define(self, *steps: StepDefinition) -> PipelineDefinition:
        return PipelineDefinition(
            name="p",
            snapshot=self.snapshot,
            file="a.py",
            sources=tuple(SourceDefinition(name=r[2:], repo=r) for r in self.sources),
            steps=steps,
        )

    def apply(self, *steps: StepDefinition) -> str:
        global_id = new_id()
        self.pipelines.register(self.define(*steps), global_id=global_id)
        return global_id

    def put(
        self, files: Mapping[str, str], deletes: Sequence[str] = (), repo: str = "p/raw"
    ) -> Commit:
        return self.repos.commit(
            repo, {path: text.encode() for path, text in files.items()}, deletes
        )

    def run(self) -> None:
        assert self.pipelines.run_until_idle(timeout_s=60)

    def last(self, step: str) -> Job:
        return self.pipelines.jobs(step=step, limit=1)[0]

    def datums(self, step: str) -> dict[str, Datum]:
        """Datums of the last job of a step, by the path of their first input."""
        found = self.pipelines.datums(self.last(step).id)
        return {datum.inputs[0][0].partition(":")[2]: datum for datum in found}

    def states(self, step: str) -> dict[str, str]:
        return {path: datum.state for path, datum in self.datums(step).items()}

    def reasons(self, step: str) -> dict[str, str]:
        return {path: datum.reason for path, datum in self.datums(step).items()}

    def output(self, step: str) -> dict[str, str]:
        head = self.repos.head(f"p/{step}")
        assert head is not None
        return {e.path: self.store.read(e.digest).decode() for e in self.store.entries(head.tree)}


def _input(one: str | InputDefinition) -> InputDefinition:
    if isinstance(one, InputDefinition):
        return one
    name = one.rstrip("/")
    return InputDefinition(
        parameter=name, repo=f"p/{name}", per="file" if one.endswith("/") else "repo"
    )


class Trees:
    """Datums of inputs as a user writes them, over files given as paths and texts; runs nothing."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def step(self, inputs: Sequence[Any], parameters: str, per: str = "repo") -> StepDefinition:
        """A step whose function has these parameters."""
        arranged = arrange("s", inputs, per, parameters.split())
        return StepDefinition(
            name="s",
            inputs=tuple(map(input_of, arranged.inputs)),
            combination=arranged.combination,
            function=CodeRef(snapshot="s", file="a.py", name="s"),
            fingerprint="f",
            output_repo="p/s",
        )

    def tree(self, files: Mapping[str, str]) -> str:
        with self.store.writer() as writer:
            entries = []
            for path, text in files.items():
                digest, size = writer.put(text.encode())
                entries.append(Entry(path=path, digest=digest, size_bytes=size))
            tree = writer.tree(EMPTY_TREE, entries)
            writer.flush()
        return tree

    def cut(self, step: StepDefinition, repos: Mapping[str, Mapping[str, str]]) -> Cut:
        trees = {repo: self.tree(files) for repo, files in repos.items()}
        there = {one.name: trees[one.repo] for one in step.inputs if one.repo in trees}
        return Cut(self.store, step, there)

    @staticmethod
    def datum(unit: Unit) -> dict[str, list[str]]:
        """Paths by parameter; a parameter that gets nothing is not there."""
        return {
            group.input.parameter: [path for path, _ in group.files]
            for group in unit.groups
            if not group.missing
        }


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    return Trees(Store.open(tmp_path_factory.mktemp("trees")))


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessPool]:
    home = tmp_path_factory.mktemp("pool")
    pool = ProcessPool(2, home / "scratch", home / "logs")
    yield pool
    pool.close()


@pytest.fixture
def new_lab(tmp_path: Path, pool: ProcessPool) -> Iterator[Callable[..., Lab]]:
    made: list[Lab] = []

    def make(runners: Mapping[str, Runner] | None = None, home: Path = tmp_path) -> Lab:
        made.append(Lab(home, pool, runners or {}))
        return made[-1]

    yield make
    for lab in made:
        lab.close()


@pytest.fixture
def lab(new_lab: Callable[..., Lab]) -> Lab:
    return new_lab()


def engine_of_a_child(home: Path) -> None:
    """An engine in a process of its own, for tests that kill it: recover, then run to the end."""
    pool = ProcessPool(2, home / "scratch", home / "logs")
    lab = Lab(home, pool, {})
    lab.pipelines.recover()
    lab.pipelines.run_until_idle()
    lab.close()
    pool.close()


if __name__ == "__main__":
    engine_of_a_child(Path(sys.argv[1]))
