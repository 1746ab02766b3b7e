"""The verbs for trials, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from urllib.parse import quote

from clew.base.records.trials import TrialDetail
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
