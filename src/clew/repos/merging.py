"""Two histories made one: three ways, path by path.

Knows trees alone in its first half; the second half is the part of the door that writes merges.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from clew.base.errors import Conflict, Invalid
from clew.base.ids import new_id
from clew.base.records import Change, Commit, FileInfo, Merge, MergeConflict
from clew.repos import contents, history, refs
from clew.repos.branching import Branching
from clew.repos.committing import check_meta
from clew.repos.ledger import finished_in
from clew.repos.staging import later_than
from clew.store import EMPTY_TREE, Entry, Store

STRATEGIES = ("fail", "ours", "theirs")
_SHOWN = 5
_ATTEMPTS = 10


class Combined(Struct, frozen=True, kw_only=True):
    """What the source brings to ``ours``: the paths to take, and those that both changed."""

    taken: tuple[Change, ...]
    conflicts: tuple[MergeConflict, ...]


def combine(store: Store, base: str, ours: str, theirs: str, strategy: str = "fail") -> Combined:
    """Compare two trees with what they come from; O(difference).

    A path that one side alone changed is taken from there; one that both changed to the same stays.
    The rest are conflicts: ``theirs`` takes them too, ``ours`` leaves them.
    """
    mine = {change.path: change for change in contents.diff(store, base, ours, "/")}
    taken: list[Change] = []
    conflicts: list[MergeConflict] = []
    for change in contents.diff(store, base, theirs, "/"):
        other = mine.get(change.path)
        if other is None:
            taken.append(change)
        elif other.new != change.new:
            conflicts.append(
                MergeConflict(path=change.path, base=change.old, ours=other.new, theirs=change.new)
            )
            if strategy == "theirs":
                taken.append(_between(change.path, other.new, change.new))
    return Combined(taken=tuple(taken), conflicts=tuple(conflicts))


def combined_tree(store: Store, ours: str, taken: tuple[Change, ...]) -> str:
    """``ours`` with what is taken; durable. Raises Conflict ``tree.file_and_directory``."""
    puts = [_entry(change.new) for change in taken if change.new]
    gone = [change.path for change in taken if change.new is None]
    with store.writer() as writer:
        return writer.tree(ours, puts, gone)


class _Plan(Struct, frozen=True, kw_only=True):
    """A merge with the two commits that it was made from."""

    merge: Merge
    ours: Commit | None
    theirs: Commit


class Merging(Branching):
    """The part of the door that brings branches together."""

    def merge(
        self,
        repo: str,
        source: str,
        into: str,
        *,
        strategy: str = "fail",
        message: str = "",
        author: str = "",
        meta: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Merge:
        """Bring the commit ``source`` (an id) and its history to the branch ``into``.

        Where the branch is an ancestor of the source, it goes on from there (:meth:`move_branch`);
        else a commit with two parents is made, from the newest commit that both go back to. A
        ``dry_run`` says what would happen and what is in the way.

        Raises:
            Conflict: ``merge.conflict``, naming paths; ``branch.moved``,
                ``tree.file_and_directory``. Nothing is written then.
            NotFound: ``repo.unknown``, ``branch.unknown``, ``commit.unknown``.
            Invalid: ``merge.strategy``, ``branch.other_repo``, ``commit.not_finished``.
        """
        if strategy not in STRATEGIES:
            raise Invalid(
                "merge.strategy",
                f"{strategy!r} is no strategy of merging.",
                hint=f"Use one of {', '.join(STRATEGIES)}.",
            )
        kept = check_meta(meta)
        for attempt in range(_ATTEMPTS):
            plan = self._plan(repo, source, into, strategy)
            done = plan.merge
            if dry_run or done.kind == "nothing":
                return done
            if done.kind == "conflict":
                raise _conflict(done)
            try:
                return replace(done, commit=self._merge(plan, message, author, kept))
            except Conflict as error:  # somebody committed in between
                if error.code != "branch.moved" or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError  # the loop returns or raises

    def _plan(self, repo: str, source: str, into: str, strategy: str) -> _Plan:
        with self._db.read() as tx:
            heads = refs.get_repo(tx, repo).branches
            if into not in heads:
                raise refs.unknown_branch(repo, into, [*heads])
            theirs = finished_in(refs.get_commit(tx, source), repo)
            ours = refs.head_of(tx, repo, into)
            base = history.common_ancestor(tx, ours.id, theirs.id) if ours else None
        before = ours.tree if ours else EMPTY_TREE
        if base is not None and base.id == theirs.id:
            kind, found = "nothing", Combined(taken=(), conflicts=())
        elif ours is None or (base is not None and base.id == ours.id):
            changes = tuple(contents.diff(self._store, before, theirs.tree, "/"))
            kind, found = "forward", Combined(taken=changes, conflicts=())
        else:
            start = base.tree if base else EMPTY_TREE
            found = combine(self._store, start, before, theirs.tree, strategy)
            kind = "conflict" if found.conflicts and strategy == "fail" else "merge"
        merge = Merge(
            kind=kind,
            repo=repo,
            source=theirs.id,
            into=into,
            base=base.id if base else None,
            commit=ours if kind == "nothing" else None,
            changes=found.taken,
            conflicts=found.conflicts,
        )
        return _Plan(merge=merge, ours=ours, theirs=theirs)

    def _merge(self, plan: _Plan, message: str, author: str, meta: dict[str, str]) -> Commit:
        ours, theirs, into = plan.ours, plan.theirs, plan.merge.into
        text = message or f"merge {theirs.branch} ({theirs.id[:8]}) into {into}"
        if ours is None or plan.merge.kind == "forward":
            return self.move_branch(
                theirs.repo,
                into,
                theirs.id,
                expected=ours.id if ours else "",
                message=text,
                author=author,
                meta=meta,
            )
        with self._store.lease():
            tree = combined_tree(self._store, ours.tree, plan.merge.changes)
            commit = self._merged(replace(ours, branch=into), theirs, tree, text, author, meta)
            kept = self._keep([commit])
            with self._db.begin() as tx:
                self._record(tx, [commit], kept, heads=[ours.id])
        return commit

    def _merged(
        self,
        ours: Commit,
        theirs: Commit,
        tree: str,
        message: str,
        author: str,
        meta: dict[str, str],
    ) -> Commit:
        summary = self._store.summary(tree)
        now = later_than(ours, theirs)
        return Commit(
            id=new_id(),
            repo=ours.repo,
            branch=ours.branch,
            global_id=new_id(),
            parent=ours.id,
            merged=theirs.id,
            state="finished",
            tree=tree,
            message=message,
            author=author,
            provenance=(theirs.id,),
            files=summary.files,
            size_bytes=summary.size_bytes,
            started_at=now,
            finished_at=now,
            meta=meta,
        )


def _between(path: str, old: FileInfo | None, new: FileInfo | None) -> Change:
    kind = "added" if old is None else "deleted" if new is None else "changed"
    return Change(path=path, kind=kind, old=old, new=new)


def _entry(file: FileInfo) -> Entry:
    return Entry(path=file.path, digest=file.digest, size_bytes=file.size_bytes)


def _paths(number: int) -> str:
    return "1 path differs" if number == 1 else f"{number} paths differ"


def _conflict(plan: Merge) -> Conflict:
    paths = ", ".join(conflict.path for conflict in plan.conflicts[:_SHOWN])
    more = len(plan.conflicts) - _SHOWN
    return Conflict(
        "merge.conflict",
        f"{_paths(len(plan.conflicts))} on both sides of {plan.repo}: {paths}"
        + (f" and {more} more." if more > 0 else "."),
        hint="See them all with --dry-run; commit what is right to one side, "
        "or say --strategy ours or theirs.",
    )
