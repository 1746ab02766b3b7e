"""What a user's file is made of: a pipeline, its sources, its steps and the inputs between them.

It records definitions and runs nothing; the rooms that carry them out own their meaning.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from clew.authoring.checks import (
    check_limits,
    check_name,
    check_parameters,
    check_signature,
    invalid,
)
from clew.authoring.feeding import feed_of
from clew.authoring.programs import command_of, runtime_of
from clew.base.address import check_ref_name, check_repo_name
from clew.experiments import Distribution, SearchDefinition, single
from clew.models import HoldoutDefinition
from clew.monitoring import DriftDefinition
from clew.places import CommandDefinition, RuntimeDefinition
from clew.serving import Rollout, immediate
from clew.sources import Feed

PER = ("repo", "file", "directory")
DEFAULT_DRIFT = DriftDefinition()

Function: TypeAlias = Callable[..., Any]
Any_Node = TypeVar("Any_Node", bound="Node")


@dataclass(frozen=True, kw_only=True)
class Input:
    """Files of a node that a step reads: which (``glob``), how cut (``per``), and in which role.

    ``kind`` is ``data``, or ``reference`` for what is read but does not make a step run again.
    """

    node: Node
    files: str = "/**"
    per: str = "repo"
    kind: str = "data"

    def glob(self, pattern: str) -> Input:
        """Only the files that match ``pattern`` (``*``, ``**``, ``?``, ``[..]``, ``{a,b}``)."""
        return replace(self, files=pattern if pattern.startswith("/") else f"/{pattern}")

    def reference(self) -> Input:
        """Read the newest version when the step runs, but do not run the step because of it."""
        return replace(self, kind="reference")


class Node:
    """A thing in a pipeline that has a repo: a source, a step, a training step or a gate."""

    def __init__(self, pipeline: Pipeline, name: str, *, repo: str = "") -> None:
        self.pipeline = pipeline
        self.name = name
        self.repo = repo or f"{pipeline.name}/{name}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.pipeline.name}/{self.name}>"

    def glob(self, pattern: str) -> Input:
        """The files of this node that match ``pattern``."""
        return Input(node=self).glob(pattern)

    def reference(self) -> Input:
        """This node as something to read that does not make the reader run again."""
        return Input(node=self).reference()


class Source(Node):
    """A repo that people or systems commit to."""

    def __init__(
        self, pipeline: Pipeline, name: str, *, repo: str, branch: str, feed: Feed | None = None
    ) -> None:
        super().__init__(pipeline, name, repo=repo)
        self.branch = branch
        self.feed = feed


class Step(Node):
    """A function of the user with its inputs; calling it calls the function itself."""

    def __init__(
        self,
        pipeline: Pipeline,
        function: Function,
        inputs: tuple[Input, ...],
        options: StepOptions,
    ) -> None:
        super().__init__(pipeline, options.name or function.__name__)
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.inputs = inputs
        self.options = options
        self.expectations: list[Function] = []

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the user's function, here and now, without Clew."""
        return self.__wrapped__(*arguments, **named)


class Command(Step):
    """A program over directories in place of a function; see :meth:`Pipeline.cmd`."""

    def __init__(
        self,
        pipeline: Pipeline,
        command: CommandDefinition,
        inputs: Mapping[str, Input],
        options: StepOptions,
    ) -> None:
        def program(*_: object) -> None:
            raise invalid(f"{options.name} is a program", "Call it with the shell.")

        super().__init__(pipeline, program, tuple(inputs.values()), options)
        self.command = command
        self.names = tuple(inputs)


class Training(Step):
    """A training step: a search over trials of the user's function."""

    def __init__(
        self,
        pipeline: Pipeline,
        function: Function,
        inputs: tuple[Input, ...],
        options: StepOptions,
        training: TrainingOptions,
    ) -> None:
        super().__init__(pipeline, function, inputs, options)
        self.training = training
        self.gate: Function | None = None


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How a step runs; see :meth:`Pipeline.step`."""

    name: str = ""
    retries: int = 0
    timeout_s: float | None = None
    memory_bytes: int | None = None
    version: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    runtime: RuntimeDefinition = field(default_factory=RuntimeDefinition)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What makes a step a training step; see :meth:`Pipeline.train`."""

    target: str
    test: HoldoutDefinition | Source
    search: SearchDefinition
    space: Mapping[str, Distribution]


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """An endpoint as written by the user."""

    name: str
    model: Training
    rollout: Rollout


@dataclass(frozen=True, kw_only=True)
class MonitorOptions:
    """A monitor as written by the user."""

    endpoint: str
    drift: DriftDefinition
    retrain: bool


