"""Put: files and whole directories on top of a branch, reading only what may have changed.

Knows repos, the store and the scan cache; whether the repo may be written is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from clew.base.address import normal_path
from clew.base.archive import check_sources
from clew.base.errors import Invalid, NotFound
from clew.base.progress import Amount, Progress, unseen
from clew.base.records import Commit
from clew.base.verbs import Source
from clew.base.walking import Scan, scan
from clew.repos import Repos, Scans
from clew.store import Entry, Store, Writer


class Put(Struct, frozen=True, kw_only=True):
    """What is asked: paths in the repo with their content, where a Path may be a directory."""

    repo: str
    branch: str
    files: Mapping[str, Source]
    delete: Sequence[str]
    replace: bool
    message: str
    author: str
    meta: Mapping[str, str] | None


class _Directory(Struct, frozen=True, kw_only=True):
    """One directory of a put: what was found, and which files the head may lack.

    ``before`` is the tree that the cache names for its place.
    """

    key: str
    scan: Scan
    digests: list[str]
    entries: list[Entry]
    read: bool
    before: str | None


def put(repos: Repos, store: Store, scans: Scans, asked: Put, seen: Progress = unseen) -> Commit:
    """The commit that was made; the head where it holds all of this already.

    Raises what :meth:`Repos.commit` and :func:`clew.base.walking.scan` raise; Invalid
    ``put.nothing`` where there is no file in what was named.
    """
    places = {path: source for path, source in asked.files.items() if is_directory(source)}
    found = {path: scan(source) for path, source in places.items() if isinstance(source, Path)}
    files = {path: source for path, source in asked.files.items() if path not in places}
    check_sources(files)
    empty = not files and not any(one.names for one in found.values())
    if empty and not asked.delete and not asked.replace:
        raise _nothing(found)
    head = repos.head(asked.repo, asked.branch)
    if head is not None and _is_there(scans, asked, head, found, files):
        return head
    with store.lease():
        head = repos.head(asked.repo, asked.branch)
        told = _Teller(seen)
        directories = [_read(store, scans, asked, head, path, found[path], told) for path in found]
        commit = repos.commit(
            asked.repo,
            files,
            asked.delete,
            branch=asked.branch,
            message=asked.message,
            author=asked.author,
            replace=asked.replace,
            meta=asked.meta,
            entries=[entry for directory in directories for entry in directory.entries],
            only_changes=True,
        )
    _remember(scans, directories, head, commit, alone=len(directories) == 1 and not files)
    return commit


def _is_there(
    scans: Scans, asked: Put, head: Commit, found: Mapping[str, Scan], files: Mapping[str, Source]
) -> bool:
    """Whether the head is what it was when the same directory was put, and that has not changed."""
    if files or len(found) != 1 or asked.delete or asked.replace:
        return False
    ((path, directory),) = found.items()
    return scans.unchanged(directory, _key(asked, path)) == head.tree


def _key(asked: Put, path: str) -> str:
    """A place in a branch, as the cache names it."""
    return f"{asked.repo}@{asked.branch}:{normal_path(path).rstrip('/')}/"


def _remember(
    scans: Scans,
    directories: Sequence[_Directory],
    head: Commit | None,
    commit: Commit,
    *,
    alone: bool,
) -> None:
    """Keep what was found; and the tree too, if it holds these files for certain.

    Where others committed in between, or something else was put over them, that is not known.
    """
    certain = alone and (head.id if head else None) in (commit.id, commit.parent)
    for directory in directories:
        trees = {directory.key: commit.tree} if certain else {}
        if directory.read or trees.get(directory.key) != directory.before:
            scans.keep(directory.scan, directory.digests, trees)


def is_directory(source: Source) -> bool:
    """Whether what is put is a directory on this disk."""
    return isinstance(source, Path) and source.is_dir()


class _Teller:
    """Adds up what several directories tell of their progress."""

    def __init__(self, seen: Progress) -> None:
        self._seen = seen
        self._before = self._last = Amount(0, 0)
        self._whole = Amount(0, 0)

    def expect(self, files: int, size_bytes: int) -> None:
        """One directory more begins, of which so much is read."""
        self._before = self._last
        self._whole = Amount(self._whole.files + files, self._whole.size_bytes + size_bytes)

    def __call__(self, amount: Amount) -> None:
        before, whole = self._before, self._whole
        self._last = Amount(
            before.files + amount.files,
            before.size_bytes + amount.size_bytes,
            whole.files,
            whole.size_bytes,
        )
        self._seen(self._last)


def _read(
    store: Store,
    scans: Scans,
    asked: Put,
    head: Commit | None,
    path: str,
    found: Scan,
    told: _Teller,
) -> _Directory:
    place = normal_path(path).rstrip("/")
    key = _key(asked, path)
    known = scans.recall(found)
    digests = list(known.digests)
    before = known.trees.get(key)
    with store.writer() as writer:
        wanted = _wanted(store, writer, asked, head, place, found, digests, before)
        todo = [at for at in wanted if not digests[at]]
        told.expect(len(todo), sum(found.sizes[at] for at in todo))
        sizes = found.sizes
        put_now = writer.put_many([f"{found.root}/{found.names[at]}" for at in todo], seen=told)
        fresh = {}
        for at, (digest, size_bytes) in zip(todo, put_now, strict=True):
            digests[at] = digest
            fresh[at] = size_bytes
        entries = [
            Entry(
                path=f"{place}/{found.names[at]}",
                digest=digests[at],
                size_bytes=fresh.get(at, sizes[at]),
            )
            for at in wanted
        ]
    return _Directory(
        key=key,
        scan=found,
        digests=digests,
        entries=entries,
        read=bool(todo),
        before=before,
    )


def _wanted(
    store: Store,
    writer: Writer,
    asked: Put,
    head: Commit | None,
    place: str,
    found: Scan,
    digests: list[str],
    before: str | None,
) -> list[int]:
    """Which files of a scan the commit must name: all that the head may not hold as they are.

    Digests that the store has no more are emptied. ``before`` is a tree that held all the files
    that the cache tells of.
    """
    everything = list(range(len(found.names)))
    wanted: list[int] = everything
    if before is not None and head is not None and not asked.delete and not asked.replace:
        others = _changed_since(store, before, head, place)
        if others is not None:
            wanted = [
                at for at in everything if not digests[at] or (others and found.names[at] in others)
            ]
    for at in wanted:
        if digests[at] and not writer.holds(digests[at]):
            digests[at] = ""
    return wanted


def _changed_since(store: Store, before: str, head: Commit, place: str) -> set[str] | None:
    """Names below a place that others have changed; None where that cannot be told any more."""
    if before == head.tree:
        return set()
    skip = len(place) + 1
    try:
        return {change.path[skip:] for change in store.diff(before, head.tree, place or "/")}
    except NotFound:
        return None


def _nothing(found: Mapping[str, Scan]) -> Invalid:
    empty = ", ".join(one.root for one in found.values())
    return Invalid(
        "put.nothing",
        f"There is nothing to commit: no file in {empty}."
        if empty
        else "There is nothing to commit: no files, and nothing to delete.",
        hint="Name files or directories: clew put REPO FILES",
    )
