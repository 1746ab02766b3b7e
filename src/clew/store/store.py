"""The store: bytes by digest, files and trees, in one place, for many threads and processes.

Knows nothing of repos, refs and commits.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from clew.base.errors import ClewError, Corrupt, Invalid
from clew.base.progress import Progress, unseen
from clew.base.records.keeping import Collected
from clew.store import checking, editing, examining, intake, opening, reading, relaying, upgrading
from clew.store.address import parse, with_cache
from clew.store.catalog import Catalog
from clew.store.chunks import (
    CHUNK,
    CHUNKS,
    FILE,
    WHOLE_BELOW,
    ChunkReader,
    decode_chunks,
    encode_chunks,
)
from clew.store.collecting import Collector, Roots, Step, Terms, alone, cost
from clew.store.digests import key_of, split
from clew.store.examining import Examined, Sound
from clew.store.examining import Progress as Seen
from clew.store.exporting import Outgoing, export_many, write_file
from clew.store.fetching import ahead
from clew.store.keeping import Keep
from clew.store.leases import Board, Lease, Leases, LocalBoard, ShelfBoard
from clew.store.local import Disk, LocalShelf, publish, storage_errors, sweep
from clew.store.locking import Exclusive
from clew.store.marking import Marks
from clew.store.nodes import EMPTY_TREE, TREE, Item, Node, decode_node, encode_node
from clew.store.objects import Bucket
from clew.store.records import Entry, TreeChange, TreeSummary
from clew.store.relaying import Relay, Switchboard
from clew.store.shelf import Shelf
from clew.store.writer import Writer, fill, source_errors

_NODES_KEPT = 512
"""Nodes in memory, of about 15 KB each: who walks a large tree does not come back to a leaf."""

_GATHERED = 64  # files at most, to be lent
_BUFFER = 256 * 1024


class Store:
    """Content by digest. Thread-safe; several processes may open the same place.

    Every read is verified against the digest that was asked for: what has changed on disk raises
    Corrupt (``object.corrupt``, ``pack.corrupt``) and is never returned; what is not there raises
    NotFound (``object.missing``). ``address`` is what another process of this machine opens to see
    the same store (:meth:`attach`); it holds no secrets.
    """

    def __init__(
        self,
        shelf: Shelf,
        address: str | Path,
        *,
        board: Board | None = None,
        keep: Keep | None = None,
    ) -> None:
        self.address = str(address)
        self._shelf = shelf
        self._catalog = Catalog(shelf, keep)
        self._leases = Leases(board or ShelfBoard(shelf))
        self._node = lru_cache(_NODES_KEPT)(self._load_node)

    @staticmethod
    def bucket(address: str, options: Mapping[str, str] | None = None) -> Bucket:
        """A bucket (``s3://``, ``gs://``, ``az://``) that is not ours: for whoever reads from it.

        Raises Invalid ``store.address``. Nothing is asked of it yet.
        """
        place = parse(address, options)
        if isinstance(place, Path):
            raise Invalid(
                "store.address",
                f"{address!r} is not a bucket.",
                hint="Write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX.",
            )
        return Bucket.open(place)

    @classmethod
    def open(
        cls,
        address: str | Path,
        *,
        disk: Disk | None = None,
        options: Mapping[str, str] | None = None,
        exclusive: Exclusive | None = None,
        cache: Path | None = None,
    ) -> Store:
        """The store at ``address``, made on first use.

        That is a directory (a path or ``file://``) or a place in a bucket: ``s3://``, ``gs://`` or
        ``az://``, with options of the client (``endpoint``, ``region``, ...) as its query or as
        ``options``. There the steps that only one may do at a time need a lock: one in the bucket,
        whose conditional writes are tried out, or ``exclusive`` where it ignores them. ``cache`` is
        a local directory for what is read from a bucket again and again. ``disk`` carries out the
        steps of writing to a directory.

        Raises:
            Invalid: ``store.format`` where another version of Clew wrote it, ``store.address``.
            Corrupt: ``store.format_missing`` where there are packs but no format file.
            Unavailable: ``disk.full``, ``workspace.read_only``, ``store.unreachable``;
                ``store.unconditional`` where a bucket ignores conditions and no lock was given.
            Denied: ``store.denied``.
            NotFound: ``store.bucket_missing``.
        """
        place = parse(address, options, cache)
        if isinstance(place, Path):
            return cls._open_directory(place, disk or Disk())
        shelf, keep = opening.open_shelf(place, exclusive)
        return cls(shelf, place.text, keep=keep)

    @classmethod
    def attach(cls, address: str | Path, *, cache: Path | None = None) -> Store:
        """A store that another process has opened and tends, by its ``address``.

        Reads and writes as ever; in a bucket it never merges or removes, so that nothing is tried
        out and no lock is needed. ``relay://`` and the path of a socket is a store that is reached
        through a :class:`Switchboard`. Raises what :meth:`open` raises.
        """
        if str(address).startswith(relaying.SCHEME):
            ask = relaying.caller(str(address).removeprefix(relaying.SCHEME))
            far, board, kept = relaying.far_end(ask, cache)
            return cls(far, address, board=board, keep=kept)
        place = parse(address, cache=cache)
        if isinstance(place, Path):
            return cls._open_directory(place, Disk())
        shelf, keep = opening.attach_shelf(place)
        return cls(shelf, place.text, keep=keep)

    @classmethod
    def _open_directory(cls, path: Path, disk: Disk) -> Store:
        objects, scratch, form = path / "packs", path / "tmp", path / "format"
        with storage_errors(path):
            if not form.exists():
                _create(path, objects, scratch, disk)
            upgrading.bring_up(path, disk)
        sweep(scratch)
        return cls(LocalShelf(objects, scratch, disk), path, board=LocalBoard(path / "leases"))

    @staticmethod
    def elsewhere(address: str, cache: Path) -> str:
        """The address of a store in a bucket, for a machine whose local cache is ``cache``."""
        return with_cache(address, cache)

    @staticmethod
    def switchboard(path: Path, ask: Callable[[bytes], bytes]) -> Switchboard:
        """A socket at ``path`` where other processes of this machine attach to a far store, whose
        relay answers to ``ask``.
        """
        return Switchboard(path, ask)

    def relay(self) -> Relay:
        """Who answers a process that can reach this store only through the present one."""
        return relaying.Relay(self._shelf, self._leases.board)

    def writer(self, *, lingers: bool = True) -> Writer:
        """A new writer, for one thread.

        What it has put is safe from being collected for some seconds after its end, so that a row
        can name it; unless rows do so before it ends: then it need not linger.
        """
        lease = self._leases.begin(lingers=lingers)
        self._catalog.refresh()  # after the lease: what was condemned before it is seen here
        return Writer(self._catalog, self._node, lease)

    def overlay(self) -> Overlay:
        """The same store, with trees of its own that are kept nowhere."""
        return Overlay(self)

    def lease(self) -> AbstractContextManager[Lease]:
        """For work that hands on digests before a row names them: nothing of them is collected."""
        return self._leases.held()

    # bytes ----------------------------------------------------------------------------------

    def read(self, digest: str) -> bytes:
        """The whole content of a file, or the payload of any other object."""
        tag, key = split(digest)
        payload = self._catalog.fetch(tag, key)
        if tag != CHUNKS:
            return payload
        return b"".join(ahead(self._chunk, decode_chunks(digest, payload).keys))

    def open_file(self, digest: str) -> BinaryIO:
        """A file as a seekable stream for one thread; a large one is read chunk by chunk."""
        tag, key = split(digest)
        payload = self._catalog.fetch(tag, key)
        if tag != CHUNKS:
            return io.BytesIO(payload)
        raw = ChunkReader(decode_chunks(digest, payload), self._chunk)
        return cast(BinaryIO, io.BufferedReader(raw, _BUFFER))

    def export(self, digest: str, target: Path) -> None:
        """Write a file to ``target``, whole or not at all; directories above it are made.

        Raises:
            Unavailable: ``disk.full``, ``workspace.read_only``.
        """
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._pieces(digest), target)

    def export_tree(
        self, tree: str, directory: str, target: Path, *, seen: Progress = unseen
    ) -> list[Path]:
        """Write all files below a directory of a tree below ``target``; where they are, in order.

        Several are written at once, each whole or not at all; where there is nothing at ``target``
        yet it appears whole, or not at all.

        Raises:
            Unavailable: ``disk.full``, ``workspace.read_only``.
        """
        skip = len(directory.rstrip("/")) + 1
        written: list[str] = []

        def outgoing() -> Iterator[Outgoing]:
            for entry in self.entries(tree, directory):
                name = entry.path[skip:]
                written.append(name)
                yield Outgoing(entry.digest, name, entry.size_bytes)

        export_many(self._pieces, outgoing(), target, seen)
        return [Path(f"{target}/{name}") for name in written]

    # trees ----------------------------------------------------------------------------------

    def get(self, tree: str, path: str) -> Entry | None:
        """The file at ``path``, or None."""
        return reading.find(self._node, reading.check_tree(tree), path)

    def gather(self, tree: str, paths: Sequence[str], limit_bytes: int) -> dict[str, bytes]:
        """What reading these files takes, objects by their digests, for :meth:`lend` elsewhere.

        {} where it is more than ``limit_bytes``, lies far away or cannot be read: whoever reads it
        then is told why.
        """
        if self._shelf.parallel > 1 or len(paths) > _GATHERED:
            return {}
        digests: dict[str, None] = {}

        def node(digest: str) -> Node:
            digests[digest] = None
            return self._node(digest)

        try:
            for path in paths:
                entry = reading.find(node, reading.check_tree(tree), path)
                if entry is None or entry.size_bytes > min(limit_bytes, WHOLE_BELOW - 1):
                    return {}
                limit_bytes -= entry.size_bytes
                digests[entry.digest] = None
            found = {one: self._catalog.fetch(*split(one)) for one in digests if one != EMPTY_TREE}
        except ClewError:
            return {}
        trees = sum(len(data) for one, data in found.items() if one.startswith(TREE))
        return found if trees <= limit_bytes else {}

    def lend(self, objects: Mapping[str, bytes]) -> None:
        """Have objects at hand, in place of those that were lent before: they are not looked for.

        Whoever lends answers for them: they are not verified.
        """
        self._catalog.lend({split(digest): data for digest, data in objects.items()})

    def entries(self, tree: str, prefix: str = "/", after: str = "") -> Iterator[Entry]:
        """The file at ``prefix`` or all files below it, those behind ``after``, by path bytes."""
        return reading.entries(self._node, reading.check_tree(tree), prefix, after)

    def children(
        self, tree: str, directory: str = "/"
    ) -> list[tuple[str, Entry | None, TreeSummary]]:
        """Names one level below a directory, by name; the entry is None for a directory."""
        found = reading.children(self._node, reading.check_tree(tree), directory)
        return sorted(found, key=lambda child: child[0])

    def diff(self, old: str, new: str, prefix: str = "/") -> Iterator[TreeChange]:
        """Paths at or below ``prefix`` that differ, by path bytes, in O(difference)."""
        old, new = reading.check_tree(old), reading.check_tree(new)
        return reading.diff(self._node, old, new, prefix)

    def summary(self, tree: str) -> TreeSummary:
        """How many files and bytes a tree holds: one node is read."""
        return self._node(reading.check_tree(tree)).summary()

    # keeping --------------------------------------------------------------------------------

    def collect(
        self, roots: Roots, terms: Terms | None = None, *, step: Step = lambda _: None
    ) -> Collected:
        """Remove what cannot be reached from ``roots`` (called twice), beside writers.

        Raises:
            Conflict: ``gc.running``.
            Corrupt: ``gc.damaged``.
        """
        collector = Collector(self._shelf, self._catalog, self._leases, step)
        return collector.run(roots, terms or Terms())

    def objects(self, tag: str) -> list[str]:
        """The digests of all objects of a tag that are stored, sorted."""
        return [f"{tag}:{key.hex()}" for key in sorted(self._catalog.keys_of(tag))]

    def examine(
        self, seen: Seen = lambda _done, _total: None, *, without: Collection[str] = ()
    ) -> Examined:
        """Read and verify every byte, beside others; ``seen`` is told how far it is."""
        return examining.examine(self._shelf, seen, without=without)

    def sound(self, examined: Examined) -> Sound:
        """To ask what is whole with all below it, of what was just examined."""
        return Sound(examined, self._node, self._catalog.fetch)

    def salvage(self, packs: Sequence[str]) -> None:
        """Write anew what is good of damaged packs.

        Raises:
            Conflict: ``gc.running``.
        """
        with alone(self._shelf, 10.0):
            examining.salvage(self._shelf, self._catalog, packs)

    def discard(self, packs: Sequence[str], *, keep_bytes: bool) -> None:
        """Take damaged packs away, or out of use. Raises as :meth:`salvage`."""
        with alone(self._shelf, 10.0):
            if keep_bytes:
                examining.set_aside(self._shelf, self._catalog, packs)
            else:
                self._catalog.let_go(packs)

    def marks(self) -> Marks:
        """An empty set of marks over the objects of this store."""
        return Marks(self._catalog.fetch)

    def sizes(self) -> Iterator[tuple[bytes, int]]:
        """Every object by its key, and how many bytes of a pack it takes; one copy of each."""
        seen: set[bytes] = set()
        for pack in self._catalog.packs():
            for key, place in pack.objects():
                if key not in seen:
                    seen.add(key)
                    yield key, cost(place)

    def fsck(self) -> list[str]:
        """Read and verify everything; what is wrong, one sentence each. Empty: all is well."""
        return checking.check(self._shelf, Catalog(self._shelf))  # nothing that is kept elsewhere

    def _chunk(self, key: bytes) -> bytes:
        return self._catalog.fetch(CHUNK, key)

    def _pieces(self, digest: str) -> Iterator[bytes]:
        tag, key = split(digest)
        payload = self._catalog.fetch(tag, key)
        if tag == CHUNKS:
            yield from ahead(self._chunk, decode_chunks(digest, payload).keys)
        else:
            yield payload

    def _load_node(self, tree: str) -> Node:
        if tree == EMPTY_TREE:  # never stored: every store has it
            return decode_node(tree, encode_node(0, []))
        return decode_node(tree, self._catalog.fetch(*split(tree)))


class Overlay(Store):
    """A store with trees that were never put: to look at what might be. For one thread.

    What :meth:`tree` makes is read here and nowhere else; nothing of it is written. Entries may
    name content that the store has not; :meth:`identify` tells their digests.
    """

    def __init__(self, below: Store) -> None:
        self.__dict__.update(vars(below))
        self._below = below._node  # the store that this one stands in for
        self._own: dict[str, bytes] = {}
        self._node = self._look  # type: ignore[assignment]  # no cache of its own

    def tree(self, base: str, puts: Iterable[Entry], deletes: Iterable[str] = ()) -> str:
        """As :meth:`Writer.tree`."""
        return editing.edit(self._look, self._keep, reading.check_tree(base), puts, deletes)

    @staticmethod
    def identify(data: bytes | Path | BinaryIO) -> tuple[str, int]:
        """Digest and size that :meth:`Writer.put` would give.

        Raises:
            NotFound: ``file.missing``.
            Invalid: ``file.unreadable``.
        """
        if isinstance(data, Path):
            with source_errors(data), data.open("rb") as file:
                return Overlay.identify(file)
        stream = io.BytesIO(data) if isinstance(data, bytes) else data
        first = fill(stream.read, WHOLE_BELOW)
        if len(first) < WHOLE_BELOW:
            return f"{FILE}:{key_of(FILE, first).hex()}", len(first)
        keys, sizes = intake.identify(stream.read, first)
        return f"{CHUNKS}:{key_of(CHUNKS, encode_chunks(keys, sizes)).hex()}", sum(sizes)

    def _look(self, tree: str) -> Node:
        own = self._own.get(tree)
        return self._below(tree) if own is None else decode_node(tree, own)

    def _keep(self, level: int, items: Sequence[Item]) -> bytes:
        payload = encode_node(level, items)
        key = key_of(TREE, payload)
        self._own[f"{TREE}:{key.hex()}"] = payload
        return key


def _create(path: Path, objects: Path, scratch: Path, disk: Disk) -> None:
    objects.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(exist_ok=True)
    if any(objects.iterdir()) and not (path / "format").exists():
        raise Corrupt(
            "store.format_missing",
            f"{path} holds packs, but its format file is gone.",
            hint=f"Restore {path / 'format'} from a backup.",
        )
    publish(path / "format", [opening.FORMAT], scratch=scratch, disk=disk)
    disk.sync_directory(path.parent)
