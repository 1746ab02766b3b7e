"""How far a long work with files has come, told to whoever draws it.

Knows numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Amount(NamedTuple):
    """Done so far; ``of_files`` and ``of_bytes`` are 0 as long as the whole is not known."""

    files: int
    size_bytes: int
    of_files: int = 0
    of_bytes: int = 0


Progress = Callable[[Amount], None]
"""Called now and then on the thread that works, at least once at the end; must be quick."""


def unseen(amount: Amount) -> None:
    """Nobody looks."""
    del amount
