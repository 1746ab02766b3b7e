"""What a pipeline is, as values: sources, steps, their inputs, and what counts for their keys.

Knows no storage and runs nothing; a definition travels as JSON through msgspec.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from clew.base.errors import Invalid
from clew.base.records import CodeRef, ParameterInfo
from clew.base.records.policy import PipelinePolicy, Policy
from clew.places import CommandDefinition, RuntimeDefinition
from clew.schedules import Schedule
from clew.store import digest_of

Per = Literal["file", "repo", "directory", "capture", "match"]
How = Literal["cross", "union", "join", "group"]

KEY_FORMAT = 1
"""Counts up when the meaning of a datum key changes; then everything runs once more."""


PARAMETER_SET = "*"
"""The parameter of an input that is a set of parameters."""


class InputDefinition(Struct, frozen=True, kw_only=True):
    """What one parameter of a step reads.

    ``per`` cuts the files that match ``glob`` into groups: one for each file, for each directory
    that holds some, for each tuple of captures, or one of them all; ``match`` is one for each file
    or directory that the glob itself matches, with all that is below it. ``kind`` ``reference`` is
    read, but does not count into the key.

    In a join, groups meet whose ``on`` is the same (``$1``, ``$day``, ``$1-$2``; empty: all
    captures); in a group it is ``by``, or ``on`` where that is empty. ``outer``: it takes part in a
    join also where the others have nothing. ``slot`` tells inputs of a union apart; the names of
    its outputs begin with it.
    """

    parameter: str
    repo: str
    branch: str = "main"
    glob: str = "/**"
    per: Per = "repo"
    kind: Literal["data", "reference"] = "data"
    on: str = ""
    by: str = ""
    outer: bool = False
    slot: str = ""
    needed: bool = False
    """Of a reference: nothing runs before it is there, and a new one starts a job, in which what is
    done stays done.
    """
    prefers: str = ""
    """A branch that is read in place of ``branch`` where the repo has it."""

    @classmethod
    def of_sets(cls, repo: str) -> InputDefinition:
        """Sets of parameters, a JSON file each: its fields are arguments of the function."""
        return cls(parameter=PARAMETER_SET, repo=repo, per="file")

    @property
    def drives(self) -> bool:
        """Whether a job waits for it, and follows it."""
        return self.kind == "data" or self.needed

    @property
    def is_passed(self) -> bool:
        """Whether the function gets it; else it only counts."""
        return not self.parameter.startswith("@")

    @property
    def name(self) -> str:
        """What tells it from all other inputs of its step."""
        return f"{self.parameter}.{self.slot}" if self.slot else self.parameter


class Combination(Struct, frozen=True, kw_only=True):
    """How datums are made of the groups of several inputs.

    ``parts`` are numbers of inputs of the step, or combinations in their turn. ``cross``: every
    combination of their groups; ``union``: the groups of each; ``join``: every combination of those
    with one key; ``group``: all files with one key.
    """

    how: How
    parts: tuple[Part, ...]


Part: TypeAlias = "int | Combination"


class SourceDefinition(Struct, frozen=True, kw_only=True):
    """A repo that people or systems commit to. ``name`` is how the file calls it.

    With ``cron`` it is the engine that commits, a file for each tick; each takes the place of the
    one before where they ``overwrite``.
    """

    name: str
    repo: str
    branch: str = "main"
    cron: Schedule | None = None
    overwrite: bool = False


class StepDefinition(Struct, frozen=True, kw_only=True):
    """One node of a pipeline.

    ``kind``: ``step`` (a function of datums), or the name of a plugged runner (``train``,
    ``gate``). ``fingerprint`` and ``environment`` are the digests of
    :func:`clew.pipelines.fingerprint` and :func:`clew.pipelines.environment_of`; ``parts`` and
    ``packages`` are what they are made of, so that a difference can be named. ``version``, where
    set, takes the place of the code fingerprint. ``options`` belong to the runner of the kind.
    ``timeout_s`` and ``memory_bytes`` hold for one datum; ``retries`` come after the first try.
    ``command`` is the program of a step that is no function; ``runtime`` what it runs in.
    ``combination`` says how inputs make datums; all are crossed where it is None.
    ``depends`` are digests of what else was declared to count, by name. Where a change of code was
    accepted, ``accepted`` has what stands for ``code`` (and ``environment``) in keys, and who said
    so. ``allow`` silences warnings of undeclared reads; ``clocks`` are uses of the clock that the
    code shows. Neither counts.
    """

    name: str
    kind: str = "step"
    inputs: tuple[InputDefinition, ...] = ()
    combination: Combination | None = None
    function: CodeRef
    fingerprint: str
    environment: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    expectations: tuple[dict[str, Any], ...] = ()
    retries: int = 0
    timeout_s: float | None = None
    memory_bytes: int | None = None
    version: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    output_repo: str
    output_branch: str = "main"
    parts: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    widened: tuple[str, ...] = ()
    depends: dict[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    clocks: tuple[str, ...] = ()
    accepted: dict[str, str] = field(default_factory=dict)
    command: CommandDefinition | None = None
    runtime: RuntimeDefinition = field(default_factory=RuntimeDefinition)

    @property
    def code_key(self) -> str:
        """What stands for the code in a key."""
        own = f"version:{self.version}" if self.version else self.fingerprint
        return self.accepted.get("code", own)

    @property
    def environment_key(self) -> str:
        """What stands for the environment in a key."""
        return self.accepted.get("environment", self.environment)

    def demand(self) -> dict[str, float]:
        """What a datum demands of a machine, where there are several."""
        cores = {} if self.runtime.cpus is None else {"CPU": float(self.runtime.cpus)}
        return cores | dict(self.policy.resources)

    def key_material(self) -> dict[str, Any]:
        """Everything but the data that a result of this step depends on."""
        return {
            **self._program(),
            **({"depends": self.depends} if self.depends else {}),
            "format": KEY_FORMAT,
            "repo": self.output_repo,
            "kind": self.kind,
            "code": self.code_key,
            "environment": self.environment_key,
            "parameters": self.parameters,
            "expectations": list(self.expectations),
            "options": self.options,
            "inputs": [[one.name, one.per, one.kind] for one in self.inputs],
        }

    def _program(self) -> dict[str, Any]:
        """What a step that is a plain function in the server's environment has nothing of."""
        runtime = self.runtime.key_material()
        return {
            **({"command": msgspec.to_builtins(self.command)} if self.command else {}),
            **({"runtime": runtime} if runtime else {}),
        }

    def meaning(self) -> str:
        """A digest that differs if what the step makes of the same repos may differ."""
        return digest_of("step", {**self.key_material(), "inputs": self.reads()})

    def reads(self) -> list[Any]:
        """Which files make which datums, JSON-able."""
        plain = [
            [i.name, i.repo, i.prefers or i.branch, i.glob, i.per, i.kind] for i in self.inputs
        ]
        if self.combination is None:
            return plain
        keys = [[i.on, i.by, i.outer] for i in self.inputs]
        return [*plain, keys, msgspec.to_builtins(self.combination)]

    def combined(self) -> Combination:
        """How its inputs make datums."""
        every = tuple(range(len(self.inputs)))
        return self.combination or Combination(how="cross", parts=every)

    @staticmethod
    def variable(name: str) -> str:
        """What stands for the value of an environment variable of this process in ``depends``.

        The value itself is kept nowhere: it may be a secret.
        """
        return digest_of("env", [name, os.environ.get(name)])

    def depending(
        self,
        digests: dict[str, str],
        parts: dict[str, str],
        repos: tuple[InputDefinition, ...],
    ) -> StepDefinition:
        """The step with what it depends on besides; the function does not get those repos."""
        combination = self.combination
        if combination is not None and repos:
            extra = range(len(self.inputs), len(self.inputs) + len(repos))
            combination = Combination(how="cross", parts=(combination, *extra))
        return replace(
            self,
            inputs=(*self.inputs, *repos),
            combination=combination,
            depends=digests,
            parts={**self.parts, **parts},
        )

    def can_run(self, has_data: Callable[[InputDefinition], bool]) -> bool:
        """Whether there may be a datum, given which inputs have data."""
        return _can_run(self.combined(), self.inputs, has_data)


