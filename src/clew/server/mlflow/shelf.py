"""Artifacts of MLflow's runs in Clew's store: files of the repo ``mlflow``.

Knows repos and the store; nothing of HTTP. Files that arrive while a commit is being made wait, and
the next commit takes all of them, or as many commits as there are changes that they belong to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from clew.base.errors import Denied, Invalid, NotFound
from clew.base.records import Commit, FileInfo
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.repos import Repos
from clew.server.together import Line, Wished, whole_or_each
from clew.store import EMPTY_TREE, Entry, Store

REPO = "mlflow"
MODELS = "clew"
"""Below it are the files of versions that Clew made, by their commits; nobody writes there."""
_AUTHOR = "mlflow"
_MOST_NAMED = 3


class Wish(Wished):
    """What one request wants: files put, or all below some paths taken away.

    ``global_id`` and ``source`` (a run) say what it belongs to, '' where nobody knows.
    """

    puts: Sequence[Entry] = ()
    deletes: Sequence[str] = ()
    global_id: str = ""
    source: str = ""


class Shelf:
    """Files by the path that MLflow gives them. Thread-safe."""

    def __init__(self, db: Database, repos: Repos, store: Store, lineage: Lineage) -> None:
        self._db = db
        self._repos = repos
        self._store = store
        self._lineage = lineage
        self._line = Line(self._work)

    def put(self, path: str, body: BinaryIO, *, global_id: str, source: str) -> None:
        """Keep a file; durable and committed when this returns. Reads in pieces.

        Raises Invalid ``artifact.path``, Conflict ``tree.file_and_directory``.
        """
        if path.partition("/")[0] == MODELS:
            raise Denied(
                "model.of_clew", "A model version of Clew's is not written to from outside."
            )
        with self._kept(checked(path), body) as entry:
            self._line.carry_out(Wish(puts=[entry], global_id=global_id, source=source))

    def delete(self, path: str, *, global_id: str, source: str) -> None:
        """Take a file, or everything below a directory, out of the newest version."""
        tree = self._tree()
        paths = [one.path for one in self._store.entries(tree, checked(path))]
        if paths:
            self._line.carry_out(Wish(deletes=paths, global_id=global_id, source=source))

    def get(self, path: str) -> Entry:
        """The file at a path. Raises NotFound ``artifact.unknown``."""
        tree, at = self._place(path)
        found = None if at == "/" else self._store.get(tree, at)
        if found is None:
            raise _unknown(path)
        return found

    def children(self, path: str) -> Sequence[FileInfo]:
        """Files and directories one level below, by name; none below a file or nothing."""
        tree, at = self._place(path)
        if tree == EMPTY_TREE or (at != "/" and self._store.get(tree, at) is not None):
            return []
        try:
            return self._repos.children(tree, at)
        except NotFound:
            return []

    def open_file(self, entry: Entry) -> BinaryIO:
        """The content, to be read by one thread."""
        return self._store.open_file(entry.digest)

    def _place(self, path: str) -> tuple[str, str]:
        """The tree and the path in it; below ``clew/COMMIT`` are the files of a model of Clew's."""
        if not path:
            return self._tree(), "/"
        at = checked(path)
        _, first, commit, *rest = [*at.split("/", 3), "", ""]
        if first != MODELS:
            return self._tree(), at
        found = self._repos.commit_by_id(commit)
        if found.id != commit or found.repo not in self._models():
            raise _unknown(path)
        return found.tree, f"/{rest[0]}"

    def _models(self) -> set[str]:
        return {repo.name for repo in self._repos.list() if repo.kind == "model"}

    def _tree(self) -> str:
        with self._db.read() as tx:
            head = self._repos.latest(REPO, tx=tx)
        return EMPTY_TREE if head is None else head.tree

    @contextmanager
    def _kept(self, path: str, body: BinaryIO) -> Iterator[Entry]:
        """The body in the store. Nothing refers to it yet: it is not collected in the block."""
        with self._store.lease():
            with self._store.writer() as writer:
                digest, size_bytes = writer.put(body)
            yield Entry(path=path, digest=digest, size_bytes=size_bytes)

    def _work(self, batch: list[Wish]) -> None:
        by_change = defaultdict[tuple[str, str], list[Wish]](list)
        for wish in batch:
            by_change[wish.global_id, wish.source].append(wish)
        for wishes in by_change.values():
            whole_or_each(self._commit, wishes)

    def _commit(self, wishes: Sequence[Wish]) -> None:
        """``wishes`` are of one change."""
        puts = {entry.path: entry for wish in wishes for entry in wish.puts}
        deletes = {path for wish in wishes for path in wish.deletes} - puts.keys()
        message = _message([*puts, *sorted(deletes)])
        with self._store.lease(), self._store.writer() as writer, self._db.begin() as tx:
            self._repos.create(REPO, kind="log", description=_ABOUT, tx=tx, exist_ok=True)
            head = self._repos.head(REPO, tx=tx)
            base = EMPTY_TREE if head is None else head.tree
            tree = writer.tree(base, puts.values(), deletes)
            writer.flush()
            if tree != base:
                self._record(tx, tree, message, wishes[0])

    def _record(self, tx: Tx, tree: str, message: str, of: Wish) -> None:
        opened: Commit = self._repos.open_commit(
            REPO, global_id=of.global_id or None, message=message, author=_AUTHOR, tx=tx
        )
        finished = self._repos.finish(opened.id, tree, tx=tx)
        if of.source:
            self._lineage.link(tx, finished.id, [(of.source, "logged")])


_ABOUT = "Artifacts that MLflow's clients logged."


def checked(path: str) -> str:
    """A path of MLflow's as one of the store.

    Raises:
        Invalid: ``artifact.path``.
    """
    parts = path.split("/")
    odd = any(part in {"", ".", ".."} or not part.isprintable() for part in parts)
    if odd or len(path.encode(errors="replace")) > 1024:
        raise Invalid(
            "artifact.path",
            f"{path!r} cannot be the path of an artifact.",
            hint="No empty, '.' or '..' parts, no control characters, at most 1,024 bytes.",
        )
    return f"/{path}"


def _unknown(path: str) -> NotFound:
    return NotFound(
        "artifact.unknown",
        f"There is no artifact {path!r}.",
        hint="See what is there: mlflow artifacts list --run-id RUN",
    )


def _message(paths: Sequence[str]) -> str:
    names = [path[1:] for path in paths[:_MOST_NAMED]]
    more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
    return f"artifacts: {', '.join(names)}{more}"
