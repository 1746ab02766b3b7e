"""Pipelines that are used again: parameters, slots, pipelines in pipelines, sets of parameters.

Knows how nodes are put together; what a node is stands in ``nodes``.
"""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from clew.authoring.checks import check_name, invalid, trial_parameters
from clew.authoring.declaring import Dependency
from clew.authoring.inputs import (
    Arranged,
    Combined,
    Cron,
    Given,
    Input,
    Node,
    Source,
    as_input,
    width,
)
from clew.authoring.nodes import Any_Node
from clew.authoring.nodes import Pipeline as Plain
from clew.authoring.options import StepOptions
from clew.authoring.parameters import MISSING, Parameter, Values, new_parameter
from clew.authoring.steps import Function, Step, Training

SETS_SUFFIX = ".sets"
T = TypeVar("T")


class Pipeline(Plain):
    """A graph of sources and steps, with the gates, endpoints and monitors that close its loop.

    Make one at module level and decorate functions with its methods; ``clew apply FILE`` registers
    it. The name is also the project that its repos live in.
    """

    def __init__(self, name: str, *, description: str = "") -> None:
        super().__init__(name, description=description)
        self.parameters: dict[str, Parameter] = {}
        self.home = _home(inspect.currentframe())
        self.used = False

    def parameter(
        self,
        name: str,
        default: Any = MISSING,
        *,
        type: Any = None,
        choices: Sequence[Any] = (),
        minimum: float | None = None,
        maximum: float | None = None,
        help: str = "",
    ) -> Parameter:
        """A value that is set when the pipeline is applied: ``clew apply FILE --set NAME=VALUE``.

        A step gets it in a parameter of its function that has the same name, behind its inputs,
        or where ``parameters={"k": parameter}`` says so. A change runs the steps that use it, and
        what follows from them.

        Args:
            name: Its name.
            default: The value where none is given; without one, a value has to be given.
            type: What values must be; that of the default without it.
            choices: All values that it may have.
            minimum: The smallest that it may have.
            maximum: The largest.
            help: A sentence for people, shown where a value is wrong.

        Raises:
            Invalid: ``pipeline.definition``, ``parameter.value`` for a wrong default.
        """
        check_name(name, "a parameter")
        if name in self.parameters and not _of_notebook(self):
            raise invalid(f"{self.name} has two parameters {name!r}", "Rename one.")
        self.parameters[name] = new_parameter(
            name, default, type, choices=choices, minimum=minimum, maximum=maximum, help=help
        )
        return self.parameters[name]

    def slot(self, name: str, default: str = "", *, help: str = "") -> Slot:
        """A step with several implementations; the parameter of the same name picks one.

        ::

            features = late.slot("features", default="plain")

            @features.option(clean)
            def plain(clean: pl.DataFrame) -> pl.DataFrame: ...

            @features.option(clean, weather)
            def with_weather(clean: pl.DataFrame, weather: pl.DataFrame) -> pl.DataFrame: ...

        ``clew apply FILE --set features=with_weather`` plugs in the other. Steps that read the slot
        read whatever is in it. What an implementation made is known when it comes back.
        """
        choice = self.parameter(name, default or MISSING, type=str, help=help)
        return self._add(Slot(self, name, choice))

    def map(
        self,
        *inputs: Given,
        over: Mapping[str, Any] | Sequence[Mapping[str, Any]] | Parameter,
        **options: Any,
    ) -> Callable[[Function], Step]:
        """A step that runs once for each set of parameters (and each datum of its inputs).

        Every set is datums of its own, with an output named after it: one that is added runs
        alone, one that is taken away takes its output with it.

        Args:
            inputs: As for :meth:`step`.
            over: A list of sets, ``[{"k": 1}, {"k": 2}]``; a grid, ``{"k": [1, 2], "tree": [True,
                False]}``; sets with names, ``{"small": {"k": 1}, "large": {"k": 9}}``; or a
                parameter that holds one of these.
            options: As for :meth:`step`.

        Raises:
            Invalid: ``pipeline.definition``.
        """
        names = () if isinstance(over, Parameter) and over.default is MISSING else _names(
            over.default if isinstance(over, Parameter) else over
        )  # fmt: skip
        given = dict(options.pop("parameters", None) or {})
        holders = dict.fromkeys(names, None)

        def record(function: Function) -> Step:
            decorate = self.step(*inputs, parameters={**given, **holders}, **options)
            step = decorate(function)
            kept = {k: v for k, v in step.options.parameters.items() if k not in holders}
            step.options = replace(step.options, parameters=kept)
            step.sets = Sets(over)
            return step

        return record

    def use(
        self,
        pipeline: Plain,
        prefix: str = "",
        *,
        parameters: Mapping[str, Any] | None = None,
        **sources: Node | Input,
    ) -> Used:
        """The steps of another pipeline as steps of this one, named ``prefix.step``.

        Its sources are taken from here: ``late.use(cleaning, "day", raw=days)``; one that is not
        named becomes a source ``prefix.source``. Its parameters become ``prefix.parameter``, but
        for those that ``parameters`` gives a value or a parameter of this pipeline. Its endpoints
        and monitors stay its own. A file that only uses a pipeline does not register it.

        Returns:
            Its nodes by name: ``day["dedupe"]`` or ``day.dedupe``.

        Raises:
            Invalid: ``pipeline.definition``.
        """
        if not isinstance(pipeline, Plain) or pipeline is self:
            raise invalid(f"{pipeline!r} cannot be used in {self.name}", "Give another pipeline.")
        prefix = prefix or pipeline.name
        check_name(prefix, "a part of a pipeline")
        unknown = [n for n in sources if not isinstance(pipeline.nodes.get(n), Source)]
        if unknown:
            known = [n for n, one in pipeline.nodes.items() if isinstance(one, Source)]
            raise invalid(
                f"{pipeline.name} has no source {unknown[0]!r}", f"It has {', '.join(known)}."
            )
        if isinstance(pipeline, Pipeline):
            pipeline.used = True
        bound = {name: _bound(name, one) for name, one in sources.items()}
        return _Copy(self, pipeline, prefix, bound, dict(parameters or {})).made()

    def _give_way(self, name: str) -> None:
        """In a notebook a cell that runs again defines its endpoint anew."""
        if _of_notebook(self):
            self.endpoints.pop(name, None)
            self.graphs.pop(name, None)

    def gate(
        self,
        model: Training,
        *,
        parameters: Mapping[str, object] | None = None,
        depends_on: Dependency = None,
        allow: Sequence[str] = (),
        slices: Sequence[str] = (),
        query: str = "",
    ) -> Callable[[Function], Function]:
        """Make a function the gate of a model: it gets a ``clew.Candidate`` and states rules."""
        if _of_notebook(self) and isinstance(model, Training):
            model.gate = None
        return super().gate(
            model,
            parameters=parameters,
            depends_on=depends_on,
            allow=allow,
            slices=slices,
            query=query,
        )

    def steps(self, values: Values) -> Iterator[Step]:
        """The steps as they are with these values: of each slot, the one that is plugged in."""
        for node in self.nodes.values():
            if isinstance(node, Slot):
                yield node.chosen(values)
            elif isinstance(node, Step):
                yield node

    def _add(self, node: Any_Node) -> Any_Node:
        """Record a node; parameters of its function that this pipeline has are bound to those."""
        if isinstance(node, Step) and not isinstance(node, Slot):
            taken = {**self._own(node), **node.options.parameters}
            node.options = replace(node.options, parameters=taken)
        again = self.nodes.get(node.name)
        if again is not None and _is_written_anew(again, node):
            del self.nodes[node.name]  # its place among the others says nothing
        return super()._add(node)

    def _inputs(
        self,
        function: Function,
        inputs: Sequence[Given],
        per: str,
        *,
        named: tuple[str, ...] = (),
        apart: tuple[str, ...] = (),
    ) -> Arranged:
        names = [one for one in inspect.signature(function).parameters if one not in apart]
        behind = names[width(inputs) :]
        own = [one for one in behind if one in self.parameters and one not in named]
        return super()._inputs(function, inputs, per, named=(*named, *own), apart=apart)

    def _own(self, step: Step) -> dict[str, object]:
        read = {one.parameter for one in step.inputs}
        if isinstance(step, Training):
            read.update(trial_parameters(step.__wrapped__))
        names = [one for one in inspect.signature(step.__wrapped__).parameters if one not in read]
        return {name: self.parameters[name] for name in names if name in self.parameters}

    def _bound(self, function: Function, behind: int) -> dict[str, object]:
        names = list(inspect.signature(function).parameters)[behind:]
        return {name: self.parameters[name] for name in names if name in self.parameters}


