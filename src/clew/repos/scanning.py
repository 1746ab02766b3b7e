"""The scan cache: what files on disk had in them when they were last put.

Knows the rule by which a file counts as unchanged (design/0014-big-files-and-scans.md), and nothing
of commits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec import Struct, field

from clew.base.ids import new_id
from clew.base.walking import STATE, Scan

RACY_NS = 2_000_000_000
"""A file that was written so shortly before the scan may be written again in the same tick."""

LIMIT_FILES = 64
LIMIT_BYTES = 512 * 1024 * 1024
_MAGIC = b"clew scan \x01\n"
_SUM_BYTES = 32
_KINDS = ("file", "chunks")
_UNTRUSTED = bytes(STATE.size)

Digests: TypeAlias = list[str]


class Known(Struct, frozen=True, kw_only=True):
    """What a scan has found in the cache.

    ``digests`` stand in the order of the scan, '' where the file must be read. ``trees`` tells for
    places (``repo@branch:/path``) which tree they had once the files that the cache tells of were
    there.
    """

    digests: Digests
    trees: Mapping[str, str] = field(default_factory=dict)


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """A file of the cache: names joined by NUL, a state, a kind and 32 bytes of key for each."""

    root: str
    names: str
    states: bytes
    kinds: bytes
    keys: bytes
    trees: dict[str, str]


class Scans:
    """What files had in them when they were last put, by directory. Losing it costs only time.

    One file for each directory, written whole and renamed; what is damaged, of another version or
    of another directory counts as absent. Several processes may share it: the last one counts.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def unchanged(self, found: Scan, place: str) -> str:
        """The tree that a place had when all files of a scan were just as they are; '' if unknown.

        Quicker than :meth:`recall`, as no digest is looked at.
        """
        kept = self._open(found.root)
        if kept is None or kept.states != found.states or kept.names != "\0".join(found.names):
            return ""
        return kept.trees.get(place, "")

    def recall(self, found: Scan) -> Known:
        """Which files of a scan have not changed since :meth:`keep`."""
        kept = self._load(found.root)
        if kept is None:
            return Known(digests=[""] * len(found.names))
        names, states, digests, trees = kept
        if states == found.states and names == found.names:
            return Known(digests=digests, trees=trees)
        size = STATE.size
        table = dict(zip(names, range(len(names)), strict=True))
        known = []
        for at, name in enumerate(found.names):
            old = table.get(name, -1)
            same = old >= 0 and (
                states[old * size : old * size + size] == found.states[at * size : at * size + size]
            )
            known.append(digests[old] if same else "")
        return Known(digests=known, trees=trees)

    def keep(self, found: Scan, digests: Digests, trees: Mapping[str, str]) -> None:
        """Remember what the files of a scan hold. A disk that cannot be written is no error."""
        horizon = found.started_ns - RACY_NS
        states = found.states
        size = STATE.size
        trusted = []
        for at in range(0, len(states), size):
            state = states[at : at + size]
            _, _, changed, touched = STATE.unpack(state)
            trusted.append(state if changed < horizon and touched < horizon else _UNTRUSTED)
        body = msgspec.msgpack.encode(
            _Kept(
                root=found.root,
                names="\0".join(found.names),
                states=b"".join(trusted),
                kinds=bytes([_KINDS.index(digest.partition(":")[0]) for digest in digests]),
                keys=bytes.fromhex("".join([digest.rpartition(":")[2] for digest in digests])),
                trees=dict(trees),
            )
        )
        self._write(
            found.root, _MAGIC + hashlib.blake2b(body, digest_size=_SUM_BYTES).digest() + body
        )

    def _load(self, root: str) -> tuple[list[str], bytes, Digests, dict[str, str]] | None:
        kept = self._open(root)
        if kept is None:
            return None
        text = kept.keys.hex()
        digests = [
            f"{_KINDS[kind]}:{text[at * 64 : at * 64 + 64]}" for at, kind in enumerate(kept.kinds)
        ]
        return (kept.names.split("\0") if digests else []), kept.states, digests, kept.trees

    def _open(self, root: str) -> _Kept | None:
        try:
            data = self._path(root).read_bytes()
        except OSError:
            return None
        head = len(_MAGIC) + _SUM_BYTES
        body = memoryview(data)[head:]
        if data[:head] != _MAGIC + hashlib.blake2b(body, digest_size=_SUM_BYTES).digest():
            return None
        try:
            kept = msgspec.msgpack.decode(body, type=_Kept)
        except msgspec.MsgspecError:
            return None
        return kept if kept.root == root else None

    def _write(self, root: str, data: bytes) -> None:
        target = self._path(root)
        temporary = target.with_name(f".{new_id()}.tmp")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(target)
            self._shrink()
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _shrink(self) -> None:
        """Remove the oldest where there are many."""
        kept = sorted(
            ((status.st_mtime, status.st_size, path) for path, status in _files(self._directory)),
            reverse=True,
        )
        total = 0
        for number, (_, size, path) in enumerate(kept):
            total += size
            if number and (number >= LIMIT_FILES or total > LIMIT_BYTES):
                path.unlink(missing_ok=True)

    def _path(self, root: str) -> Path:
        return self._directory / hashlib.sha256(root.encode("utf-8", "surrogateescape")).hexdigest()


def _files(directory: Path) -> Iterable[tuple[Path, os.stat_result]]:
    for path in directory.iterdir():
        with suppress(FileNotFoundError):
            yield path, path.stat()
