"""The door to versioned data: repos, branches, commits and their content.

Knows nothing of pipelines: who wants to act on a commit listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

from sqlalchemy import delete, select

from clew.base import clock
from clew.base.address import (
    DEFAULT_BRANCH,
    Address,
    check_ref_name,
    check_repo_name,
    parse_address,
)
from clew.base.errors import Conflict, Invalid
from clew.base.ids import new_id
from clew.base.records import Change, Commit, FileInfo, RepoInfo
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.repos import contents, refs, tables, writing
from clew.repos.contents import Content
from clew.repos.staging import Maker, RepoChange, Source, later_than, places, stage
from clew.store import EMPTY_TREE, Store

Commits: TypeAlias = list[Commit]
Digests: TypeAlias = list[str]
Files: TypeAlias = list[FileInfo]
Listener = Callable[[Tx, Commits, str], None]
KINDS = ("source", "output", "model", "report", "log", "checkpoint", "drift", "code")
_OPTIMISTIC = 3
"""Attempts to commit without holding the write lock; then one that holds it."""


@dataclass(frozen=True, kw_only=True)
class _Finish:
    """What a caller asked of :meth:`Repos.finish`."""

    id: str
    tree: str
    message: str | None
    provenance: Sequence[str] | None
    rebase: bool


class Repos:
    """Repos of a workspace. Thread-safe; several processes may work on the same.

    ``listeners`` are called inside the transaction that finishes commits, once for each call that
    finishes some, with these commits and their global id; what they write is kept if and only if
    the commits are, and an error of theirs undoes the commits.
    """

    def __init__(self, db: Database, store: Store) -> None:
        self._db = db
        self._store = store
        self._lineage = Lineage(db)
        self.listeners: list[Listener] = []

    # repos and branches ---------------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        kind: str = "source",
        description: str = "",
        tx: Tx | None = None,
        exist_ok: bool = False,
    ) -> RepoInfo:
        """A new repo; with ``exist_ok`` also the one of that name and kind which exists.

        Raises:
            Conflict: ``repo.exists``.
            Invalid: ``repo.name``, ``repo.kind``.
        """
        check_repo_name(name)
        if kind not in KINDS:
            raise Invalid("repo.kind", f"{kind!r} is no kind of repo.", hint=f"Use one of {KINDS}.")
        row = {
            "name": name,
            "kind": kind,
            "description": description,
            "created_us": clock.to_us(clock.now()),
        }
        with self._writing(tx) as tx:
            known = tx.execute(tables.REPO, {"name": name}).first()
            if known is None:
                tx.execute(tables.repos.insert(), row)
            elif not exist_ok or known.kind != kind:
                raise Conflict(
                    "repo.exists",
                    f"There is a repo {name} already (its kind is {known.kind}).",
                    hint="Use it, or choose another name.",
                )
            return refs.get_repo(tx, name)

    def get(self, name: str, *, tx: Tx | None = None) -> RepoInfo:
        """A repo with its branches. Raises NotFound ``repo.unknown``."""
        with self._reading(tx) as tx:
            return refs.get_repo(tx, name)

    def list(self, kind: str | None = None) -> list[RepoInfo]:
        """All repos, or those of a kind, by name."""
        query = select(tables.repos).order_by(tables.repos.c.name)
        if kind is not None:
            query = query.where(tables.repos.c.kind == kind)
        heads: dict[str, dict[str, str | None]] = {}
        with self._db.read() as tx:
            for row in tx.execute(select(tables.branches).order_by(tables.branches.c.name)):
                heads.setdefault(row.repo, {})[row.name] = row.head
            return [refs.repo_of(row, heads.get(row.name, {})) for row in tx.execute(query)]

    def delete(self, name: str) -> None:
        """Forget a repo with its branches and commits; the ref log and the lineage stay.

        Raises:
            NotFound: ``repo.unknown``.
            Conflict: ``repo.busy`` while one of its commits is open.
        """
        with self._db.begin() as tx:
            refs.get_repo(tx, name)
            if writing.in_use(tx, name):
                raise Conflict(
                    "repo.busy",
                    f"A commit of {name} is still being written.",
                    hint="Wait until the jobs that write it have ended: clew wait",
                )
            for branch, head in refs.branches_of(tx, name).items():
                writing.move_head(tx, name, branch, head, None, None)
            tx.execute(delete(tables.repos).where(tables.repos.c.name == name))

    def branches(self, repo: str) -> dict[str, str | None]:
        """Branch name to the id of its head (None: nothing finished yet), by name."""
        return self.get(repo).branches

    def create_branch(self, repo: str, name: str, at: str | None = None) -> None:
        """A new branch whose head is the commit ``at`` (an id or its beginning), or empty.

        Raises:
            Conflict: ``branch.exists``.
            Invalid: ``branch.name``, ``branch.other_repo``, ``commit.not_finished``.
        """
        check_ref_name(name)
        with self._db.begin() as tx:
            if name in refs.get_repo(tx, repo).branches:
                raise Conflict(
                    "branch.exists",
                    f"{repo} has a branch {name} already.",
                    hint="Use it, or choose another name.",
                )
            tx.execute(tables.branches.insert(), {"repo": repo, "name": name, "head": None})
            if at is not None:
                commit = _finished_in(refs.get_commit(tx, at), repo)
                writing.move_head(tx, repo, name, None, commit.id, commit.global_id)

    def move_branch(
        self,
        repo: str,
        branch: str,
        to_commit: str,
        expected: str | None = None,
        *,
        message: str = "",
        author: str = "",
        tx: Tx | None = None,
    ) -> Commit:
        """Let a branch go on from another commit of its repo (staging to main, or back).

        Makes a commit on ``branch`` with the same tree, whose parent and provenance is
        ``to_commit``, under a new global id: it is a change, and what is downstream hears of it.
        Where the head is ``to_commit`` already, that is returned and nothing happens.

        Raises:
            Conflict: ``branch.moved`` where ``expected`` is not the id of the head.
            Invalid: ``branch.other_repo``, ``commit.not_finished``.
        """
        check_ref_name(branch)
        with self._writing(tx) as tx:
            goal = _finished_in(refs.get_commit(tx, to_commit), repo)
            head = refs.head_of(tx, repo, branch)
            old = None if head is None else head.id
            if expected is not None and old != expected:
                raise writing.moved(repo, branch, expected)
            if head is not None and old == goal.id:
                return head
            commit = replace(
                goal,
                id=new_id(),
                branch=branch,
                global_id=new_id(),
                parent=goal.id,
                message=message or f"{goal.branch} at {goal.id}",
                author=author,
                provenance=(goal.id,),
                started_at=later_than(goal),
                finished_at=later_than(goal),
            )
            self._record(tx, [commit], self._keep([commit]), heads=[old])
            return commit

    # commits --------------------------------------------------------------------------------

    def open_commit(
        self,
        repo: str,
        *,
        branch: str = DEFAULT_BRANCH,
        global_id: str | None = None,
        provenance: Sequence[str] = (),
        message: str = "",
        author: str = "",
        tx: Tx | None = None,
    ) -> Commit:
        """A commit that is yet to be written, on top of the present head of its branch.

        Raises NotFound ``repo.unknown``. A branch that does not exist is made.
        """
        check_ref_name(branch)
        with self._writing(tx) as tx:
            head = writing.heads(tx, [(repo, branch)])[0]
            commit = Commit(
                id=new_id(),
                repo=repo,
                branch=branch,
                global_id=global_id or new_id(),
                parent=None if head is None else head.id,
                state="open",
                tree="",
                message=message,
                author=author,
                provenance=tuple(provenance),
                files=0,
                size_bytes=0,
                started_at=clock.now(),
                finished_at=None,
            )
            writing.insert(tx, commit)
            return commit

    def finish(
        self,
        commit_id: str,
        tree: str,
        *,
        message: str | None = None,
        provenance: Sequence[str] | None = None,
        rebase: bool = False,
        tx: Tx | None = None,
    ) -> Commit:
        """Give an open commit its tree and make it the head of its branch.

        The parent that it was opened on must still be the head. With ``rebase`` the present head
        becomes its parent instead (for a tree that does not build on the parent's).

        Raises:
            Conflict: ``branch.moved``, ``commit.not_open``.
            NotFound: ``commit.unknown``, ``object.missing`` where the tree is not in the store.
        """
        asked = _Finish(
            id=commit_id, tree=tree, message=message, provenance=provenance, rebase=rebase
        )
        if tx is not None:
            return self._finish(tx, asked, None)
        with self._db.read() as look:
            early = self._finished(look, asked)
        kept = self._keep([early])[0]
        with self._db.begin() as own:
            return self._finish(own, asked, (early, kept))

    def abort(self, commit_id: str, error: str, *, tx: Tx | None = None) -> Commit:
        """End an open commit without content. Doing so again changes nothing.

        Raises Conflict ``commit.not_open`` where it was finished.
        """
        with self._writing(tx) as tx:
            commit = refs.get_commit(tx, commit_id)
            if commit.state == "aborted":
                return commit
            if commit.state != "open":
                raise writing.not_open(commit)
            ended = replace(commit, state="aborted", error=error, finished_at=clock.now())
            writing.change(tx, ended)
            writing.announce(tx, self._lineage, ended)
            return ended

    def commit(
        self,
        repo: str,
        puts: Mapping[str, Source],
        deletes: Sequence[str] = (),
        *,
        branch: str = DEFAULT_BRANCH,
        message: str = "",
        author: str = "",
        global_id: str | None = None,
        provenance: Sequence[str] = (),
        replace: bool = False,
    ) -> Commit:
        """Files on top of a branch, as one commit: all of it or nothing. See :meth:`commit_many`.

        A branch that does not exist is made.
        """
        change = RepoChange(
            repo=repo,
            branch=branch,
            puts=puts,
            deletes=deletes,
            replace=replace,
            provenance=provenance,
        )
        return self.commit_many([change], message=message, author=author, global_id=global_id)[0]

    def commit_tree(
        self,
        repo: str,
        tree: str,
        *,
        branch: str = DEFAULT_BRANCH,
        message: str = "",
        author: str = "",
        global_id: str | None = None,
        provenance: Sequence[str] = (),
    ) -> Commit:
        """A tree that is in the store already, as the whole content of a new commit."""
        change = RepoChange(repo=repo, branch=branch, tree=tree, provenance=provenance)
        return self.commit_many([change], message=message, author=author, global_id=global_id)[0]

    def commit_many(
        self,
        changes: Sequence[RepoChange],
        *,
        message: str = "",
        author: str = "",
        global_id: str | None = None,
    ) -> Commits:
        """Commits to several branches in one transaction, under one global id; in their order.

        Bytes are durable before the first row is written. Where others commit to the same branch
        meanwhile, puts and deletes are applied on top of theirs: no commit is lost, and for a
        path that both wrote the later one counts.

        Raises:
            NotFound: ``repo.unknown``, ``file.missing`` for a source, ``file.unknown`` for a
                delete of what is not there.
            Invalid: ``file.unreadable``, ``path.invalid``, ``branch.name``, ``commit.twice``,
                ``commit.paths``.
            Conflict: ``tree.file_and_directory``.
        """
        where = places(changes)
        with self._db.read() as tx:
            heads = writing.heads(tx, where)
        self._check_deletes(changes, heads)
        made = Maker(self._store, message, author, global_id or new_id())
        with self._store.writer() as writer:
            staged = [stage(writer, change) for change in changes]
            for _ in range(_OPTIMISTIC):
                commits, objects = made.commits(writer, staged, heads)
                with self._db.begin() as tx:
                    now = writing.heads(tx, where)
                    if _ids(now) == _ids(heads):
                        self._record(tx, commits, objects, heads=_ids(heads))
                        return commits
                heads = now
            with self._db.begin() as tx:  # a busy branch: nobody moves it while we hold the lock
                heads = writing.heads(tx, where)
                commits, objects = made.commits(writer, staged, heads)
                self._record(tx, commits, objects, heads=_ids(heads))
                return commits

    # names ----------------------------------------------------------------------------------

    def resolve(self, ref: str | Address, *, tx: Tx | None = None) -> Commit:
        """The commit that ``repo[@branch|@id|@global id][^N]`` names; its path is ignored.

        Ids may be shortened to 4 characters. A global id means the latest commit of that change
        in the repo.

        Raises:
            NotFound: ``repo.unknown``, ``ref.unknown``, ``branch.empty``, ``ref.no_ancestor``.
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

    def log(self, repo: str, branch: str | None = DEFAULT_BRANCH, limit: int = 50) -> Commits:
        """Commits newest first: of a branch with its history, or of the whole repo (None).

        Open and aborted ones are included.
        """
        with self._db.read() as tx:
            refs.get_repo(tx, repo)
            return refs.log(tx, repo, branch, limit)

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

    def read(self, content: Content, path: str) -> bytes:
        """The bytes of a file. Raises NotFound ``file.unknown``, Conflict ``file.directory``."""
        return contents.read(self._store, content, path)

    def open_file(self, content: Content, path: str) -> BinaryIO:
        """A file as a seekable stream for one thread. Raises as :meth:`read` does."""
        return contents.open_file(self._store, content, path)

    def export(self, content: Content, path: str, target: Path) -> Sequence[Path]:
        """Write a file to ``target`` (into it, where it is a directory), or all below a directory.

        Each file is written whole or not at all. The paths that were written, in order.
        """
        return contents.export(self._store, content, path, target)

    # ----------------------------------------------------------------------------------------

    def _writing(self, tx: Tx | None) -> AbstractContextManager[Tx]:
        return self._db.begin() if tx is None else nullcontext(tx)

    def _reading(self, tx: Tx | None) -> AbstractContextManager[Tx]:
        return self._db.read() if tx is None else nullcontext(tx)

    def _keep(self, commits: Sequence[Commit]) -> Digests:
        with self._store.writer() as writer:
            return [writer.put_object(writing.OBJECT_TAG, writing.encode(c)) for c in commits]

    def _finished(self, tx: Tx, asked: _Finish) -> Commit:
        """The commit as it will be, if it may be finished now."""
        commit = refs.get_commit(tx, asked.id)
        if commit.state != "open":
            raise writing.not_open(commit)
        head = refs.head_of(tx, commit.repo, commit.branch)
        parent = None if head is None else head.id
        if parent != commit.parent and not asked.rebase:
            raise writing.moved(commit.repo, commit.branch, commit.parent)
        summary = self._store.summary(asked.tree)
        return replace(
            commit,
            state="finished",
            parent=parent,
            tree=asked.tree,
            message=commit.message if asked.message is None else asked.message,
            provenance=tuple(commit.provenance if asked.provenance is None else asked.provenance),
            files=summary.files,
            size_bytes=summary.size_bytes,
            finished_at=later_than(head),
        )

    def _finish(self, tx: Tx, asked: _Finish, early: tuple[Commit, str] | None) -> Commit:
        """Finish in ``tx``; ``early`` is the commit with its object, kept before ``tx`` began."""
        commit = self._finished(tx, asked)
        if early is not None and early[0].parent == commit.parent:
            commit, kept = early
        else:
            kept = self._keep([commit])[0]
        writing.change(tx, commit, kept)
        self._head_moves(tx, [commit], [commit.parent])
        return commit

    def _record(
        self,
        tx: Tx,
        commits: Commits,
        objects: Sequence[str],
        *,
        heads: Sequence[str | None],
    ) -> None:
        for commit, kept in zip(commits, objects, strict=True):
            writing.insert(tx, commit, kept)
        self._head_moves(tx, commits, heads)

    def _head_moves(self, tx: Tx, commits: Commits, heads: Sequence[str | None]) -> None:
        for commit, old in zip(commits, heads, strict=True):
            writing.move_head(tx, commit.repo, commit.branch, old, commit.id, commit.global_id)
            writing.announce(tx, self._lineage, commit)
        for listener in self.listeners:
            listener(tx, commits, commits[0].global_id)

    def _check_deletes(self, changes: Sequence[RepoChange], heads: Sequence[Commit | None]) -> None:
        for change, head in zip(changes, heads, strict=True):
            for path in change.deletes:
                contents.get(self._store, EMPTY_TREE if head is None else head, path)


def _finished_in(commit: Commit, repo: str) -> Commit:
    if commit.repo != repo:
        raise Invalid(
            "branch.other_repo",
            f"Commit {commit.id} is in {commit.repo}, not in {repo}.",
            hint="A branch can only point to a commit of its own repo.",
        )
    if commit.state != "finished":
        raise Invalid(
            "commit.not_finished",
            f"Commit {commit.id} is {commit.state}.",
            hint="Only a finished commit can be the head of a branch.",
        )
    return commit


def _ids(commits: Sequence[Commit | None]) -> list[str | None]:
    return [None if commit is None else commit.id for commit in commits]
