"""Why in sentences: what set a job off, why it did nothing, what came in by itself.

Knows rooms and the thread that was found; changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from clew.base.ids import short
from clew.base.records import Job, Node
from clew.workspace.rooms import Rooms

SHOWN = 5
"""So many firings and commits are told of one by one."""

_TICK, _SCHEDULE, _SOURCE = "clew.tick", "clew.schedule", "source"
"""Metadata of commits that nobody made by hand, as the rooms that make them write it."""

_WORK = {"train": "training", "gate": "judging", "determined": "search", "step": "job"}


def told_of(rooms: Rooms, start: Node, nodes: Collection[Node]) -> Iterator[str]:
    """Sentences about what is asked for and about what set it off."""
    found = [start, *(node for node in nodes if node.id != start.id)]
    if start.kind == "job":
        yield from _job(rooms, rooms.pipelines.job(start.id))
    for node in [node for node in found if node.kind == "firing"][:SHOWN]:
        yield _firing(node)
    commits = [node for node in found if node.kind == "commit" and _by_itself(node)]
    for node in commits[:SHOWN]:
        yield from _came(node)


def _job(rooms: Rooms, job: Job) -> Iterator[str]:
    what = f"The {_WORK.get(job.kind, 'job')} {short(job.id)} of {job.pipeline}/{job.step}"
    yield f"{what} is {job.state}: {job.reason}"
    if job.state != "done":
        return
    if job.kind != "step" and job.skipped:
        yield (
            "Its data, code, parameters, options and packages are those of an earlier job, "
            "whose result stands."
        )
    elif job.total and job.skipped == job.total:
        yield f"All {job.total:,} datums have the keys of earlier ones, whose results stand."
    elif not job.skipped and not rooms.pipelines.causes(job.id):
        yield "There is no earlier good job of this step to compare it with."


def _firing(node: Node) -> str:
    reason = str(node.detail.get("reason", "")).rstrip(".")
    verb = "would have fired" if node.detail.get("state") == "skipped" else "fired"
    title = node.title.replace(" fired at ", f" {verb} at ")
    return f"The trigger {title}, because {reason}."


def _by_itself(node: Node) -> bool:
    """Whether a commit may be of a schedule or a source: those have metadata."""
    return bool(node.detail.get("meta"))


def _came(node: Node) -> Iterator[str]:
    meta, repo = dict(node.detail["meta"]), node.detail.get("repo", "")  # type: ignore[call-overload]  # its metadata are a mapping
    if _TICK in meta:
        at = datetime.fromisoformat(meta[_TICK])
        yield (
            f"{repo}@{short(node.id)} was written by its schedule ({meta.get(_SCHEDULE, '')}), "
            f"which came due at {at:%Y-%m-%d %H:%M:%S} UTC."
        )
    elif _SOURCE in meta:
        yield (
            f"{repo}@{short(node.id)} was committed by the source {meta[_SOURCE]}: "
            f"{node.detail.get('message', '')}."
        )
