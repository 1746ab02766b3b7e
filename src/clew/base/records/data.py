"""Records of data: repos, commits, files and the differences between them.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field


class RepoInfo(Struct, frozen=True, kw_only=True):
    """A repo. ``kind``: source, output, model, report, log, checkpoint, drift or code."""

    name: str
    kind: str
    description: str
    created_at: datetime
    branches: dict[str, str | None] = field(default_factory=dict)
    """Branch name to the id of its head commit (None: no finished commit yet)."""


class Commit(Struct, frozen=True, kw_only=True):
    """A version of a repo. ``state``: open, finished or aborted.

    ``tree`` is the digest of the content (while open: of what was put so far, '' where a job will
    bring it), ``provenance`` the ids of the commits it was made from, ``global_id`` the change that
    caused it. ``merged`` is the second parent of a merge, ``meta`` what whoever made it noted.
    """

    id: str
    repo: str
    branch: str
    global_id: str
    parent: str | None
    state: str
    tree: str
    message: str
    author: str
    provenance: tuple[str, ...]
    files: int
    size_bytes: int
    started_at: datetime
    finished_at: datetime | None
    error: str = ""
    merged: str | None = None
    meta: dict[str, str] = field(default_factory=dict)


class FileInfo(Struct, frozen=True, kw_only=True):
    """A file, or a directory: then ``digest`` is '' and the size is of all below it.

    ``kind``: file or directory.
    """

    path: str
    kind: str
    digest: str
    size_bytes: int


class Change(Struct, frozen=True, kw_only=True):
    """One path that differs between two commits. ``kind``: added, deleted or changed."""

    path: str
    kind: str
    old: FileInfo | None
    new: FileInfo | None


class Event(Struct, frozen=True, kw_only=True):
    """One fact, as it was recorded. ``seq`` orders all events of a workspace."""

    seq: int
    at: datetime
    kind: str
    global_id: str | None
    subject: str
    data: dict[str, object]


class CodeRef(Struct, frozen=True, kw_only=True):
    """A function of a user, in a snapshot of the project that it lives in.

    ``snapshot`` is the digest of the tree of the project's files, ``file`` the path in it and
    ``name`` the module-level name.
    """

    snapshot: str
    file: str
    name: str
