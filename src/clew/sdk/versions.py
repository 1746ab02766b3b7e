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
    """The files of commits, the later ones over those before: what loading reads."""

    def __init__(self, verbs: Verbs, kept: dict[str, bytes], *places: str) -> None:
        self._verbs, self._kept = verbs, kept
        self._addresses = {
            one.path: f"{place}:{one.path}"
            for place in places
            for one in verbs.ls(f"{place}:/", recursive=True)
        }

    def get(self, tree: str, path: str) -> _Entry | None:  # noqa: ARG002 - there is one tree
        return _Entry(self._addresses[path]) if path in self._addresses else None

    def read(self, digest: str) -> bytes:
        content = self._kept[digest.partition(":")[2]] = self._verbs.read(digest)
        return content


def load_version(
    verbs: Verbs, ref: str, functions: str = "", *, kept: dict[str, bytes] | None = None
) -> tuple[ModelVersion, LoadedModel]:
    """A version by ``model@3``, ``model@champion`` or its id, in the form that serves.

    ``functions``: the commit (``repo@commit``) of those that an endpoint puts around it.
    ``kept`` gets the files that loading has read, by path.

    Raises:
        NotFound: ``model.unknown``.
        Unavailable: ``model.distribution`` where a package that it needs is missing here.
    """
    version, read = verbs.model(ref), {} if kept is None else kept
    tree = _Tree(
        verbs, read, f"{version.model}@{version.commit}", *([functions] if functions else [])
    )
    return version, load_model(tree, "", served=True)
