"""Making commits: whole ones at once, and open ones that are written step by step.

Knows nothing of merges and of what commits are made for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import update

from clew.base import clock
from clew.base.address import DEFAULT_BRANCH, check_ref_name
from clew.base.errors import Denied, Invalid
from clew.base.ids import new_id
from clew.base.records import Commit
from clew.db import Tx
from clew.repos import contents, journal, refs, tables, writing
from clew.repos.ledger import OPTIMISTIC, Commits, Ledger, Within, untold
from clew.repos.staging import (
    Maker,
    RepoChange,
    Source,
    Staged,
    apply,
    check_change,
    later_than,
    places,
    stage,
)
from clew.store import EMPTY_TREE, Entry, TreeSummary, Writer


class _Finish(Struct, frozen=True, kw_only=True):
    """What a caller asked of :meth:`Committing.finish`.

    ``staged`` is the content of the open commit and ``onto`` the head that ``tree`` was made from,
    where both must still be so.
    """

    id: str
    tree: str
    message: str | None
    provenance: Sequence[str] | None
    rebase: bool
    meta: Mapping[str, str] | None = None
    staged: str | None = None
    onto: str | None = None


Prepared: TypeAlias = tuple[Commit, str]
"""A commit as it will be finished, and the digest of its object in the store."""


class Committing(Ledger):
    """The part of the door that makes commits."""

    def open_commit(
        self,
        repo: str,
        *,
        branch: str = DEFAULT_BRANCH,
        global_id: str | None = None,
        provenance: Sequence[str] = (),
        message: str = "",
        author: str = "",
        meta: Mapping[str, str] | None = None,
        writable: bool = False,
        tx: Tx | None = None,
    ) -> Commit:
        """A commit that is yet to be written, on top of the present head of its branch.

        With ``writable`` it begins with the files of its parent, is written by :meth:`stage` and
        finished by :meth:`finish_staged`; else it has no content until :meth:`finish`.

        Raises NotFound ``repo.unknown``. A branch that does not exist is made.
        """
        meta = check_meta(meta)
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
                tree=_start(head) if writable else "",
                message=message,
                author=author,
                provenance=tuple(provenance),
                files=head.files if writable and head else 0,
                size_bytes=head.size_bytes if writable and head else 0,
                started_at=clock.now(),
                finished_at=None,
                meta=meta,
            )
            writing.insert(tx, commit)
            if writable:
                writing.announce(tx, self._lineage, commit)
            return commit

    def finish(
        self,
        commit_id: str,
        tree: str,
        *,
        message: str | None = None,
        provenance: Sequence[str] | None = None,
        rebase: bool = False,
        prepared: Prepared | None = None,
        tx: Tx | None = None,
    ) -> Commit:
        """Give an open commit its tree and make it the head of its branch.

        The parent that it was opened on must still be the head. With ``rebase`` the present head
        becomes its parent instead (for a tree that does not build on the parent's). ``prepared`` is
        of :meth:`prepare` with the same arguments, flushed; where the head has moved since, it is
        made anew.

        Raises:
            Conflict: ``branch.moved``, ``commit.not_open``.
            NotFound: ``commit.unknown``, ``object.missing`` where the tree is not in the store.
        """
        asked = _Finish(
            id=commit_id, tree=tree, message=message, provenance=provenance, rebase=rebase
        )
        if tx is not None:
            return self._finish(tx, asked, prepared)
        with self._store.lease():
            with self._store.writer() as writer:
                early = prepared or self._prepare(writer, asked)
            with self._db.begin() as own:
                return self._finish(own, asked, early)

    def prepare(
        self,
        writer: Writer,
        commit_id: str,
        tree: str,
        *,
        provenance: Sequence[str] | None = None,
        rebase: bool = False,
    ) -> Prepared:
        """Put the object of a commit, as :meth:`finish` would, with the writer that made its tree.

        So one flush is enough for both. Raises what :meth:`finish` raises; nothing is changed.
        """
        return self._prepare(
            writer,
            _Finish(id=commit_id, tree=tree, message=None, provenance=provenance, rebase=rebase),
        )

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
            ended = replace(
                commit,
                state="aborted",
                tree="",
                files=0,
                size_bytes=0,
                error=error,
                finished_at=clock.now(),
            )
            writing.change(tx, ended)
            writing.announce(tx, self._lineage, ended)
            return ended

    def stage(
        self,
        commit_id: str,
        puts: Mapping[str, Source],
        deletes: Sequence[str] = (),
        *,
        appends: Mapping[str, Source] | None = None,
        entries: Sequence[Entry] = (),
    ) -> Commit:
        """Write into an open commit: first ``deletes``, then the rest. All of it or nothing.

        Durable when this returns, and seen only by who asks for the commit by its id. Others may
        write to it at the same time: of two who put one path the later counts, and nothing that is
        appended is lost.

        Raises:
            Conflict: ``commit.not_open``, ``tree.file_and_directory``.
            Denied: ``commit.of_job`` where a job will bring the content.
            NotFound: ``commit.unknown``, ``file.missing``, ``file.unknown`` for a delete of what
                is not there.
            Invalid: ``path.invalid``, ``commit.paths``, ``file.unreadable``.
        """
        with self._db.read() as tx:
            commit = _writable(refs.get_commit(tx, commit_id))
        change = RepoChange(
            repo=commit.repo,
            puts=puts,
            deletes=deletes,
            appends=appends or {},
            entries=entries,
        )
        check_change(change)
        for path in deletes:
            contents.get(self._store, commit.tree, path)
        with self._store.writer() as writer:
            staged = stage(writer, change)
            for _ in range(OPTIMISTIC):
                tree = self._applied(writer, staged, commit)
                with self._db.begin() as tx:
                    now = _writable(refs.get_commit(tx, commit.id))
                    if now.tree == commit.tree:
                        return self._restage(tx, now, tree)
                commit = now
            with self._db.begin() as tx:  # many write to it: nobody does while we hold the lock
                commit = _writable(refs.get_commit(tx, commit.id))
                return self._restage(tx, commit, self._applied(writer, staged, commit))

    def finish_staged(
        self,
        commit_id: str,
        *,
        message: str | None = None,
        meta: Mapping[str, str] | None = None,
    ) -> Commit:
        """Finish a commit that was written by :meth:`stage`.

        Where others committed to its branch meanwhile, what it changed is done on top of theirs;
        for a path that both wrote this commit counts.

        Raises:
            Conflict: ``commit.not_open``, ``tree.file_and_directory``.
            Denied: ``commit.of_job``.
            NotFound: ``commit.unknown``.
        """
        for _ in range(OPTIMISTIC):
            try:
                with self._store.lease():
                    with self._db.read() as look:
                        asked = self._ask_staged(look, commit_id, message, meta)
                    with self._store.writer() as writer:
                        early = self._prepare(writer, asked)
                    with self._db.begin() as tx:
                        return self._finish(tx, asked, early)
            except _StaleError:
                continue
        with self._db.begin() as tx:  # a busy branch: nobody moves it while we hold the lock
            return self._finish(tx, self._ask_staged(tx, commit_id, message, meta), None)

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
        appends: Mapping[str, Source] | None = None,
        entries: Sequence[Entry] = (),
        meta: Mapping[str, str] | None = None,
        only_changes: bool = False,
        within: Within = untold,
    ) -> Commit:
        """Files on top of a branch, as one commit: all of it or nothing. See :meth:`commit_many`.

        A branch that does not exist is made. With ``only_changes`` the head is returned, and
        nothing happens, where it holds all of this already.
        """
        change = RepoChange(
            repo=repo,
            branch=branch,
            puts=puts,
            deletes=deletes,
            replace=replace,
            provenance=provenance,
            appends=appends or {},
            entries=entries,
        )
        return self.commit_many(
            [change],
            message=message,
            author=author,
            global_id=global_id,
            meta=meta,
            only_changes=only_changes,
            within=within,
        )[0]

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
        meta: Mapping[str, str] | None = None,
        only_changes: bool = False,
        within: Within = untold,
    ) -> Commits:
        """Commits to several branches in one transaction, under one global id; in their order.

        Bytes are durable before the first row is written. Where others commit to the same branch
        meanwhile, puts and deletes are applied on top of theirs: no commit is lost, and for a
        path that both wrote the later one counts. With ``only_changes`` the heads are returned, and
        nothing happens, where they hold all of this already.

        ``within`` is called in the transaction that makes these commits the heads: what it writes
        is kept if and only if they are, and an error of it undoes them. Not called where nothing
        happens.

        Raises:
            NotFound: ``repo.unknown``, ``file.missing`` for a source, ``file.unknown`` for a
                delete of what is not there.
            Invalid: ``file.unreadable``, ``path.invalid``, ``branch.name``, ``commit.twice``,
                ``commit.paths``, ``commit.meta``.
            Conflict: ``tree.file_and_directory``.
        """
        where = places(changes)
        with self._db.read() as tx:
            heads = writing.heads(tx, where)
            news = self._news(tx)
        self._check_deletes(changes, heads)
        made = Maker(self._store, message, author, global_id or new_id(), check_meta(meta))
        with self._store.writer() as writer:
            staged = [stage(writer, change) for change in changes]
            if news is not None:
                writer.put_object(journal.TAG, news[1])
            for _ in range(OPTIMISTIC):
                commits, objects = made.commits(writer, staged, heads)
                if only_changes and _same(commits, heads):
                    return [head for head in heads if head is not None]
                with self._db.begin() as tx:
                    now = writing.heads(tx, where)
                    if _ids(now) == _ids(heads):
                        self._record(tx, commits, objects, heads=_ids(heads), news=news)
                        within(tx, commits)
                        return commits
                heads = now
            with self._db.begin() as tx:  # a busy branch: nobody moves it while we hold the lock
                heads = writing.heads(tx, where)
                commits, objects = made.commits(writer, staged, heads)
                self._record(tx, commits, objects, heads=_ids(heads), news=news)
                within(tx, commits)
                return commits

    # ----------------------------------------------------------------------------------------

    def _applied(self, writer: Writer, staged: Staged, commit: Commit) -> str:
        tree = apply(self._store, writer, staged, commit.tree)
        writer.flush()
        return tree

    def _restage(self, tx: Tx, commit: Commit, tree: str) -> Commit:
        summary = self._store.summary(tree)
        now = replace(commit, tree=tree, files=summary.files, size_bytes=summary.size_bytes)
        values = {"tree": tree, "files": now.files, "size_bytes": now.size_bytes}
        table = tables.commits
        tx.execute(update(table).where(table.c.id == commit.id).values(**values))
        return now

    def _ask_staged(
        self, tx: Tx, commit_id: str, message: str | None, meta: Mapping[str, str] | None
    ) -> _Finish:
        commit = _writable(refs.get_commit(tx, commit_id))
        head = refs.head_of(tx, commit.repo, commit.branch)
        parent = refs.get_commit(tx, commit.parent) if commit.parent else None
        return _Finish(
            id=commit.id,
            tree=self._replayed(commit, parent, head),
            message=message,
            provenance=None,
            rebase=True,
            meta=check_meta(meta),
            staged=commit.tree,
            onto=head.id if head else "",
        )

    def _replayed(self, commit: Commit, parent: Commit | None, head: Commit | None) -> str:
        """The content of an open commit on top of the present head."""
        if (head.id if head else None) == commit.parent:
            return commit.tree
        before = parent.tree if parent else EMPTY_TREE
        changes = list(self._store.diff(before, commit.tree))
        with self._store.writer() as writer:
            puts = [change.new for change in changes if change.new]
            gone = [change.path for change in changes if change.new is None]
            return writer.tree(_start(head), puts, gone)

    def _prepare(self, writer: Writer, asked: _Finish) -> Prepared:
        with self._db.read() as look:
            commit = self._finished(look, asked, writer.summary)
        writer.hold(asked.tree)
        kept = writer.put_object(writing.OBJECT_TAG, writing.encode(commit))
        return commit, kept

    def _finished(
        self, tx: Tx, asked: _Finish, summary_of: Callable[[str], TreeSummary] | None = None
    ) -> Commit:
        """The commit as it will be, if it may be finished now."""
        commit = refs.get_commit(tx, asked.id)
        if commit.state != "open":
            raise writing.not_open(commit)
        head = refs.head_of(tx, commit.repo, commit.branch)
        parent = None if head is None else head.id
        if asked.staged is not None and (
            asked.staged != commit.tree or asked.onto != (parent or "")
        ):
            raise _StaleError
        if parent != commit.parent and not asked.rebase:
            raise writing.moved(commit.repo, commit.branch, commit.parent)
        summary = (summary_of or self._store.summary)(asked.tree)
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
            meta=commit.meta | dict(asked.meta or {}),
        )

    def _finish(self, tx: Tx, asked: _Finish, early: Prepared | None) -> Commit:
        """Finish in ``tx``; ``early`` is the commit with its object, kept before ``tx`` began."""
        commit = self._finished(tx, asked)
        if early is not None and _is_as_prepared(commit, early[0]):
            commit, kept = early
        else:
            kept = self._keep([commit])[0]
        writing.change(tx, commit, kept)
        self._head_moves(tx, [commit], [commit.parent])
        return commit

    def _check_deletes(self, changes: Sequence[RepoChange], heads: Sequence[Commit | None]) -> None:
        for change, head in zip(changes, heads, strict=True):
            for path in change.deletes:
                contents.get(self._store, EMPTY_TREE if head is None else head, path)


def _is_as_prepared(now: Commit, early: Commit) -> bool:
    """Whether nothing has changed since but the time."""
    return now == replace(early, finished_at=now.finished_at)


class _StaleError(Exception):
    """What a finish was made from has changed: make it again."""


def check_meta(meta: Mapping[str, str] | None) -> dict[str, str]:
    """Metadata of a commit, if it is of short texts.

    Raises:
        Invalid: ``commit.meta``.
    """
    found = dict(meta or {})
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, str) or not key.strip():
            raise Invalid(
                "commit.meta",
                f"{key!r}: {value!r} cannot be kept with a commit.",
                hint="Metadata are texts by name: --meta key=value",
            )
    if len(found) > _MOST_META or sum(len(k) + len(v) for k, v in found.items()) > _MOST_TEXT:
        raise Invalid(
            "commit.meta",
            f"Metadata of a commit are at most {_MOST_META} names and {_MOST_TEXT:,} characters.",
            hint="Keep what is larger as a file of the commit.",
        )
    return found


_MOST_META = 100
_MOST_TEXT = 20_000


def _writable(commit: Commit) -> Commit:
    if commit.state != "open":
        raise writing.not_open(commit)
    if not commit.tree:
        raise Denied(
            "commit.of_job",
            f"Commit {commit.id} of {commit.repo} is written by Clew itself.",
            hint="Open a commit of your own: clew commit open REPO",
        )
    return commit


def _start(head: Commit | None) -> str:
    return EMPTY_TREE if head is None else head.tree


def _same(commits: Sequence[Commit], heads: Sequence[Commit | None]) -> bool:
    """Whether nothing would change but the history."""
    pairs = zip(commits, heads, strict=True)
    return all(head is not None and head.tree == commit.tree for commit, head in pairs)


def _ids(commits: Sequence[Commit | None]) -> list[str | None]:
    return [None if commit is None else commit.id for commit in commits]
