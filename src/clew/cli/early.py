"""What a command will need for certain, begun before the libraries that read its options are here.

Knows the words of a command line, no library and no workspace.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from clew.base.walking import begin_scan, end_scans


def begin(words: Sequence[str]) -> None:
    """Look at the directory that ``put`` was given. To guess wrong costs a little time only."""
    if words[:1] != ["put"]:
        return
    for before, word in pairwise(words[1:]):
        if not before.startswith("-") and not word.startswith("-") and Path(word).is_dir():
            with suppress(OSError):
                begin_scan(Path(word))
            return


def end() -> None:
    """Leave nothing behind."""
    end_scans()
