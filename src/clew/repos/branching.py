"""The part of the door that keeps repos, branches and tags.

Knows nothing of who reads a branch: whether one may go is for the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec.structs import replace
from sqlalchemy import delete, select, update

from clew.base import clock
from clew.base.address import check_ref_name, check_repo_name
from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.ids import new_id
from clew.base.records import Commit, RepoInfo, Tag
from clew.db import Tx
from clew.repos import refs, tables, writing
from clew.repos.committing import check_meta
from clew.repos.ledger import Ledger, finished_in
from clew.repos.staging import later_than

Tags: TypeAlias = list[Tag]
KINDS = ("source", "output", "model", "report", "log", "checkpoint", "drift", "code")


class Branching(Ledger):
    """Repos, branches and tags."""

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
                writing.note_move(tx, name, "", None, None, None)
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

    def branches(self, repo: str) -> dict[str, str | None]:
        """Branch name to the id of its head (None: nothing finished yet), by name."""
        return self.get(repo).branches

    def create_branch(self, repo: str, name: str, at: str | None = None) -> None:
        """A new branch whose head is the commit ``at`` (an id or its beginning), or empty.

        Raises:
            Conflict: ``branch.exists``, ``tag.exists``.
            Invalid: ``branch.name``, ``branch.other_repo``, ``commit.not_finished``.
        """
        check_ref_name(name)
        with self._db.begin() as tx:
            self._check_free(tx, repo, name)
            tx.execute(tables.branches.insert(), {"repo": repo, "name": name, "head": None})
            if at is not None:
                commit = finished_in(refs.get_commit(tx, at), repo)
                writing.move_head(tx, repo, name, None, commit.id, commit.global_id)
            else:
                writing.note_move(tx, repo, name, None, None, None)

    def move_branch(
        self,
        repo: str,
        branch: str,
        to_commit: str,
        expected: str | None = None,
        *,
        message: str = "",
        author: str = "",
        meta: Mapping[str, str] | None = None,
        tx: Tx | None = None,
    ) -> Commit:
        """Let a branch go on from another commit of its repo (staging to main, or back).

        Makes a commit on ``branch`` with the same tree, whose parent and provenance is
        ``to_commit``, under a new global id: it is a change, and what is downstream hears of it.
        Where the head is ``to_commit`` already, that is returned and nothing happens.

        Raises:
            Conflict: ``branch.moved`` where ``expected`` is not the id of the head ('' for none).
            Invalid: ``branch.other_repo``, ``commit.not_finished``.
        """
        check_ref_name(branch)
        with self._writing(tx) as tx:
            goal = finished_in(refs.get_commit(tx, to_commit), repo)
            head = refs.head_of(tx, repo, branch)
            old = None if head is None else head.id
            if expected is not None and (old or "") != expected:
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
                merged=None,
                meta=check_meta(meta),
                started_at=later_than(goal),
                finished_at=later_than(goal),
            )
            self._record(tx, [commit], self._keep([commit]), heads=[old])
            return commit

    def delete_branch(self, repo: str, name: str) -> None:
        """Forget a branch; its commits stay, by their ids, and so does the ref log.

        Raises:
            NotFound: ``repo.unknown``, ``branch.unknown``.
            Conflict: ``branch.busy`` while a commit on it is open.
        """
        with self._db.begin() as tx:
            heads = refs.get_repo(tx, repo).branches
            if name not in heads:
                raise refs.unknown_branch(repo, name, [*heads])
            table = tables.commits
            where = (table.c.repo == repo, table.c.branch == name, table.c.state == "open")
            if tx.execute(select(table.c.id).where(*where)).first():
                raise Conflict(
                    "branch.busy",
                    f"A commit on {repo}@{name} is still being written.",
                    hint="Finish or abort it first: clew log shows it.",
                )
            writing.move_head(tx, repo, name, heads[name], None, None)
            branches = tables.branches
            gone = (branches.c.repo == repo, branches.c.name == name)
            tx.execute(delete(branches).where(*gone))

    # tags -----------------------------------------------------------------------------------

    def tag(
        self,
        repo: str,
        name: str,
        commit: str,
        *,
        message: str = "",
        author: str = "",
        meta: Mapping[str, str] | None = None,
        force: bool = False,
    ) -> Tag:
        """Name a finished commit for good. The same again changes nothing; ``force`` moves it.

        Raises:
            Conflict: ``tag.exists`` where the tag names another commit; ``branch.exists``.
            Invalid: ``branch.name``, ``branch.other_repo``, ``commit.not_finished``,
                ``commit.meta``.
        """
        check_ref_name(name)
        kept = check_meta(meta)
        with self._db.begin() as tx:
            heads = refs.get_repo(tx, repo).branches
            goal = finished_in(refs.get_commit(tx, commit), repo)
            old = tx.execute(tables.TAG, {"repo": repo, "name": name}).first()
            if name in heads:
                raise _branch_exists(repo, name)
            if old is not None and old.commit != goal.id and not force:
                raise _tag_exists(repo, name, old.commit)
            if old is not None and old.commit == goal.id and not (message or kept):
                return refs.tag_of(old)
            values = {
                "commit": goal.id,
                "at_us": clock.to_us(clock.now()),
                "author": author,
                "message": message,
                "meta": kept,
            }
            if old is None:
                tx.execute(tables.tags.insert(), {"repo": repo, "name": name, **values})
            else:
                where = (tables.tags.c.repo == repo, tables.tags.c.name == name)
                tx.execute(update(tables.tags).where(*where).values(**values))
            before = None if old is None else old.commit
            writing.note_move(tx, repo, f"tags/{name}", before, goal.id, goal.global_id)
            return refs.tag_of(tx.execute(tables.TAG, {"repo": repo, "name": name}).one())

    def tags(self, repo: str) -> Tags:
        """Tags of a repo, the newest first. Raises NotFound ``repo.unknown``."""
        with self._db.read() as tx:
            refs.get_repo(tx, repo)
            return [refs.tag_of(row) for row in tx.execute(tables.TAGS_OF, {"repo": repo})]

    def delete_tag(self, repo: str, name: str) -> Tag:
        """Forget a tag; the commit stays. The tag as it was.

        Raises NotFound ``repo.unknown``, ``tag.unknown``.
        """
        with self._db.begin() as tx:
            refs.get_repo(tx, repo)
            row = tx.execute(tables.TAG, {"repo": repo, "name": name}).first()
            if row is None:
                known = ", ".join([*refs.tags_of(tx, repo)][:5]) or "none yet"
                raise NotFound(
                    "tag.unknown", f"{repo} has no tag {name!r}.", hint=f"Its tags: {known}."
                )
            where = (tables.tags.c.repo == repo, tables.tags.c.name == name)
            tx.execute(delete(tables.tags).where(*where))
            writing.note_move(tx, repo, f"tags/{name}", row.commit, None, None)
            return refs.tag_of(row)

    def _check_free(self, tx: Tx, repo: str, name: str) -> None:
        if name in refs.get_repo(tx, repo).branches:
            raise _branch_exists(repo, name)
        row = tx.execute(tables.TAG, {"repo": repo, "name": name}).first()
        if row is not None:
            raise _tag_exists(repo, name, row.commit)


def _branch_exists(repo: str, name: str) -> Conflict:
    return Conflict(
        "branch.exists",
        f"{repo} has a branch {name} already.",
        hint="Use it, or choose another name.",
    )


def _tag_exists(repo: str, name: str, commit: str) -> Conflict:
    return Conflict(
        "tag.exists",
        f"{repo} has a tag {name} already, on commit {commit}.",
        hint="Choose another name, or move it with --force.",
    )
