"""Puts bytes, objects and trees into the store, many at a time.

Knows how files become objects; knows nothing of commits and refs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from clew.base.errors import Invalid, NotFound
from clew.base.progress import Amount, Progress, unseen
from clew.store import editing, intake
from clew.store.catalog import Catalog
from clew.store.chunks import CHUNK, CHUNKS, FILE, WHOLE_BELOW, decode_chunks, encode_chunks
from clew.store.digests import key_of, split
from clew.store.gathering import Gathering
from clew.store.leases import Lease
from clew.store.marking import children
from clew.store.nodes import EMPTY_TREE, TREE, Item, Load, Node, decode_node, encode_node
from clew.store.reading import check_tree, find
from clew.store.records import Entry, TreeSummary
from clew.store.squeeze import Squeezer

_SMALL = 64 * 1024  # read at once; a file that fills it goes the way of large ones
_TELL_FILES = 500
_TELL_BYTES = 8 * 1024 * 1024
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe that took a file's place must not wait


class Writer:
    """Collects objects in memory and publishes them in packs. Owned by one thread.

    Nothing is durable, or seen by others, before :meth:`flush` returns. As a context manager it
    flushes on exit, and forgets what was put since the last flush where an error leaves the block.
    """

    def __init__(self, catalog: Catalog, load: Load, lease: Lease | None = None) -> None:
        self._catalog = catalog
        self._lease = lease
        self._stored_node = load
        self._builder = Gathering(catalog.publish)
        self._nodes: dict[str, bytes] = {}
        self._squeezer = Squeezer()
        self._leant = False

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._builder.drop()
            self._nodes.clear()
            if self._lease is not None:
                self._lease.end()
                self._lease = None

    def put(self, data: bytes | Path | BinaryIO) -> tuple[str, int]:
        """Keep the content of one file; its digest and size in bytes.

        A Path is read from disk, a stream to its end from where it stands. Equal content is
        kept once.

        Raises:
            NotFound: ``file.missing`` where the Path does not exist.
            Invalid: ``file.unreadable`` where it is a directory or may not be read.
            Unavailable: ``disk.full``, ``workspace.read_only``.
        """
        if isinstance(data, bytes | bytearray | memoryview):
            return self._put_stream(_nothing, bytes(data))
        if isinstance(data, Path):
            return self._put_path(data)
        return self._put_stream(data.read, fill(data.read, WHOLE_BELOW))

    def extend(self, digest: str, data: bytes | BinaryIO) -> tuple[str, int]:
        """The file ``digest`` with more bytes at its end: digest and size, as if put whole.

        ``digest`` must have been flushed. Of a large file its last chunk alone is read.

        Raises:
            NotFound: ``object.missing``.
            Unavailable: ``disk.full``, ``workspace.read_only``.
        """
        more = io.BytesIO(data) if isinstance(data, bytes) else data
        tag, key = split(digest)
        payload = self._catalog.fetch(tag, key)
        if tag != CHUNKS:
            return self._put_stream(more.read, payload + fill(more.read, WHOLE_BELOW))
        chunks = decode_chunks(digest, payload)
        keys, sizes = list(chunks.keys[:-1]), list(chunks.sizes[:-1])
        tail = self._catalog.fetch(CHUNK, chunks.keys[-1])
        return self._put_chunks(more.read, tail, keys, sizes)

    def put_many(
        self, paths: Iterable[Path | str], *, seen: Progress = unseen
    ) -> list[tuple[str, int]]:
        """:meth:`put` for files on disk, in order; quickest by directory.

        ``seen`` is told every some hundred files, and after each large one.
        """
        found: list[tuple[str, int]] = []
        total = told = 0
        with _Directory() as directory:
            for path in paths:
                name = os.fspath(path)
                try:
                    first = directory.read(name, _SMALL)
                except OSError:
                    first = b""
                if 0 < len(first) < _SMALL:
                    size = len(first)
                    found.append((f"{FILE}:{self._keep(FILE, first).hex()}", size))
                else:  # large, empty, or with an error to tell
                    found.append(self._put_path(Path(name)))
                    size = found[-1][1]
                total += size
                if total - told > _TELL_BYTES or not len(found) % _TELL_FILES:
                    told = total
                    seen(Amount(len(found), total))
        seen(Amount(len(found), total))
        return found

    def holds(self, digest: str) -> bool:
        """Whether content is stored already, and will stay: then :meth:`tree` may name it unput."""
        return self._known(split(digest)[1])

    @staticmethod
    def digest(data: bytes) -> str:
        """The digest that :meth:`put` gives to bytes, of less than 1 MiB, without keeping them."""
        return f"{FILE}:{key_of(FILE, data).hex()}"

    def put_object(self, tag: str, payload: bytes) -> str:
        """Keep a record of another kind (a commit, a code snapshot); its digest.

        ``payload`` should be canonical; :meth:`Store.read` gives it back.

        Raises:
            Invalid: ``digest.tag``.
            Unavailable: ``disk.full``, ``workspace.read_only``.
        """
        return f"{tag}:{self._keep(tag, payload).hex()}"

    def tree(self, base: str, puts: Iterable[Entry], deletes: Iterable[str] = ()) -> str:
        """The tree ``base`` without ``deletes`` (files, or directories whole) and with ``puts``.

        Deletes come first; what is not there is deleted without complaint. Costs O(change x log n).

        Raises:
            Conflict: ``tree.file_and_directory`` where a path would be both.
            Invalid: ``path.invalid``, ``tree.entry``.
            NotFound: ``object.missing`` where ``base`` is unknown.
        """
        return editing.edit(self._load, self._save, check_tree(base), puts, deletes)

    def get(self, tree: str, path: str) -> Entry | None:
        """The file at ``path`` of a tree, also of one that is not flushed yet; or None."""
        return find(self._load, check_tree(tree), path)

    def summary(self, tree: str) -> TreeSummary:
        """How many files and bytes a tree holds, also one that is not flushed yet."""
        return self._load(check_tree(tree)).summary()

    def hold(self, tree: str) -> None:
        """See to it that a tree stays which others put: what of it is condemned is put anew.

        Costs nothing where no garbage is being collected, else O(what came since it began).

        Raises:
            NotFound: ``object.missing`` where a part has gone already.
        """
        if not self._catalog.condemning or tree == EMPTY_TREE:
            return
        stack, seen = [split(tree)], set[bytes]()
        while stack:
            tag, key = stack.pop()
            if key in seen or (own := self._fate(key)) == "marked":
                continue  # reachable when the objects of its pack were marked, and all below it
            seen.add(key)
            if own == "absent":
                self._catalog.require(tag, key)
            if own != "condemned" and tag not in {TREE, CHUNKS}:
                continue
            payload = self._builder.get(tag, key)
            payload = self._catalog.fetch(tag, key) if payload is None else payload
            if own == "condemned":
                self._keep(tag, payload)
            stack += children(tag, key, payload)

    def _fate(self, key: bytes) -> str:
        return "fresh" if key in self._builder else self._catalog.fate(key)

    def flush(self) -> None:
        """Return when all that was put is durable and visible to every process.

        Where it fails, nothing is lost from memory: it may be called again.

        Raises:
            Unavailable: ``disk.full``, ``workspace.read_only``, ``store.lease_lost``.
        """
        published = self._builder.publish()
        if self._leant and not published:  # a pack that is published now settles those before it
            self._catalog.settle()
        self._leant = False
        if self._lease is not None:
            self._lease.check()
        self._nodes.clear()
        self._catalog.tidy()

    def _put_path(self, path: Path) -> tuple[str, int]:
        with source_errors(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:

                def read(size: int) -> bytes:
                    return os.read(descriptor, size)

                expected = min(os.fstat(descriptor).st_size + 1, WHOLE_BELOW)
                first = os.read(descriptor, expected)
                if len(first) == expected:  # at least as long as the file was: it may go on
                    first += fill(read, WHOLE_BELOW - len(first))
                return self._put_stream(read, first)
            finally:
                os.close(descriptor)

    def _put_stream(self, read: Callable[[int], bytes], first: bytes) -> tuple[str, int]:
        if len(first) < WHOLE_BELOW:
            return f"{FILE}:{self._keep(FILE, first).hex()}", len(first)
        return self._put_chunks(read, first, [], [])

    def _put_chunks(
        self, read: Callable[[int], bytes], first: bytes, keys: list[bytes], sizes: list[int]
    ) -> tuple[str, int]:
        for chunk in intake.chunks(read, first, self._known):
            if chunk.stored is not None:
                self._builder.add(chunk.key, CHUNK, chunk.encoding, chunk.size_bytes, chunk.stored)
            keys.append(chunk.key)
            sizes.append(chunk.size_bytes)
        return self.put_object(CHUNKS, encode_chunks(keys, sizes)), sum(sizes)

    def _keep(self, tag: str, payload: bytes) -> bytes:
        key = key_of(tag, payload)
        if self._known(key):
            return key
        encoding, stored = self._squeezer.squeeze(payload)
        self._builder.add(key, tag, encoding, len(payload), stored)
        return key

    def _known(self, key: bytes) -> bool:
        if key in self._builder:
            return True
        if self._catalog.contains(key):
            self._leant = True
            return True
        return False

    def _load(self, tree: str) -> Node:
        payload = self._nodes.get(tree)
        return self._stored_node(tree) if payload is None else decode_node(tree, payload)

    def _save(self, level: int, items: Sequence[Item]) -> bytes:
        payload = encode_node(level, items)
        key = self._keep(TREE, payload)
        self._nodes[f"{TREE}:{key.hex()}"] = payload  # may be read again before it is flushed
        return key


class _Directory:
    """Reads files by their names in the directory that was read from last: half the work."""

    def __init__(self) -> None:
        self._path = ""
        self._descriptor = -1

    def __enter__(self) -> _Directory:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, path: str, size: int) -> bytes:
        """The first ``size`` bytes of a file, all of it where they are fewer."""
        above, _, name = path.rpartition("/")
        if above != self._path or self._descriptor < 0:
            self.__exit__()
            place = above or ("/" if path.startswith("/") else ".")
            self._descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._path = above
        file = os.open(name, _READ, dir_fd=self._descriptor)
        try:
            return os.read(file, size)
        finally:
            os.close(file)


@contextmanager
def source_errors(path: Path) -> Iterator[None]:
    """What keeps a file on disk from being read, as our errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(
            "file.missing", f"There is no file {path}.", hint="Check the path and try again."
        ) from error
    except OSError as error:
        raise Invalid(
            "file.unreadable",
            f"{path} cannot be read: {error.strerror or error}.",
            hint="Name a regular file that this user may read.",
        ) from error


def _nothing(_size: int) -> bytes:
    return b""


def fill(read: Callable[[int], bytes], size: int) -> bytes:
    """Up to ``size`` bytes; fewer only at the end of the stream."""
    pieces = []
    while size and (piece := read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
