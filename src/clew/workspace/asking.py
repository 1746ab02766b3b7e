"""Answers over several rooms: the status, and all that a change caused.

Knows which room to ask for what; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from clew.base.ids import short
from clew.base.records import BrokenNow, ChangeStatus, Commit, Endpoint, Job, Revision, Status
from clew.workspace.rooms import Rooms

RECENT = 20


def commit_at(rooms: Rooms, ref: str) -> Commit:
    """The commit of ``repo@ref`` or of an id."""
    if "/" in ref or "@" in ref:
        return rooms.repos.resolve(ref)
    return rooms.repos.commit_by_id(ref)


def status(rooms: Rooms, endpoints: list[Endpoint]) -> Status:
    """The workspace at a glance."""
    jobs = rooms.pipelines.jobs(limit=200)

    def in_state(*states: str) -> tuple[Job, ...]:
        return tuple(job for job in jobs if job.state in states)[:RECENT]

    broken, before = rooms.pipelines.broken()
    return Status(
        workspace=str(rooms.settings.home),
        running=in_state("running"),
        waiting=in_state("waiting"),
        recent=in_state("done"),
        refused=tuple(broken[:RECENT]),
        refused_before=before + len(broken[RECENT:]),
        endpoints=tuple(endpoints),
        drift=tuple(rooms.monitoring.newest()),
        global_ids=tuple(rooms.lineage.latest_changes(RECENT)),
    )


def pending(rooms: Rooms, global_id: str | None) -> bool:
    """Whether jobs are left that will end by themselves: of one change, or at all; or a revision of
    which serving processes are about to say whether it can be loaded.

    Of one change also where a commit that somebody writes step by step is still open.
    """
    if global_id is not None and any(
        commit.state == "open" and commit.tree for commit in rooms.repos.of_change(global_id)
    ):
        return True
    return rooms.pipelines.control.is_pending(global_id) or rooms.serving.is_loading(global_id)


def change(rooms: Rooms, global_id: str) -> ChangeStatus:
    """All that carries one global id (or a unique beginning of it).

    Raises:
        NotFound: ``change.unknown``.
    """
    full = rooms.lineage.change(global_id)
    experiments, trials = rooms.experiments.of_change(full)
    jobs, revisions = rooms.pipelines.of_change(full), rooms.serving.of_change(full)
    return ChangeStatus(
        global_id=full,
        commits=tuple(rooms.repos.of_change(full)),
        jobs=tuple(jobs),
        experiments=experiments,
        trials=trials,
        model_versions=tuple(rooms.models.versions(global_id=full)),
        verdicts=tuple(rooms.models.verdicts(global_id=full)),
        revisions=tuple(revisions),
        drift_reports=tuple(rooms.monitoring.of_change(full)),
        predictions=rooms.serving.count_of_change(full),
        events=tuple(rooms.db.events.after(0, global_id=full, limit=500)),
        broken=(*_broken_steps(rooms, jobs), *_broken_revisions(rooms, revisions)),
    )


def _broken_steps(rooms: Rooms, jobs: Sequence[Job]) -> list[BrokenNow]:
    """What is broken now of the pipelines that these jobs are of."""
    pipelines = {job.pipeline for job in jobs}
    found = rooms.pipelines.broken()[0] if pipelines else []
    return [
        BrokenNow(
            kind="job",
            id=job.id,
            name=f"{job.pipeline}/{job.step}",
            state=job.state,
            reason=(job.error or job.reason).partition("\n")[0],
            global_id=job.global_id,
            look=f"clew job {short(job.id)} --log",
        )
        for job in found
        if job.pipeline in pipelines
    ]


def _broken_revisions(rooms: Rooms, revisions: Sequence[Revision]) -> list[BrokenNow]:
    """Those of these revisions that cannot be loaded, and are the newest of their endpoint."""
    return [
        BrokenNow(
            kind="revision",
            id=one.id,
            name=f"{one.endpoint} r{one.number}",
            state=one.state,
            reason=one.reason.partition("\n")[0],
            global_id=one.global_id,
            look="clew endpoints",
        )
        for one in revisions
        if one.state == "failed" and one.number == _newest(rooms, one.endpoint)
    ]


def _newest(rooms: Rooms, endpoint: str) -> int:
    return max(each.number for each in rooms.serving.endpoint(endpoint).revisions)