class PipelineDefinition(Struct, frozen=True, kw_only=True):
    """A DAG of steps over sources, as one file of a project defines it.

    ``snapshot`` is the digest of the tree of the project's files, ``file`` the path in it.
    ``notes`` are shown to people and are no part of the identity.
    """

    name: str
    snapshot: str
    file: str
    sources: tuple[SourceDefinition, ...] = ()
    steps: tuple[StepDefinition, ...] = ()
    policy: PipelinePolicy = field(default_factory=PipelinePolicy)
    notes: tuple[str, ...] = ()
    parameters: tuple[ParameterInfo, ...] = ()

    def step(self, name: str) -> StepDefinition | None:
        """The step of that name."""
        return next((step for step in self.steps if step.name == name), None)

    def digest(self) -> str:
        """Identity of the whole: code snapshot, sources, steps."""
        return digest_of("pipeline", {**to_builtins(self), "notes": []})

    def in_order(self) -> tuple[StepDefinition, ...]:
        """The steps, each after those that it reads.

        Raises:
            Invalid: ``pipeline.cycle``, ``pipeline.duplicate``, ``pipeline.input``.
        """
        return tuple(_in_order(self))


def leaves(part: Part) -> Iterator[int]:
    """Numbers of the inputs of a combination, from left to right."""
    if isinstance(part, int):
        yield part
    else:
        for one in part.parts:
            yield from leaves(one)


