"""Objects: get, head, put, copy, delete.

Knows the rooms that keep them and what S3 says of them; nothing of sockets. Everything here may
block and runs in threads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast
from urllib.parse import unquote

from msgspec.structs import replace

from clew.base import clock
from clew.base.buckets import MAX_KEY_BYTES, path_of
from clew.base.records.uploads import Facts
from clew.server.s3 import buckets
from clew.server.s3.answers import Answer, Stream, xml_answer
from clew.server.s3.buckets import Place
from clew.server.s3.committing import Lanes, Put, Rooms, Stored, Wish
from clew.server.s3.conditions import check_of_write, check_read, etag_of_stored
from clew.server.s3.errors import S3Error, no_such_key
from clew.server.s3.headers import check_refused, checksum_headers, facts_of, headers_of
from clew.server.s3.incoming import Incoming, Received
from clew.server.s3.request import Asked
from clew.server.s3.xml import Element, group, http_date, iso, parse, text
from clew.store import Entry

IN_MEMORY = 1 << 20
MOST_DELETES = 1000
_EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Objects:
    """Objects of all buckets. Thread-safe."""

    def __init__(self, rooms: Rooms, lanes: Lanes) -> None:
        self._rooms = rooms
        self._lanes = lanes

    def get(self, asked: Asked, *, body: bool) -> Answer:
        """An object or a range of it, or (without ``body``) its headers."""
        place = buckets.find(self._rooms, asked.bucket)
        if "versionId" in asked.query and asked.query["versionId"] != "null":
            raise S3Error("NoSuchVersion", "Versions are commits: use the bucket ID.REPO.", 404)
        if asked.key.endswith("/"):
            return self._directory(place, asked)
        stored = self.find(place, asked.key)
        at = stored.facts.at if stored.facts else place.at
        etag = etag_of_stored(stored)
        common = {"ETag": f'"{etag}"', "Last-Modified": http_date(at), "Accept-Ranges": "bytes"}
        check_read(asked, etag, at, common)
        headers = {**common, **headers_of(asked, stored.facts)}
        start, stop = _range(asked, stored.entry.size_bytes, headers)
        status = 206 if "Content-Range" in headers else 200
        if status == 200 and stored.facts:
            headers |= checksum_headers(asked, stored.facts.checksums)
        headers["Content-Length"] = str(stop - start)
        return Answer(
            status=status,
            headers=headers,
            body=self._content(stored.entry, start, stop) if body else b"",
        )

    def put(self, asked: Asked, incoming: Incoming, length: int | None) -> Answer:
        """Keep a body as an object. The answer comes when it is committed and durable."""
        place = buckets.find_open(self._rooms, asked.bucket)
        check_refused(asked)
        if asked.key.endswith("/"):
            return self._make_directory(place, asked.key, incoming)
        path = checked_path(asked.key)
        facts = facts_of(asked, clock.now())
        with self.taken_in(path, incoming, length) as content:
            received = incoming.received()
            facts = replace(facts, etag=received.md5, checksums=received.checksums)
            put = Put(path=path, content=content, facts=facts)
            wish = Wish(puts=[put], check=check_of_write(asked))
            self._lanes.carry_out(place.repo, place.branch, wish)
        return Answer(headers={"ETag": f'"{facts.etag}"', **received_headers(received)})

    def copy(self, asked: Asked) -> Answer:
        """An object under another name, by its digest: no bytes move."""
        place = buckets.find_open(self._rooms, asked.bucket)
        check_refused(asked)
        path = checked_path(asked.key)
        with self._rooms.store.lease():
            return self._copy(asked, place, path)

    def _copy(self, asked: Asked, place: Place, path: str) -> Answer:
        source = self.source(asked)
        now = clock.now()
        facts = source.facts or Facts(at=now)
        if asked.header("x-amz-metadata-directive").upper() == "REPLACE":
            own = facts_of(asked, now)
            facts = replace(own, etag=facts.etag, checksums=facts.checksums)
        facts = replace(facts, at=now)
        put = Put(path=path, content=replace(source.entry, path=path), facts=facts)
        wish = Wish(puts=[put], check=check_of_write(asked))
        self._lanes.carry_out(place.repo, place.branch, wish)
        etag = etag_of_stored(Stored(entry=source.entry, facts=facts))
        parts = (text("LastModified", iso(now)), text("ETag", f'"{etag}"'))
        return xml_answer("CopyObjectResult", *parts)

    def delete(self, asked: Asked) -> Answer:
        """Take an object away; one that is not there is gone already."""
        place = buckets.find_open(self._rooms, asked.bucket)
        self._delete(place, [asked.key], check_of_write(asked))
        return Answer(status=204)

    def delete_many(self, asked: Asked, body: bytes) -> Answer:
        """Take many objects away, in one commit."""
        place = buckets.find_open(self._rooms, asked.bucket)
        root = parse(body, "Delete")
        wanted = root.all("Object")
        if not 0 < len(wanted) <= MOST_DELETES:
            raise S3Error("MalformedXML", f"Name between 1 and {MOST_DELETES} objects.")
        keys = [one.get("Key") or "" for one in wanted]
        _check_plain(wanted)
        self._delete(place, keys, None)
        quiet = (root.get("Quiet") or "").strip().lower() == "true"
        told = [] if quiet else [group("Deleted", [text("Key", key)]) for key in keys]
        return xml_answer("DeleteResult", *told)

    def find(self, place: Place, key: str) -> Stored:
        """The object of a key. Raises S3Error ``NoSuchKey``."""
        path = path_of(key)
        entry = None if path is None else self._rooms.store.get(place.tree, path)
        if entry is None:
            raise no_such_key(key)
        known = self._rooms.repos.facts.known(place.repo, [(entry.path, entry.digest)])
        return Stored(entry=entry, facts=known.get(entry.path))

    def source(self, asked: Asked) -> Stored:
        """What ``x-amz-copy-source`` names, if the conditions on it hold."""
        named, _, version = unquote(asked.header("x-amz-copy-source")).partition("?versionId=")
        bucket, slash, key = named.removeprefix("/").partition("/")
        if not slash or not key or version not in {"", "null"}:
            raise S3Error(
                "InvalidArgument", f"The source of the copy is {named!r}, not BUCKET/KEY."
            )
        place = buckets.find(self._rooms, bucket)
        found = self.find(place, key)
        at = found.facts.at if found.facts else place.at
        check_read(asked, etag_of_stored(found), at, {}, source=True)
        return found

    @contextmanager
    def taken_in(
        self, path: str, incoming: Incoming, length: int | None
    ) -> Iterator[bytes | Entry]:
        """The content of a body: itself where it is small, else what the store has of it now.

        A large one is durable then. Nothing refers to it yet: it is not collected before the end
        of the block.
        """
        if length is not None and length < IN_MEMORY:
            yield incoming.read()
            return
        with self._rooms.store.lease():
            with self._rooms.store.writer() as writer:
                digest, size_bytes = writer.put(cast(BinaryIO, incoming))
            yield Entry(path=path, digest=digest, size_bytes=size_bytes)

    def _content(self, entry: Entry, start: int, stop: int) -> bytes | Stream:
        source = self._rooms.store.open_file(entry.digest)
        source.seek(start)
        if stop - start > IN_MEMORY:
            return Stream(source=source, size_bytes=stop - start)
        with source:
            return _exactly(source, stop - start)

    def _delete(
        self, place: Place, keys: list[str], check: Callable[[Stored | None], None] | None
    ) -> None:
        empty = [f"/{key}" for key in keys if key.endswith("/")]
        if empty:
            self._rooms.repos.facts.remove_directories(place.repo, place.branch, empty)
        paths = [path for path in map(path_of, keys) if path is not None]
        if paths:
            self._lanes.carry_out(place.repo, place.branch, Wish(deletes=paths, check=check))

    def _directory(self, place: Place, asked: Asked) -> Answer:
        at = self._rooms.repos.facts.empty_directories(place.repo, place.branch).get(
            f"/{asked.key}"
        )
        if at is None:
            raise no_such_key(asked.key)
        headers = {
            "ETag": f'"{_EMPTY_MD5}"',
            "Last-Modified": http_date(at),
            "Content-Type": "application/x-directory",
            "Content-Length": "0",
        }
        check_read(asked, _EMPTY_MD5, at, headers)
        return Answer(headers=headers)

    def _make_directory(self, place: Place, key: str, incoming: Incoming) -> Answer:
        if incoming.read(1):
            raise S3Error("InvalidArgument", f"{key!r} ends with a slash: it can hold no bytes.")
        checked_path(key[:-1])
        incoming.received()
        self._rooms.repos.facts.make_directory(place.repo, place.branch, f"/{key}")
        return Answer(headers={"ETag": f'"{_EMPTY_MD5}"'})


def checked_path(key: str) -> str:
    """The path of a key that is to be written.

    Raises:
        S3Error: ``KeyTooLongError``, ``InvalidArgument``.
    """
    if len(key.encode()) > MAX_KEY_BYTES:
        raise S3Error("KeyTooLongError", f"A key may have {MAX_KEY_BYTES} bytes.")
    path = path_of(key)
    if path is None:
        raise S3Error(
            "InvalidArgument",
            f"{key!r} cannot be the path of a file: no empty, '.' or '..' parts, no control "
            "characters.",
        )
    return path


def received_headers(received: Received) -> dict[str, str]:
    """The checksums that were verified, said back."""
    found = {f"x-amz-checksum-{name}": value for name, value in received.checksums.items()}
    return {**found, "x-amz-checksum-type": "FULL_OBJECT"} if found else {}


def parse_range(header: str, size_bytes: int) -> tuple[int, int] | None:
    """Where a range begins and ends (exclusive); None where it is none that S3 knows.

    Raises:
        S3Error: ``InvalidRange`` where nothing of the object lies in it.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] and match[2] and int(match[2]) < int(match[1]):
        return None
    if match[1]:
        start = int(match[1])
        stop = min(int(match[2]) + 1, size_bytes) if match[2] else size_bytes
    else:
        start = max(0, size_bytes - int(match[2]))
        stop = size_bytes if int(match[2]) else start
    if start >= stop:
        raise S3Error(
            "InvalidRange",
            f"The object has {size_bytes} bytes; {header} lies behind them.",
            416,
            {"Content-Range": f"bytes */{size_bytes}"},
        )
    return start, stop


def _range(asked: Asked, size_bytes: int, headers: dict[str, str]) -> tuple[int, int]:
    """Where to begin and end; a range of several parts is answered by the whole, as S3 does."""
    found = parse_range(asked.header("range"), size_bytes) if asked.header("range") else None
    if found is None:
        return 0, size_bytes
    headers["Content-Range"] = f"bytes {found[0]}-{found[1] - 1}/{size_bytes}"
    return found


def _check_plain(wanted: list[Element]) -> None:
    for one in wanted:
        extra = set(one.texts()) - {"Key", "VersionId"}
        if extra or one.get("VersionId") not in {None, "", "null"} or not one.get("Key"):
            raise S3Error("NotImplemented", "Objects are deleted by their keys alone.", 501)


def _exactly(source: BinaryIO, size_bytes: int) -> bytes:
    pieces = []
    while size_bytes and (piece := source.read(size_bytes)):
        pieces.append(piece)
        size_bytes -= len(piece)
    return b"".join(pieces)
