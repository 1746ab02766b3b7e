"""Functions of the user that come with endpoints, put where their revisions are made of.

Knows a manifest and the store; runs nothing of them.
"""

from __future__ import annotations

from msgspec.structs import replace

from clew.authoring import Manifest
from clew.serving import EndpointDefinition
from clew.store import EMPTY_TREE, Entry
from clew.workspace.rooms import Rooms


def with_code(rooms: Rooms, manifest: Manifest, *, author: str, global_id: str) -> Manifest:
    """The manifest, with the commits of what its endpoints bring: ``PIPELINE/ENDPOINT.functions``.

    What is there already stays: pickles of one function differ.
    """
    known = {one.name: one for one in rooms.serving.definitions()}
    endpoints = [
        _placed(one, known.get(one.name))
        or _committed(rooms, one, manifest.packed[one.name], author, global_id)
        for one in manifest.endpoints
    ]
    return replace(manifest, endpoints=tuple(endpoints), packed={})


def _placed(one: EndpointDefinition, known: EndpointDefinition | None) -> EndpointDefinition | None:
    """The endpoint as it is, or with what is there of it; None where that is to be committed."""
    if not one.code:
        return one
    before = None if known is None else known.graph or known.processing
    if before is None or before.code != one.code:
        return None
    return _with(one, before.tree, before.place)


def _with(one: EndpointDefinition, tree: str, place: str) -> EndpointDefinition:
    if one.graph is not None:
        return replace(one, graph=replace(one.graph, tree=tree, place=place))
    assert one.processing is not None, "one of them is there"
    return replace(one, processing=replace(one.processing, tree=tree, place=place))


def _committed(
    rooms: Rooms, one: EndpointDefinition, files: dict[str, bytes], author: str, global_id: str
) -> EndpointDefinition:
    repo = f"{one.pipeline}/{one.name}.functions"
    with rooms.store.writer() as writer:
        entries = []
        for path, content in files.items():
            digest, size = writer.put(content)
            entries.append(Entry(path=path, digest=digest, size_bytes=size))
        tree = writer.tree(EMPTY_TREE, entries)
    rooms.repos.create(repo, kind="code", description="Code of an endpoint.", exist_ok=True)
    commit = rooms.repos.commit_tree(
        repo, tree, message="functions", author=author, global_id=global_id
    )
    return _with(one, commit.tree, f"{repo}@{commit.id}")
