"""The verbs for trials: what they kept, and their checkpoints.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from typing import Protocol

from clew.base.records.trials import TrialDetail


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
