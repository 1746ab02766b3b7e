"""The verbs about versions: open commits, branches, tags, merges, history and its mending.

A part of ``clew.base.verbs.Verbs``. Refs are branches, tags, ids or their beginnings, ``ref^N``;
addresses are ``repo@ref:/path``. Metadata are short texts by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from clew.base.records import BranchInfo, Commit, Found, Merge, Removal, TableProfile, Tag
from clew.base.transaction import PutPart, Transaction

Source = bytes | Path | BinaryIO
Meta = Mapping[str, str] | None


class VersionVerbs(Protocol):
    """Everything that git users expect of versions, on data."""

    # commits --------------------------------------------------------------------------------
    def put_many(
        self, parts: Sequence[PutPart], *, message: str = "", meta: Meta = None
    ) -> list[Commit]:
        """Commit to several branches at once, under one global ID: all of it or nothing."""
        ...

    def transaction(self, *, message: str = "", meta: Meta = None) -> Transaction:
        """A block whose puts and deletes are one :meth:`put_many` at its end."""
        ...

    def append(
        self,
        repo: str,
        files: Mapping[str, Source],
        *,
        branch: str = "main",
        message: str = "",
        meta: Meta = None,
    ) -> Commit:
        """Commit bytes at the end of files (path → what is added); a new file is made of them."""
        ...

    def copy(self, source: str, target: str, *, message: str = "", meta: Meta = None) -> Commit:
        """Commit a file or directory of any commit to ``repo@branch:/path``; no bytes move.

        ``target`` may also name an open commit. A file that goes where a directory is goes into it.
        """
        ...

    def open_commit(
        self, repo: str, *, branch: str = "main", message: str = "", meta: Meta = None
    ) -> Commit:
        """A commit that begins with the files of its branch and is written step by step.

        Only who asks for it by its id sees it. What is put is durable at once, by any process.
        """
        ...

    def put_into(
        self,
        commit_id: str,
        files: Mapping[str, Source],
        *,
        delete: Sequence[str] = (),
        append: bool = False,
    ) -> Commit:
        """Write into an open commit: ``delete`` first; with ``append`` at the end of files."""
        ...

    def finish(self, commit_id: str, *, message: str = "", meta: Meta = None) -> Commit:
        """Make an open commit the head of its branch, on top of what was committed meanwhile."""
        ...

    def abort(self, commit_id: str, *, reason: str = "") -> Commit:
        """End an open commit without content."""
        ...

    # branches and tags ----------------------------------------------------------------------
    def branches(self, repo: str) -> list[BranchInfo]:
        """Branches by name, with who reads and who writes each."""
        ...

    def create_branch(self, repo: str, name: str, *, at: str = "") -> BranchInfo:
        """A new branch at a ref of the repo; empty without one."""
        ...

    def move_branch(
        self, repo: str, name: str, to: str, *, force: bool = False, reason: str = ""
    ) -> Commit:
        """Let a branch go on from another ref of its repo; what is downstream follows.

        Raises Conflict ``branch.not_forward`` where commits of the branch would be left behind:
        merge, or use ``force`` with a ``reason``.
        """
        ...

    def delete_branch(self, repo: str, name: str, *, force: bool = False) -> BranchInfo:
        """Forget a branch; its commits stay, by their ids. The branch as it was.

        Raises Conflict ``branch.used`` where a pipeline reads it, unless ``force``.
        """
        ...

    def tags(self, repo: str) -> list[Tag]:
        """Tags, the newest first."""
        ...

    def tag(
        self, ref: str, name: str, *, message: str = "", meta: Meta = None, force: bool = False
    ) -> Tag:
        """Name a commit (``repo@ref`` or an id) for good; ``force`` moves a tag that is there."""
        ...

    def delete_tag(self, repo: str, name: str) -> Tag:
        """Forget a tag; the commit stays. The tag as it was."""
        ...

    def merge(
        self,
        repo: str,
        source: str,
        *,
        into: str = "main",
        strategy: str = "fail",
        message: str = "",
        meta: Meta = None,
        dry_run: bool = False,
    ) -> Merge:
        """Bring a ref and its history to a branch, three ways from where both come from.

        ``strategy`` decides paths that both sides changed: fail (nothing is written), ours, theirs.
        """
        ...

    # history --------------------------------------------------------------------------------
    def squash(
        self,
        first: str,
        *,
        last: str = "",
        force: bool = False,
        dry_run: bool = False,
        reason: str = "",
    ) -> Removal:
        """Fold a commit (or all from ``first`` to ``last``) into the next; contents stay."""
        ...

    def drop(
        self, ref: str, *, force: bool = False, dry_run: bool = False, reason: str = ""
    ) -> Removal:
        """Take a head away, with what was made from it; its branches go back one commit."""
        ...

    def delete_repo(
        self, repo: str, *, force: bool = False, dry_run: bool = False, reason: str = ""
    ) -> Removal:
        """Forget a repo; ``force`` passes over pipelines that read it and what was made from it."""
        ...

    def find(self, address: str, *, limit: int = 50) -> list[Found]:
        """What each commit did to a file, a directory or a glob (``repo@ref:/a/*.csv``)."""
        ...

    def profile(self, address: str) -> TableProfile:
        """A tabular file in a few numbers; found out once, however often the file is committed."""
        ...
