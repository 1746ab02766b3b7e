"""XGBoost's tracker, by which its ranks find each other: the one file that knows XGBoost.

Knows nothing of trials. It lives in the launcher, which outlives every rank.
"""

from __future__ import annotations

import threading
from typing import Any

from clew.base.errors import Unavailable

_TIMEOUT_S = 300


class Tracker:
    """A tracker for ``size`` workers on this machine, from now until :meth:`close`.

    Workers are ranked by their ``dmlc_task_id``, so that XGBoost's ranks are those of the group.
    Raises Unavailable ``ranks.xgboost`` where XGBoost is not installed.
    """

    def __init__(self, size: int) -> None:
        try:
            from xgboost.tracker import RabitTracker  # noqa: PLC0415 - heavy, and an extra
        except ImportError as error:
            raise Unavailable(
                "ranks.xgboost",
                f"XGBoost's tracker is not here: {error}.",
                hint='Install it: pip install "clew[boosting]"',
            ) from None
        self._tracker: Any = RabitTracker(
            n_workers=size, host_ip="127.0.0.1", sortby="task", timeout=_TIMEOUT_S
        )
        self._tracker.start()
        self._arguments = dict(self._tracker.worker_args())
        self._thread = threading.Thread(target=self._wait, name="clew-xgboost", daemon=True)
        self._thread.start()

    def arguments(self) -> dict[str, object]:
        """For ``xgboost.collective.CommunicatorContext``, but for ``dmlc_task_id``."""
        return dict(self._arguments)

    def close(self) -> None:
        """Let go of it; its workers have ended."""
        self._thread.join(1.0)
        self._tracker.free()

    def _wait(self) -> None:
        try:
            self._tracker.wait_for()
        except Exception as error:  # noqa: BLE001 - ranks that fail say so themselves
            print(f"XGBoost's tracker: {error}")  # noqa: T201 - the log of the trial
