"""Objects that come in parts: begun, added to, listed, completed, given up.

Knows S3's rules of parts; where they are kept until then is for ``repos`` to know. Parts outlive
the server; an object appears whole, in one transaction with the end of its upload.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, cast

from msgspec.structs import replace

from clew.base import clock
from clew.base.errors import NotFound
from clew.base.records.uploads import Facts, Upload, UploadPart
from clew.server.s3 import buckets, checksums
from clew.server.s3.answers import Answer, xml_answer
from clew.server.s3.committing import Lanes, Put, Rooms, Wish
from clew.server.s3.conditions import check_of_write
from clew.server.s3.errors import S3Error
from clew.server.s3.headers import OWNER, check_refused, facts_of
from clew.server.s3.incoming import Incoming
from clew.server.s3.objects import Objects, checked_path, parse_range, received_headers
from clew.server.s3.request import Asked
from clew.server.s3.xml import Element, group, iso, parse, text
from clew.store import Entry, Store

SMALLEST = 5 << 20
MOST_PARTS = 10_000
_PIECE = 1 << 20
_OWNER = (text("ID", OWNER), text("DisplayName", OWNER))
_NAMES = {name: f"Checksum{name.upper()}" for name in checksums.ALGORITHMS}


class Multipart:
    """Uploads of all buckets. Thread-safe."""

    def __init__(self, rooms: Rooms, lanes: Lanes, objects: Objects) -> None:
        self._rooms = rooms
        self._lanes = lanes
        self._objects = objects
        self._uploads = rooms.repos.uploads

    def begin(self, asked: Asked) -> Answer:
        """A new upload."""
        place = buckets.find_open(self._rooms, asked.bucket)
        check_refused(asked)
        path = checked_path(asked.key)
        facts = facts_of(asked, clock.now())
        algorithm = asked.header("x-amz-checksum-algorithm").lower()
        if algorithm and algorithm not in checksums.ALGORITHMS:
            raise S3Error("InvalidRequest", f"There is no checksum {algorithm!r}.")
        kind = asked.header("x-amz-checksum-type").upper() or _usual_kind(algorithm)
        options = {
            "headers": dict(facts.headers),
            "meta": dict(facts.meta),
            "algorithm": algorithm,
            "kind": kind,
        }
        upload = self._uploads.begin(place.repo, place.branch, path, options)
        told = {"x-amz-checksum-algorithm": algorithm.upper(), "x-amz-checksum-type": kind}
        return xml_answer(
            "InitiateMultipartUploadResult",
            text("Bucket", asked.bucket),
            text("Key", asked.key),
            text("UploadId", upload.id),
            headers=told if algorithm else {},
        )

    def put_part(self, asked: Asked, incoming: Incoming) -> Answer:
        """Keep a part. It is durable when this answers."""
        upload, number = self._open(asked), _part_number(asked)
        with self._rooms.store.lease():
            digest, size_bytes = self._stored(incoming)
            received = incoming.received()
            entry = Entry(path=upload.path, digest=digest, size_bytes=size_bytes)
            self._keep(upload, number, entry, received.md5, received.checksums)
        return Answer(headers={"ETag": f'"{received.md5}"', **received_headers(received)})

    def copy_part(self, asked: Asked) -> Answer:
        """Keep an object, or a range of one, as a part."""
        upload, number = self._open(asked), _part_number(asked)
        with self._rooms.store.lease():
            return self._copy_part(asked, upload, number)

    def _copy_part(self, asked: Asked, upload: Upload, number: int) -> Answer:
        entry = self._objects.source(asked).entry
        wanted = asked.header("x-amz-copy-source-range")
        found = parse_range(wanted, entry.size_bytes) if wanted else (0, entry.size_bytes)
        if found is None:
            raise S3Error("InvalidArgument", f"{wanted!r} is not a range such as bytes=0-99.")
        start, stop = found
        reader = _Joined(self._rooms.store, [(entry.digest, start, stop)])
        if (start, stop) == (0, entry.size_bytes):
            while reader.read(_PIECE):
                continue
        else:
            digest, size_bytes = self._stored(reader)
            entry = Entry(path=upload.path, digest=digest, size_bytes=size_bytes)
        md5 = reader.md5.hexdigest()
        at = self._keep(upload, number, entry, md5, {})
        return xml_answer(
            "CopyPartResult", text("LastModified", iso(at.at)), text("ETag", f'"{md5}"')
        )

    def complete(self, asked: Asked, body: bytes) -> Answer:
        """Commit the object that the parts make. Asked again, it says the same again."""
        upload = self._mine(asked)
        if not upload.done:
            parts = self._chosen(upload, parse(body, "CompleteMultipartUpload"))
            facts = self._facts(upload, parts)
            with self._rooms.store.lease():
                entry, facts = self._whole(asked, upload, parts, facts)
                self._commit(asked, upload, Put(path=upload.path, content=entry, facts=facts))
            upload = self._mine(asked)
        return xml_answer(
            "CompleteMultipartUploadResult",
            text("Location", f"/{asked.bucket}/{asked.key}"),
            text("Bucket", asked.bucket),
            text("Key", asked.key),
            text("ETag", f'"{upload.done}"'),
        )

    def _commit(self, asked: Asked, upload: Upload, put: Put) -> None:
        wish = Wish(
            puts=[put],
            check=check_of_write(asked),
            along=lambda tx: self._uploads.finish(tx, upload.id, put.facts.etag),
        )
        try:
            self._lanes.carry_out(upload.repo, upload.branch, wish)
        except NotFound as error:
            if not self._mine(asked).done:  # else the same was asked twice at once
                raise S3Error("NoSuchUpload", str(error), 404) from None

    def give_up(self, asked: Asked) -> Answer:
        """Forget an upload with its parts."""
        self._uploads.give_up(self._open(asked).id)
        return Answer(status=204)

    def parts(self, asked: Asked) -> Answer:
        """The parts of an upload."""
        upload = self._open(asked)
        after = asked.number("part-number-marker", 0, MOST_PARTS)
        most = asked.number("max-parts", 1000, 1000)
        behind = [part for part in self._uploads.parts(upload.id) if part.number > after]
        shown = behind[:most]
        return xml_answer(
            "ListPartsResult",
            text("Bucket", asked.bucket),
            text("Key", asked.key),
            text("UploadId", upload.id),
            group("Initiator", _OWNER),
            group("Owner", _OWNER),
            text("StorageClass", "STANDARD"),
            text("PartNumberMarker", after),
            text("NextPartNumberMarker", shown[-1].number if shown else after),
            text("MaxParts", most),
            text("IsTruncated", len(behind) > len(shown)),
            *map(_part, shown),
        )

    def uploads(self, asked: Asked) -> Answer:
        """The uploads of a bucket that are not done."""
        place = buckets.find(self._rooms, asked.bucket)
        query = asked.query
        most = asked.number("max-uploads", 1000, 1000)
        after = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
        found = [
            upload
            for upload in self._uploads.of_branch(place.repo, place.branch)
            if upload.path[1:].startswith(query.get("prefix", "")) and _behind(upload, after)
        ]
        shown = sorted(found, key=lambda upload: (upload.path, upload.id))[:most]
        last = shown[-1] if shown else None
        return xml_answer(
            "ListMultipartUploadsResult",
            text("Bucket", asked.bucket),
            text("KeyMarker", after[0]),
            text("UploadIdMarker", after[1]),
            text("NextKeyMarker", last.path[1:] if last else ""),
            text("NextUploadIdMarker", last.id if last else ""),
            text("Prefix", query.get("prefix", "")),
            text("MaxUploads", most),
            text("IsTruncated", len(found) > len(shown)),
            *map(_upload, shown),
        )

    def _mine(self, asked: Asked) -> Upload:
        """The upload that a request names, if it is of that object."""
        place = buckets.find_open(self._rooms, asked.bucket)
        try:
            upload = self._uploads.get(asked.query["uploadId"])
        except NotFound as error:
            raise S3Error("NoSuchUpload", str(error), 404) from None
        if (upload.repo, upload.branch, upload.path) != (
            place.repo,
            place.branch,
            f"/{asked.key}",
        ):
            raise S3Error("NoSuchUpload", f"Upload {upload.id} is of another object.", 404)
        return upload

    def _open(self, asked: Asked) -> Upload:
        upload = self._mine(asked)
        if upload.done:
            raise S3Error("NoSuchUpload", f"Upload {upload.id} is complete.", 404)
        return upload

    def _stored(self, source: Incoming | _Joined) -> tuple[str, int]:
        """Digest and size of a stream that is durable now."""
        with self._rooms.store.writer() as writer:
            return writer.put(cast(BinaryIO, source))

    def _keep(
        self, upload: Upload, number: int, entry: Entry, md5: str, sums: Mapping[str, str]
    ) -> UploadPart:
        part = UploadPart(
            number=number,
            digest=entry.digest,
            size_bytes=entry.size_bytes,
            md5=md5,
            checksums=sums,
            at=clock.now(),
        )
        try:
            self._uploads.add(upload.id, part)
        except NotFound as error:
            raise S3Error("NoSuchUpload", str(error), 404) from None
        return part

    def _chosen(self, upload: Upload, root: Element) -> list[UploadPart]:
        """The parts that the object is made of, in order."""
        have = {part.number: part for part in self._uploads.parts(upload.id)}
        chosen: list[UploadPart] = []
        for element in root.all("Part"):
            said = element.texts()
            number = said.get("PartNumber", "")
            part = have.get(int(number)) if number.isdigit() else None
            if part is None or not _fits(part, said):
                raise S3Error("InvalidPart", f"Part {number} is not there, or not as you say.")
            if chosen and chosen[-1].number >= part.number:
                raise S3Error("InvalidPartOrder", "The parts must be in ascending order.")
            chosen.append(part)
        if not chosen:
            raise S3Error("MalformedXML", "Name at least one part.")
        small = [part.number for part in chosen[:-1] if part.size_bytes < SMALLEST]
        if small:
            raise S3Error("EntityTooSmall", f"Part {small[0]} has fewer than {SMALLEST} bytes.")
        return chosen

    def _facts(self, upload: Upload, parts: Sequence[UploadPart]) -> Facts:
        options = upload.options
        algorithm = options["algorithm"]
        joined = hashlib.md5(usedforsecurity=False)
        for part in parts:
            joined.update(bytes.fromhex(part.md5))
        sums = {}
        if options["kind"] == "COMPOSITE" and all(algorithm in part.checksums for part in parts):
            whole = checksums.new(algorithm)
            for part in parts:
                whole.update(base64.b64decode(part.checksums[algorithm]))
            sums[algorithm] = f"{checksums.encoded(whole.digest())}-{len(parts)}"
        return Facts(
            etag=f"{joined.hexdigest()}-{len(parts)}",
            headers=options["headers"],
            meta=options["meta"],
            checksums=sums,
            at=clock.now(),
        )

    def _whole(
        self,
        asked: Asked,
        upload: Upload,
        parts: Sequence[UploadPart],
        facts: Facts,
    ) -> tuple[Entry, Facts]:
        """The object in the store, once what the client says of the whole holds."""
        size_bytes = sum(part.size_bytes for part in parts)
        said = asked.header("x-amz-mp-object-size")
        if said and said != str(size_bytes):
            raise S3Error("InvalidRequest", f"The parts have {size_bytes} bytes, not {said}.")
        promised = {
            name: asked.header(f"x-amz-checksum-{name}")
            for name in checksums.ALGORITHMS
            if asked.header(f"x-amz-checksum-{name}")
        }
        for name, value in promised.items():
            if "-" in value and facts.checksums.get(name) != value:
                raise S3Error("BadDigest", f"The parts are not what x-amz-checksum-{name} says.")
        whole = {name: value for name, value in promised.items() if "-" not in value}
        sums = {name: checksums.new(name) for name in whole}
        reader = _Joined(
            self._rooms.store, [(part.digest, 0, part.size_bytes) for part in parts], sums
        )
        digest = parts[0].digest
        if len(parts) > 1:
            digest, _ = self._stored(reader)
        elif whole:
            while reader.read(_PIECE):
                continue
        for name, value in whole.items():
            if checksums.encoded(sums[name].digest()) != value:
                raise S3Error("BadDigest", f"The object is not what x-amz-checksum-{name} says.")
        entry = Entry(path=upload.path, digest=digest, size_bytes=size_bytes)
        return entry, replace(facts, checksums={**facts.checksums, **whole})


class _Joined:
    """Ranges of files, one behind the other, as one stream to read once."""

    def __init__(
        self,
        store: Store,
        ranges: Sequence[tuple[str, int, int]],
        sums: Mapping[str, checksums.Checksum] | None = None,
    ) -> None:
        self._pieces = _pieces(store, ranges)
        self._sums = list((sums or {}).values())
        self._held = memoryview(b"")
        self.md5 = hashlib.md5(usedforsecurity=False)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, b'' only at the end."""
        if not self._held:
            piece = next(self._pieces, b"")
            self.md5.update(piece)
            for one in self._sums:
                one.update(piece)
            self._held = memoryview(piece)
        found = bytes(self._held[:size])
        self._held = self._held[size:]
        return found


