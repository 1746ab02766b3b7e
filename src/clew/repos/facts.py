"""What a tree does not say of a file, and some clients want to know: media type, MD5, own metadata.

Knows rows. Facts belong to a content at a path of a repo, so every commit that holds this content
there, on whichever branch, has them. Nothing of Clew depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Table, Text, delete, select

from clew.base import clock
from clew.base.records.uploads import Facts
from clew.db import Database, Json, Tx, metadata

_MOST = 500
"""Paths asked for in one statement."""

file_facts = Table(
    "file_facts",
    metadata,
    Column("repo", ForeignKey("repos.name", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("etag", Text, nullable=False),
    Column("headers", Json, nullable=False),
    Column("meta", Json, nullable=False),
    Column("checksums", Json, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

# Directories that a client made on a branch although there is nothing in them; '/a/b/'.
directories = Table(
    "empty_directories",
    metadata,
    Column("repo", ForeignKey("repos.name", ondelete="CASCADE"), primary_key=True),
    Column("branch", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
)


class FileFacts:
    """The facts of a workspace. Thread-safe."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def keep(self, tx: Tx, repo: str, facts: Iterable[tuple[str, str, Facts]]) -> None:
        """Keep facts of (path, digest), in place of what was known."""
        rows = [
            {
                "repo": repo,
                "path": path,
                "digest": digest,
                "etag": one.etag,
                "headers": dict(one.headers),
                "meta": dict(one.meta),
                "checksums": dict(one.checksums),
                "at_us": clock.to_us(one.at),
            }
            for path, digest, one in facts
        ]
        fields = ["etag", "headers", "meta", "checksums", "at_us"]
        tx.upsert(file_facts, rows, key=["repo", "path", "digest"], refresh=fields)

    def known(self, repo: str, files: Sequence[tuple[str, str]]) -> dict[str, Facts]:
        """Facts of (path, digest) by path; those of which nothing is known are left out."""
        found: dict[str, Facts] = {}
        wanted = dict(files)
        table = file_facts.c
        with self._db.read() as tx:
            for start in range(0, len(files), _MOST):
                paths = [path for path, _ in files[start : start + _MOST]]
                query = select(file_facts).where(table.repo == repo, table.path.in_(paths))
                rows = [row for row in tx.execute(query) if wanted[row.path] == row.digest]
                found.update((row.path, _facts(row)) for row in rows)
        return found

    def make_directory(self, repo: str, branch: str, path: str) -> None:
        """Keep an empty directory (its path ends with a slash); once is enough."""
        row = {"repo": repo, "branch": branch, "path": path, "at_us": clock.to_us(clock.now())}
        with self._db.begin() as tx:
            tx.upsert(directories, [row], key=["repo", "branch", "path"])

    def remove_directories(
        self, repo: str, branch: str, paths: Sequence[str] | None = None
    ) -> None:
        """Forget empty directories, all of the branch where none are named; others are no error."""
        table = directories.c
        gone = delete(directories).where(table.repo == repo, table.branch == branch)
        if paths is not None:
            gone = gone.where(table.path.in_(paths))
        with self._db.begin() as tx:
            tx.execute(gone)

    def empty_directories(self, repo: str, branch: str) -> dict[str, datetime]:
        """Empty directories of a branch by path, in order, with when they were made."""
        table = directories.c
        query = select(directories).where(table.repo == repo, table.branch == branch)
        with self._db.read() as tx:
            found = {row.path: clock.from_us(row.at_us) for row in tx.execute(query)}
        return dict(sorted(found.items()))


def _facts(row: Any) -> Facts:
    return Facts(
        etag=row.etag,
        headers=row.headers,
        meta=row.meta,
        checksums=row.checksums,
        at=clock.from_us(row.at_us),
    )
