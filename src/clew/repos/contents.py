"""What is in a commit: files, directories, differences, patterns.

Knows no database: a commit or the digest of its tree is all that it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, TypeAlias

from clew.base.address import normal_path
from clew.base.errors import Conflict, NotFound, NotReady
from clew.base.progress import Amount, Progress, unseen
from clew.base.records import Change, Commit, FileInfo
from clew.repos.files import File
from clew.repos.globs import glob_match
from clew.store import EMPTY_TREE, Entry, Store, TreeChange, TreeSummary

Content: TypeAlias = Commit | str
"""A finished commit, an open one with what was put into it so far, or the digest of a tree."""


def tree_of(content: Content) -> str:
    """The tree of a commit.

    Raises:
        NotReady: ``commit.open`` where a job will bring it.
        Conflict: ``commit.aborted``.
    """
    if isinstance(content, str):
        return content
    if content.state == "open" and not content.tree:
        raise NotReady(
            "commit.open",
            f"Commit {content.id} of {content.repo} is still being written.",
            hint="Wait until it is finished: clew wait",
        )
    if content.state == "aborted":
        raise Conflict(
            "commit.aborted",
            f"Commit {content.id} of {content.repo} was aborted and has no content: "
            f"{content.error}",
            hint=f"Use another version: clew log {content.repo}",
        )
    return content.tree


def entries(store: Store, content: Content, prefix: str) -> Iterator[FileInfo]:
    """The file at ``prefix`` or all files below it, by path."""
    return map(_file, store.entries(tree_of(content), normal_path(prefix)))


def get(store: Store, content: Content, path: str) -> FileInfo:
    """The file at a path, or the directory with the size of all below it.

    Raises:
        NotFound: ``file.unknown``, with names that are near.
    """
    tree, path = tree_of(content), normal_path(path)
    entry = store.get(tree, path)
    if entry is not None:
        return _file(entry)
    above, _, name = path.rpartition("/")
    siblings = {child: summary for child, _, summary in store.children(tree, above or "/")}
    if name in siblings:
        return _directory(path, siblings[name].size_bytes)
    if path == "/":
        return _directory("/", store.summary(tree).size_bytes)
    raise _unknown(path, list(siblings))


def children(store: Store, content: Content, directory: str) -> list[FileInfo]:
    """Files and directories one level below a directory, by name."""
    directory = normal_path(directory)
    root = "" if directory == "/" else directory
    return [
        _directory(f"{root}/{name}", summary.size_bytes) if entry is None else _file(entry)
        for name, entry, summary in store.children(tree_of(content), directory)
    ]


def diff(store: Store, old: Content | None, new: Content, prefix: str) -> Iterator[Change]:
    """Paths that differ, in order; an ``old`` of None is empty."""
    before = EMPTY_TREE if old is None else tree_of(old)
    return map(_change, store.diff(before, tree_of(new), normal_path(prefix)))


def glob(store: Store, content: Content, pattern: str) -> Iterator[FileInfo]:
    """Files whose path matches, by path."""
    matcher = glob_match(pattern)
    below = store.entries(tree_of(content), matcher.directory)
    return (_file(entry) for entry in below if matcher.match(entry.path) is not None)


def pick(store: Store, content: Content, path: str) -> list[File]:
    """The file at a path, all below a directory, or all that match a pattern; by path.

    Raises:
        NotFound: ``file.unknown`` where there is nothing.
    """
    try:
        found = [get(store, content, path)]
    except NotFound:
        found = list(glob(store, content, path)) if set(path) & set("*?[{(!") else []
        if not found:
            raise
    if found[0].kind == "directory":
        found = list(entries(store, content, path))
    return [File.of(store, one.path, one.digest, one.size_bytes) for one in found]


def read(store: Store, content: Content, path: str) -> bytes:
    """The bytes of a file.

    Raises:
        NotFound: ``file.unknown``.
        Conflict: ``file.directory`` where the path is a directory.
    """
    return store.read(_only_file(store, content, path).digest)


def open_file(store: Store, content: Content, path: str) -> BinaryIO:
    """A file as a seekable stream for one thread. Raises as :func:`read` does."""
    return store.open_file(_only_file(store, content, path).digest)


def _only_file(store: Store, content: Content, path: str) -> FileInfo:
    info = get(store, content, path)
    if info.kind == "directory":
        raise Conflict(
            "file.directory",
            f"{info.path} is a directory.",
            hint="Name one of the files in it, or get the whole: clew get",
        )
    return info


def export(
    store: Store, content: Content, path: str, target: Path, seen: Progress = unseen
) -> list[Path]:
    """Write a file to ``target`` (into it, if it is a directory), or all below a directory.

    Each file is written whole or not at all, and so is a directory where there was nothing. The
    paths that were written, in order.
    """
    info = get(store, content, path)
    if info.kind == "file":
        goal = target / info.path.rsplit("/", 1)[-1] if target.is_dir() else target
        store.export(info.digest, goal)
        seen(Amount(1, info.size_bytes))
        return [goal]
    tree = tree_of(content)
    whole = _below(store, tree, info)

    def tell(amount: Amount) -> None:
        seen(Amount(amount.files, amount.size_bytes, whole.files, whole.size_bytes))

    return store.export_tree(tree, info.path, target, seen=tell)


def _below(store: Store, tree: str, directory: FileInfo) -> TreeSummary:
    if directory.path == "/":
        return store.summary(tree)
    return TreeSummary(files=0, size_bytes=directory.size_bytes)


def _file(entry: Entry) -> FileInfo:
    return FileInfo(path=entry.path, kind="file", digest=entry.digest, size_bytes=entry.size_bytes)


def _directory(path: str, size_bytes: int) -> FileInfo:
    return FileInfo(path=path, kind="directory", digest="", size_bytes=size_bytes)


def _change(change: TreeChange) -> Change:
    kind = "added" if change.old is None else "deleted" if change.new is None else "changed"
    return Change(
        path=change.path,
        kind=kind,
        old=None if change.old is None else _file(change.old),
        new=None if change.new is None else _file(change.new),
    )


def _unknown(path: str, siblings: list[str]) -> NotFound:
    above, _, name = path.rpartition("/")
    near = [f"{above}/{match}" for match in get_close_matches(name, siblings, 3, 0.5)]
    return NotFound(
        "file.unknown",
        f"There is no {path} in this version.",
        hint=f"Did you mean {' or '.join(near)}?" if near else "See what is there: clew ls",
    )
