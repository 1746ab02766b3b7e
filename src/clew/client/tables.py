"""The verbs about tables of a workspace that a server holds.

Knows which route answers which verb, and the stream format of Arrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from clew.base.errors import Denied
from clew.base.records import Commit, FileDiff
from clew.client.wire import Wire

if TYPE_CHECKING:
    import pyarrow as pa


class RemoteTables:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def sql(self, query: str, *, attach: Mapping[str, str] | None = None) -> pa.Table:
        """The answer of one SELECT over commits, as an Arrow table."""
        _check_attached(attach)
        content = self._wire.post("/sql", bytes, {"query": query})
        return import_module("pyarrow.ipc").open_stream(content).read_all()

    def sql_into(
        self,
        query: str,
        address: str,
        *,
        attach: Mapping[str, str] | None = None,
        message: str = "",
    ) -> Commit:
        """Commit the answer as a file, ``repo@branch:/file.parquet``."""
        _check_attached(attach)
        body = {"query": query, "address": address, "message": message}
        return self._wire.post("/sql/into", Commit, body)

    def compare(
        self,
        old: str,
        new: str,
        *,
        paths: Sequence[str] = (),
        key: Sequence[str] = (),
        limit: int = 10,
        files: int = 100,
    ) -> list[FileDiff]:
        """What ``diff`` lists, with how each file differs: rows and columns, or lines."""
        return self._wire.get(
            "/compare",
            list[FileDiff],
            old=old,
            new=new,
            paths=list(paths),
            key=list(key),
            limit=limit,
            files=files,
        )


def _check_attached(attach: Mapping[str, str] | None) -> None:
    if attach:
        raise Denied(
            "sql.attach_denied",
            "A server reads no source but its commits.",
            hint="Ask on the files of the workspace (unset CLEW_URL), or commit the source first.",
        )
