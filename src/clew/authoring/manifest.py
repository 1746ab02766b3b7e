"""What a file of a user defines, as values: one manifest per pipeline.

Made in a worker, where the file is imported; the workspace hands each part to its room.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from clew.authoring.cards import described
from clew.authoring.checks import invalid
from clew.authoring.declaring import Dependency, declare
from clew.authoring.graphs import aliases_of
from clew.authoring.inputs import Cron, Input, Node, Source
from clew.authoring.packing import packed_graph, processing_of
from clew.authoring.parameters import Parameter, Values, check_given
from clew.authoring.reuse import SETS_SUFFIX, Pipeline
from clew.authoring.steps import (
    Batch,
    Borrowed,
    Command,
    Function,
    GraphOptions,
    Imported,
    Step,
    Training,
)
from clew.base.address import DEFAULT_BRANCH
from clew.base.errors import Invalid
from clew.base.own_packages import is_on_path
from clew.base.records import CodeRef, ParameterInfo
from clew.base.records.card_words import CardText
from clew.base.records.graphs import Graph
from clew.base.records.policy import Policy
from clew.codecs import annotations_of, check_annotation, form_of
from clew.compute import Witness, load_module
from clew.models import EvaluationDefinition, GateDefinition, HoldoutDefinition
from clew.monitoring import MonitorDefinition
from clew.pipelines import (
    Combination,
    InputDefinition,
    PipelineDefinition,
    SourceDefinition,
    StepDefinition,
    environment_of,
    fingerprint,
)
from clew.places import RuntimeDefinition, parts_of, requirement_lines
from clew.quality import Expectation, record
from clew.serving import EndpointDefinition
from clew.sources import FeedDefinition
from clew.store import digest_of
from clew.triggers import Trigger

GATE_SUFFIX = ".gate"
TEST_SUFFIX = ".test"
PREDICT = "clew.models.batching"
PREDICT_VERSION = 1
"""Counts into the keys of batches; one more where their rows come out otherwise."""


class Manifest(Struct, frozen=True, kw_only=True):
    """A pipeline with the endpoints and monitors that close its loop."""

    pipeline: PipelineDefinition
    endpoints: tuple[EndpointDefinition, ...] = ()
    monitors: tuple[MonitorDefinition, ...] = ()
    feeds: tuple[FeedDefinition, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    description: str = ""
    sets: dict[str, dict[str, dict[str, Any]]] = {}
    """Repo → name → parameters: what a step runs over, to be committed there."""
    packed: dict[str, dict[str, bytes]] = {}
    """Endpoint → path → content: functions of the user that are served with it."""


class Project(Struct, frozen=True, kw_only=True):
    """A snapshot of a project, on disk: its digest, its directory, and the file that was named."""

    snapshot: str
    directory: Path
    file: str


def describe(payload: dict[str, Any], context: object) -> list[dict[str, Any]]:  # noqa: ARG001 - as every call of a worker
    """Import a user's file and say what it defines; the entry of a worker call.

    Args:
        payload: ``snapshot`` (digest), ``directory`` (of the materialised snapshot), ``file``, and
            ``parameters`` (name → value) that are not to have their defaults; ``only``: of this
            pipeline.
        context: Of the call; not used.

    Returns:
        One manifest per pipeline, as builtins.

    Raises:
        Invalid: ``pipeline.none`` where the file defines none, ``pipeline.definition``,
            ``parameter.unknown``, ``parameter.value``, ``parameter.missing``.
    """
    project = Project(
        snapshot=payload["snapshot"], directory=Path(payload["directory"]), file=payload["file"]
    )
    with Witness(payload["directory"]).importing(project.file):  # steps tell what it read
        module = load_module(payload["directory"], project.file)
    found = {
        id(value): value
        for value in vars(module).values()
        if isinstance(value, Pipeline) and not (value.used and value.home != module.__name__)
    }
    if not found:
        raise Invalid(
            "pipeline.none",
            f"{project.file} defines no pipeline.",
            hint='Start with p = clew.Pipeline("name") at module level.',
        )
    names = [one.name for one in found.values()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Invalid(
            "pipeline.definition",
            f"{project.file} defines two pipelines named {twice!r}.",
            hint="Give each a name of its own: its repos are called after it.",
        )
    only = payload.get("only")
    if only is not None:
        found = {at: one for at, one in found.items() if one.name == only}
    given = payload.get("parameters", {})
    check_given(given, {one.name: list(one.parameters) for one in found.values()})
    return [msgspec.to_builtins(manifest_of(one, project, given)) for one in found.values()]


def read_manifests(plain: list[dict[str, Any]]) -> list[Manifest]:
    """The manifests that :func:`describe` returned."""
    return [msgspec.convert(one, Manifest) for one in plain]


def manifest_of(
    pipeline: Pipeline, project: Project, given: Mapping[str, Any] | None = None
) -> Manifest:
    """A pipeline as values; ``given`` are values of its parameters."""
    values = Values(pipeline=pipeline.name, parameters=pipeline.parameters, given=given or {})
    steps: list[StepDefinition] = []
    sets: dict[str, dict[str, dict[str, Any]]] = {}
    for node in pipeline.steps(values):
        if isinstance(node, Imported):
            steps.append(_gate(node, project, values))
            continue
        steps.append(_step(node, project, values))
        if node.sets is not None:
            sets[node.repo + SETS_SUFFIX] = node.sets.named(values)
        if isinstance(node, Training):
            steps.append(_gate(node, project, values))
    endpoints, packed = _endpoints(pipeline, project)
    return Manifest(
        pipeline=PipelineDefinition(
            name=pipeline.name,
            snapshot=project.snapshot,
            file=project.file,
            sources=_sources(pipeline, sets),
            parameters=tuple(_parameter(one, values) for one in pipeline.parameters.values()),
            steps=tuple(steps),
            policy=pipeline.policy,
            notes=tuple(sorted({note for step in steps for note in _notes(step)})),
        ),
        endpoints=tuple(endpoints),
        packed=packed,
        monitors=_monitors(pipeline),
        feeds=_feeds(pipeline),
        triggers=tuple(pipeline.triggers),
        description=pipeline.description,
        sets=sets,
    )


def _sources(pipeline: Pipeline, sets: Iterable[str]) -> tuple[SourceDefinition, ...]:
    """What is committed to from outside, and the repos of sets of parameters."""
    nodes = pipeline.nodes.values()
    return (
        *(_source(one) for one in nodes if isinstance(one, Source | Cron)),
        *(SourceDefinition(name=repo.partition("/")[2], repo=repo) for repo in sets),
    )


def _monitors(pipeline: Pipeline) -> tuple[MonitorDefinition, ...]:
    return tuple(
        MonitorDefinition(
            pipeline=pipeline.name,
            endpoint=one.endpoint,
            model=pipeline.endpoints[one.endpoint].model.repo,
            drift=one.drift,
            retrain=one.retrain,
        )
        for one in pipeline.monitors
    )


def _feeds(pipeline: Pipeline) -> tuple[FeedDefinition, ...]:
    return tuple(
        FeedDefinition(
            name=f"{pipeline.name}/{node.name}",
            pipeline=pipeline.name,
            repo=node.repo,
            branch=node.branch,
            feed=node.feed,
        )
        for node in pipeline.nodes.values()
        if isinstance(node, Source) and node.feed is not None
    )


def _endpoints(
    pipeline: Pipeline, project: Project
) -> tuple[list[EndpointDefinition], dict[str, dict[str, bytes]]]:
    """The endpoints, and the files of the user's code that comes with them."""
    endpoints: list[EndpointDefinition] = []
    packed: dict[str, dict[str, bytes]] = {}
    for one in pipeline.endpoints.values():
        found = processing_of(one.around, lambda each: _code(each, project), project.directory)
        if found is not None:
            packed[one.name] = found[1]
        endpoints.append(
            EndpointDefinition(
                name=one.name,
                pipeline=pipeline.name,
                model=one.model.repo,
                rollout=one.rollout,
                log=one.log,
                redact=one.redact,
                isolate=one.isolate,
                processing=None if found is None else found[0],
            )
        )
    for graph in pipeline.graphs.values():
        made, files = packed_graph(graph, lambda each: _code(each, project), project.directory)
        packed[graph.name] = files
        endpoints += _endpoints_of(pipeline.name, graph, made)
    return endpoints, packed


