"""How much memory a process and its children hold.

Knows nothing of limits; the one file that knows psutil.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_CHILDREN_EVERY_S = 0.25  # finding children reads all of /proc


class MemoryGauge:
    """Resident memory of a process and of all below it, and the most that was seen."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._processes: list[psutil.Process] = []
        self._looked_at = 0.0
        self.peak_bytes = 0

    def read(self) -> int:
        """Bytes now; memory that forked children share counts once for each. 0 once it is gone."""
        import psutil  # noqa: PLC0415 - slow to import, and only calls with a limit need it

        now = time.monotonic()
        try:
            if now - self._looked_at > _CHILDREN_EVERY_S or not self._processes:
                self._looked_at = now
                root = psutil.Process(self._pid)
                self._processes = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0
        total = 0
        for process in self._processes:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # it ended since the last look
        self.peak_bytes = max(self.peak_bytes, total)
        return total
