"""The verbs for trials, on the files of one directory.

Knows which room to ask; what a trial is, is theirs.
"""

from __future__ import annotations

from clew.base.records.trial_policy import Keep
from clew.base.records.trials import CheckpointInfo, Pruned, TrialDetail
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