def _endpoints_of(pipeline: str, written: GraphOptions, graph: Graph) -> list[EndpointDefinition]:
    """The endpoint that a graph is, behind those of the models that it names by an alias."""
    nodes = [
        EndpointDefinition(
            name=name,
            pipeline=pipeline,
            model=ref.rpartition("@")[0],
            alias=ref.rpartition("@")[2],
            log=written.log,
            redact=written.redact,
        )
        for name, ref in aliases_of(graph).items()
    ]
    whole = EndpointDefinition(
        name=written.name,
        pipeline=pipeline,
        model="",
        rollout=written.rollout,
        log=written.log,
        redact=written.redact,
        graph=graph,
    )
    return [*nodes, whole]


def _parameter(one: Parameter, values: Values) -> ParameterInfo:
    return ParameterInfo(
        name=one.name,
        type=getattr(one.type, "__name__", str(one.type)),
        value=values.of(one),
        choices=one.choices,
        help=one.help,
    )


def _step(step: Step, project: Project, values: Values) -> StepDefinition:
    options = step.options
    if isinstance(step, Borrowed):
        return _borrowed(step, project)
    command = step.command if isinstance(step, Command) else None
    defined = StepDefinition(
        name=step.name,
        kind="train" if isinstance(step, Training) else "step",
        **_reads(step),
        **_stands(step, project),
        command=command,
        runtime=_runtime(options.runtime, project),
        parameters={k: values.resolved(one) for k, one in options.parameters.items()},
        expectations=tuple(map(msgspec.to_builtins, _expectations(step))),
        retries=options.retries,
        timeout_s=options.timeout_s,
        memory_bytes=options.memory_bytes,
        version=options.version,
        policy=_policy(step, project),
        options=_options(step, project),
        output_repo=step.repo,
        allow=options.allow,
    )
    return _depending(defined, options.depends_on, project)


