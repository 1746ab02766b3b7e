"""What triggers name and nothing is called: they would wait for ever, and say nothing.

Knows manifests and what is registered; it changes nothing. What is missing may still come, from
another file: so these are sentences, and no errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from difflib import get_close_matches

from msgspec import Struct

from clew.authoring import Manifest
from clew.triggers import Action, Condition
from clew.workspace.rooms import Rooms


class _Known(Struct, frozen=True, kw_only=True):
    """Names that triggers may point to."""

    endpoints: Set[str]
    watched: Set[str]
    feeds: Set[str]
    repos: Set[str]


def point_nowhere(rooms: Rooms, manifest: Manifest) -> list[str]:
    """Sentences on what the triggers of a file wait for, or act on, and what is not there."""
    if not manifest.triggers:
        return []
    known = _known(rooms, manifest)
    found = []
    for trigger in manifest.triggers:
        for leaf in trigger.when.leaves():
            found += [f"The trigger {trigger.name} {said}" for said in _of_leaf(leaf, known)]
        for action in trigger.do:
            found += [f"The trigger {trigger.name} {said}" for said in _of_action(action, known)]
    return found


def _known(rooms: Rooms, manifest: Manifest) -> _Known:
    name = manifest.pipeline.name
    served = {one.name for one in (*manifest.endpoints, *rooms.serving.definitions())}
    watched = {one.endpoint for one in rooms.monitoring.list() if one.pipeline != name}
    repos = {one.name for one in rooms.repos.list()}
    repos |= {one.repo for one in manifest.pipeline.sources}
    repos |= {f"{name}/{one.name}" for one in manifest.pipeline.steps}
    repos |= {f"{name}/{endpoint}" for endpoint in served}
    return _Known(
        endpoints=served,
        watched=watched | {one.endpoint for one in manifest.monitors},
        feeds={one.name for one in manifest.feeds} | {one.name for one in rooms.sources.list()},
        repos=repos,
    )


def _of_leaf(leaf: Condition, known: _Known) -> Iterator[str]:
    match = leaf.options.get("match", {})
    event = leaf.options.get("event", "")
    if event in ("drift.seen", "drift.reported") and "endpoint" in match:
        yield from _lacks(
            match["endpoint"], known.watched, "waits for drift of", "no monitor of it"
        )
    if event == "source.committed" and "subject" in match:
        yield from _lacks(match["subject"], known.feeds, "waits for", "no such source")
    if event == "hook.received" and "source" in match:
        yield from _lacks(match["source"], known.feeds, "waits for", "no such webhook")
    if leaf.kind == "reading":
        endpoint = leaf.options["endpoint"]
        yield from _lacks(endpoint, known.endpoints, "looks at", "no such endpoint")
    repo = match.get("repo") if event == "commit.finished" else leaf.options.get("repo")
    if isinstance(repo, str) and repo.rpartition(".")[0] not in known.repos:
        yield from _lacks(repo, known.repos, "waits for commits on", "no such repo")


def _of_action(action: Action, known: _Known) -> Iterator[str]:
    if action.kind == "rollback":
        endpoint = action.options["endpoint"]
        yield from _lacks(endpoint, known.endpoints, "rolls back", "no such endpoint")


def _lacks(name: object, known: Set[str], does: str, what: str) -> Iterator[str]:
    if not isinstance(name, str) or name in known:
        return
    near = get_close_matches(name, sorted(known), 1, 0.6)
    meant = f" Is {near[0]} meant?" if near else ""
    yield f"{does} {name}, and there is {what}.{meant}"
