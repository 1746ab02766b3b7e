"""The verbs for work that is under way, on the files of one directory.

Knows which room to ask; how jobs obey is theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from clew.base.limits import check_limit, check_seq
from clew.base.records import Job, LogPage
from clew.workspace.rooms import Rooms

LOOK_S = 0.1
SHORTEST = 4
LONGEST_S = 30.0


class Work:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms

    def cancel(self, job_id: str) -> Job:
        """Stop a job."""
        return self.rooms.pipelines.cancel(job_id)

    def cancel_all(self, subject: str) -> list[Job]:
        """Stop everything of a subject."""
        return self._act(subject, self.rooms.pipelines.control.cancel, "cancel_trial")

    def pause(self, subject: str) -> list[Job]:
        """Let nothing of a subject begin."""
        return self._act(subject, self.rooms.pipelines.control.pause, "pause_trial")

    def resume(self, subject: str) -> list[Job]:
        """Let what was paused go on."""
        return self._act(subject, self.rooms.pipelines.control.resume, "resume_trial")

    def _act(self, subject: str, act: Callable[[str], list[Job]], of_trial: str) -> list[Job]:
        """Act on jobs, on the job of an experiment, or on one trial (then: its job)."""
        found = self.rooms.experiments.subject(subject) if len(subject) >= SHORTEST else None
        if found is None:
            return act(subject)
        job, trial = found
        if not trial:
            return act(job)
        getattr(self.rooms.experiments, of_trial)(trial)
        return [self.rooms.pipelines.job(job)]

    def retry(self, subject: str, *, priority: int | None = None) -> list[Job]:
        """Run what failed once more."""
        return self.rooms.pipelines.control.retry(subject, priority=priority)

    def restart(self, datum_id: str) -> Job:
        """Run one datum once more."""
        return self.rooms.pipelines.control.restart(datum_id)

    def logs(
        self, job_id: str, *, datum: str = "", after: int = 0, limit: int = 1000, wait_s: float = 0
    ) -> LogPage:
        """What was printed in a job, from a place on."""
        end = time.monotonic() + min(wait_s, LONGEST_S)
        after, limit = check_seq(after), check_limit(limit)
        while True:
            pipelines, seen = self.rooms.pipelines, self.rooms.db.events.last()
            page = pipelines.log_page(job_id, datum=datum, after=after, limit=limit)
            left = end - time.monotonic()
            if page.entries or page.ended or left <= 0:
                return page
            after = page.next  # of other datums alone
            self.rooms.db.events.wait(seen, min(LOOK_S, left))
