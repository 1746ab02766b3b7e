"""A bucket of an object store (S3, GCS, Azure) through obstore: named bytes below one prefix.

Knows requests, conditions, tries and what servers answer; knows nothing of packs and locks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from clew.base.errors import ClewError, Denied, Invalid, NotFound, Unavailable
from clew.store.address import BucketAddress

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")
Version = Mapping[str, str]
"""What a conditional update names: the ETag and, where there is one, the generation."""

PART_BYTES = 8 * 1024 * 1024
_TRIES = 4
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")
_DENIED = (
    *("401 Unauthorized", "403 Forbidden", "AccessDenied", "InvalidAccessKeyId"),
    *("SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
)
_NO_KEYS = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")  # asked for a role
_KEYS_HINT = (
    "Check the credentials in the environment (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
    "AWS_REGION) and what they may do with the bucket."
)
_UNSUPPORTED = ("501 Not Implemented", "NotImplemented", "NotSupported")


class Short(Exception):
    """Fewer bytes came than were announced."""


class Stored(Struct, frozen=True, kw_only=True):
    """What stands under a name: its bytes, its version and when the server took it in."""

    data: bytes
    version: Version
    modified: datetime


class Bucket:
    """Named bytes below one prefix. Thread-safe. Names may hold slashes.

    Every request is tried again where that may help, within ``retry_s`` each; what goes on failing
    raises Unavailable ``store.unreachable``, Denied ``store.denied`` or NotFound
    ``store.bucket_missing``. A missing name raises FileNotFoundError.
    """

    def __init__(self, store: ObjectStore, address: BucketAddress, errors: type[Exception]) -> None:
        """``errors`` is what the store's library raises."""
        self._store = store
        self._errors = errors
        self.address = address
        self.place = address.place

    @classmethod
    def open(cls, address: BucketAddress) -> Bucket:
        """The bucket at ``address``; nothing is asked of it yet.

        Credentials come from ``address.config``, else from where the providers' own tools look:
        AWS_*, GOOGLE_* and AZURE_* in the environment, or the machine's role.

        Raises:
            Invalid: ``store.address`` for an option that the client does not know.
        """
        from obstore.exceptions import BaseError  # noqa: PLC0415 - heavy, the door stays cheap
        from obstore.store import from_url  # noqa: PLC0415 - as above

        config: Any = dict(address.config)
        client: Any = {
            "timeout": timedelta(seconds=address.timeout_s),
            "connect_timeout": timedelta(seconds=min(10.0, address.timeout_s)),
            "pool_idle_timeout": timedelta(seconds=30),
            "allow_http": True,  # an endpoint is http:// only where somebody wrote that
        }
        config.pop("allow_http", None)
        try:
            store = from_url(
                f"{address.scheme}://{address.bucket}/{address.prefix}".rstrip("/"),
                config=config,
                client_options=client,
                retry_config={
                    "max_retries": 8,
                    "retry_timeout": timedelta(seconds=address.retry_s),
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=100),
                        "max_backoff": timedelta(seconds=min(8.0, address.retry_s / 4)),
                        "base": 2,
                    },
                },
            )
        except (BaseError, ValueError, TypeError) as error:
            raise Invalid(
                "store.address",
                f"{address.place} cannot be used: {_brief(error)}.",
                hint="Check the options of the store's address.",
            ) from error
        return cls(store, address, BaseError)

    def put(self, name: str, data: bytes) -> None:
        """Keep ``data`` as ``name``, whole or not at all, whatever stood there. Durable on return.

        More than two parts of 8 MiB go up in parts, side by side.
        """
        large = len(data) > 2 * PART_BYTES
        self._again(lambda: self._store.put(name, data, use_multipart=large, chunk_size=PART_BYTES))

    def create(self, name: str, data: bytes) -> Version | None:
        """Keep ``data`` as ``name`` if nothing stands there; None where something does.

        ``data`` must be unlike any other's: an answer that was lost is told by what stands there.

        Raises:
            NotImplementedError: the server says that it knows no conditions.
        """
        return self._conditional(name, data, "create")

    def update(self, name: str, data: bytes, version: Version) -> Version | None:
        """Keep ``data`` as ``name`` if it still has ``version``; None where it has another.

        As for :meth:`create`.
        """
        return self._conditional(name, data, dict(version))

    def get(self, name: str) -> Stored:
        """All of what stands under ``name``."""

        def whole() -> Stored:
            found = self._store.get(name)
            data = bytes(found.bytes())
            if len(data) != found.meta["size"]:
                raise Short(f"{len(data)} of {found.meta['size']} bytes came")
            modified: datetime = found.meta["last_modified"]
            return Stored(data=data, version=_version(found.meta), modified=modified)

        return self._again(whole)

    def read(self, name: str, offset: int, size: int) -> tuple[bytes, int]:
        """Up to ``size`` bytes from ``offset`` (fewer only at the end), and how many there are."""

        def part() -> tuple[bytes, int]:
            try:
                found = self._store.get(name, options={"range": (offset, offset + size)})
            except self._errors as error:
                return self._odd_range(error, name, offset, size)
            data, total = bytes(found.bytes()), int(found.meta["size"])
            start = int(found.range[0])
            if start != offset or len(data) != max(0, min(size, total - offset)):
                raise Short(f"{len(data)} bytes of {name} came where {size} were asked for")
            return data, total

        return self._again(part) if size > 0 else (b"", self.size(name))

    def tail(self, name: str, size: int) -> tuple[bytes, int]:
        """The last ``size`` bytes, all where there are fewer, and how many there are in all."""

        def last() -> tuple[bytes, int]:
            try:
                found = self._store.get(name, options={"range": {"suffix": size}})
            except self._errors as error:
                if not _is_odd_range(error):
                    raise
                data = self.get(name).data  # shorter than the suffix: some servers refuse that
                return data[max(0, len(data) - size) :], len(data)
            data, total = bytes(found.bytes()), int(found.meta["size"])
            if len(data) != min(size, total):
                raise Short(f"{len(data)} bytes of {name} came where {size} were asked for")
            return data, total

        return self._again(last) if size > 0 else (b"", self.size(name))

    def size(self, name: str) -> int:
        """How many bytes stand under ``name``."""
        return self._again(lambda: int(self._store.head(name)["size"]))

    def list(self, folder: str) -> dict[str, datetime]:
        """Every name below ``folder``, without it, and when it was taken in; over all pages."""

        def all_pages() -> dict[str, datetime]:
            found: dict[str, datetime] = {}
            for page in self._store.list(folder, chunk_size=1000):
                for one in page:
                    found[one["path"].removeprefix(f"{folder}/")] = one["last_modified"]
            return found

        return self._again(all_pages)

    def listing(self) -> dict[str, str]:
        """Every name of the bucket below its prefix, and its ETag; over all pages.

        Where a server gives no ETag, the size and the time of the last change stand for it. Names
        that end in a slash and hold nothing are folders of some tools, and left out.
        """

        def all_pages() -> dict[str, str]:
            return {
                one["path"]: one["e_tag"] or f"{one['size']}-{one['last_modified'].isoformat()}"
                for page in self._store.list(None, chunk_size=1000)
                for one in page
                if one["size"] or not one["path"].endswith("/")
            }

        return self._again(all_pages)

    def fetch(self, name: str, target: Path) -> str:
        """Write what stands under ``name`` to a file; its ETag (or what stands for it).

        One answer of the server: no mixture of two versions. Raises FileNotFoundError.
        """

        def whole() -> str:
            found = self._store.get(name)
            with target.open("wb") as file:
                for part in found.stream(min_chunk_size=PART_BYTES):
                    file.write(part)
            meta = found.meta
            if target.stat().st_size != meta["size"]:
                raise Short(f"{target.stat().st_size} of {meta['size']} bytes came")
            return meta["e_tag"] or f"{meta['size']}-{meta['last_modified'].isoformat()}"

        return self._again(whole)

    def remove(self, name: str) -> None:
        """Let go of ``name``; a missing one is no error."""

        def gone() -> None:
            try:
                self._store.delete(name)
            except FileNotFoundError as error:
                if _mentions(str(error), _NO_BUCKET):
                    raise

        self._again(gone)

    def _conditional(self, name: str, data: bytes, mode: Any) -> Version | None:
        from obstore import exceptions as failed  # noqa: PLC0415 - heavy, the door stays cheap

        def once() -> Version | None:
            try:
                return _version(self._store.put(name, data, mode=mode, use_multipart=False))
            except (failed.AlreadyExistsError, failed.PreconditionError):
                return self._own(name, data)
            except FileNotFoundError as error:
                if _mentions(str(error), _NO_BUCKET):
                    raise
                return None  # an update of what is gone
            except failed.NotSupportedError as error:
                raise NotImplementedError(_brief(error)) from error
            except self._errors as error:
                if _mentions(str(error), _UNSUPPORTED):
                    raise NotImplementedError(_brief(error)) from error
                if "409 Conflict" in str(error):  # another writer is at it: as good as second
                    return self._own(name, data)
                raise

        return self._again(once)

    def _own(self, name: str, data: bytes) -> Version | None:
        """The version of ``name`` where it holds ``data``: the try before had come through."""
        try:
            found = self.get(name)
        except FileNotFoundError:
            return None
        return found.version if found.data == data else None

    def _odd_range(self, error: Exception, name: str, offset: int, size: int) -> tuple[bytes, int]:
        if not _is_odd_range(error):
            raise error
        total = self.size(name)
        if offset >= total:
            return b"", total
        data = self.get(name).data  # a server that answers a range with the whole
        return data[offset : offset + size], len(data)

    def _again(self, act: Callable[[], T]) -> T:
        """``act``, tried a few times: obstore itself does not repeat writes that timed out."""
        deadline = time.monotonic() + self.address.retry_s
        for attempt in range(1, _TRIES + 1):
            try:
                with self._translated():
                    return act()
            except Unavailable:
                if attempt == _TRIES or time.monotonic() > deadline:
                    raise
                time.sleep(min(0.1 * 2**attempt, 2.0))
        raise AssertionError

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the library says into errors with a next step. FileNotFoundError passes."""
        try:
            yield
        except (self._errors, OSError, ValueError, Short) as error:
            if isinstance(error, FileNotFoundError) and not _mentions(str(error), _NO_BUCKET):
                raise
            raise _meaning(error, self.place) from error


def _meaning(error: Exception, place: str) -> ClewError:
    text = str(error)
    if _mentions(text, _NO_BUCKET):
        return NotFound(
            "store.bucket_missing",
            f"There is no bucket for {place}.",
            hint="Create the bucket, or name another one in the address of the store.",
        )
    if _mentions(text, _NO_KEYS):
        return Denied(
            "store.denied",
            f"{place} needs credentials, and none were found.",
            hint=_KEYS_HINT,
        )
    kind = type(error).__name__
    if kind in {"PermissionDeniedError", "UnauthenticatedError"} or _mentions(text, _DENIED):
        return Denied(
            "store.denied",
            f"{place} refuses this user: {_brief(error)}.",
            hint=_KEYS_HINT,
        )
    return Unavailable(
        "store.unreachable",
        f"{place} did not do what was asked: {_brief(error)}.",
        hint="Check the network and the object store, then do this again: nothing is lost.",
    )


def _mentions(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


def _brief(error: Exception) -> str:
    """The first line of a message of the library, without its debug part."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()[:300].rstrip(".")


def _is_odd_range(error: Exception) -> bool:
    text = str(error)
    return "416 " in text or "non-partial response" in text


def _version(found: Any) -> Version:
    return {key: found[key] for key in ("e_tag", "version") if found.get(key)}