class Slot(Step):
    """A step with several implementations; see :meth:`Pipeline.slot`."""

    def __init__(self, pipeline: Pipeline, name: str, choice: Parameter) -> None:
        def nothing() -> None:
            raise invalid(f"The slot {name} is empty", "Call one of its options.")

        super().__init__(pipeline, nothing, Arranged(inputs=()), StepOptions(name=name))
        self.choice = choice
        self.implementations: dict[str, Step] = {}

    def option(self, *inputs: Given, name: str = "", **options: Any) -> Callable[[Function], Step]:
        """Make a function an implementation, named after it or ``name``; as ``Pipeline.step``."""

        def record(function: Function) -> Step:
            mine = name or function.__name__
            home = cast("Pipeline", self.pipeline)
            shelf = Pipeline(home.name)
            shelf.parameters = home.parameters
            step = shelf.step(*inputs, name=self.name, **options)(function)
            step.pipeline, step.repo = home, self.repo
            known = self.implementations.get(mine)
            if known is not None and not _is_written_anew(known, step):
                raise invalid(f"{self.name} has two options {mine!r}", "Rename one, or give name=.")
            self.implementations[mine] = step
            return step

        return record

    def chosen(self, values: Values) -> Step:
        """The implementation that is plugged in. Raises Invalid ``parameter.value``."""
        names = tuple(self.implementations)
        if not names:
            raise invalid(f"The slot {self.name} has no option", "Decorate one with .option(...).")
        first = names[0] if self.choice.default is MISSING else self.choice.default
        choice = replace(self.choice, choices=names, default=first)
        step = copy.copy(self.implementations[values.of(choice)])
        step.name, step.repo = self.name, self.repo
        step.expectations = [*step.expectations, *self.expectations]
        return step


