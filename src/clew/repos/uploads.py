"""Files that come in parts, over more than one request: kept until they are whole, or given up.

Knows rows; the bytes of a part are in the store already, as a file of its own, and a collector of
garbage must spare what :func:`staged_digests` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text, delete, select

from clew.base import clock
from clew.base.errors import NotFound
from clew.base.ids import new_id
from clew.base.records.uploads import Upload, UploadPart
from clew.db import Database, Json, Tx, metadata
from clew.repos import tables

KEPT_FOR = timedelta(days=7)
"""How long an upload that nobody adds to is kept."""

# ``options`` is what the client wants of the file; ``done`` what it was told, '' until it is whole.
uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("repo", ForeignKey("repos.name", ondelete="CASCADE"), nullable=False),
    Column("branch", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("options", Json, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("touched_us", BigInteger, nullable=False),
    Column("done", Text, nullable=False),
    Index("uploads_by_branch", "repo", "branch", "path"),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload", ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("md5", Text, nullable=False),
    Column("checksums", Json, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)


class Uploads:
    """The uploads of a workspace. Thread-safe; they outlive the process that began them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def begin(self, repo: str, branch: str, path: str, options: Mapping[str, Any]) -> Upload:
        """A new upload for one file of a branch."""
        upload_id, now = new_id(), clock.now()
        row = {
            "id": upload_id,
            "repo": repo,
            "branch": branch,
            "path": path,
            "options": dict(options),
            "started_us": clock.to_us(now),
            "touched_us": clock.to_us(now),
            "done": "",
        }
        with self._db.begin() as tx:
            tx.execute(uploads.insert(), row)
        return Upload(
            id=upload_id, repo=repo, branch=branch, path=path, options=options, started_at=now
        )

    def get(self, upload_id: str) -> Upload:
        """An upload, also one that is done. Raises NotFound ``upload.unknown``."""
        with self._db.read() as tx:
            return _get(tx, upload_id)

    def of_branch(self, repo: str, branch: str) -> list[Upload]:
        """Uploads that are not done, by path and by when they began."""
        query = (
            select(uploads)
            .where(uploads.c.repo == repo, uploads.c.branch == branch, uploads.c.done == "")
            .order_by(uploads.c.path, uploads.c.started_us, uploads.c.id)
        )
        with self._db.read() as tx:
            return [_upload(row) for row in tx.execute(query)]

    def add(self, upload_id: str, part: UploadPart) -> None:
        """Keep a part; one of the same number goes. Raises NotFound ``upload.unknown``."""
        row = {
            "upload": upload_id,
            "number": part.number,
            "digest": part.digest,
            "size_bytes": part.size_bytes,
            "md5": part.md5,
            "checksums": dict(part.checksums),
            "at_us": clock.to_us(part.at),
        }
        fields = ["digest", "size_bytes", "md5", "checksums", "at_us"]
        with self._db.begin() as tx:
            if _get(tx, upload_id).done:
                raise _unknown(upload_id)
            tx.upsert(upload_parts, [row], key=["upload", "number"], refresh=fields)
            touched = uploads.update().where(uploads.c.id == upload_id)
            tx.execute(touched.values(touched_us=row["at_us"]))

    def parts(self, upload_id: str) -> list[UploadPart]:
        """The parts that are there, by number."""
        query = (
            select(upload_parts)
            .where(upload_parts.c.upload == upload_id)
            .order_by(upload_parts.c.number)
        )
        with self._db.read() as tx:
            return [_part(row) for row in tx.execute(query)]

    def finish(self, tx: Tx, upload_id: str, told: str) -> None:
        """The file was committed, in this transaction. Raises NotFound ``upload.unknown``."""
        where = (uploads.c.id == upload_id, uploads.c.done == "")
        ended = uploads.update().where(*where)
        values = {"done": told, "touched_us": clock.to_us(clock.now())}
        if tx.execute(ended.values(**values)).rowcount != 1:
            raise _unknown(upload_id)
        tx.execute(delete(upload_parts).where(upload_parts.c.upload == upload_id))

    def give_up(self, upload_id: str) -> None:
        """Forget an upload with its parts. Raises NotFound ``upload.unknown``."""
        with self._db.begin() as tx:
            if _get(tx, upload_id).done:
                raise _unknown(upload_id)
            tx.execute(delete(upload_parts).where(upload_parts.c.upload == upload_id))
            tx.execute(delete(uploads).where(uploads.c.id == upload_id))

    def left_open(self, author: str) -> list[str]:
        """Ids of the commits of an author that are open, oldest first."""
        table = tables.commits.c
        query = select(table.id).where(table.state == "open", table.author == author)
        with self._db.read() as tx:
            return list(tx.execute(query.order_by(table.seq)).scalars())

    def sweep(self) -> None:
        """Forget what nobody has added to for ``KEPT_FOR``."""
        horizon = clock.to_us(clock.now() - KEPT_FOR)
        old = select(uploads.c.id).where(uploads.c.touched_us < horizon)
        with self._db.begin() as tx:
            tx.execute(delete(upload_parts).where(upload_parts.c.upload.in_(old)))
            tx.execute(delete(uploads).where(uploads.c.touched_us < horizon))


def staged_digests(tx: Tx) -> list[str]:
    """Files that no tree names, and that are needed: the parts of uploads."""
    return list(tx.execute(select(upload_parts.c.digest).distinct()).scalars())


def _get(tx: Tx, upload_id: str) -> Upload:
    row = tx.execute(select(uploads).where(uploads.c.id == upload_id)).first()
    if row is None:
        raise _unknown(upload_id)
    return _upload(row)


def _upload(row: Any) -> Upload:
    return Upload(
        id=row.id,
        repo=row.repo,
        branch=row.branch,
        path=row.path,
        options=row.options,
        started_at=clock.from_us(row.started_us),
        done=row.done,
    )


def _part(row: Any) -> UploadPart:
    return UploadPart(
        number=row.number,
        digest=row.digest,
        size_bytes=row.size_bytes,
        md5=row.md5,
        checksums=row.checksums,
        at=clock.from_us(row.at_us),
    )


def _unknown(upload_id: str) -> NotFound:
    return NotFound(
        "upload.unknown",
        f"There is no upload {upload_id!r}, or it has ended.",
        hint="Begin a new one.",
    )
