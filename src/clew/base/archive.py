"""Many files as one stream: how files travel between a client and a server.

The format is POSIX tar (pax), so that any tool can write and read it. Knows nothing of HTTP, and
never unpacks by name: whoever takes the files decides where they go.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.progress import Amount, Progress, unseen

MEDIA_TYPE = "application/x-tar"
Source = bytes | Path | BinaryIO
_CHUNK = 1 << 18
_BLOCK = tarfile.BLOCKSIZE
_DELETE = "CLEW.delete"
_SUPPOSED = ".clew-supposed/"  # no file of a project: hidden ones are left out


def pack(
    files: Mapping[str, Source], *, delete: Sequence[str] = (), seen: Progress = unseen
) -> Iterator[bytes]:
    """The stream, in pieces of about 256 KiB; ``delete`` rides in the global pax header.

    A stream that cannot seek is read into memory. Sources are not closed.

    Raises:
        NotFound: ``file.unknown``.
        Invalid: ``file.is_directory``, ``put.content``.
        Conflict: ``file.changed`` where a file grew or shrank while it was read.
    """
    check_sources(files)
    yield from _gather(_pieces(files.items(), delete, seen))


def supposed_names(files: Mapping[str, Source]) -> dict[str, Source]:
    """Names that files by their places (``repo@branch:/path``) have beside those of a project."""
    return {f"{_SUPPOSED}{place}": source for place, source in files.items()}


def supposed_part(files: Mapping[str, BinaryIO]) -> tuple[dict[str, BinaryIO], dict[str, BinaryIO]]:
    """The files of a project, and those that :func:`supposed_names` named, by their places."""
    own = {name: one for name, one in files.items() if not name.startswith(_SUPPOSED)}
    put = {name.removeprefix(_SUPPOSED): one for name, one in files.items() if name not in own}
    return own, put


def check_sources(files: Mapping[str, Source]) -> None:
    """Refuse contents that are neither bytes nor the path of a file nor a stream of bytes.

    Raises:
        Invalid: ``put.content``, ``file.is_directory``, ``file.special``.
        NotFound: ``file.unknown``.
    """
    for name, source in files.items():
        if not isinstance(source, bytes | Path) and not hasattr(source, "read"):
            raise Invalid(
                "put.content",
                f"The content of {name} is a {type(source).__name__}.",
                hint="Give bytes (text.encode()), a pathlib.Path, or a file opened with 'rb'.",
            )
        if isinstance(source, Path):
            _check_path(source)


def _check_path(path: Path) -> None:
    """That a path is a file: a directory has no bytes, and a pipe would be waited for."""
    if path.is_file():
        return
    if path.is_dir():
        raise Invalid(
            "file.is_directory",
            f"{path} is a directory.",
            hint="Give each file of it, by its path in the repo.",
        )
    if path.exists():
        raise Invalid(
            "file.special", f"{path} is not a plain file.", hint="Read it, and put the bytes."
        )
    raise NotFound("file.unknown", f"There is no file {path}.", hint="Check the path.")


def _pieces(
    files: Iterable[tuple[str, Source]], delete: Sequence[str], seen: Progress
) -> Iterator[bytes]:
    if delete:
        yield tarfile.TarInfo.create_pax_global_header({_DELETE: json.dumps(list(delete))})
        yield _directory()  # a reader of tar wants a member after a header
    done = 0
    for number, (name, source) in enumerate(files, start=1):
        stream, size, owned = _open(name, source)
        try:
            yield _header(name, size)
            for piece in _content(name, stream, size):
                yield piece
                done += len(piece)
                seen(Amount(number, done))
        finally:
            if owned:
                stream.close()
    yield bytes(2 * _BLOCK)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def _directory() -> bytes:
    info = tarfile.TarInfo("clew")
    info.type = tarfile.DIRTYPE
    return info.tobuf(tarfile.PAX_FORMAT)


def _open(name: str, source: Source) -> tuple[BinaryIO, int, bool]:
    if isinstance(source, bytes):
        return io.BytesIO(source), len(source), True
    if isinstance(source, Path):
        return _open_path(source)
    if source.seekable():
        here = source.tell()
        size = source.seek(0, os.SEEK_END) - here
        source.seek(here)
        return source, size, False
    return _open(name, source.read())


def _open_path(path: Path) -> tuple[BinaryIO, int, bool]:
    _check_path(path)
    stream = path.open("rb")
    return stream, os.fstat(stream.fileno()).st_size, True


def _content(name: str, stream: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left > 0:
        piece = stream.read(min(left, _CHUNK))
        if not piece:
            break
        left -= len(piece)
        yield piece
    if left or stream.read(1):
        raise Conflict(
            "file.changed",
            f"{name} changed while it was read.",
            hint="Write it elsewhere, rename it into place, then put it again.",
        )
    yield bytes(-size % _BLOCK)


def _gather(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces joined, so that ten thousand small files are not ten thousand writes."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


class Part(io.RawIOBase):
    """A file inside a larger one, read where it lies; many may share one descriptor.

    The one who opened the larger file keeps it open as long as parts are read.
    """

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        super().__init__()
        self.size = size
        self._descriptor = descriptor
        self._start = start
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` from here; the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # a writable buffer
        wanted = min(len(view), self.size - self._at)
        if wanted <= 0:
            return 0
        count = os.preadv(self._descriptor, [view[:wanted]], self._start + self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the new place from the start of the part."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        """The place from the start of the part."""
        return self._at


def unpack(archive: BinaryIO) -> tuple[dict[str, BinaryIO], list[str]]:
    """The files of an archive that lies in a real file, and the names to delete.

    Names are as written. Directories are passed over; the last of two files of one name counts,
    as in every tar.

    Raises:
        Invalid: ``archive.unreadable`` where it is no tar or is cut short; ``archive.link`` where
            it holds a link or a device.
    """
    files: dict[str, BinaryIO] = {}
    size = os.fstat(archive.fileno()).st_size
    deletes = ""
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg():
                    _check_whole(member, size)
                    part = Part(archive.fileno(), member.offset_data, member.size)
                    files[member.name] = cast(BinaryIO, part)
                elif not member.isdir():
                    raise _link(member.name)
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every member
            deletes = tar.pax_headers.get(_DELETE, "[]")
    except tarfile.TarError as error:
        raise _unreadable(str(error)) from None
    return files, [str(name) for name in json.loads(deletes)]


def _check_whole(member: tarfile.TarInfo, size: int) -> None:
    if member.offset_data + member.size > size:
        raise _unreadable(f"it ends inside {member.name}")


def _link(name: str) -> Invalid:
    return Invalid(
        "archive.link",
        f"{name} in the upload is a link or a device, not a file.",
        hint="Pack the files themselves (`tar --dereference`).",
    )


def _unreadable(why: str) -> Invalid:
    return Invalid(
        "archive.unreadable",
        f"The upload is not a whole tar archive: {why}.",
        hint="Send an uncompressed tar, such as `tar c DIRECTORY` writes.",
    )
