"""The verbs for trials, on the files of one directory.

Knows which room to ask; what a trial is, is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from clew.base.ids import new_id, short
from clew.base.records.trial_policy import Keep
from clew.base.records.trials import CheckpointInfo, Pruned, TrialDetail
from clew.db import Tx
from clew.workspace.rooms import Rooms


class Trials:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms

    def trial(self, trial_id: str) -> TrialDetail:
        """A trial with all that it kept."""
        return self.rooms.experiments.detail(trial_id)

    def trial_file(self, trial_id: str, path: str) -> bytes:
        """The content of a file that a trial logged."""
        return self.rooms.experiments.file(trial_id, path)

    def checkpoints(self, subject: str) -> list[CheckpointInfo]:
        """Checkpoints of an experiment or a trial, with why each stays."""
        return self.rooms.experiments.checkpoints(subject)

    def prune(
        self, experiment_id: str, keep: Keep | None = None, *, dry_run: bool = False
    ) -> Pruned:
        """Give up the checkpoints that a policy does not keep."""
        return self.rooms.experiments.prune(experiment_id, keep, dry_run=dry_run)

    def fork(
        self,
        experiment_id: str,
        *,
        space: Mapping[str, object] | None = None,
        search: Mapping[str, object] | None = None,
        reason: str = "",
    ) -> str:
        """Run the step of an experiment anew with another search."""
        global_id = new_id()
        begin = self._begin(global_id, reason or f"It forks experiment {short(experiment_id)}.")
        self.rooms.experiments.fork(experiment_id, begin, space=space, search=search)
        return global_id

    def continue_trial(self, trial_id: str, *, steps: int, reason: str = "") -> str:
        """Train a trial on from its latest checkpoint."""
        global_id = new_id()
        begin = self._begin(global_id, reason or f"Trial {short(trial_id)} goes on.")
        self.rooms.experiments.go_on(trial_id, steps, begin)
        return global_id

    def _begin(self, global_id: str, reason: str) -> Callable[[Tx, str, str], str]:
        def job_of(tx: Tx, pipeline: str, step: str) -> str:
            request = self.rooms.pipelines.request
            return request(pipeline, step, global_id=global_id, reason=reason, tx=tx)[0].id

        return job_of
