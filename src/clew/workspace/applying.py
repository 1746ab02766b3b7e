"""Apply a file: keep the project, have a worker say what it defines, hand each part to its room.

The user's file is imported in a worker only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from clew.authoring import Manifest, read_manifests
from clew.base.address import DEFAULT_BRANCH, normal_path
from clew.base.errors import Invalid
from clew.base.ids import new_id
from clew.base.records import Applied, Plan
from clew.compute import Call, CallError
from clew.experiments import Distribution, SearchDefinition
from clew.pipelines import PipelineDefinition
from clew.serving import EndpointDefinition
from clew.store import EMPTY_TREE, Entry, Overlay, Writer
from clew.triggers import Trigger, on_event, retrain
from clew.workspace.deploying import deploy_version
from clew.workspace.graphs import check_all, follow_aliases, serve_graphs
from clew.workspace.leaving import left_out, removed_monitors
from clew.workspace.packing import with_code
from clew.workspace.placing import placed
from clew.workspace.pointing import point_nowhere
from clew.workspace.pools import check_pools
from clew.workspace.rooms import Rooms
from clew.workspace.supposing import Supposed, supposed_trees, with_environments

DESCRIBE = "clew.authoring.manifest:describe"
DESCRIBE_TIMEOUT_S = 120.0
NOTHING = Supposed()
OPEN_STATES = frozenset({"live", "canary", "arm", "shadow", "loading"})


class Wanted(Struct, frozen=True, kw_only=True):
    """What of a project is applied: a file of it, with values of parameters, on a branch.

    Without an ``entry`` the pipelines that are registered are meant.
    """

    entry: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    branch: str = DEFAULT_BRANCH


def apply_files(
    rooms: Rooms, files: Mapping[str, bytes], wanted: Wanted, *, message: str, author: str
) -> list[Applied]:
    """Register the pipelines that a file defines, among the files of its project.

    Each pipeline, with its endpoints, monitors and triggers, appears in one transaction.

    Raises:
        Invalid: ``pipeline.import`` with the user's traceback, ``pipeline.none``,
            ``pipeline.definition``, ``parameter.unknown``, ``parameter.value``,
            ``parameter.missing``, ``pool.unknown``, ``pool.too_small``; ``graph.node``,
            ``graph.cycle``, ``graph.signature``, ``graph.outputs``, ``graph.condition``.
    """
    with rooms.store.lease():  # until rows name the snapshot
        snapshot = rooms.snapshots.keep(files)
        return [
            _register(rooms, manifest, message=message, author=author)
            for manifest in _manifests(rooms, snapshot, wanted)
        ]


def run_with(
    rooms: Rooms, pipeline: str, parameters: Mapping[str, Any], *, global_id: str, author: str
) -> Applied:
    """Register a pipeline as it is, but for the values of some parameters.

    Raises:
        NotFound: ``pipeline.unknown``.
        Invalid: as :func:`apply_files`.
    """
    with rooms.store.lease():
        found = _registered(rooms, pipeline, parameters)
        said = ", ".join(f"{name}={value}" for name, value in parameters.items())
        return _register(rooms, found, message=said, author=author, global_id=global_id)


def retire(rooms: Rooms, pipeline: str, *, reason: str, author: str) -> Applied:
    """Register a pipeline as one without steps, sources, monitors and triggers.

    Raises:
        NotFound: ``pipeline.unknown``.
    """
    now = rooms.pipelines.definition(pipeline)
    empty = PipelineDefinition(name=now.name, snapshot=now.snapshot, file=now.file)
    said = f"retired: {reason}" if reason else "retired"
    return _register(rooms, Manifest(pipeline=empty), message=said, author=author)


def plan_files(
    rooms: Rooms, files: Mapping[str, bytes], wanted: Wanted, supposed: Supposed = NOTHING
) -> list[Plan]:
    """What applying would run, skip and delete if what is supposed were so.

    Only the snapshot of the code is kept. Raises as above, and what ``supposing`` raises.
    """
    with rooms.store.lease():
        snapshot = rooms.snapshots.keep(files)
        manifests = _manifests(rooms, snapshot, wanted)
    return _plans(rooms, manifests, supposed)


def plan_registered(rooms: Rooms, wanted: Wanted, supposed: Supposed) -> list[Plan]:
    """What the registered pipelines of a branch would run, skip and delete if it were so.

    Raises:
        Invalid: ``plan.file`` for values of parameters; what ``supposing`` raises.
    """
    if wanted.parameters:
        raise Invalid(
            "plan.file",
            "Values of parameters are those of one file, and none is named.",
            hint="Name the file of the pipeline: clew plan FILE --set NAME=VALUE.",
        )
    names = [
        one.name
        for one in rooms.pipelines.list()
        if one.steps and (one.name.partition("@")[2] or DEFAULT_BRANCH) == wanted.branch
    ]
    with rooms.store.lease():
        manifests = [_registered(rooms, name, {}) for name in names]
    return _plans(rooms, manifests, supposed)


def _plans(rooms: Rooms, manifests: Sequence[Manifest], supposed: Supposed) -> list[Plan]:
    sources = {one.repo for manifest in manifests for one in manifest.pipeline.sources}
    overlay = rooms.store.overlay()
    trees = supposed_trees(rooms, overlay, supposed, sources)
    return [_plan(rooms, one, supposed, overlay, trees) for one in manifests]


def _plan(
    rooms: Rooms,
    manifest: Manifest,
    supposed: Supposed,
    overlay: Overlay,
    trees: Mapping[tuple[str, str], str],
) -> Plan:
    pipeline, packages = manifest.pipeline, supposed.packages
    if packages:
        project = rooms.snapshots.directory(pipeline.snapshot)
        pipeline = with_environments(rooms, pipeline, packages, project)
    sets = {(repo, ""): tree for repo, tree in _sets_trees(overlay, manifest).items()}
    plan = rooms.pipelines.plan(pipeline, {**sets, **trees}, packages=packages, store=overlay)
    searches = tuple(
        rooms.experiments.preview(
            manifest.pipeline.name,
            step.name,
            msgspec.convert(step.options["search"], SearchDefinition),
            msgspec.convert(step.options["space"], dict[str, Distribution]),
        )
        for step in manifest.pipeline.steps
        if step.kind == "train"
    )
    return replace(plan, notes=(*plan.notes, *_told(rooms, manifest)), searches=searches)


def _registered(rooms: Rooms, pipeline: str, parameters: Mapping[str, Any]) -> Manifest:
    """A pipeline as it is, but for the values of some parameters."""
    now = rooms.pipelines.definition(pipeline)
    name, _, branch = pipeline.partition("@")
    wanted = Wanted(entry=now.file, branch=branch or DEFAULT_BRANCH)
    values = {one.name: one.value for one in now.parameters} | dict(parameters)
    return _manifests(rooms, now.snapshot, wanted, only=(name, values))[0]


def _manifests(
    rooms: Rooms,
    snapshot: str,
    wanted: Wanted,
    *,
    only: tuple[str, Mapping[str, Any]] | None = None,
) -> list[Manifest]:
    """``only``: one pipeline of the file, and the values that it has."""
    directory: Path = rooms.snapshots.directory(snapshot)
    payload: dict[str, object] = {
        "snapshot": snapshot,
        "directory": str(directory),
        "file": wanted.entry,
        "parameters": dict(wanted.parameters),
    }
    if only is not None:
        payload |= {"only": only[0], "parameters": dict(only[1])}
    call = Call(
        entry=DESCRIBE,
        payload=payload,
        label=f"apply {wanted.entry}",
        timeout_s=DESCRIBE_TIMEOUT_S,
        snapshot_dir=str(directory),
    )
    outcome = rooms.compute.submit(call).result()
    if outcome.error is not None:
        raise _import_error(wanted.entry, outcome.error)
    assert isinstance(outcome.value, list)
    found = [
        _on_branch(rooms, replace(one, pipeline=placed(rooms, one.pipeline, directory)), wanted)
        for one in check_pools(rooms, read_manifests(outcome.value))
    ]
    check_all(rooms, found)
    return found


def _on_branch(rooms: Rooms, manifest: Manifest, wanted: Wanted) -> Manifest:
    """On a branch there are steps alone: endpoints, monitors, feeds and triggers are ``main``'s."""
    if wanted.branch in {"", DEFAULT_BRANCH}:
        return manifest
    pipeline = rooms.pipelines.on_branch(manifest.pipeline, wanted.branch)
    return replace(manifest, pipeline=pipeline, endpoints=(), monitors=(), feeds=(), triggers=())


