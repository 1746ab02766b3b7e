"""The verbs for trials: what they kept, and their checkpoints.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from collections.abc import Mapping
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

    def fork(
        self,
        experiment_id: str,
        *,
        space: Mapping[str, object] | None = None,
        search: Mapping[str, object] | None = None,
        reason: str = "",
    ) -> str:
        """Run the step of an experiment anew with another search, on the data of now; the change.

        ``space``: by name of a parameter a distribution, or the one value that it has; ``search``:
        fields of the search (``trials``, ``max_steps``, ``sampler``, ``seed``, …). What it finds is
        a candidate like any other. Raises NotFound ``experiment.unknown``, Invalid
        ``search.invalid``, ``space.invalid``.
        """
        ...

    def continue_trial(self, trial_id: str, *, steps: int, reason: str = "") -> str:
        """Train a trial on from its latest checkpoint, up to so many steps in all; the change.

        What comes out is a candidate like any other. Raises NotFound ``trial.unknown``, Conflict
        ``trial.no_checkpoint``, Invalid ``trial.steps``.
        """
        ...
