"""The verbs for trials: what they kept, and their checkpoints.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from typing import Protocol

from clew.base.records.trial_policy import Keep
from clew.base.records.trials import CheckpointInfo, Pruned, TrialDetail


class TrialVerbs(Protocol):
    """What people ask of trials. Ids may be shortened."""

    def trial(self, trial_id: str) -> TrialDetail:
        """A trial with its points, the files that it logged, what it used, and its log.

        Raises NotFound ``trial.unknown``.
        """
        ...

    def trial_file(self, trial_id: str, path: str) -> bytes:
        """The content of a file that a trial logged, by its path (``name/STEP.suffix``).

        Raises NotFound ``trial.unknown``, ``trial.no_file``.
        """
        ...

    def checkpoints(self, subject: str) -> list[CheckpointInfo]:
        """Checkpoints of an experiment or a trial, with why each stays.

        Raises NotFound ``trial.unknown``.
        """
        ...

    def prune(
        self, experiment_id: str, keep: Keep | None = None, *, dry_run: bool = False
    ) -> Pruned:
        """Give up the checkpoints that a policy (its own without one) does not keep.

        What a model version, an endpoint or a warm start rests on stays. The bytes go with the next
        :meth:`gc`. Raises NotFound ``experiment.unknown``.
        """
        ...
