"""The verbs that name model versions, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from clew.base.errors import Conflict
from clew.base.importing import source_files
from clew.base.records import AliasMove, Commit, ModelVersion, RepoInfo
from clew.base.records.imports import REMOTE, SOURCE_SUFFIX, ImportWish
from clew.base.verbs import Source
from clew.client.wire import Wire


class RemoteNaming:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def alias_history(self, model: str) -> list[AliasMove]:
        """All moves of the aliases of a model, newest first."""
        return self._wire.get(f"/aliases/{quote(model)}", list[AliasMove])

    def import_model(
        self,
        source: str | Path,
        *,
        name: str,
        trust: bool = False,
        example: str | Path = "",
        test: str = "",
        target: str = "",
        task: str = "auto",
        registry: str = "",
        requirements: Sequence[str] = (),
        python: str = "",
        own_environment: bool = False,
    ) -> ModelVersion:
        """A model of another tool as a candidate version; its files are sent, and not read here."""
        told = str(source)
        files = source_files(told, str(example))
        wish = ImportWish(
            name=name,
            told=told if told.startswith(REMOTE) else Path(told).name,
            commit=self._put_source(name, files) if files else "",
            uri=told if told.startswith(REMOTE) else "",
            registry=registry,
            trust=trust,
            test=test,
            target=target,
            task=task,
            requirements=tuple(requirements),
            python=python,
            own_environment=own_environment,
        )
        return self._wire.post("/imports", ModelVersion, wish)

    def _put_source(self, name: str, files: Mapping[str, Path]) -> str:
        repo = name + SOURCE_SUFFIX
        with suppress(Conflict):  # it is there already
            self.create_repo(repo)
        return self.put(repo, files, replace=True, message="to be imported").id

    def create_repo(self, name: str, *, description: str = "") -> RepoInfo:
        """A new source repo."""
        raise NotImplementedError

    def put(
        self, repo: str, files: Mapping[str, Source], *, message: str = "", replace: bool = False
    ) -> Commit:
        """Commit files."""
        raise NotImplementedError

    def set_alias(
        self, model: str, alias: str, version: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Let an alias stand on a version of a model."""
        wish = {"model": model, "alias": alias, "version": version, "by": by, "reason": reason}
        return self._wire.post("/aliases", AliasMove, wish)

    def rollback_alias(
        self, model: str, alias: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Move an alias one step back."""
        wish = {"model": model, "alias": alias, "by": by, "reason": reason}
        return self._wire.post("/aliases/rollback", AliasMove, wish)
