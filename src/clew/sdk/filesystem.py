"""Commits as a file system of fsspec: ``clew://project/repo@ref/path``.

The one file that knows fsspec, which finds it by its entry point. Knows the verbs; nothing of where
the workspace is.
"""

from __future__ import annotations

import io
import os
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

from fsspec.spec import AbstractFileSystem
from fsspec.transaction import Transaction
from msgspec import Struct

from clew.base.address import DEFAULT_BRANCH, parse_address
from clew.base.errors import Conflict, Denied, Invalid, NotFound
from clew.base.settings import read_settings
from clew.base.transaction import PutPart
from clew.sdk.connect import connect, connect_embedded

if TYPE_CHECKING:
    from clew.base.records import FileInfo
    from clew.base.verbs import Verbs

_COPY = 1 << 20
_EMPTY = "branch.empty"


class Place(Struct, frozen=True, kw_only=True):
    """What a path of ``clew://`` names. ``prefix`` is how the caller wrote its repo and ref."""

    prefix: str
    repo: str
    ref: str
    path: str

    @property
    def address(self) -> str:
        """As the verbs have it."""
        return f"{self.repo}@{self.ref}:{self.path}"

    def named(self, path: str) -> str:
        """The name of another path of this commit, as the caller would write it."""
        return f"{self.prefix}{path}".rstrip("/")


class ClewFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Files of commits for whatever speaks fsspec: pandas, Polars, Arrow, DuckDB, Dask, PyTorch.

    A path is ``repo[@ref]/path``, where ``repo`` is ``project/name`` or a name alone, and ``ref`` a
    branch, a commit, a tag or a global ID, also with ``^N``; without one it is ``main``. An ``@``
    in the first or second part ends the repo. Without it the repo is the first two parts where
    there is such a repo, else the first.

    A file that is opened stays at the commit that its ref named then, and of a large one only the
    chunks are read that are asked for. A file that is written is a commit when it is closed; within
    ``with fs.transaction:`` all changes are one. ``rm``, ``cp`` and ``mv`` are commits too;
    directories exist as far as files are in them.

    Args:
        url: A server; without it CLEW_URL, else the files of the workspace in or above the current
            directory (or ``home``, or CLEW_HOME).
        token: What that server asks for.
        home: The ``.clew`` directory of a workspace.
        message: The message of commits.

    Thread-safe, and may be pickled; an open file is for one thread, and pickled as its place.
    """

    protocol: ClassVar = "clew"
    root_marker: ClassVar = ""

    def __init__(
        self, url: str = "", token: str = "", home: str = "", message: str = "", **options: Any
    ) -> None:
        super().__init__(**options)
        self._url = url
        self._token = token
        self._home = home
        self._message = message
        self._opened: dict[tuple[int, str], Verbs] = {}
        self._names: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self.transaction_type = _OneCommit

    # questions ------------------------------------------------------------------------------

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What lies one level below a directory, or the file itself."""
        path = self._strip_protocol(path)
        place = self._place(path)
        if place is None:
            found = self._repos_below(path)
        else:
            with _told(path):
                found = [self._entry(place, one) for one in self._children(place)]
        return found if detail else [one["name"] for one in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """``name``, ``size``, ``type``; of a file also its ``digest``."""
        path = self._strip_protocol(path)
        place = self._place(path)
        if place is None:
            self._repos_below(path)
            return _directory(path)
        with _told(path):
            found = self._file(place)
        return self._entry(place, found) if found else _directory(path)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **options: Any,
    ) -> Any:
        """All files below a path, in one question."""
        path = self._strip_protocol(path)
        place = self._place(path)
        if place is None or maxdepth is not None or withdirs:
            return super().find(path, maxdepth, withdirs, detail, **options)
        try:
            files = self.verbs.ls(place.address, recursive=True)
        except NotFound:
            files = []
        found = {one["name"]: one for one in (self._entry(place, file) for file in files)}
        return found if detail else list(found)

    def ukey(self, path: str) -> str:
        """The digest of a file: equal for equal content, wherever it is."""
        return str(self.info(path).get("digest", ""))

    def checksum(self, path: str) -> int:
        """The digest as a number."""
        digest = self.ukey(path).partition(":")[2]
        return int(digest, 16) if digest else 0

    def modified(self, path: str) -> Any:
        """When the commit was finished that the ref names."""
        place = self._inside(path)
        with _told(path):
            return self.verbs.commit(f"{place.repo}@{place.ref}").finished_at

    created = modified

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget which repos there are."""
        self._names = frozenset()
        super().invalidate_cache(path)

    # reading --------------------------------------------------------------------------------

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Parts of files, in the order in which they were asked; each file is opened once."""
        del max_gap
        count = len(paths)
        firsts = list(starts) if isinstance(starts, Sequence) else [starts] * count
        lasts = list(ends) if isinstance(ends, Sequence) else [ends] * count
        found: list[Any] = [None] * count
        by_path: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            by_path.setdefault(path, []).append(number)
        for path, numbers in by_path.items():
            try:
                with self._open(path) as file:
                    for number in numbers:
                        found[number] = _part(file, firsts[number], lasts[number])
            except Exception as error:
                if on_error != "return":
                    raise
                for number in numbers:
                    found[number] = error
        return found

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Any = None,
        **_: Any,
    ) -> Any:
        del block_size, cache_options
        place = self._inside(path)
        if mode in {"wb", "xb"}:
            self._branch(place)
            if mode == "xb" and self.exists(path):
                raise FileExistsError(path)
            return _Writing(self, place, autocommit)
        if mode != "rb":
            raise ValueError(f"{path} cannot be opened with mode {mode!r}: use rb, wb or xb.")
        with _told(path):
            commit = self.verbs.commit(f"{place.repo}@{place.ref}")
            pinned = f"{place.repo}@{commit.id}{place.path}"
            return _Reading(self, pinned, self.verbs.open_file(self._inside(pinned).address))

    # writing --------------------------------------------------------------------------------

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Commit bytes as a file."""
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        with self.open(path, "wb") as file:
            file.write(value)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Commit that files, or (``recursive``) directories, are gone: one commit for a branch."""
        paths = [path] if isinstance(path, str) else list(path)
        gone = []
        for one in paths:
            for name in self.expand_path(one, recursive=False, maxdepth=maxdepth):
                if not recursive and self.isdir(name):
                    raise IsADirectoryError(f"{name}: say recursive=True.")
                gone.append(_Gone(self._inside(name)))
        self._change(gone)

    def rm_file(self, path: str) -> None:
        """Commit that a file is gone."""
        self.rm(path)

    _rm = rm_file

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Commit a copy of a file; its content is not kept twice."""
        if self.isdir(path1):
            return
        with self.open(path1, "rb") as source, self.open(path2, "wb") as target:
            while piece := source.read(_COPY):
                target.write(piece)

    def mv(
        self, path1: str, path2: str, recursive: bool = False, maxdepth: int | None = None, **_: Any
    ) -> None:
        """Move files: on one branch that is one commit."""
        if self._intrans:
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth)
            return
        with self.transaction:
            self.copy(path1, path2, recursive=recursive, maxdepth=maxdepth)
            self.rm(path1, recursive=recursive, maxdepth=maxdepth)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Nothing: directories come with their files."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing: directories come with their files."""

    def rmdir(self, path: str) -> None:
        """Nothing: directories go with their files."""

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        """Commit an empty file; without ``truncate`` only where there is none."""
        if truncate or not self.exists(path):
            self.pipe_file(path, b"")

    def _change(self, changes: Sequence[_Writing | _Gone]) -> None:
        """Commit changes at once, or with the transaction where one is open."""
        if self._intrans:
            self.transaction.files.extend(changes)
        else:
            self.commit_all(changes)

    def commit_all(self, changes: Sequence[_Writing | _Gone]) -> None:
        """One commit for each branch, all or none; of one path the last change counts."""
        branches: dict[tuple[str, str], dict[str, _Writing | _Gone]] = {}
        for change in changes:
            branch = branches.setdefault((change.place.repo, self._branch(change.place)), {})
            branch.pop(change.place.path, None)
            branch[change.place.path] = change
        parts = [
            PutPart(
                repo=repo,
                branch=branch,
                files={path: c.file for path, c in some.items() if isinstance(c, _Writing)},
                delete=[path for path, c in some.items() if isinstance(c, _Gone)],
            )
            for (repo, branch), some in branches.items()
        ]
        if parts:
            with _told(changes[0].place.named(changes[0].place.path)):
                self.verbs.put_many(parts, message=self._message)

    # the workspace --------------------------------------------------------------------------

    @property
    def verbs(self) -> Verbs:
        """The workspace of this process: opened once, closed when nobody has this any longer."""
        environ = {**os.environ, **({"CLEW_HOME": self._home} if self._home else {})}
        settings = read_settings(environ, Path())
        url = self._url or ("" if self._home else settings.url)
        key = (os.getpid(), url or str(settings.home))
        with self._lock:
            if key not in self._opened:
                verbs = connect(url, token=self._token) if url else connect_embedded(settings)
                weakref.finalize(self, _close, os.getpid(), verbs)
                self._opened[key] = verbs
            return self._opened[key]

    def _place(self, path: str) -> Place | None:
        """What a path names; None for what is above the repos."""
        parts = path.split("/") if path else []
        at = next((n for n, part in enumerate(parts[:2]) if "@" in part), None)
        if at is not None:
            count = at + 1
        elif len(parts) >= 2 and self._is_repo("/".join(parts[:2])):
            count = 2
        elif parts and self._is_repo(parts[0]):
            count = 1
        elif len(parts) >= 3:
            count = 2
        else:
            return None
        head = "/".join(parts[:count])
        repo, _, ref = head.partition("@")
        return Place(
            prefix=head,
            repo=repo,
            ref=ref.rstrip(":") or DEFAULT_BRANCH,
            path="/" + "/".join(parts[count:]),
        )

    def _inside(self, path: str) -> Place:
        path = self._strip_protocol(path)
        place = self._place(path)
        if place is None:
            raise FileNotFoundError(f"{path}: there is no such repo.")
        return place

    def _is_repo(self, name: str) -> bool:
        if name not in self._names:
            self._names = frozenset(repo.name for repo in self.verbs.repos())
        return name in self._names

    def _repos_below(self, path: str) -> list[dict[str, Any]]:
        """Repos, and the projects that they are in, below nothing or below a project."""
        names = sorted(repo.name for repo in self.verbs.repos())
        below = [name for name in names if not path or name.startswith(f"{path}/")]
        if path and not below:
            raise FileNotFoundError(path)
        depth = path.count("/") + 2 if path else 1
        return [
            _directory(one) for one in dict.fromkeys("/".join(n.split("/")[:depth]) for n in below)
        ]

    def _file(self, place: Place) -> FileInfo | None:
        """The file at a place; None where that is a directory. Raises NotFound."""
        if place.path == "/":
            self._children(place)
            return None
        found = self.verbs.ls(place.address)
        single = found[0] if len(found) == 1 else None
        return single if single and single.path == place.path and single.kind == "file" else None

    def _children(self, place: Place) -> list[FileInfo]:
        """What ``ls`` says; a repo to which nothing was committed yet is an empty directory."""
        try:
            return self.verbs.ls(place.address)
        except NotFound as error:
            if error.code == _EMPTY and place.path == "/":
                return []
            raise

    def _entry(self, place: Place, file: FileInfo) -> dict[str, Any]:
        if file.kind == "directory":
            return _directory(place.named(file.path))
        return {
            "name": place.named(file.path),
            "size": file.size_bytes,
            "type": "file",
            "digest": file.digest,
        }

    def _branch(self, place: Place) -> str:
        address = parse_address(f"{place.repo}@{place.ref}")
        if address.ancestors or place.path == "/":
            raise ValueError(f"{place.named(place.path)} is not the place of a file on a branch.")
        return address.ref


