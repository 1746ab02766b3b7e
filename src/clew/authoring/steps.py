"""What a pipeline is made of besides its sources: steps, programs, trainings, endpoints, monitors.

Records what was written; the pipeline that they belong to knows how it was checked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from clew.authoring.checks import check_name, invalid
from clew.authoring.inputs import (
    Arranged,
    Combined,
    Given,
    Input,
    Node,
    Owner,
    arrange,
    as_input,
    leaves_of,
)
from clew.authoring.options import GateOptions, StepOptions, TrainingOptions
from clew.base.records import Column
from clew.base.records.graphs import Part
from clew.determined import Determined
from clew.monitoring import DriftDefinition
from clew.places import CommandDefinition
from clew.serving import Rollout

Function: TypeAlias = Callable[..., Any]


class Step(Node):
    """A function of the user with its inputs; calling it calls the function itself."""

    def __init__(
        self,
        pipeline: Owner,
        function: Function,
        inputs: Arranged,
        options: StepOptions,
    ) -> None:
        super().__init__(pipeline, options.name or function.__name__)
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.inputs = inputs.inputs
        self.combination = inputs.combination
        self.options = options
        self.expectations: list[Function] = []
        self.sets: Any = None
        """Sets of parameters that it runs over; see ``reuse``."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the user's function, here and now, without Clew."""
        return self.__wrapped__(*arguments, **named)


class Command(Step):
    """A program over directories in place of a function; see :meth:`Pipeline.cmd`."""

    def __init__(
        self,
        pipeline: Owner,
        command: CommandDefinition,
        inputs: Arranged,
        options: StepOptions,
    ) -> None:
        def program(*_: object) -> None:
            raise invalid(f"{options.name} is a program", "Call it with the shell.")

        super().__init__(pipeline, program, inputs, options)
        self.command = command


class Training(Step):
    """A training step: a search over trials of the user's function."""

    def __init__(
        self,
        pipeline: Owner,
        function: Function,
        inputs: Arranged,
        options: StepOptions,
        training: TrainingOptions,
    ) -> None:
        super().__init__(pipeline, function, inputs, options)
        self.training = training
        self.gate: Function | None = None
        self.gate_options = GateOptions()


class Imported(Training):
    """A model that comes from outside: ``clew models import`` makes its versions, its gate judges.

    It is no step of the pipeline; what is judged and served of it is.
    """


class Batch(Step):
    """Predictions for the files of a node, by the model that an alias stands on."""

    def __init__(
        self, pipeline: Owner, inputs: Arranged, options: StepOptions, model: str, alias: str
    ) -> None:
        super().__init__(pipeline, _of_rows, inputs, options)
        self.model, self.alias = model, alias


def _of_rows(rows: Any, model: Any) -> None:
    """Stands for what a worker does with rows and a model."""


class Borrowed(Step):
    """An experiment of Determined: a search over trials that are programs."""

    def __init__(
        self, pipeline: Owner, function: Function, options: StepOptions, experiment: Determined
    ) -> None:
        super().__init__(pipeline, function, Arranged(inputs=()), options)
        self.experiment = experiment


class Around(Struct, frozen=True, kw_only=True):
    """Functions around the model of an endpoint, and what a client sends."""

    preprocess: Function | None = None
    postprocess: Function | None = None
    inputs: tuple[Column, ...] = ()
    example: tuple[Mapping[str, Any], ...] = ()

    def __bool__(self) -> bool:
        return self != Around()


class EndpointOptions(Struct, frozen=True, kw_only=True):
    """An endpoint as written by the user."""

    name: str
    model: Training
    rollout: Rollout
    log: float = 1.0
    redact: tuple[str, ...] = ()
    isolate: bool | None = None
    around: Around = Around()


class GraphOptions(Struct, frozen=True, kw_only=True):
    """A graph of endpoints as written by the user. ``functions``: by the keys in its steps."""

    name: str
    root: Part
    functions: Mapping[str, Function]
    rollout: Rollout
    log: float = 1.0
    redact: tuple[str, ...] = ()
    inputs: tuple[Column, ...] = ()


class MonitorOptions(Struct, frozen=True, kw_only=True):
    """A monitor as written by the user."""

    endpoint: str
    drift: DriftDefinition
    retrain: bool


def named_inputs(
    step: str, inputs: Sequence[Given], named: Mapping[str, Given], per: str
) -> Arranged:
    """Inputs by the names of their directories: those of their nodes, where they have no other."""
    for name in named:
        check_name(name, "an input")
    given = [_called(as_input(one)) for one in inputs]
    given += [_called(as_input(one), name) for name, one in named.items()]
    names = list(dict.fromkeys(one.parameter for one in leaves_of(given)))
    if "out" in names:
        raise invalid(f"{step} has an input called 'out'", "Give it another name in named=.")
    return arrange(step, given, per, names)


def _called(one: Input | Combined, name: str = "") -> Input | Combined:
    if isinstance(one, Combined):
        return replace(one, parts=tuple(_called(part, name) for part in one.parts))
    return one.named(name or one.parameter or one.node.name)


def check_inputs(inputs: Sequence[Given], decorator: str) -> None:
    """Refuse wrong inputs at once: ``@p.step`` without brackets would record nothing."""
    if len(inputs) == 1 and inspect.isfunction(inputs[0]):
        raise invalid(
            f"@{decorator} was put on {inputs[0].__name__} without inputs",
            f"Write @pipeline.{decorator}(source, ...) above the function.",
        )
    for one in inputs:
        as_input(one)
