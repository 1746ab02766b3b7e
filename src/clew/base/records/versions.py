"""Records of versions: branches, tags, merges, what goes when history is mended, profiles of files.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field

from clew.base.records.data import Change, Commit, FileInfo


class BranchInfo(Struct, frozen=True, kw_only=True):
    """A branch. ``head`` is None where nothing was finished on it yet."""

    repo: str
    name: str
    head: Commit | None
    read_by: tuple[str, ...] = ()
    """Steps (``pipeline/step``) whose jobs follow from a commit here."""
    written_by: tuple[str, ...] = ()
    """Steps whose results are committed here."""


class Tag(Struct, frozen=True, kw_only=True):
    """A name that stays with one commit."""

    repo: str
    name: str
    commit: str
    at: datetime
    author: str = ""
    message: str = ""
    meta: dict[str, str] = field(default_factory=dict)


class MergeConflict(Struct, frozen=True, kw_only=True):
    """A path that both sides changed, and not to the same; a side without the file is None."""

    path: str
    base: FileInfo | None
    ours: FileInfo | None
    theirs: FileInfo | None


class Merge(Struct, frozen=True, kw_only=True):
    """What a merge did, or would do.

    ``kind``: nothing (the branch has all of it), forward (the branch goes on from the source),
    merge (a commit of two parents) or conflict (nothing was done). ``commit`` is the new head, None
    where nothing was written. ``changes`` are those that the branch gets.
    """

    kind: str
    repo: str
    source: str
    into: str
    base: str | None
    commit: Commit | None
    changes: tuple[Change, ...] = ()
    conflicts: tuple[MergeConflict, ...] = ()


class Holder(Struct, frozen=True, kw_only=True):
    """What keeps a commit from going. ``kind``: commit, tag, job, model_version, revision, head,
    pipeline or open; ``yields`` says whether ``force`` passes over it.
    """

    kind: str
    id: str
    commit: str
    reason: str
    yields: bool = False


class Removal(Struct, frozen=True, kw_only=True):
    """What goes, or would go. ``how``: squashed, dropped or deleted (a whole repo).

    ``heads`` are the branches that move back, with their new head (None: empty then). ``holders``
    are what stood against it; where it was done, those that were passed over.
    """

    how: str
    commits: tuple[Commit, ...]
    heads: dict[str, str | None] = field(default_factory=dict)
    holders: tuple[Holder, ...] = ()
    done: bool = False


class Found(Struct, frozen=True, kw_only=True):
    """One commit in the history of a path, and what it did there."""

    commit: Commit
    change: Change


class ColumnProfile(Struct, frozen=True, kw_only=True):
    """A column of a file. What is not known without reading more than is worth it is None.

    ``low`` and ``high`` are the smallest and largest value, as text for people. ``distinct`` counts
    different values that are not null.
    """

    name: str
    type: str
    nulls: int | None = None
    low: str | None = None
    high: str | None = None
    distinct: int | None = None


class TableProfile(Struct, frozen=True, kw_only=True):
    """A tabular file in a few numbers. ``format``: Parquet, CSV, Arrow or JSON lines."""

    path: str
    digest: str
    size_bytes: int
    format: str
    rows: int
    columns: tuple[ColumnProfile, ...]
