"""Buckets: listed, looked into, made, removed.

Knows what S3 says of buckets; nothing of objects but their names. Runs in threads.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import quote

from clew.base.records.uploads import Facts
from clew.server.s3 import buckets
from clew.server.s3.answers import Answer, xml_answer
from clew.server.s3.buckets import Place
from clew.server.s3.committing import Rooms
from clew.server.s3.conditions import etag_of
from clew.server.s3.errors import S3Error
from clew.server.s3.headers import OWNER, check_refused
from clew.server.s3.listing import Page, list_keys
from clew.server.s3.request import Asked
from clew.server.s3.xml import group, iso, text
from clew.store import Entry

MOST_KEYS = 1000
MOST_BUCKETS = 10_000
REGION = "us-east-1"
_EMPTY_ETAG = "d41d8cd98f00b204e9800998ecf8427e"
_OWNER = group("Owner", (text("ID", OWNER), text("DisplayName", OWNER)))


class Buckets:
    """All buckets. Thread-safe."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def every(self, asked: Asked) -> Answer:
        """Every branch of every repo."""
        prefix = asked.query.get("prefix", "")
        after = _decoded(asked.query.get("continuation-token", ""))
        most = asked.number("max-buckets", MOST_BUCKETS, MOST_BUCKETS)
        found = [
            (name, at)
            for name, at in buckets.every(self._rooms.repos)
            if name.startswith(prefix) and name > after
        ]
        shown = found[:most]
        more = [text("ContinuationToken", _encoded(shown[-1][0]))] if len(found) > most else []
        listed = [
            group("Bucket", (text("Name", name), text("CreationDate", iso(at))))
            for name, at in shown
        ]
        return xml_answer("ListAllMyBucketsResult", _OWNER, group("Buckets", listed), *more)

    def head(self, asked: Asked) -> Answer:
        """That there is such a bucket."""
        buckets.find(self._rooms, asked.bucket)
        return Answer(headers={"x-amz-bucket-region": REGION})

    def location(self, asked: Asked) -> Answer:
        """No region: which is what S3 says of its first one."""
        buckets.find(self._rooms, asked.bucket)
        return xml_answer("LocationConstraint")

    def versioning(self, asked: Asked) -> Answer:
        """Never turned on: the versions of Clew are commits, and have buckets of their own."""
        buckets.find(self._rooms, asked.bucket)
        return xml_answer("VersioningConfiguration")

    def create(self, asked: Asked) -> Answer:
        """A new branch, and a repo where there is none."""
        check_refused(asked)
        buckets.create(self._rooms.repos, asked.bucket)
        return Answer(headers={"Location": f"/{asked.bucket}"})

    def delete(self, asked: Asked) -> Answer:
        """Forget a branch without files; its commits stay, by their ids."""
        place = buckets.find_open(self._rooms, asked.bucket)
        if self._rooms.store.summary(place.tree).files:
            raise S3Error("BucketNotEmpty", f"{asked.bucket} holds files.", 409)
        repos = self._rooms.repos
        if place.branch in repos.branches(place.repo):
            repos.delete_branch(place.repo, place.branch)
        repos.facts.remove_directories(place.repo, place.branch)
        return Answer(status=204)

    def keys(self, asked: Asked) -> Answer:
        """ListObjectsV2, or the first version of it."""
        place = buckets.find(self._rooms, asked.bucket)
        query = asked.query
        second = query.get("list-type") == "2"
        token = query.get("continuation-token", "")
        first = query.get("start-after", "") if second else query.get("marker", "")
        most = asked.number("max-keys", MOST_KEYS, MOST_KEYS)
        coding = query.get("encoding-type", "")
        if coding not in {"", "url"}:
            raise S3Error("InvalidArgument", "encoding-type is 'url' or not there.")
        page = list_keys(
            lambda directory, after: self._rooms.store.entries(place.tree, directory, after),
            self._empty(place),
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            after=_decoded(token) if second and token else first,
            most=most,
        )
        owned = not second or query.get("fetch-owner") == "true"
        write = _Names(coding)
        parts = [
            text("Name", asked.bucket),
            write.text("Prefix", query.get("prefix", "")),
            text("MaxKeys", most),
            text("IsTruncated", page.next is not None),
        ]
        if query.get("delimiter"):
            parts.append(write.text("Delimiter", query["delimiter"]))
        if coding:
            parts.append(text("EncodingType", coding))
        parts += self._second(page, token, first, write) if second else _first(page, first, write)
        parts += self._contents(place, page, owned, write)
        parts += [
            group("CommonPrefixes", [write.text("Prefix", prefix)]) for prefix in page.prefixes
        ]
        return xml_answer("ListBucketResult", *parts)

    def _second(self, page: Page, token: str, first: str, write: _Names) -> list[str]:
        parts = [text("KeyCount", len(page.entries) + len(page.prefixes))]
        if token:
            parts.append(text("ContinuationToken", token))
        if first:
            parts.append(write.text("StartAfter", first))
        if page.next is not None:
            parts.append(text("NextContinuationToken", _encoded(page.next)))
        return parts

    def _contents(self, place: Place, page: Page, owned: bool, write: _Names) -> list[str]:
        files = [(entry.path, entry.digest) for entry in page.entries if entry.digest]
        known = self._rooms.repos.facts.known(place.repo, files)
        return [
            _content(entry, known.get(entry.path), place, owned, write) for entry in page.entries
        ]

    def _empty(self, place: Place) -> list[Entry]:
        if not place.branch:
            return []
        paths = self._rooms.repos.facts.empty_directories(place.repo, place.branch)
        return [Entry(path=path, digest="", size_bytes=0) for path in paths]


class _Names:
    """Keys as the client wants them: as they are, or with what XML cannot say encoded."""

    def __init__(self, coding: str) -> None:
        self._coded = coding == "url"

    def text(self, name: str, key: str) -> str:
        return text(name, quote(key, safe="/") if self._coded else key)


def _first(page: Page, marker: str, write: _Names) -> list[str]:
    parts = [write.text("Marker", marker)]
    if page.next is not None:
        parts.append(write.text("NextMarker", page.next))
    return parts


def _content(entry: Entry, facts: Facts | None, place: Place, owned: bool, write: _Names) -> str:
    etag = etag_of(entry, facts.etag if facts else "") if entry.digest else _EMPTY_ETAG
    parts = [
        write.text("Key", entry.path[1:]),
        text("LastModified", iso(facts.at if facts else place.at)),
        text("ETag", f'"{etag}"'),
        text("Size", entry.size_bytes),
        text("StorageClass", "STANDARD"),
    ]
    return group("Contents", [*parts, _OWNER] if owned else parts)


def _encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _decoded(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise S3Error("InvalidArgument", "The continuation token is not one of ours.") from None
