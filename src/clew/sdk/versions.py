"""A model version in this process, by the verbs: from the files here or from a server.

Knows how a version's commit is read; nothing of endpoints. Its pickle runs in this process where no
converted form serves.
"""

from __future__ import annotations

from msgspec import Struct

from clew.base.records import ModelVersion
from clew.base.verbs import Verbs
from clew.models import LoadedModel, load_model


class _Entry(Struct, frozen=True):
    digest: str


class _Tree:
    """The files of a commit: what loading reads."""

    def __init__(self, verbs: Verbs, place: str) -> None:
        self._verbs, self._place = verbs, place
        self._paths = {one.path for one in verbs.ls(f"{place}:/", recursive=True)}

    def get(self, tree: str, path: str) -> _Entry | None:  # noqa: ARG002 - there is one tree
        return _Entry(path) if path in self._paths else None

    def read(self, digest: str) -> bytes:
        return self._verbs.read(f"{self._place}:{digest}")


def load_version(verbs: Verbs, ref: str) -> tuple[ModelVersion, LoadedModel]:
    """A version by ``model@3``, ``model@champion`` or its id, in the form that serves.

    Raises:
        NotFound: ``model.unknown``.
        Unavailable: ``model.distribution`` where a package that it needs is missing here.
    """
    version = verbs.model(ref)
    tree = _Tree(verbs, f"{version.model}@{version.commit}")
    return version, load_model(tree, "", served=True)
