"""What holds data that somebody wants to take away, as far as rooms above repos know.

Knows which room to ask; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clew.base.records import Commit, Holder
from clew.db import Tx
from clew.workspace.rooms import Rooms

_SERVED = frozenset({"loading", "shadow", "canary", "arm", "live", "draining"})
_FAR = 5000
_ALL = 100_000


def holders(rooms: Rooms, tx: Tx, going: Sequence[Commit]) -> list[Holder]:
    """What stands on commits that would go: jobs, test rows, model versions, served revisions."""
    del tx  # rooms above repos are asked by their own doors
    ids = {commit.id for commit in going}
    return [*_jobs(rooms, ids), *_tests(rooms, ids), *_models(rooms, going)]


def repo_holders(rooms: Rooms, repo: str) -> list[Holder]:
    """Steps that read or write a repo that would go."""
    used = rooms.pipelines.users(repo)
    return [
        Holder(
            kind="pipeline",
            id=step,
            commit="",
            reason=f"{step} {how} it",
            yields=True,
        )
        for how, steps in (("reads", used.readers), ("writes", used.writers))
        for _, step in steps
    ]


def _jobs(rooms: Rooms, ids: set[str]) -> Iterator[Holder]:
    for state in ("running", "waiting"):
        for job in rooms.pipelines.jobs(state=state, limit=_ALL):
            for read in sorted(ids.intersection(job.inputs)):
                yield Holder(
                    kind="job",
                    id=job.id,
                    commit=read,
                    reason=f"job {job.id} ({job.pipeline}/{job.step}) is {job.state} and reads it",
                )


def _tests(rooms: Rooms, ids: set[str]) -> Iterator[Holder]:
    for version in rooms.models.versions(limit=_ALL):
        if version.test_commit in ids or version.commit in ids:
            yield Holder(
                kind="model_version",
                id=version.id,
                commit=version.test_commit or version.commit,
                reason=f"{version.model}@{version.version} was judged on it",
            )


def _models(rooms: Rooms, going: Sequence[Commit]) -> Iterator[Holder]:
    seen: set[str] = set()
    served = {
        revision.id: endpoint.name
        for endpoint in rooms.serving.endpoints()
        for revision in endpoint.revisions
        if revision.state in _SERVED
    }
    for commit in going:
        nodes, _ = rooms.lineage.walk(commit.id, "down", limit=_FAR)
        for node in nodes:
            if node.id in seen:
                continue
            seen.add(node.id)
            if node.kind == "model_version":
                yield _made_of(node.kind, node.id, commit, f"model version {node.title}")
            elif node.kind == "revision" and node.id in served:
                name = f"what {served[node.id]} serves ({node.id})"
                yield _made_of(node.kind, node.id, commit, name)


def _made_of(kind: str, id: str, commit: Commit, what: str) -> Holder:
    return Holder(kind=kind, id=id, commit=commit.id, reason=f"{what} came from it", yields=True)
