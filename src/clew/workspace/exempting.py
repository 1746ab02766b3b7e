"""Which trials' checkpoints must stay, as far as rooms above experiments know.

Knows which room to ask; it changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from clew.db import Tx
from clew.models import Models
from clew.serving import Serving

_SERVED = frozenset({"loading", "shadow", "canary", "arm", "live", "draining"})
_ALL = 100_000


class Exempt:
    """Why checkpoints of trials stay: registered, aliased, served. By the id of the trial."""

    def __init__(self, models: Models, serving: Serving) -> None:
        self._models = models
        self._serving = serving

    def __call__(self, tx: Tx) -> Mapping[str, list[str]]:
        """Reasons; of rows that were there when it is asked."""
        del tx  # rooms are asked by their own doors
        why: dict[str, list[str]] = defaultdict(list)
        trials: dict[str, str] = {}
        for version in self._models.versions(limit=_ALL):
            if version.trial is None:
                continue
            trials[version.id] = version.trial
            names = "".join(f", {alias}" for alias in version.aliases)
            why[version.trial].append(f"{version.model}@{version.version}{names}")
        for endpoint in self._serving.endpoints():
            for revision in endpoint.revisions:
                trial = trials.get(revision.model_version)
                if trial is not None and revision.state in _SERVED:
                    why[trial].append(f"serves {endpoint.name}")
        return why