def _can_run(
    part: Part, inputs: tuple[InputDefinition, ...], has_data: Callable[[InputDefinition], bool]
) -> bool:
    if isinstance(part, int):
        return not inputs[part].drives or has_data(inputs[part])
    able = [_can_run(one, inputs, has_data) for one in part.parts]
    if part.how in {"union", "group"}:
        return any(able)
    outer = part.how == "join" and any(
        can and any(inputs[at].outer for at in leaves(one))
        for can, one in zip(able, part.parts, strict=True)
    )
    return all(able) or outer


def to_builtins(definition: PipelineDefinition) -> dict[str, Any]:
    """Plain form for rows and wires; :func:`from_builtins` reads it back."""
    plain: dict[str, Any] = msgspec.to_builtins(definition)
    return plain


def from_builtins(plain: dict[str, Any]) -> PipelineDefinition:
    """The definition that :func:`to_builtins` wrote."""
    return msgspec.convert(plain, PipelineDefinition)


def _in_order(pipeline: PipelineDefinition) -> Iterator[StepDefinition]:
    by_repo = {step.output_repo: step for step in pipeline.steps}
    names = [step.name for step in pipeline.steps] + [one.name for one in pipeline.sources]
    if len(set(names)) < len(names) or len(by_repo) < len(pipeline.steps):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise Invalid(
            "pipeline.duplicate",
            f"Pipeline {pipeline.name} names {', '.join(twice) or 'an output repo'} twice.",
            hint="Give each source and step a name of its own.",
        )
    done: set[str] = set()
    left = list(pipeline.steps)
    while left:
        ready = [
            step
            for step in left
            if all(one.repo not in by_repo or one.repo in done for one in step.inputs)
        ]
        if not ready:
            raise Invalid(
                "pipeline.cycle",
                f"Steps {', '.join(step.name for step in left)} of {pipeline.name} form a circle.",
                hint="A step can read only what was made before it.",
            )
        yield from ready
        done.update(step.output_repo for step in ready)
        left = [step for step in left if step.output_repo not in done]
