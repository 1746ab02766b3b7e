"""The verbs for work that is under way: pause, resume, cancel, retry, restart, and its logs.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from typing import Protocol

from clew.base.records import Job, LogPage


class WorkVerbs(Protocol):
    """What people do to jobs. A subject is a job, a change, a pipeline, or ``pipeline/step``.

    Cancel, pause and resume also take an experiment (its job is meant) and a trial: the search goes
    on without it, and the answer is the job of the search. They raise Conflict ``trial.ended`` and
    ``trial.not_paused``.
    """

    def cancel(self, job_id: str) -> Job:
        """Stop a job that has not ended; what follows from it is blocked.

        Raises NotFound ``job.unknown``, Conflict ``job.ended``.
        """
        ...

    def cancel_all(self, subject: str) -> list[Job]:
        """Stop everything of a subject that has not ended; those jobs.

        Raises NotFound ``work.unknown``, Conflict ``work.ended``.
        """
        ...

    def pause(self, subject: str) -> list[Job]:
        """Let nothing of a subject begin; what runs comes to the end of its datums.

        A pipeline or step stays paused: jobs that are made meanwhile are paused too. The jobs that
        are (about to be) paused. Raises NotFound ``work.unknown``, Conflict ``work.ended``.
        """
        ...

    def resume(self, subject: str) -> list[Job]:
        """Let what was paused go on; those jobs.

        Raises NotFound ``work.unknown``, Conflict ``work.not_paused``.
        """
        ...

    def retry(self, subject: str, *, priority: int | None = None) -> list[Job]:
        """Run what failed of a job or a change once more, and what follows; the new jobs.

        For the same change; datums that are done are not run again. Raises NotFound
        ``work.unknown``, Conflict ``job.not_failed``, ``job.blocked``, ``job.superseded``, Invalid
        ``work.subject``.
        """
        ...

    def restart(self, datum_id: str) -> Job:
        """Run one datum once more: one that runs from its beginning, one that is done anew.

        One that failed is run with all of its job that did. The job in which it runs. Raises
        NotFound ``datum.unknown``, Conflict ``datum.superseded``, Invalid ``datum.ambiguous``.
        """
        ...

    def logs(
        self, job_id: str, *, datum: str = "", after: int = 0, limit: int = 1000, wait_s: float = 0
    ) -> LogPage:
        """What was printed in a job, in order, from place ``after`` on (``next`` of a page).

        ``datum`` (the beginning of an id) shows one alone. Where nothing is there yet and the job
        has not ended, it waits up to ``wait_s`` seconds, 30 at most. Of a long log the end is kept.
        """
        ...
