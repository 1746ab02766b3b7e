"""Steps that are programs: what a batch of their datums needs, and how a worker runs one.

Knows datums and the door of places; how a program is run is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from clew.base.records import Job
from clew.pipelines.definitions import StepDefinition
from clew.places import (
    CommandDefinition,
    DatumOfProgram,
    Environments,
    Program,
    RuntimeDefinition,
)
from clew.store import Store

Group = tuple[str, str, list[str], bool]
"""Parameter, tree, paths, whether it is a directory."""


class ProgramTask(msgspec.Struct, frozen=True):
    """What the worker is told of a program. ``ids`` are those of the datums of the batch.

    ``variables`` (``CLEW_JOB``, ...) are the same for all of them; ``programs`` is the directory of
    the programs of the step's own environment, '' where it has none.
    """

    command: CommandDefinition
    runtime: RuntimeDefinition
    programs: str
    variables: dict[str, str]
    ids: list[str]


class Programs:
    """The program of a batch, for one datum after another."""

    def __init__(self, task: ProgramTask, store: Store, *, project: Path, scratch: Path) -> None:
        self._task = task
        self._store = store
        self._program = _ready(task, store, project, scratch.with_name(f"{scratch.name}.files"))

    def run(
        self,
        at: int,
        name: str,
        groups: Sequence[Group],
        parameters: Mapping[str, Any],
        put: Callable[[Path], tuple[str, int]] | None,
    ) -> list[tuple[str, str, int]]:
        """Path, digest and size of what a datum's run left; raises what running it raises.

        ``put`` takes the small files of its output; without it all are durable when this returns.
        """
        inputs = {
            parameter: [(path, self._digest(tree, path)) for path in paths] if tree else []
            for parameter, tree, paths, _ in groups
        }
        variables = {**self._task.variables, "CLEW_DATUM": self._task.ids[at]}
        return self._program.run(
            DatumOfProgram(name=name, inputs=inputs, parameters=parameters, variables=variables),
            put,
        )

    def _digest(self, tree: str, path: str) -> str:
        entry = self._store.get(tree, path)
        assert entry is not None
        return entry.digest


def variables_of(job: Job) -> dict[str, str]:
    """What a program is told of the job that it runs for."""
    return {
        "CLEW_JOB": job.id,
        "CLEW_GLOBAL_ID": job.global_id,
        "CLEW_PIPELINE": job.pipeline,
        "CLEW_STEP": job.step,
    }


def surroundings_of(
    step: StepDefinition, environments: Environments | None
) -> tuple[tuple[str, ...], str]:
    """How workers are started for a step, and where programs of its environment are; '' and () for
    those of the server. An environment that is not there is built.

    Raises:
        Invalid: ``environment.python``.
        Unavailable: ``environment.no_uv``, ``environment.offline``, ``environment.build``.
    """
    runtime = step.runtime
    if not runtime.own_environment or environments is None:
        return (), ""
    python = python_of(step)
    if step.command is not None:
        return (), str(environments.programs(runtime.lock, python))
    return environments.worker(runtime.lock, python), ""


def python_of(step: StepDefinition) -> str:
    """The Python that an environment was resolved for, also where the server has moved on."""
    return step.runtime.python or step.packages.get("python", "")


class _Last:
    """The program that this process ran last: the inputs that it laid out may serve again."""

    key: tuple[Any, ...] = ()
    program: Program | None = None


def _ready(task: ProgramTask, store: Store, project: Path, root: Path) -> Program:
    key = (task.command, task.runtime, task.programs, store.address, project, root)
    if _Last.program is None or _Last.key != key:
        _Last.program = Program(
            task.command,
            task.runtime,
            store,
            root=root,
            project=project,
            programs=Path(task.programs) if task.programs else None,
        )
        _Last.key = key
    return _Last.program
