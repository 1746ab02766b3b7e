"""The verbs for trials, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from msgspec import to_builtins

from clew.base.records.trial_policy import Keep
from clew.base.records.trials import CheckpointInfo, Pruned, TrialDetail
from clew.client.wire import Wire


class RemoteTrials:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def trial(self, trial_id: str) -> TrialDetail:
        """A trial with all that it kept."""
        return self._wire.get(f"/trials/{quote(trial_id, safe='')}", TrialDetail)

    def trial_file(self, trial_id: str, path: str) -> bytes:
        """The content of a file that a trial logged."""
        return self._wire.get(f"/trials/{quote(trial_id, safe='')}/file", bytes, path=path)

    def checkpoints(self, subject: str) -> list[CheckpointInfo]:
        """Checkpoints of an experiment or a trial, with why each stays."""
        return self._wire.get("/checkpoints", list[CheckpointInfo], subject=subject)

    def prune(
        self, experiment_id: str, keep: Keep | None = None, *, dry_run: bool = False
    ) -> Pruned:
        """Give up the checkpoints that a policy does not keep."""
        wish = {"keep": None if keep is None else to_builtins(keep), "dry_run": dry_run}
        return self._wire.post(f"/experiments/{quote(experiment_id, safe='')}/prune", Pruned, wish)

    def fork(
        self,
        experiment_id: str,
        *,
        space: Mapping[str, object] | None = None,
        search: Mapping[str, object] | None = None,
        reason: str = "",
    ) -> str:
        """Run the step of an experiment anew with another search."""
        wish = {
            "space": to_builtins(dict(space or {})),
            "search": to_builtins(dict(search or {})),
            "reason": reason,
        }
        place = f"/experiments/{quote(experiment_id, safe='')}/fork"
        return self._wire.post(place, dict[str, str], wish)["global_id"]

    def continue_trial(self, trial_id: str, *, steps: int, reason: str = "") -> str:
        """Train a trial on from its latest checkpoint."""
        wish = {"steps": steps, "reason": reason}
        place = f"/trials/{quote(trial_id, safe='')}/continue"
        return self._wire.post(place, dict[str, str], wish)["global_id"]
