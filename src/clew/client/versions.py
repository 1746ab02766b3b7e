"""The verbs about versions of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import quote

from clew.base.archive import MEDIA_TYPE, pack
from clew.base.records import BranchInfo, Commit, Found, Merge, Removal, TableProfile, Tag
from clew.base.transaction import PutPart, Source, Transaction, pack_parts
from clew.base.version_verbs import Meta
from clew.client.wire import Wire


class RemoteVersions:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    # commits --------------------------------------------------------------------------------
    def put_many(
        self, parts: Sequence[PutPart], *, message: str = "", meta: Meta = None
    ) -> list[Commit]:
        """Commit to several branches at once; the files travel as one stream."""
        files = pack_parts(parts)
        return self._wire.upload(
            "/transactions",
            list[Commit],
            pack(files),
            MEDIA_TYPE,
            message=message,
            meta=meta_texts(meta),
        )

    def transaction(self, *, message: str = "", meta: Meta = None) -> Transaction:
        """A block whose puts and deletes are one change."""
        return Transaction(partial(self.put_many, message=message, meta=meta))

    def append(
        self,
        repo: str,
        files: Mapping[str, Source],
        *,
        branch: str = "main",
        message: str = "",
        meta: Meta = None,
    ) -> Commit:
        """Commit bytes at the end of files."""
        return self._wire.upload(
            "/appends",
            Commit,
            pack(files),
            MEDIA_TYPE,
            repo=repo,
            branch=branch,
            message=message,
            meta=meta_texts(meta),
        )

    def copy(self, source: str, target: str, *, message: str = "", meta: Meta = None) -> Commit:
        """Commit a file or directory of any commit to another place."""
        body = {"source": source, "target": target, "message": message, "meta": meta or {}}
        return self._wire.post("/copies", Commit, body)

    def open_commit(
        self, repo: str, *, branch: str = "main", message: str = "", meta: Meta = None
    ) -> Commit:
        """A commit that is written step by step."""
        body = {"repo": repo, "branch": branch, "message": message, "meta": meta or {}}
        return self._wire.post("/open-commits", Commit, body)

    def put_into(
        self,
        commit_id: str,
        files: Mapping[str, Source],
        *,
        delete: Sequence[str] = (),
        append: bool = False,
    ) -> Commit:
        """Write into an open commit; the files travel as one stream."""
        path = f"/open-commits/{_part(commit_id)}/files"
        return self._wire.upload(
            path, Commit, pack(files, delete=delete), MEDIA_TYPE, append=append
        )

    def finish(self, commit_id: str, *, message: str = "", meta: Meta = None) -> Commit:
        """Make an open commit the head of its branch."""
        body = {"message": message, "meta": meta or {}}
        return self._wire.post(f"/open-commits/{_part(commit_id)}/finish", Commit, body)

    def abort(self, commit_id: str, *, reason: str = "") -> Commit:
        """End an open commit without content."""
        return self._wire.post(
            f"/open-commits/{_part(commit_id)}/abort", Commit, {"reason": reason}
        )

    # branches and tags ----------------------------------------------------------------------
    def branches(self, repo: str) -> list[BranchInfo]:
        """Branches by name."""
        return self._wire.get("/branches", list[BranchInfo], repo=repo)

    def create_branch(self, repo: str, name: str, *, at: str = "") -> BranchInfo:
        """A new branch at a ref of the repo, else at the head of ``main`` where there is one."""
        return self._wire.post("/branches", BranchInfo, {"repo": repo, "name": name, "at": at})

    def move_branch(
        self, repo: str, name: str, to: str, *, force: bool = False, reason: str = ""
    ) -> Commit:
        """Let a branch go on from another ref."""
        body = {"repo": repo, "name": name, "to": to, "force": force, "reason": reason}
        return self._wire.post("/branches/move", Commit, body)

    def delete_branch(self, repo: str, name: str, *, force: bool = False) -> BranchInfo:
        """Forget a branch."""
        return self._wire.delete("/branches", BranchInfo, repo=repo, name=name, force=force)

    def tags(self, repo: str) -> list[Tag]:
        """Tags, the newest first."""
        return self._wire.get("/tags", list[Tag], repo=repo)

    def tag(
        self, ref: str, name: str, *, message: str = "", meta: Meta = None, force: bool = False
    ) -> Tag:
        """Name a commit for good."""
        body = {"ref": ref, "name": name, "message": message, "meta": meta or {}, "force": force}
        return self._wire.post("/tags", Tag, body)

    def delete_tag(self, repo: str, name: str) -> Tag:
        """Forget a tag."""
        return self._wire.delete("/tags", Tag, repo=repo, name=name)

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
        """Bring a ref and its history to a branch."""
        body = {
            "repo": repo,
            "source": source,
            "into": into,
            "strategy": strategy,
            "message": message,
            "meta": meta or {},
            "dry_run": dry_run,
        }
        return self._wire.post("/merges", Merge, body)

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
        body = {
            "first": first,
            "last": last,
            "force": force,
            "dry_run": dry_run,
            "reason": reason,
        }
        return self._wire.post("/squash", Removal, body)

    def drop(
        self, ref: str, *, force: bool = False, dry_run: bool = False, reason: str = ""
    ) -> Removal:
        """Take a head away."""
        body = {"ref": ref, "force": force, "dry_run": dry_run, "reason": reason}
        return self._wire.post("/drop", Removal, body)

    def delete_repo(
        self, repo: str, *, force: bool = False, dry_run: bool = False, reason: str = ""
    ) -> Removal:
        """Forget a repo."""
        return self._wire.delete(
            "/repos", Removal, name=repo, force=force, dry_run=dry_run, reason=reason
        )

    def find(self, address: str, *, limit: int = 50) -> list[Found]:
        """What each commit did to a path."""
        return self._wire.get("/find", list[Found], address=address, limit=limit)

    def profile(self, address: str) -> TableProfile:
        """A tabular file in a few numbers."""
        return self._wire.get("/profile", TableProfile, address=address)


def meta_texts(meta: Meta) -> list[str] | None:
    """Metadata as parameters of a URL: ``key=value`` each."""
    return [f"{key}={value}" for key, value in meta.items()] if meta else None


def _part(text: str) -> str:
    return quote(text, safe="")