def _expectations(step: Step) -> list[Expectation]:
    found = [one for rules in step.expectations for one in record(rules)]
    aside = next((one for one in found if one.action == "quarantine"), None)
    if isinstance(step, Command) and aside is not None:
        raise invalid(
            f"{step.name} is a program, whose files are kept as they are: no row of them is put "
            "into quarantine",
            'Expect it with "fail" or "warn", or read the files in a step and state it there.',
        )
    return found


def _borrowed(step: Borrowed, project: Project) -> StepDefinition:
    """An experiment of Determined: every file of its context directory is its code."""
    found, written = step.experiment, step.options.how.policy
    name = step.__wrapped__.__name__
    return StepDefinition(
        name=step.name,
        kind="determined",
        function=CodeRef(snapshot=project.snapshot, file=project.file, name=name),
        fingerprint=digest_of("code", project.snapshot),
        parts={"context directory": project.snapshot},
        runtime=_runtime(step.options.runtime, project),
        policy=replace(written, trials=found.policy, priority=found.priority),
        options={
            "search": msgspec.to_builtins(found.search),
            "space": msgspec.to_builtins(found.space),
            "task": msgspec.to_builtins(found.task),
        },
        output_repo=step.repo,
        allow=step.options.allow,
    )


def _depending(
    defined: StepDefinition, depends_on: Iterable[Dependency], project: Project
) -> StepDefinition:
    declared = declare(depends_on, project.directory, _repo_of)
    return defined.depending(declared.digests, declared.parts, declared.repos)


def _repo_of(one: object) -> tuple[str, str] | None:
    node = one.node if isinstance(one, Input) else one
    if not isinstance(node, Node):
        return None
    return node.repo, node.branch if isinstance(node, Source) else DEFAULT_BRANCH


