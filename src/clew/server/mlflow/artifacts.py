"""The calls that move artifacts: upload, download, list, delete, as MLflow's proxy has them.

Knows HTTP and MLflow's form of a listing; where files are is the shelf's.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path
from urllib.parse import quote

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from clew.base.errors import Invalid
from clew.server.mlflow.answers import answer
from clew.server.mlflow.own import Own
from clew.server.mlflow.shelf import Shelf
from clew.server.ranges import answer_range
from clew.server.upload import received


class Artifacts:
    """Answers the calls below ``mlflow-artifacts/artifacts``."""

    def __init__(self, shelf: Shelf, own: Own, scratch: Path) -> None:
        self._shelf = shelf
        self._own = own
        self._scratch = scratch

    async def __call__(self, request: Request, path: str) -> Response:
        """One request; ``path`` is '' where a directory is listed."""
        if request.method in {"GET", "HEAD"}:
            return await anyio.to_thread.run_sync(self._read, request, path)
        if not path or request.method not in {"PUT", "DELETE"}:
            raise Invalid("request.invalid", f"{request.method} means nothing for an artifact.")
        if request.method == "DELETE":
            await anyio.to_thread.run_sync(self._delete, path)
            return answer({})
        async with received(request, self._scratch) as body:

            def put() -> None:
                global_id, source = self._owner(path)
                self._shelf.put(path, body, global_id=global_id, source=source)

            await anyio.to_thread.run_sync(put)
        return answer({})

    def _read(self, request: Request, path: str) -> Response:
        if not path:
            return self._list(request.query_params.get("path", "").strip("/"))
        entry = self._shelf.get(path)
        name = path.rpartition("/")[2]
        return answer_range(
            request,
            lambda: self._shelf.open_file(entry),
            entry.size_bytes,
            etag=f'"{entry.digest}"',
            headers={"Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}"},
            media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        )

    def _list(self, path: str) -> Response:
        files = []
        for one in self._shelf.children(path):
            told: dict[str, object] = {"path": one.path.rpartition("/")[2]}
            told["is_dir"] = one.kind == "directory"
            if one.kind != "directory":
                told["file_size"] = one.size_bytes
            files.append(told)
        return answer({"files": files})

    def _delete(self, path: str) -> None:
        global_id, source = self._owner(path)
        self._shelf.delete(path, global_id=global_id, source=source)

    def _owner(self, path: str) -> tuple[str, str]:
        """The global id, and the run, of what a path of ``experiment/run/artifacts/…`` is of.

        Artifacts of a logged model are below ``experiment/models/model/artifacts``.
        """
        parts = path.split("/")
        thing = parts[2] if len(parts) > 2 and parts[1] == "models" else ([*parts, ""])[1]
        run = self._own.run_of(thing)
        global_id = self._own.global_id(run) if run else ""
        return global_id, (run if global_id else "")
