"""A progress bar for work that takes longer than a second, on standard error, for people alone.

Knows numbers and the terminal; knows nothing of what is done.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from clew.base.progress import Amount
from clew.cli.frame import console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

AFTER_S = 1.0


class Bar:
    """Shows files and bytes; nothing where standard error is no terminal, or ``show`` says so."""

    def __init__(self, what: str, *, show: bool = True) -> None:
        self._what = what
        self._show = show and sys.stderr.isatty()
        self._start = time.monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, amount: Amount) -> None:
        """Draw how far it is."""
        if not self._show or time.monotonic() - self._start < AFTER_S:
            return
        if self._progress is None:
            self._progress, self._task = _begin(self._what)
        assert self._task is not None
        files = f"{amount.files:,}" + (f"/{amount.of_files:,}" if amount.of_files else "")
        self._progress.update(
            self._task,
            completed=amount.size_bytes,
            total=amount.of_bytes or None,
            files=f"{files} files",
        )


def _begin(what: str) -> tuple[Progress, TaskID]:
    from rich.progress import (  # noqa: PLC0415 - help must not pay for it
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[files]}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    )
    progress.start()
    return progress, progress.add_task(what, files="")