def _notes(step: StepDefinition) -> Iterator[str]:
    """What people should know of how a step's key is made."""
    yield from step.widened
    if not {"*", "clock"} & set(step.allow):
        yield from (
            f"{step.name} asks what time it is ({one}): results may differ from run to run."
            for one in step.clocks
        )


def _reads(step: Step) -> dict[str, Any]:
    """The inputs of a step, and how they are combined; sets of parameters are crossed with all."""
    inputs = tuple(map(input_of, step.inputs))
    if not isinstance(step, Command):
        for one in inputs:
            check_annotation(step.__wrapped__, one.parameter)
    if step.sets is None:
        return {"inputs": inputs, "combination": step.combination}
    sets = InputDefinition.of_sets(step.repo + SETS_SUFFIX)
    both = step.combination and Combination(how="cross", parts=(step.combination, len(inputs)))
    return {"inputs": (*inputs, sets), "combination": both}


def _source(node: Source | Cron) -> SourceDefinition:
    source = SourceDefinition(name=node.name, repo=node.repo, branch=node.branch)
    if isinstance(node, Source):
        return source
    return replace(source, cron=node.times, overwrite=node.overwrite)


def _policy(step: Step, project: Project) -> Policy:
    written = step.options.how
    policy = written.policy
    if isinstance(step, Training):
        said = described(step.training.card, step.__wrapped__)
        policy = replace(policy, card=said if said != CardText() else None)
    if written.on_error is None:
        return policy
    return replace(policy, on_error=_reference(written.on_error, project))


def _training(step: Training, project: Project) -> dict[str, Any]:
    test = step.training.test
    evaluation = EvaluationDefinition(
        target=step.training.target,
        test=f"{test.repo}@{test.branch}" if isinstance(test, Source) else test,
        convert=step.training.convert,
    )
    said = msgspec.to_builtins(evaluation)
    if evaluation.convert:  # what nobody has said changes no key
        del said["convert"]
    if isinstance(evaluation.test, HoldoutDefinition) and not evaluation.test.grow:
        del said["test"]["grow"]
    return {
        "search": msgspec.to_builtins(step.training.search),
        "space": msgspec.to_builtins(dict(step.training.space)),
        "evaluation": said,
        **_ranks(step),
        **_feasible(step, project),
    }


def _feasible(step: Training, project: Project) -> dict[str, Any]:
    """Where the feasibility function stands, and a digest of its code: both count."""
    function = step.training.feasible
    if function is None:
        return {}
    reference = _reference(function, project)
    found = fingerprint(project.directory, reference.file, reference.name)
    return {"feasible": {"file": reference.file, "name": reference.name, "code": found.digest}}


def _ranks(step: Training) -> dict[str, Any]:
    """How many train together is part of what a model is: gradients are averaged over them."""
    ranks = step.training.ranks
    return {} if ranks is None else {"ranks": msgspec.to_builtins(ranks)}


def _stands(step: Step, project: Project) -> dict[str, Any]:
    """Where the code of a step stands, and what it depends on."""
    if isinstance(step, Command):
        return _program(step, project)
    if isinstance(step, Batch):
        place = CodeRef(snapshot=project.snapshot, file=f"clew:{PREDICT}", name="predict")
        return {"function": place, "fingerprint": digest_of("code", [PREDICT, PREDICT_VERSION])}
    return _code(step.__wrapped__, project)


def _options(step: Step, project: Project) -> dict[str, Any]:
    if isinstance(step, Training):
        return _training(step, project)
    if isinstance(step, Batch):
        return {"follows": {"model": step.model, "alias": step.alias}}
    return _result(step)


def _result(step: Step) -> dict[str, Any]:
    """What the return annotation says about how results are kept: it counts into the keys."""
    form = form_of(annotations_of(step.__wrapped__).get("return"))
    return {"result": form} if form else {}