class Pipeline:
    """A graph of sources and steps, with the gates, endpoints and monitors that close its loop.

    Make one at module level and decorate functions with its methods; ``clew apply FILE`` registers
    it. The name is also the project that its repos live in.
    """

    def __init__(self, name: str, *, description: str = "") -> None:
        check_name(name, "a pipeline")
        self.name = name
        self.description = description
        self.nodes: dict[str, Node] = {}
        self.endpoints: dict[str, EndpointOptions] = {}
        self.monitors: list[MonitorOptions] = []

    def __repr__(self) -> str:
        return f"<pipeline {self.name}: {', '.join(self.nodes) or 'empty'}>"

    def source(
        self,
        name: str,
        feed: Feed | None = None,
        *,
        branch: str = "main",
        repo: str = "",
        sql: str = "",
        **polling: Any,
    ) -> Source:
        """A repo that is committed to from outside (``repo``: of another pipeline, say).

        With a ``feed`` it commits by itself: ``clew.directory(...)``, ``clew.bucket(...)``,
        ``clew.webhook(...)``, ``clew.redis_stream(...)``, ``clew.kafka(...)``,
        ``clew.database(...)``; ``sql=`` with ``url=``, ``every=``, ``watermark=`` and the rest of
        ``clew.database`` is short for the last.
        """
        check_ref_name(branch)
        if repo:
            check_repo_name(repo)
        found = feed_of(name, feed, sql, polling)
        return self._add(Source(self, name, repo=repo, branch=branch, feed=found))

    def step(
        self,
        *inputs: Node | Input,
        per: str = "repo",
        name: str = "",
        retries: int = 0,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        version: str = "",
        parameters: Mapping[str, object] | None = None,
        requirements: Sequence[str] | str = (),
        python: str = "",
        cpus: int | None = None,
    ) -> Callable[[Function], Step]:
        """Make a function a step. Arguments are its inputs, in the order of its parameters.

        The annotation of a parameter says how data arrives (polars, pandas, Arrow, DuckDB,
        ``clew.File``, ``Path``, ``bytes``, ``list[...]``, JSON); that of the result how it is kept.

        Args:
            inputs: Nodes, or some of their files: ``flights.glob("/*.parquet")``.
            per: ``file``: one datum per file of the first input, so that only new or changed files
                run; ``directory``: one per directory; ``repo``: all files together.
            name: Name of the step, if not the function's.
            retries: How often a failing datum is tried again, with growing pauses.
            timeout_s: Seconds after which a datum is stopped.
            memory_bytes: Bytes of memory above which a datum is stopped.
            version: Stands for the code: the step runs anew only when this changes.
            parameters: Passed to the function by name; a change runs the step anew.
            requirements: Packages of an environment of its own, ``["pandas==2.2.3"]``, or the name
                of a requirements file of the project. It holds nothing else but what Clew's worker
                needs; import its packages inside the function.
            python: The version of Python of that environment, ``"3.12"``, or an interpreter's path.
            cpus: How many cores a datum may use.

        Raises:
            Invalid: ``pipeline.definition`` for a wrong ``per``, input or name.
        """
        _check_inputs(inputs, "step")
        options = StepOptions(
            name=name,
            retries=retries,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            version=version,
            parameters=parameters or {},
            runtime=runtime_of(
                name or "a step", requirements=requirements, python=python, cpus=cpus
            ),
        )
        check_limits(
            retries=options.retries,
            timeout_s=options.timeout_s,
            memory_bytes=options.memory_bytes,
        )
        check_parameters(options.parameters)

        def record(function: Function) -> Step:
            found = self._inputs(function, inputs, per, named=tuple(options.parameters))
            return self._add(Step(self, function, found, options))

        return record

    def cmd(
        self,
        name: str,
        command: Sequence[str] | str,
        *inputs: Node | Input,
        named: Mapping[str, Node | Input] | None = None,
        per: str = "repo",
        stdin: str = "",
        stdout: str = "",
        pipes: Sequence[str] = (),
        exit_codes: Sequence[int] = (0,),
        env: Mapping[str, str] | None = None,
        retries: int = 0,
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        cpus: int | None = None,
        version: str = "",
        parameters: Mapping[str, object] | None = None,
        requirements: Sequence[str] | str = (),
        python: str = "",
        sandbox: bool = False,
        network: bool | None = None,
        image: str = "",
    ) -> Command:
        """Make a program in any language a step: it reads directories and writes one.

        Each input is a directory, called after its node: ``$CLEW_INPUT_raw``, and where the datum
        has one file of it, ``$CLEW_FILE_raw`` is that file. What the program leaves below
        ``$CLEW_OUTPUT`` is its output. It starts in a directory where the files of the project
        are. In a list, ``$CLEW_...`` is replaced in every argument; a text goes to ``/bin/sh``.
        Standard output and error are in the log.

        Args:
            name: Name of the step.
            command: The program and its arguments, ``["Rscript", "clean.R"]``, or a text for the
                shell. Files of the project that it names, and those they name, are its code.
            inputs: Nodes, or some of their files, as in :meth:`step`.
            named: More inputs, with names for them.
            per: ``file``, ``directory`` or ``repo``; how the first input is cut into datums.
            stdin: The input whose files are fed to standard input, without a copy on disk.
            stdout: The file of the output that standard output becomes, ``{name}.csv``; it goes
                to the store as it comes.
            pipes: Inputs whose files are named pipes, to be read once from start to end; nothing
                of them is copied to disk.
            exit_codes: Which exit codes mean success.
            env: More environment variables.
            retries: How often a failing datum is tried again, with growing pauses.
            timeout_s: Seconds after which a datum is stopped, with all its processes.
            memory_bytes: Bytes of memory above which a datum is stopped.
            cpus: How many cores a datum may use.
            version: Stands for the code: the step runs anew only when this changes.
            parameters: In ``$CLEW_PARAMETERS`` as JSON, and each in ``$CLEW_PARAMETER_name``.
            requirements: Packages of a Python environment whose programs come first on the PATH.
            python: The version of Python of that environment, ``"3.12"``, or an interpreter's path.
            sandbox: Close the program off: it sees its inputs at ``/pfs`` and a system that it
                cannot change, has a ``/tmp`` of its own and no network.
            network: Whether a sandbox or image has the network.
            image: A container image that it runs in, with its inputs at ``/pfs``.

        Raises:
            Invalid: ``pipeline.definition``.
        """
        check_name(name, "a command")
        found = _named_inputs(name, inputs, named or {}, per)
        options = StepOptions(
            name=name,
            retries=retries,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
            version=version,
            parameters=parameters or {},
            runtime=runtime_of(
                name,
                requirements=requirements,
                python=python,
                sandbox=sandbox,
                network=network,
                image=image,
                cpus=cpus,
            ),
        )
        check_limits(
            retries=options.retries,
            timeout_s=options.timeout_s,
            memory_bytes=options.memory_bytes,
        )
        check_parameters(options.parameters)
        program = command_of(
            name,
            command,
            names=list(found),
            stdin=stdin,
            stdout=stdout,
            pipes=pipes,
            exit_codes=exit_codes,
            env=env,
        )
        return self._add(Command(self, program, found, options))

    def expect(self, step: Step) -> Callable[[Function], Function]:
        """Make a function the expectations of a step's output: it gets a ``clew.Table``."""
        if not isinstance(step, Step) or step.pipeline is not self:
            raise invalid(f"{step!r} is not a step of {self.name}", "Give a decorated function.")

        def record(function: Function) -> Function:
            step.expectations.append(function)
            return function

        return record

    def train(
        self,
        *inputs: Node | Input,
        target: str,
        test: HoldoutDefinition | Source,
        search: SearchDefinition | None = None,
        space: Mapping[str, Distribution] | None = None,
        name: str = "",
        timeout_s: float | None = None,
        memory_bytes: int | None = None,
        version: str = "",
    ) -> Callable[[Function], Training]:
        """Make a function a training step: it gets the training rows and a ``clew.Trial``.

        Args:
            inputs: One node (or some of its files) with the rows to learn from.
            target: The column to predict.
            test: Where the frozen test set comes from: ``clew.holdout(0.2, by="date")`` splits it
                off once and keeps it out of all training, or a source whose data is the test set.
            search: How parameters are searched: ``clew.asha(...)``; one plain trial without it.
            space: Name of a parameter to its distribution.
            name: Name of the step, if not the function's.
            timeout_s: Seconds after which a trial is stopped.
            memory_bytes: Bytes of memory above which a trial is stopped.
            version: Stands for the code: training runs anew for code only when this changes.

        Raises:
            Invalid: ``pipeline.definition``.
        """
        _check_inputs(inputs, "train")
        options = StepOptions(
            name=name, timeout_s=timeout_s, memory_bytes=memory_bytes, version=version
        )
        check_limits(
            retries=options.retries,
            timeout_s=options.timeout_s,
            memory_bytes=options.memory_bytes,
        )
        training = TrainingOptions(
            target=target, test=test, search=search or single(), space=space or {}
        )

        def record(function: Function) -> Training:
            found = self._inputs(function, inputs, "repo", extra=1)
            if len(found) != 1:
                raise invalid(
                    f"The training step {function.__name__} has {len(found)} inputs",
                    "Give it one; join the data in a step before it.",
                )
            return self._add(Training(self, function, found, options, training))

        return record

    def gate(self, model: Training) -> Callable[[Function], Function]:
        """Make a function the gate of a model: it gets a ``clew.Candidate`` and states rules."""
        if not isinstance(model, Training) or model.pipeline is not self:
            raise invalid(f"{model!r} is not a training step of {self.name}", "Gate a model.")
        if model.gate is not None:
            raise invalid(f"{model.name} has a gate already", "Put all rules in one function.")

        def record(function: Function) -> Function:
            model.gate = function
            return function

        return record

    def endpoint(self, name: str, model: Training, *, rollout: Rollout | None = None) -> None:
        """Serve the champion of ``model`` under ``name``; new ones come by ``rollout``."""
        check_name(name, "an endpoint")
        if not isinstance(model, Training):
            raise invalid(f"{model!r} is not a training step", "An endpoint serves a model.")
        if name in self.endpoints:
            raise invalid(f"There are two endpoints {name!r}", "Give each a name of its own.")
        self.endpoints[name] = EndpointOptions(
            name=name, model=model, rollout=rollout or immediate()
        )

    def monitor(
        self, endpoint: str, *, drift: DriftDefinition = DEFAULT_DRIFT, retrain: bool = False
    ) -> None:
        """Watch what ``endpoint`` is asked; ``retrain`` trains anew when it has drifted.

        A retrain first moves data that waits on the branch ``staging`` of the pipeline's sources
        to their own branch, so that the new model learns from it.
        """
        if endpoint not in self.endpoints:
            raise invalid(
                f"There is no endpoint {endpoint!r} to monitor", "Define the endpoint before it."
            )
        self.monitors.append(MonitorOptions(endpoint=endpoint, drift=drift, retrain=retrain))

    def _add(self, node: Any_Node) -> Any_Node:
        check_name(node.name, f"a {type(node).__name__.lower()}")
        if node.name in self.nodes:
            raise invalid(
                f"{self.name} has two nodes named {node.name!r}", "Rename one, or give name=."
            )
        self.nodes[node.name] = node
        return node

    def _inputs(
        self,
        function: Function,
        inputs: Sequence[Node | Input],
        per: str,
        *,
        named: tuple[str, ...] = (),
        extra: int = 0,
    ) -> tuple[Input, ...]:
        if per not in PER:
            raise invalid(f"per={per!r} of {function.__name__}", f"Use one of {', '.join(PER)}.")
        found = [as_input(one) for one in inputs]
        if found and per != "repo":
            found[0] = replace(found[0], per=per)
        check_signature(function, len(found) + extra, named)
        return tuple(found)