class _OneCommit(Transaction):  # type: ignore[misc]  # fsspec has no types
    """fsspec's transaction: what was written and removed in it becomes one commit at its end."""

    fs: Any
    files: deque[Any]

    def complete(self, commit: bool = True) -> None:
        """Commit everything, or forget it."""
        changes = list(self.files)
        self.files = deque()
        self.fs._intrans = False
        self.fs._transaction = None
        try:
            if commit:
                self.fs.commit_all(changes)
        finally:
            for change in changes:
                change.discard()
            self.fs = None


class _Gone(Struct, frozen=True):
    """That a path is removed."""

    place: Place

    def discard(self) -> None:
        """Nothing is held."""


class _Writing(io.BufferedIOBase):
    """A file that is being written, on disk; a commit when it is closed, or with a transaction."""

    def __init__(self, fs: ClewFileSystem, place: Place, autocommit: bool) -> None:
        super().__init__()
        self.place = place
        self.path = place.named(place.path)
        self._fs = fs
        self._autocommit = autocommit
        self._content = cast(BinaryIO, tempfile.TemporaryFile(prefix="clew-"))  # noqa: SIM115 - closed with this file
        self._failed = False

    @property
    def file(self) -> BinaryIO:
        """What was written, from its beginning."""
        self._content.seek(0)
        return self._content

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._content.write(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()

    def flush(self) -> None:
        if not self._content.closed:
            self._content.flush()

    def close(self) -> None:
        if self.closed:
            return
        try:
            super().close()
            if self._autocommit and not self._failed:
                self._fs.commit_all([self])
        finally:
            if self._autocommit:
                self._content.close()

    def discard(self) -> None:
        """Forget what was written."""
        self._content.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._failed = kind is not None  # half a file is not committed
        self.close()

    def __del__(self) -> None:
        self._failed = True  # nobody closed it
        self._content.close()


class _Reading(io.BufferedIOBase):
    """A file of one commit, read from any place. Pickled as its place."""

    def __init__(self, fs: ClewFileSystem, path: str, stream: BinaryIO) -> None:
        super().__init__()
        self.path = path
        self.mode = "rb"
        self._fs = fs
        self._stream = stream
        self.size = stream.seek(0, io.SEEK_END)
        stream.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        return self._stream.read(-1 if size is None else size)

    def read1(self, size: int = -1) -> bytes:
        return self._stream.read(size if size >= 0 else io.DEFAULT_BUFFER_SIZE)

    def readinto(self, buffer: Any) -> int:
        return cast(io.BufferedIOBase, self._stream).readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _reopened, (self._fs, self.path, self.tell())


def _reopened(fs: ClewFileSystem, path: str, at: int) -> Any:
    file = fs.open(path, "rb")
    file.seek(at)
    return file


def _part(file: Any, start: int | None, end: int | None) -> bytes:
    first = start or 0
    first = max(0, file.size + first) if first < 0 else first
    last = file.size if end is None else end
    last = max(0, file.size + last) if last < 0 else last
    file.seek(first)
    return bytes(file.read(max(0, last - first)))


def _directory(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}


def _close(process: int, verbs: Verbs) -> None:
    if process == os.getpid():  # what a fork has taken over is the parent's to close
        verbs.close()


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Our errors as those that Python's own files raise; the rest is ours."""
    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(f"{path}: {error}") from error
    except Denied as error:
        raise PermissionError(f"{path}: {error}") from error
    except Conflict as error:
        if error.code == "file.directory":
            raise IsADirectoryError(f"{path}: {error}") from error
        raise
    except Invalid as error:
        if error.code in {"path.invalid", "address.invalid", "repo.name"}:
            raise FileNotFoundError(f"{path}: {error}") from error
        raise
