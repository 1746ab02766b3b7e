"""Secrets, where they are needed: ``env:NAME`` and ``file:PATH`` become what stands there.

Knows the environment and the disk; what a secret opens is for who asks.
"""

from __future__ import annotations

import os
from pathlib import Path

from clew.base.errors import NotFound


class Secrets:
    """Texts behind references. Nothing is kept: what changed counts at the next use."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def text(self, reference: str) -> str:
        """What a reference stands for; a text that is none stays as it is.

        Paths are relative to the directory of the project. White space at the ends of a file does
        not count.

        Raises:
            NotFound: ``secret.missing``, naming the reference and never a value.
        """
        kind, colon, name = reference.partition(":")
        if not colon or kind not in {"env", "file"} or name.startswith("//"):
            return reference
        try:
            return os.environ[name] if kind == "env" else (self._root / name).read_text().strip()
        except (KeyError, OSError, UnicodeDecodeError):
            raise NotFound(
                "secret.missing",
                f"There is nothing at {reference}, where a secret should be.",
                hint="Set it in the environment of the server, or write the file, for its user.",
            ) from None