def _import_error(entry: str, error: CallError) -> Exception:
    if error.kind != "raised":
        return error.to_error()
    return Invalid(
        "pipeline.import",
        f"{entry} cannot be imported: {error.message}",
        hint=error.traceback or "Run it with python to see more.",
    )


def _register(
    rooms: Rooms, manifest: Manifest, *, message: str, author: str, global_id: str = ""
) -> Applied:
    pipeline = manifest.pipeline
    global_id = global_id or new_id()
    manifest = with_code(rooms, manifest, author=author, global_id=global_id)
    notes = _told(rooms, manifest)
    with rooms.db.begin() as tx:
        info, changed = rooms.pipelines.register(
            pipeline, global_id=global_id, author=author, tx=tx
        )
        for endpoint in manifest.endpoints:
            rooms.serving.define(tx, endpoint)
        for monitor in manifest.monitors:
            rooms.monitoring.define(tx, monitor)
        for endpoint_name in removed_monitors(rooms, manifest):
            rooms.monitoring.remove(tx, endpoint_name)
        rooms.sources.define(tx, pipeline.name, manifest.feeds)
        rooms.triggers.define(tx, pipeline.name, _triggers(manifest))
    _commit_sets(rooms, manifest, global_id=global_id, author=author)
    if changed:
        trunk, _, branch = pipeline.name.partition("@")
        rooms.repos.create(f"{trunk}/{trunk}.code", kind="code", exist_ok=True)
        rooms.repos.commit_tree(
            f"{trunk}/{trunk}.code",
            pipeline.snapshot,
            branch=branch or DEFAULT_BRANCH,
            message=message or f"version {info.version}",
            author=author,
            global_id=global_id,
        )
    _serve_champions(rooms, manifest, global_id)
    serve_graphs(rooms, manifest, global_id)
    follow_aliases(rooms)
    _follow_aliases(rooms, manifest)
    started = bool(rooms.pipelines.of_change(global_id))
    return Applied(
        pipeline=pipeline.name,
        version=info.version,
        changed=changed,
        global_id=global_id if started else None,
        notes=(*pipeline.notes, *notes),
    )