class Used:
    """The nodes of a pipeline that is used in another, by the names that they have there."""

    def __init__(self, prefix: str, nodes: Mapping[str, Node]) -> None:
        self._prefix = prefix
        self._nodes = dict(nodes)

    def __repr__(self) -> str:
        return f"<used {self._prefix}: {', '.join(self._nodes)}>"

    def __getitem__(self, name: str) -> Node:
        if name not in self._nodes:
            raise invalid(f"{self._prefix} has no {name!r}", f"It has {', '.join(self._nodes)}.")
        return self._nodes[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._nodes:
            raise AttributeError(f"{self._prefix} has no {name!r}: it has {', '.join(self._nodes)}")
        return self._nodes[name]


class _Copy(Struct):
    """One pipeline on its way into another."""

    target: Pipeline
    pipeline: Plain
    prefix: str
    bound: dict[str, Input]
    values: dict[str, Any]

    def made(self) -> Used:
        own = self._parameters()
        places: dict[int, Input] = {}
        nodes: dict[str, Node] = {}
        for name, node in self.pipeline.nodes.items():
            if isinstance(node, Source) and name in self.bound:
                places[id(node)] = self.bound[name]
                continue
            nodes[name] = self._node(node, places, own)
            places[id(node)] = Input(node=nodes[name])
        return Used(self.prefix, nodes)

    def _parameters(self) -> dict[int, Any]:
        """Parameters of the other pipeline, by identity: what stands for them here."""
        known: Mapping[str, Parameter] = getattr(self.pipeline, "parameters", {})
        unknown = [name for name in self.values if name not in known]
        if unknown:
            raise invalid(
                f"{self.pipeline.name} has no parameter {unknown[0]!r}",
                f"It has {', '.join(known) or 'none'}.",
            )
        found: dict[int, Any] = {}
        for name, one in known.items():
            if name in self.values:
                given = self.values[name]
                found[id(one)] = given if isinstance(given, Parameter) else one.checked(given)
            else:
                mine = replace(one, name=f"{self.prefix}.{name}")
                found[id(one)] = self.target.parameters[mine.name] = mine
        return found

    def _node(self, node: Node, places: dict[int, Input], own: dict[int, Any]) -> Node:
        name = f"{self.prefix}.{node.name}"
        if isinstance(node, Source):
            plain = f"{self.pipeline.name}/{node.name}"
            repo = "" if node.repo == plain else node.repo
            return self.target.source(name, node.feed, branch=node.branch, repo=repo)
        made = copy.copy(node)
        made.pipeline, made.name, made.repo = self.target, name, f"{self.target.name}/{name}"
        if isinstance(made, Slot):
            self._slot(made, places, own)
        elif isinstance(made, Step):
            self._step(made, places, own)
        Plain._add(self.target, made)
        return made

    def _slot(self, slot: Slot, places: dict[int, Input], own: dict[int, Any]) -> None:
        choice = own[id(slot.choice)]
        slot.choice = (
            choice
            if isinstance(choice, Parameter)
            else replace(slot.choice, name=slot.name, default=choice)
        )
        slot.implementations = {n: copy.copy(one) for n, one in slot.implementations.items()}
        for one in slot.implementations.values():
            self._step(one, places, own)

    def _step(self, step: Step, places: dict[int, Input], own: dict[int, Any]) -> None:
        step.inputs = tuple(_moved(one, places) for one in step.inputs)
        step.expectations = list(step.expectations)
        taken = {key: own.get(id(value), value) for key, value in step.options.parameters.items()}
        depends = tuple(_depended(one, places) for one in step.options.depends_on)
        step.options = replace(step.options, name=step.name, parameters=taken, depends_on=depends)
        if step.sets is not None:
            step.sets = Sets(own.get(id(step.sets.over), step.sets.over))
        if not isinstance(step, Training):
            return
        gate = step.gate_options
        step.gate_options = replace(
            gate,
            parameters={key: own.get(id(value), value) for key, value in gate.parameters.items()},
            depends_on=tuple(_depended(one, places) for one in gate.depends_on),
        )
        if isinstance(step.training.test, Source):
            test = places[id(step.training.test)].node
            if isinstance(test, Source):
                step.training = replace(step.training, test=test)


def _bound(name: str, one: Node | Input) -> Input:
    found = as_input(one)
    if isinstance(found, Combined) or isinstance(found.node, Cron):
        raise invalid(f"{name} is given several inputs", "Give a source, a step or files of one.")
    return found


def _depended(one: Any, places: dict[int, Input]) -> Any:
    if isinstance(one, Input):
        return _moved(one, places)
    return places[id(one)].node if id(one) in places else one


def _moved(one: Input, places: dict[int, Input]) -> Input:
    """An input of a pipeline that is used, as one of the pipeline that uses it."""
    place = places.get(id(one.node))
    if place is None:
        return one
    if place.files != "/**" and one.files != "/**":
        raise invalid(
            f"{one.node.name} is given files {place.files}, of which a step takes {one.files}",
            "Give the whole node in use(...), or take the glob out of the step.",
        )
    files = place.files if place.files != "/**" else one.files
    kind = "reference" if "reference" in {place.kind, one.kind} else "data"
    return replace(one, node=place.node, files=files, kind=kind)


# sets of parameters -----------------------------------------------------------------------------


class Sets(Struct, frozen=True):
    """What :meth:`Pipeline.map` runs over, as it was written."""

    over: Any

    def named(self, values: Values) -> dict[str, dict[str, Any]]:
        """Sets of plain values by their names, which are names of files too."""
        over = values.resolved(self.over)
        if isinstance(over, Mapping) and all(isinstance(one, Mapping) for one in over.values()):
            return {str(name): dict(one) for name, one in over.items()}
        found = {_label(one): one for one in _listed(over)}
        if len(found) < len(_listed(over)):
            raise invalid("A set of parameters stands twice in over=", "Take one of them out.")
        return found


def _listed(over: Any) -> list[dict[str, Any]]:
    if not isinstance(over, Mapping):
        if any(not isinstance(one, Mapping) for one in over):
            raise invalid(f"over={over!r}", 'Give sets such as [{"k": 1}, {"k": 2}].')
        return [dict(one) for one in over]
    wrong = [name for name, one in over.items() if isinstance(one, str) or not _many(one)]
    if wrong:
        raise invalid(f"over={{{wrong[0]!r}: …}} is no grid", 'Give lists: {"k": [1, 2]}.')
    return [dict(zip(over, some, strict=True)) for some in itertools.product(*over.values())]


def _many(one: object) -> bool:
    return isinstance(one, Sequence)


def _names(over: Any) -> tuple[str, ...]:
    """The parameters that every set gives. Raises where sets differ in them."""
    sets = list(Sets(over).named(Values(pipeline="", parameters={}, given={})).values())
    if not sets or not sets[0]:
        raise invalid("over= holds no parameters", 'Give sets such as [{"k": 1}, {"k": 2}].')
    for one in sets:
        if one.keys() != sets[0].keys():
            raise invalid(
                f"The sets of over= differ in their names: {sorted(one)} and {sorted(sets[0])}",
                "Give every set the same names.",
            )
    return tuple(sets[0])


def _label(one: Mapping[str, Any]) -> str:
    text = ",".join(f"{name}={value}" for name, value in one.items())
    return "".join(c if c.isalnum() or c in "=,._-+" else "_" for c in text)


def _is_written_anew(old: Node, new: Node) -> bool:
    """Whether a cell of a notebook that ran before has run again."""
    if isinstance(new, Source | Slot):
        return _of_notebook(new.pipeline) and isinstance(old, type(new))
    functions = [getattr(one, "__wrapped__", None) for one in (old, new)]
    return _of_notebook(new.pipeline) and all(
        getattr(one, "__module__", "") == "__main__" for one in functions
    )


def _of_notebook(pipeline: Any) -> bool:
    return getattr(pipeline, "home", "") == "__main__"


def _home(frame: FrameType | None) -> str:
    """The module that makes a pipeline: the first that is no part of Clew."""
    while frame is not None and frame.f_globals.get("__name__", "").startswith("clew."):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")) if frame is not None else ""