def _gate(model: Training, project: Project, values: Values) -> StepDefinition:
    given = model.gate_options
    test = model.training.test
    gate = GateDefinition(target=model.training.target, slices=given.slices, query=given.query)
    where = (
        (test.repo, test.branch) if isinstance(test, Source) else (model.repo + TEST_SUFFIX, "main")
    )
    defined = StepDefinition(
        name=model.name + GATE_SUFFIX,
        kind="gate",
        inputs=(
            InputDefinition(parameter="model", repo=model.repo),
            InputDefinition(parameter="test", repo=where[0], branch=where[1], kind="reference"),
        ),
        **_judging(model, project),
        policy=Policy(priority=model.options.how.policy.priority),
        options={"gate": msgspec.to_builtins(gate), "has_rules": model.gate is not None},
        output_repo=model.repo + GATE_SUFFIX,
        parameters={name: values.resolved(one) for name, one in given.parameters.items()},
        allow=given.allow if model.gate else model.options.allow,
    )
    return _depending(defined, given.depends_on, project)


def _judging(model: Training, project: Project) -> dict[str, Any]:
    """The code of a gate; without one, that which made the model, if it was made here."""
    if model.gate is None and isinstance(model, Imported):
        place = CodeRef(snapshot=project.snapshot, file=project.file, name=model.name)
        return {"function": place, "fingerprint": digest_of("code", "no gate")}
    return _code(model.gate or model.__wrapped__, project)


def input_of(one: Input) -> InputDefinition:
    """An input of a step, as a value."""
    return InputDefinition(
        parameter=one.parameter,
        repo=one.node.repo,
        branch=one.node.branch,
        glob=one.files,
        per=one.per,  # type: ignore[arg-type]  # checked where it was given
        kind=one.kind,  # type: ignore[arg-type]  # made by Input alone
        on=one.on_key,
        by=one.by_key,
        outer=one.is_outer,
        slot=one.slot,
        needed=one.needed,
    )


def _code(function: Function, project: Project) -> dict[str, Any]:
    """Where a function stands, and what it depends on."""
    reference = _reference(function, project)
    found = fingerprint(project.directory, reference.file, reference.name)
    environment = environment_of(found)
    return {
        "function": reference,
        "fingerprint": found.digest,
        "parts": found.parts,
        "widened": (*found.widened, *_left_out(found.imports)),
        "clocks": found.clocks,
        "environment": environment.digest,
        "packages": environment.packages,
    }


def _left_out(modules: Iterable[str]) -> Iterator[str]:
    """Code of the user's own that a step imports and that did not go along with the project."""
    for one in modules:
        if is_on_path(one):
            yield (
                f"{one} is used from PYTHONPATH: it is compiled or too large to go along with the "
                "project, and a change of it runs nothing anew."
            )


def _program(step: Step, project: Project) -> dict[str, Any]:
    """The code of a step that is a program: the files of the project that it names."""
    assert isinstance(step, Command)
    parts = parts_of(project.directory, step.command.arguments)
    return {
        "function": CodeRef(snapshot=project.snapshot, file=project.file, name=step.name),
        "fingerprint": digest_of("code", parts),
        "parts": parts,
    }


def _runtime(runtime: RuntimeDefinition, project: Project) -> RuntimeDefinition:
    """The same, with the lines of a requirements file in its place."""
    lines = tuple(requirement_lines(project.directory, runtime.requirements))
    return replace(runtime, requirements=lines) if lines != runtime.requirements else runtime


def _reference(function: Function, project: Project) -> CodeRef:
    source = Path(inspect.getsourcefile(function) or "").resolve()
    if not source.is_relative_to(project.directory.resolve()):
        raise Invalid(
            "pipeline.definition",
            f"{function.__name__} stands in {source.name}, outside the project.",
            hint="Move the function (or a wrapper of it) into the project's directory.",
        )
    if function.__qualname__ != function.__name__ or function.__name__ == "<lambda>":
        raise Invalid(
            "pipeline.definition",
            f"{function.__qualname__} is not a function at module level.",
            hint="Write `def name(...)` at the left margin, so that a worker can import it.",
        )
    file = source.relative_to(project.directory.resolve()).as_posix()
    return CodeRef(snapshot=project.snapshot, file=file, name=function.__name__)