def as_input(one: Node | Input) -> Input:
    """A node or some of its files, as an input.

    Raises:
        Invalid: ``pipeline.definition`` where it is neither.
    """
    if isinstance(one, Node):
        return Input(node=one)
    if isinstance(one, Input):
        return one
    raise invalid(
        f"{one!r} is not an input of a step", "Give sources, steps, or node.glob('/*.parquet')."
    )


def _named_inputs(
    step: str, inputs: Sequence[Node | Input], named: Mapping[str, Node | Input], per: str
) -> dict[str, Input]:
    """Inputs by the names of their directories; the first is cut as ``per`` says."""
    if per not in PER:
        raise invalid(f"per={per!r} of {step}", f"Use one of {', '.join(PER)}.")
    nodes = [as_input(one) for one in inputs]
    names = [one.node.name for one in nodes] + list(named)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise invalid(
            f"{step} has two inputs called {twice!r}", "Name them: named={'old': a, 'new': b}."
        )
    if "out" in names:
        raise invalid(f"{step} has an input called 'out'", "Give it another name in named=.")
    for name in named:
        check_name(name, "an input")
    found = dict(zip(names, [*nodes, *map(as_input, named.values())], strict=True))
    if per != "repo" and found:
        found[names[0]] = replace(found[names[0]], per=per)
    return found


def _check_inputs(inputs: Sequence[Node | Input], decorator: str) -> None:
    """Refuse wrong inputs at once: ``@p.step`` without brackets would record nothing."""
    if len(inputs) == 1 and inspect.isfunction(inputs[0]):
        raise invalid(
            f"@{decorator} was put on {inputs[0].__name__} without inputs",
            f"Write @pipeline.{decorator}(source, ...) above the function.",
        )
    for one in inputs:
        as_input(one)
