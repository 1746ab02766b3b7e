"""The files of a model version without a workspace: what loading reads where none is at hand.

Knows their SHA-256 and a way to get their bytes; neither a store nor where they come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from msgspec import Struct

from clew.base.errors import Corrupt
from clew.base.records.exports import ImageFile


class NamedFile(Struct, frozen=True):
    """An entry of these files: each is its own digest."""

    digest: str


class CheckedFiles:
    """Files that came with a list of them, each compared with it when it is read.

    ``content`` gives the bytes of a path, or raises OSError; ``mend`` says what to do where they
    are others.
    """

    def __init__(
        self, files: Sequence[ImageFile], content: Callable[[str], bytes], *, mend: str
    ) -> None:
        self._files = {one.path: one for one in files}
        self._content, self._mend = content, mend

    def paths(self) -> list[str]:
        """What there is, by name."""
        return sorted(self._files)

    def get(self, tree: str, path: str) -> NamedFile | None:  # noqa: ARG002 - there is one tree
        """The entry of a file, or None."""
        return NamedFile(path) if path in self._files else None

    def read(self, digest: str) -> bytes:
        """The bytes of a file. Raises Corrupt ``image.damaged``."""
        try:
            content = self._content(digest)
        except OSError as error:
            raise self._damaged(digest, error.strerror or "it cannot be read") from None
        if hashlib.sha256(content).hexdigest() != self._files[digest].sha256:
            raise self._damaged(digest, "its bytes are others")
        return content

    def check(self) -> int:
        """Compare every file with the list; how many there are. Raises as :meth:`read`."""
        for path in self._files:
            self.read(path)
        return len(self._files)

    def _damaged(self, path: str, why: str) -> Corrupt:
        return Corrupt(
            "image.damaged",
            f"{path} is not the file of the model version: {why}.",
            hint=self._mend,
        )