def _told(rooms: Rooms, manifest: Manifest) -> list[str]:
    """What people should know of a file, whether it is applied or only planned."""
    return [*left_out(rooms, manifest), *point_nowhere(rooms, manifest)]


def _commit_sets(rooms: Rooms, manifest: Manifest, *, global_id: str, author: str) -> None:
    """What steps run over, as files of repos of their own. Idempotent."""
    branch = manifest.pipeline.name.partition("@")[2] or DEFAULT_BRANCH
    with rooms.store.writer() as writer:
        trees = _sets_trees(writer, manifest)
    for repo, tree in trees.items():
        head = rooms.repos.head(repo, branch) or rooms.repos.head(repo)
        if head is None or head.tree != tree:
            rooms.repos.commit_tree(repo, tree, branch=branch, author=author, global_id=global_id)


def _sets_trees(keeps: Writer | Overlay, manifest: Manifest) -> dict[str, str]:
    """For each repo of sets the tree that it is to have; put by a writer, told by an overlay."""
    trees: dict[str, str] = {}
    put = keeps.put if isinstance(keeps, Writer) else keeps.identify
    for repo, sets in manifest.sets.items():
        entries = []
        for name, values in sets.items():
            digest, size = put(msgspec.json.encode(values, order="sorted"))
            path = normal_path(f"/{name}.json")
            entries.append(Entry(path=path, digest=digest, size_bytes=size))
        trees[repo] = keeps.tree(EMPTY_TREE, entries)
    return trees


