"""Models of other tools as versions: fetched and read in a worker, packaged like any other.

Knows repos and workers; nothing of where files came from but what it is told.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from clew.base.records import Commit, Signature
from clew.base.records.environments import OwnEnvironment
from clew.models.calling import Working
from clew.models.records import Package, TrainingRun
from clew.models.splitting import never

_WORK = "clew.models.importing"


class Brought(Struct, frozen=True, kw_only=True):
    """A package of a model that came from outside. ``unsafe``: it came as a pickle or code."""

    package: Package
    flavour: str
    unsafe: bool


class Bringing(Working):
    """The part of :class:`clew.models.Models` that takes models in."""

    def _test_rows(self, commit: Commit) -> dict[str, Any]:
        raise NotImplementedError

    def program_in(self, own: OwnEnvironment | None) -> tuple[str, ...]:
        """How workers are started there."""
        raise NotImplementedError

    def fetch(self, uri: str, registry: str) -> str:
        """The files behind a URI of a registry of MLflow's, as a tree with them below ``/model``.

        Raises:
            NotFound: ``import.missing``.
            Unavailable: ``import.unreachable``, ``extra.missing``.
        """
        payload = {"uri": uri, "registry": registry}
        return str(self._work(f"{_WORK}:fetch", payload, uri, never)["tree"])

    def bring(
        self,
        name: str,
        source: Commit,
        *,
        told: str,
        trust: bool,
        test: Commit | None,
        target: str,
        task: str,
        own: OwnEnvironment | None = None,
    ) -> Brought:
        """The package of a model whose files a commit holds below ``/model``.

        Rows that it takes are those below ``/example``, else those of ``test``, else its own.
        Nothing is committed here. It is read in the environment ``own``, where it has one.

        Raises:
            Denied: ``import.untrusted``.
            Invalid: ``import.kind``, ``import.example``, ``model.target``, ``model.signature``,
                ``model.classes``, ``model.task``, ``model.kind``, ``model.features``.
            Corrupt: ``import.unreadable``, ``model.pickle``.
            Unavailable: ``extra.missing``, ``model.distribution``.
        """
        run = TrainingRun(model=name, job="", global_id=source.global_id, features="")
        payload = {
            "source": source.tree,
            "rows": self._test_rows(test) if test else None,
            "target": target,
            "task": task,
            "trust": trust,
            "own": msgspec.to_builtins(own) if own else None,
            "training": {
                **msgspec.to_builtins(run),
                "imported_from": told,
                "source_commit": source.id,
                "source_digest": source.tree,
                "test_commit": test.id if test else "",
                "target": target,
            },
        }
        program = self.program_in(own)
        found = self._work(f"{_WORK}:bring", payload, name, never, program=program)
        package = Package(
            tree=found["tree"],
            signature=msgspec.convert(found["signature"], Signature),
            run=run,
            test_commit=test.id if test else "",
        )
        return Brought(package=package, flavour=found["flavour"], unsafe=found["unsafe"])
