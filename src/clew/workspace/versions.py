"""The verbs about versions, on the files of one directory.

Each asks repos, and the rooms above it where these have a say; knows no rows and no bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from clew.base.address import DEFAULT_BRANCH, Address, parse_address
from clew.base.archive import check_sources
from clew.base.errors import Conflict, Denied, Invalid, NotFound
from clew.base.ids import is_id
from clew.base.records import (
    BranchInfo,
    Commit,
    Found,
    Merge,
    Removal,
    RepoInfo,
    TableProfile,
    Tag,
)
from clew.base.transaction import PutPart, Source, Transaction
from clew.base.version_verbs import Meta
from clew.repos import RepoChange
from clew.store import Entry
from clew.workspace.holding import holders, repo_holders
from clew.workspace.profiling import profile
from clew.workspace.rooms import Rooms

_MANY = 1000


class Versions:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms
    _author: str

    # commits --------------------------------------------------------------------------------

    def commit(self, ref: str) -> Commit:
        """The commit that ``repo@ref`` or a commit id names."""
        if "/" in ref or "@" in ref:
            return self.rooms.repos.resolve(ref)
        return self.rooms.repos.commit_by_id(ref)

    def put_many(
        self, parts: Sequence[PutPart], *, message: str = "", meta: Meta = None
    ) -> list[Commit]:
        """Commit to several branches at once."""
        for part in parts:
            check_sources(part.files)
            self._writable(part.repo, part.branch)
        changes = [
            RepoChange(
                repo=part.repo,
                branch=part.branch,
                puts=part.files,
                deletes=part.delete,
                replace=part.replace,
            )
            for part in parts
        ]
        return self.rooms.repos.commit_many(
            changes, message=message, author=self._author, meta=meta
        )

    def transaction(self, *, message: str = "", meta: Meta = None) -> Transaction:
        """A block whose puts and deletes are one change."""
        return Transaction(partial(self.put_many, message=message, meta=meta))

    def append(
        self,
        repo: str,
        files: Mapping[str, Source],
        *,
        branch: str = DEFAULT_BRANCH,
        message: str = "",
        meta: Meta = None,
    ) -> Commit:
        """Commit bytes at the end of files."""
        _check_some(files)
        self._writable(repo, branch)
        return self.rooms.repos.commit(
            repo,
            {},
            branch=branch,
            appends=files,
            message=message,
            author=self._author,
            meta=meta,
        )

    def copy(self, source: str, target: str, *, message: str = "", meta: Meta = None) -> Commit:
        """Commit a file or directory of any commit to another place."""
        repos = self.rooms.repos
        origin, goal = parse_address(source), parse_address(target)
        start = repos.resolve(origin)
        found = repos.get_file(start, origin.path)
        opened = self._open_commit_named(goal)
        into = self._content_at(goal, opened)
        path = goal.path
        if found.kind == "file" and into is not None and self._is_directory(into, path):
            path = f"{path.rstrip('/')}/{found.path.rpartition('/')[2]}"
        skip = len(found.path.rstrip("/"))
        entries = [
            Entry(
                path=path if found.kind == "file" else f"{path.rstrip('/')}{file.path[skip:]}",
                digest=file.digest,
                size_bytes=file.size_bytes,
            )
            for file in repos.entries(start, found.path)
        ]
        if opened is not None:
            return repos.stage(opened.id, {}, entries=entries)
        self._writable(goal.repo, goal.ref)
        return repos.commit(
            goal.repo,
            {},
            branch=goal.ref,
            entries=entries,
            message=message or f"copy of {origin.repo}@{start.id[:8]}:{origin.path}",
            author=self._author,
            provenance=() if start.repo == goal.repo else (start.id,),
            meta=meta,
        )

    def open_commit(
        self, repo: str, *, branch: str = DEFAULT_BRANCH, message: str = "", meta: Meta = None
    ) -> Commit:
        """A commit that is written step by step."""
        self._writable(repo, branch)
        return self.rooms.repos.open_commit(
            repo, branch=branch, message=message, author=self._author, meta=meta, writable=True
        )

    def put_into(
        self,
        commit_id: str,
        files: Mapping[str, Source],
        *,
        delete: Sequence[str] = (),
        append: bool = False,
    ) -> Commit:
        """Write into an open commit."""
        if not delete:
            _check_some(files)
        check_sources(files)
        given = {} if append else files
        added = files if append else {}
        return self.rooms.repos.stage(commit_id, given, delete, appends=added)

    def finish(self, commit_id: str, *, message: str = "", meta: Meta = None) -> Commit:
        """Make an open commit the head of its branch."""
        return self.rooms.repos.finish_staged(commit_id, message=message or None, meta=meta)

    def abort(self, commit_id: str, *, reason: str = "") -> Commit:
        """End an open commit without content."""
        commit = self.rooms.repos.commit_by_id(commit_id)
        if commit.state == "open" and not commit.tree:
            raise Denied(
                "commit.of_job",
                f"Commit {commit.id} of {commit.repo} is written by Clew itself.",
                hint="Cancel its job: clew cancel JOB",
            )
        return self.rooms.repos.abort(commit.id, reason or "Given up by hand.")

    # branches and tags ----------------------------------------------------------------------

    def branches(self, repo: str) -> list[BranchInfo]:
        """Branches by name."""
        info = self.rooms.repos.get(repo)
        return [self._branch(info, name) for name in info.branches]

    def create_branch(self, repo: str, name: str, *, at: str = "") -> BranchInfo:
        """A new branch at a ref of the repo, else at the head of ``main`` where there is one."""
        start = self._ref(repo, at).id if at else self.rooms.repos.get(repo).branches.get("main")
        self.rooms.repos.create_branch(repo, name, at=start)
        return self._branch(self.rooms.repos.get(repo), name)

    def move_branch(
        self, repo: str, name: str, to: str, *, force: bool = False, reason: str = ""
    ) -> Commit:
        """Let a branch go on from another ref."""
        repos = self.rooms.repos
        self._source(repo)
        goal = self._ref(repo, to)
        if force and not reason:
            raise Invalid(
                "branch.reason",
                f"{repo}@{name} is moved by force, and nobody would know why.",
                hint="Give a --reason; it is kept with the commit.",
            )
        text = reason or f"{to} at {goal.id[:8]}"
        merge = repos.merge(repo, goal.id, name, dry_run=True)
        head = repos.head(repo, name)
        if head is not None and head.id == goal.id:
            return head
        if force or merge.kind == "forward":
            expected = head.id if head else ""
            return repos.move_branch(
                repo, name, goal.id, expected=expected, message=text, author=self._author
            )
        base = repos.commit_by_id(merge.base) if merge.base else None
        if head is not None and base is not None and head.tree == base.tree and head != base:
            merged = repos.merge(repo, goal.id, name, message=text, author=self._author)
            assert merged.commit is not None
            return merged.commit
        raise Conflict(
            "branch.not_forward",
            f"{repo}@{name} has commits that {to} ({goal.id}) does not have.",
            hint="Merge it (clew merge), or leave them behind with --force and a --reason.",
        )

    def delete_branch(self, repo: str, name: str, *, force: bool = False) -> BranchInfo:
        """Forget a branch."""
        info = self.rooms.repos.get(repo)
        found = self._branch(info, name) if name in info.branches else None
        users = (*found.read_by, *found.written_by) if found else ()
        if users and not force:
            raise Conflict(
                "branch.used",
                f"{repo}@{name} is used by {', '.join(users[:5])}.",
                hint="Apply a pipeline that does not read it, or use --force.",
            )
        self.rooms.repos.delete_branch(repo, name)
        return found or BranchInfo(repo=repo, name=name, head=None)

    def tags(self, repo: str) -> list[Tag]:
        """Tags, the newest first."""
        return self.rooms.repos.tags(repo)

    def tag(
        self, ref: str, name: str, *, message: str = "", meta: Meta = None, force: bool = False
    ) -> Tag:
        """Name a commit for good."""
        commit = self.commit(ref)
        return self.rooms.repos.tag(
            commit.repo,
            name,
            commit.id,
            message=message,
            author=self._author,
            meta=meta,
            force=force,
        )

    def delete_tag(self, repo: str, name: str) -> Tag:
        """Forget a tag."""
        return self.rooms.repos.delete_tag(repo, name)

    def merge(
        self,
        repo: str,
        source: str,
        *,
        into: str = DEFAULT_BRANCH,
        strategy: str = "fail",
        message: str = "",
        meta: Meta = None,
        dry_run: bool = False,
    ) -> Merge:
        """Bring a ref and its history to a branch."""
        self._source(repo)
        commit = self._ref(repo, source)
        return self.rooms.repos.merge(
            repo,
            commit.id,
            into,
            strategy=strategy,
            message=message or f"merge {source} ({commit.id[:8]}) into {into}",
            author=self._author,
            meta=meta,
            dry_run=dry_run,
        )

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
        """Fold commits into the next one."""
        return self.rooms.repos.squash(
            self.commit(first).id,
            self.commit(last).id if last else None,
            keepers=partial(holders, self.rooms),
            force=force,
            dry_run=dry_run,
            reason=reason,
            author=self._author,
        )

    def drop(
        self, ref: str, *, force: bool = False, dry_run: bool = False, reason: str = ""
    ) -> Removal:
        """Take a head away."""
        return self.rooms.repos.drop(
            self.commit(ref).id,
            keepers=partial(holders, self.rooms),
            force=force,
            dry_run=dry_run,
            reason=reason,
            author=self._author,
        )

    def delete_repo(
        self, repo: str, *, force: bool = False, dry_run: bool = False, reason: str = ""
    ) -> Removal:
        """Forget a repo."""
        return self.rooms.repos.delete(
            repo,
            keepers=lambda _: repo_holders(self.rooms, repo),
            force=force,
            dry_run=dry_run,
            reason=reason,
            author=self._author,
        )

    def find(self, address: str, *, limit: int = 50) -> list[Found]:
        """What each commit did to a path."""
        place, pattern = _with_pattern(address)
        return self.rooms.repos.find(self.rooms.repos.resolve(place), pattern, limit)

    def profile(self, address: str) -> TableProfile:
        """A tabular file in a few numbers."""
        place = parse_address(address)
        return profile(self.rooms, self.rooms.repos.resolve(place), place.path)

    # ----------------------------------------------------------------------------------------

    def _source(self, repo: str) -> RepoInfo:
        """The repo, if it may be committed to by hand."""
        info = self.rooms.repos.get(repo)
        if info.kind != "source":
            raise Denied(
                "repo.derived",
                f"{repo} is written by Clew (kind: {info.kind}).",
                hint="Commit to a source repo; `clew repos` lists them.",
            )
        return info

    def _writable(self, repo: str, branch: str) -> None:
        """Check that a repo may be committed to; a new branch starts from the head of ``main``."""
        info = self._source(repo)
        start = info.branches.get(DEFAULT_BRANCH)
        if branch not in info.branches and start is not None:
            try:
                self.rooms.repos.create_branch(repo, branch, at=start)
            except Conflict as error:  # somebody else made it first: then it is there
                if error.code != "branch.exists":
                    raise

    def _ref(self, repo: str, ref: str) -> Commit:
        return self.rooms.repos.resolve(parse_address(f"{repo}@{ref}"))

    def _branch(self, info: RepoInfo, name: str) -> BranchInfo:
        head = info.branches.get(name)
        used = self.rooms.pipelines.users(info.name)
        return BranchInfo(
            repo=info.name,
            name=name,
            head=self.rooms.repos.commit_by_id(head) if head else None,
            read_by=tuple(step for branch, step in used.readers if branch == name),
            written_by=tuple(step for branch, step in used.writers if branch == name),
        )

    def _open_commit_named(self, place: Address) -> Commit | None:
        """The open commit that an address names by its id."""
        if place.ancestors or not is_id(place.ref):
            return None
        if place.ref in self.rooms.repos.branches(place.repo):
            return None
        try:
            commit = self.rooms.repos.resolve(place)
        except NotFound:
            return None
        return commit if commit.state == "open" else None

    def _content_at(self, place: Address, opened: Commit | None) -> Commit | None:
        return opened or self.rooms.repos.head(place.repo, place.ref)

    def _is_directory(self, commit: Commit, path: str) -> bool:
        if path == "/":
            return True
        try:
            return self.rooms.repos.get_file(commit, path).kind == "directory"
        except NotFound:
            return False


def _check_some(files: Mapping[str, Source]) -> None:
    if not files:
        raise Invalid(
            "put.nothing",
            "There is nothing to commit: no files, and nothing to delete.",
            hint="Name files or directories: clew put REPO FILES",
        )
    check_sources(files)


def _with_pattern(address: str) -> tuple[Address, str]:
    """An address whose path may be a glob."""
    place, colon, path = address.partition(":")
    return parse_address(place), path if colon else "/"