def _follow_aliases(rooms: Rooms, manifest: Manifest) -> None:
    """What a step reads of an alias is there from the start. Idempotent."""
    for step in manifest.pipeline.steps:
        if followed := step.options.get("follows"):
            rooms.models.follow(followed["model"], followed["alias"])


def _serve_champions(rooms: Rooms, manifest: Manifest, global_id: str) -> None:
    """An endpoint that never served its model gets the champion, if there is one already; one
    whose functions are others now gets the live version with them, by its rollout.

    Idempotent: what a crash left out is done by applying again.
    """
    for endpoint in manifest.endpoints:
        if endpoint.graph is not None or endpoint.alias:
            continue
        _renew(rooms, endpoint, global_id)
        champion = rooms.models.champion(endpoint.model)
        if champion is None:
            continue
        known = {version.id for version in rooms.models.versions(endpoint.model)}
        served = rooms.serving.endpoint(endpoint.name).revisions
        if known.isdisjoint(revision.model_version for revision in served):
            deploy_version(
                rooms.serving,
                rooms.repos,
                endpoint.name,
                champion,
                global_id=global_id,
                reason="The champion when the endpoint was defined.",
                verdict=champion.verdict,
                cause="",
            )


def _renew(rooms: Rooms, endpoint: EndpointDefinition, global_id: str) -> None:
    """Where the newest revision has other functions than those of the endpoint, another comes.

    It has the live version; where none ever came to serve, that which failed last. What was rolled
    back since, or failed, is not tried again by itself: `clew deploy` does.
    """
    served = rooms.serving.endpoint(endpoint.name).revisions
    revisions = [one for one in served if one.model_version]  # a graph that stands here has its own
    open_ones = [one for one in revisions if one.state in OPEN_STATES]
    live = next((one for one in open_ones if one.state == "live"), None)
    newest = max(open_ones or revisions, key=lambda one: one.number, default=None)
    if newest is None or (live is None and newest.state != "failed"):
        return
    tried = {one.processing for one in revisions if live is None or one.number > live.number}
    if newest.processing == endpoint.code or endpoint.code in tried:
        return
    version = rooms.models.get((live or newest).model_version)
    deploy_version(
        rooms.serving,
        rooms.repos,
        endpoint.name,
        version,
        global_id=global_id,
        reason="The functions around its model are others.",
        verdict=version.verdict,
        cause=f"{endpoint.code}:{global_id}",
    )


def triggers_of(rooms: Rooms, files: Mapping[str, bytes], entry: str) -> list[tuple[str, Trigger]]:
    """The triggers that ``entry`` defines, each with its pipeline; only the snapshot is kept."""
    with rooms.store.lease():
        snapshot = rooms.snapshots.keep(files)
        manifests = _manifests(rooms, snapshot, Wanted(entry=entry))
    return [(one.pipeline.name, trigger) for one in manifests for trigger in _triggers(one)]


def _triggers(manifest: Manifest) -> list[Trigger]:
    """The triggers that a file writes, and those that its monitors mean."""
    meant = [
        Trigger(
            name=f"{monitor.endpoint}.retrain",
            when=on_event("drift.seen", endpoint=monitor.endpoint, action="retrain"),
            do=(retrain(monitor.model),),
        )
        for monitor in manifest.monitors
        if monitor.retrain
    ]
    return [*meant, *manifest.triggers]