def _pieces(store: Store, ranges: Sequence[tuple[str, int, int]]) -> Iterator[bytes]:
    for digest, start, stop in ranges:
        with store.open_file(digest) as source:
            source.seek(start, io.SEEK_SET)
            while start < stop and (piece := source.read(min(_PIECE, stop - start))):
                start += len(piece)
                yield piece


def _usual_kind(algorithm: str) -> str:
    return "FULL_OBJECT" if algorithm == "crc64nvme" else "COMPOSITE"


def _part_number(asked: Asked) -> int:
    given = asked.query.get("partNumber", "")
    if not given.isdigit() or not 1 <= int(given) <= MOST_PARTS:
        raise S3Error("InvalidArgument", f"partNumber must be between 1 and {MOST_PARTS}.")
    return int(given)


def _fits(part: UploadPart, said: Mapping[str, str]) -> bool:
    if said.get("ETag", "").strip().strip('"') != part.md5:
        return False
    return all(
        said.get(name, value) == value
        for name, value in ((_NAMES[one], value) for one, value in part.checksums.items())
    )


def _behind(upload: Upload, after: tuple[str, str]) -> bool:
    key, upload_id = after
    if not key:
        return True
    return upload.path[1:] > key or (upload.path[1:] == key and upload.id > upload_id > "")


def _part(part: UploadPart) -> str:
    return group(
        "Part",
        (
            text("PartNumber", part.number),
            text("LastModified", iso(part.at)),
            text("ETag", f'"{part.md5}"'),
            text("Size", part.size_bytes),
            *(text(_NAMES[name], value) for name, value in part.checksums.items()),
        ),
    )


def _upload(upload: Upload) -> str:
    return group(
        "Upload",
        (
            text("Key", upload.path[1:]),
            text("UploadId", upload.id),
            group("Initiator", _OWNER),
            group("Owner", _OWNER),
            text("StorageClass", "STANDARD"),
            text("Initiated", iso(upload.started_at)),
        ),
    )
