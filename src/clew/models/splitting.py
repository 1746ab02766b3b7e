"""Cutting the frozen test rows off what a model learns from.

Knows repos and workers; nothing of versions, verdicts or aliases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from clew.base.address import DEFAULT_BRANCH
from clew.base.records import Commit, ModelVersion
from clew.db import Database, Tx
from clew.models.calling import Working
from clew.models.definitions import EvaluationDefinition
from clew.models.records import Split
from clew.repos import Repos
from clew.store import Store

TEST_SUFFIX = ".test"
_NOTE = "/holdout.json"


def never() -> bool:
    """Nobody cancels."""
    return False


class Splitting(Working):
    """The part of :class:`clew.models.Models` that freezes test rows."""

    _db: Database
    _repos: Repos
    _store: Store

    def split(
        self,
        model: str,
        features: Commit,
        evaluation: EvaluationDefinition,
        *,
        global_id: str,
        paths: Sequence[str] | None = None,
        branch: str = DEFAULT_BRANCH,
        test_commit: str = "",
        cancelled: Callable[[], bool] = never,
    ) -> Split:
        """Training rows of a features commit, and the test rows that are kept out of them.

        With a holdout, the first call cuts the test set off and commits it; later calls find it
        and leave its groups out. It is committed anew only where the features have other columns
        than it, or where it grows with them. Safe to repeat after a crash. With a repo as the test
        set nothing is cut.

        Args:
            model: Name of the model.
            features: The finished commit with all labelled rows.
            evaluation: Says where the test set comes from.
            global_id: Of the change that this is part of.
            paths: The files of the commit to read; all by default.
            branch: Where a test set that grows is frozen; it begins with that of main. All others,
                and the first, are main's, which all later trainings of the model must know.
            test_commit: The test set to keep out, as it was frozen for an earlier training; then
                nothing is frozen.
            cancelled: Asked while it works; then Conflict ``call.cancelled`` is raised.

        Raises:
            Invalid: ``holdout.by``, ``holdout.groups``, ``holdout.changed`` where the test set is
                frozen with another definition; ``model.target`` where the rows have no such
                column; what reading the files raises.
        """
        if isinstance(evaluation.test, str):
            read = paths or [one.path for one in self._repos.entries(features)]
            ref = f"{evaluation.test.partition('@')[0]}@{test_commit}"
            given = self._repos.resolve(ref if test_commit else evaluation.test)
            rows = {
                "train": {"tree": features.tree, "paths": list(read)},
                "test": self._test_rows(given),
                "target": evaluation.target,
            }
            self._work("check", rows, features.repo, cancelled)
            return Split(train_tree=features.tree, paths=tuple(read), test_commit=given.id)
        if not evaluation.test.grow:
            branch = DEFAULT_BRANCH
        while True:
            if test_commit:
                frozen: Commit | None = self._repos.commit_by_id(test_commit)
            else:
                frozen = self._standing(model, branch)
            found = self._cut(features, paths, evaluation, frozen, cancelled)
            test = frozen
            if found["test"] and not test_commit:
                test = self._freeze(model, branch, found, frozen, features, global_id)
            if test is not None:
                return Split(
                    train_tree=found["train"],
                    paths=tuple(e.path for e in self._store.entries(found["train"])),
                    test_commit=test.id,
                    train_rows=found["train_rows"],
                )

    def frozen_for(self, version: ModelVersion) -> str:
        """The test commit that the training of a version froze, or found; '' where the test set
        is a repo of the user's.
        """
        if not version.test_commit:
            return ""
        test = self._repos.commit_by_id(version.test_commit)
        return test.id if test.repo == version.model + TEST_SUFFIX else ""

    def _standing(self, model: str, branch: str) -> Commit | None:
        """The test set that stands on a branch; its repo is made here if need be."""
        name = model + TEST_SUFFIX
        self._repos.create(
            name, kind="output", description=f"Frozen test rows of {model}", exist_ok=True
        )
        with self._db.read() as tx:
            return self._head(tx, name, branch)

    def _head(self, tx: Tx, name: str, branch: str) -> Commit | None:
        here = self._repos.latest(name, branch, tx=tx)
        return here or self._repos.latest(name, DEFAULT_BRANCH, tx=tx)

    def _cut(
        self,
        features: Commit,
        paths: Sequence[str] | None,
        evaluation: EvaluationDefinition,
        frozen: Commit | None,
        cancelled: Callable[[], bool],
    ) -> dict[str, Any]:
        payload = {
            "tree": features.tree,
            "paths": None if paths is None else list(paths),
            "definition": msgspec.to_builtins(evaluation.test),
            "target": evaluation.target,
            "frozen": frozen.tree if frozen else "",
        }
        return self._work("split", payload, features.repo, cancelled)

    def _freeze(
        self,
        model: str,
        branch: str,
        found: Mapping[str, Any],
        frozen: Commit | None,
        features: Commit,
        global_id: str,
    ) -> Commit | None:
        """The commit of the test set; None where somebody else froze one meanwhile."""
        name = model + TEST_SUFFIX
        with self._db.begin() as tx:
            head = self._head(tx, name, branch)
            if (head.id if head else None) != (frozen.id if frozen else None):
                return None
            opened = self._repos.open_commit(
                name,
                branch=DEFAULT_BRANCH if head is None else branch,
                global_id=global_id,
                provenance=[features.id],
                message=found["test_size"],
                tx=tx,
            )
            return self._repos.finish(opened.id, found["test"], tx=tx)

    def _test_rows(self, commit: Commit) -> dict[str, Any]:
        """Tree and files of a test set; the note on how it was cut is no table."""
        entries = self._store.entries(commit.tree)
        return {"tree": commit.tree, "paths": [e.path for e in entries if e.path != _NOTE]}
