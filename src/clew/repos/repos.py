"""The door to versioned data: repos, branches, commits and their content.

Knows nothing of pipelines: who wants to act on a commit listens. What makes, merges and takes away
commits stands in the parts that this class is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from clew.base.address import DEFAULT_BRANCH, Address, parse_address
from clew.base.progress import Progress, unseen
from clew.base.records import Change, Commit, FileInfo, Found
from clew.db import Database, Tx
from clew.repos import contents, history, refs, tables, writing
from clew.repos.committing import Committing
from clew.repos.contents import Content
from clew.repos.facts import FileFacts
from clew.repos.files import File
from clew.repos.history import LogFilter
from clew.repos.keeping import Keeping
from clew.repos.merging import Merging
from clew.repos.retiring import Retiring
from clew.repos.uploads import Uploads
from clew.store import Store

Commits: TypeAlias = list[Commit]
Files: TypeAlias = list[FileInfo]
Finds: TypeAlias = list[Found]


class Repos(Committing, Merging, Retiring, Keeping):
    """Repos of a workspace. Thread-safe; several processes may work on the same.

    ``listeners`` are called inside the transaction that finishes commits, once for each call that
    finishes some, with these commits and their global id; what they write is kept if and only if
    the commits are, and an error of theirs undoes the commits.

    ``facts`` are what trees do not say of files, ``uploads`` files that come in parts.
    """

    def __init__(self, db: Database, store: Store) -> None:
        super().__init__(db, store)
        self.facts = FileFacts(db)
        self.uploads = Uploads(db)

    # names ----------------------------------------------------------------------------------

    def resolve(self, ref: str | Address, *, tx: Tx | None = None) -> Commit:
        """The commit that ``repo[@branch|@tag|@id|@global id|@day][^N]`` names, in this order.

        Its path is ignored. Ids may be shortened to 4 characters. A global id means the latest
        commit of that change in the repo, a day (2026-11-01) the last commit of ``main`` until its
        end in UTC.

        Raises:
            NotFound: ``repo.unknown``, ``ref.unknown``, ``branch.empty``, ``ref.no_ancestor``,
                ``commit.gone``.
            Invalid: ``ref.ambiguous``, ``address.invalid``.
        """
        address = parse_address(ref) if isinstance(ref, str) else ref
        with self._reading(tx) as tx:
            return refs.resolve(tx, address)

    def commit_by_id(self, id: str, *, tx: Tx | None = None) -> Commit:
        """The commit of an id, or of the beginning of one.

        Raises NotFound ``commit.unknown``, Invalid ``ref.ambiguous``.
        """
        with self._reading(tx) as tx:
            return refs.get_commit(tx, id)

    def head(
        self, repo: str, branch: str = DEFAULT_BRANCH, *, tx: Tx | None = None
    ) -> Commit | None:
        """The newest finished commit of a branch; None where there is none.

        Raises NotFound ``repo.unknown``.
        """
        with self._reading(tx) as tx:
            return writing.heads(tx, [(repo, branch)])[0]

    def latest(self, repo: str, branch: str = DEFAULT_BRANCH, *, tx: Tx) -> Commit | None:
        """As :meth:`head`; None also where there is no such repo."""
        return refs.head_of(tx, repo, branch)

    def log(
        self,
        repo: str,
        branch: str | None = DEFAULT_BRANCH,
        limit: int = 50,
        *,
        only: LogFilter | None = None,
    ) -> Commits:
        """Commits newest first: of a branch with its history, or of the whole repo (None).

        Open and aborted ones are included. With ``only`` finished ones of a branch alone, those
        that are meant. Instead of a branch also a tag, an id or a day may be given: then what is
        before that commit, finished alone.
        """
        with self._db.read() as tx:
            heads = refs.get_repo(tx, repo).branches
            if branch is None or (branch in heads and (only is None or only.empty)):
                return refs.log(tx, repo, branch, limit)
            if branch in heads and heads[branch] is None:
                return []
            start = refs.resolve(tx, parse_address(f"{repo}@{branch}"))
            return history.filtered(tx, self._store, start, only or LogFilter(), limit)

    def find(self, start: Commit, path: str, limit: int = 50) -> Finds:
        """What a commit and those before it did to a path, a directory or a glob; newest first.

        Costs O(commits x log n): what a commit left as it was is not read.
        """
        with self._db.read() as tx:
            return history.find(tx, self._store, start, path, limit)

    def of_change(self, global_id: str, *, tx: Tx | None = None) -> Commits:
        """All commits of one change, oldest first."""
        with self._reading(tx) as tx:
            rows = tx.execute(tables.OF_CHANGE, {"global_id": global_id})
            return [refs.commit_of(row) for row in rows]

    # content: each takes a finished commit, or the digest of a tree ---------------------------

    def entries(self, content: Content, prefix: str = "/") -> Iterator[FileInfo]:
        """The file at ``prefix`` or all files below it, by path."""
        return contents.entries(self._store, content, prefix)

    def get_file(self, content: Content, path: str) -> FileInfo:
        """The file or directory at a path. Raises NotFound ``file.unknown``."""
        return contents.get(self._store, content, path)

    def children(self, content: Content, directory: str = "/") -> Files:
        """Files and directories one level below a directory, by name."""
        return contents.children(self._store, content, directory)

    def diff(self, old: Content | None, new: Content, prefix: str = "/") -> Iterator[Change]:
        """Paths that differ, in order, in O(difference); an ``old`` of None is empty."""
        return contents.diff(self._store, old, new, prefix)

    def glob(self, content: Content, pattern: str) -> Iterator[FileInfo]:
        """Files whose path matches, by path. The grammar is in ``repos/globs.py``."""
        return contents.glob(self._store, content, pattern)

    def pick(self, content: Content, path: str) -> Sequence[File]:
        """The file at a path, all below a directory, or all that match a pattern; by path.

        Raises NotFound ``file.unknown`` where there is nothing.
        """
        return contents.pick(self._store, content, path)

    def read(self, content: Content, path: str) -> bytes:
        """The bytes of a file. Raises NotFound ``file.unknown``, Conflict ``file.directory``."""
        return contents.read(self._store, content, path)

    def open_file(self, content: Content, path: str) -> BinaryIO:
        """A file as a seekable stream for one thread. Raises as :meth:`read` does."""
        return contents.open_file(self._store, content, path)

    def export(
        self, content: Content, path: str, target: Path, *, progress: Progress = unseen
    ) -> Sequence[Path]:
        """Write a file to ``target`` (into it, where it is a directory), or all below a directory.

        Each file is written whole or not at all, and so is a directory where there was nothing.
        The paths that were written, in order.
        """
        return contents.export(self._store, content, path, target, progress)

    # what is known of files ------------------------------------------------------------------

    def note(self, digest: str, question: str) -> Any:
        """What was found out about a file before, or None."""
        with self._db.read() as tx:
            return tx.execute(tables.NOTE, {"digest": digest, "question": question}).scalar()

    def keep_note(self, digest: str, question: str, answer: object) -> None:
        """Remember what was found out about a file, wherever it lies."""
        row = {"digest": digest, "question": question, "answer": answer}
        with self._db.begin() as tx:
            tx.upsert(tables.notes, [row], key=["digest", "question"], refresh=["answer"])
