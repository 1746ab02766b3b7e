"""The verbs for work that is under way, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from urllib.parse import quote

from clew.base.records import Job, LogPage
from clew.client.wire import Wire


class RemoteWork:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def cancel(self, job_id: str) -> Job:
        """Stop a job that has not ended."""
        return self._wire.post(f"/jobs/{quote(job_id, safe='')}/cancel", Job, {})

    def cancel_all(self, subject: str) -> list[Job]:
        """Stop everything of a subject that has not ended."""
        return self._wire.post("/control/cancel", list[Job], {"subject": subject})

    def pause(self, subject: str) -> list[Job]:
        """Let nothing of a subject begin."""
        return self._wire.post("/control/pause", list[Job], {"subject": subject})

    def resume(self, subject: str) -> list[Job]:
        """Let what was paused go on."""
        return self._wire.post("/control/resume", list[Job], {"subject": subject})

    def retry(self, subject: str, *, priority: int | None = None) -> list[Job]:
        """Run what failed once more."""
        return self._wire.post(
            "/control/retry", list[Job], {"subject": subject, "priority": priority}
        )

    def restart(self, datum_id: str) -> Job:
        """Run one datum once more."""
        return self._wire.post(f"/datums/{quote(datum_id, safe='')}/restart", Job, {})

    def logs(
        self, job_id: str, *, datum: str = "", after: int = 0, limit: int = 1000, wait_s: float = 0
    ) -> LogPage:
        """What was printed in a job, from a place on."""
        return self._wire.get(
            f"/jobs/{quote(job_id, safe='')}/logs",
            LogPage,
            datum=datum,
            after=after,
            limit=limit,
            wait_s=wait_s,
        )
