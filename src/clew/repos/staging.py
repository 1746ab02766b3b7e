"""Changes of branches made ready: bytes with the writer, trees built, commits drafted.

Knows no transaction: which heads a change goes on top of, it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct, field
from msgspec.structs import replace

from clew.base import clock
from clew.base.address import DEFAULT_BRANCH, check_ref_name, normal_path
from clew.base.errors import Invalid
from clew.base.ids import new_id
from clew.base.records import Commit
from clew.repos import writing
from clew.store import EMPTY_TREE, Entry, Store, Writer

Source = bytes | Path | BinaryIO


class RepoChange(Struct, frozen=True, kw_only=True):
    """What a commit does to one branch: first ``deletes``, then ``puts``, on top of the head.

    ``entries`` are files whose content is in the store already (``path`` is where they go);
    ``appends`` is added at the end of files, or makes them. ``replace`` drops everything else.
    With ``tree`` (a digest) the content is that tree, whatever the head holds.
    """

    repo: str
    branch: str = DEFAULT_BRANCH
    puts: Mapping[str, Source] = field(default_factory=dict)
    deletes: Sequence[str] = ()
    entries: Sequence[Entry] = ()
    appends: Mapping[str, Source] = field(default_factory=dict)
    replace: bool = False
    tree: str | None = None
    provenance: Sequence[str] = ()


class Staged(Struct, frozen=True, kw_only=True):
    """A change whose bytes are with the writer already."""

    change: RepoChange
    entries: tuple[Entry, ...]
    appends: tuple[Entry, ...]
    deletes: tuple[str, ...]
    id: str


class Maker(Struct, frozen=True):
    """Makes finished commits of staged changes, durable but for their rows."""

    store: Store
    message: str
    author: str
    global_id: str
    meta: Mapping[str, str] = field(default_factory=dict)

    def commits(
        self, writer: Writer, staged: Sequence[Staged], heads: Sequence[Commit | None]
    ) -> tuple[list[Commit], list[str]]:
        """Commits on top of ``heads`` and the digests of their objects, in order."""
        pairs = list(zip(staged, heads, strict=True))
        drafts = [self._draft(writer, item, head) for item, head in pairs]
        for commit in drafts:
            writer.hold(commit.tree)
        objects = [writer.put_object(writing.OBJECT_TAG, writing.encode(c)) for c in drafts]
        writer.flush()
        return [self._summed(commit) for commit in drafts], objects

    def _draft(self, writer: Writer, item: Staged, head: Commit | None) -> Commit:
        now = later_than(head)
        return Commit(
            id=item.id,
            repo=item.change.repo,
            branch=item.change.branch,
            global_id=self.global_id,
            parent=None if head is None else head.id,
            state="finished",
            tree=self._tree(writer, item, head),
            message=self.message,
            author=self.author,
            provenance=tuple(item.change.provenance),
            files=0,
            size_bytes=0,
            started_at=now,
            finished_at=now,
            meta=dict(self.meta),
        )

    def _tree(self, writer: Writer, item: Staged, head: Commit | None) -> str:
        if item.change.tree is not None:
            return item.change.tree
        base = EMPTY_TREE if head is None or item.change.replace else head.tree
        return apply(self.store, writer, item, base)

    def _summed(self, commit: Commit) -> Commit:
        summary = self.store.summary(commit.tree)
        return replace(commit, files=summary.files, size_bytes=summary.size_bytes)


def apply(store: Store, writer: Writer, item: Staged, base: str) -> str:
    """The tree ``base`` after a staged change."""
    tree = writer.tree(base, item.entries, item.deletes)
    if not item.appends:
        return tree
    writer.flush()
    extended = [_extended(store, writer, tree, entry) for entry in item.appends]
    return writer.tree(tree, extended)


def _extended(store: Store, writer: Writer, tree: str, more: Entry) -> Entry:
    there = store.get(tree, more.path)
    if there is None:
        return more
    with store.open_file(more.digest) as stream:
        digest, size_bytes = writer.extend(there.digest, stream)
    return Entry(path=more.path, digest=digest, size_bytes=size_bytes)


def stage(writer: Writer, change: RepoChange) -> Staged:
    """Give the bytes of a change to the writer. Raises NotFound ``file.missing``."""
    return Staged(
        change=change,
        entries=(*_entries(writer, change.puts), *change.entries),
        appends=tuple(_entries(writer, change.appends)),
        deletes=tuple(map(normal_path, change.deletes)),
        id=new_id(),
    )


def _entries(writer: Writer, puts: Mapping[str, Source]) -> Iterator[Entry]:
    for path, source in puts.items():
        digest, size_bytes = writer.put(source)
        yield Entry(path=normal_path(path), digest=digest, size_bytes=size_bytes)


def places(changes: Sequence[RepoChange]) -> list[tuple[str, str]]:
    """Repo and branch of each change, all different, after a check of all names.

    Raises:
        Invalid: ``commit.twice``, ``commit.paths``, ``branch.name``, ``path.invalid``.
    """
    found = [(change.repo, check_ref_name(change.branch)) for change in changes]
    if len(set(found)) != len(found) or not found:
        raise Invalid(
            "commit.twice",
            "A change commits at most once to a branch, and to one branch at least.",
            hint="Join the changes of one branch.",
        )
    for change in changes:
        check_change(change)
    return found


def check_change(change: RepoChange) -> None:
    """Refuse paths that are written twice. Raises Invalid ``commit.paths``, ``path.invalid``."""
    _check_paths([*change.puts, *change.appends, *(entry.path for entry in change.entries)])


def _check_paths(paths: Iterable[str]) -> None:
    spellings: dict[str, str] = {}
    for path in paths:
        normal = normal_path(path)
        if normal == "/" or normal in spellings:
            raise Invalid(
                "commit.paths",
                f"{path!r} and {spellings.get(normal, '/')!r} are not the paths of two files.",
                hint="Give every file a path of its own.",
            )
        spellings[normal] = path


def later_than(*parents: Commit | None) -> datetime:
    """Now, and in any case later than the parents, even where the clock was set back."""
    ends = [parent.finished_at for parent in parents if parent and parent.finished_at]
    return max([clock.now(), *(end + timedelta(microseconds=1) for end in ends)])
