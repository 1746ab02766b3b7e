"""Opens a store in a bucket: what the bucket can do, its format, its lock, its local cache.

Knows how the parts of a remote store are put together; knows nothing of objects.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from msgspec.structs import asdict

from clew.base.errors import Corrupt, Invalid, Unavailable
from clew.store import probing
from clew.store.address import BucketAddress
from clew.store.digests import key_of
from clew.store.keeping import Keep
from clew.store.locking import BucketLock, Conditions, Exclusive, Never
from clew.store.objects import Bucket
from clew.store.remote import PACKS, RemoteShelf

FORMAT_VERSION = 1
_FORMAT = b"clew store "
FORMAT = _FORMAT + bytes([FORMAT_VERSION]) + b"\n"
_REMEMBER_S = 24 * 3600
_LOOKS = 3


def version_of(data: bytes) -> int | None:
    """The version that a format file tells; None where it is none."""
    if not data.startswith(_FORMAT) or len(data) != len(FORMAT) or not data.endswith(b"\n"):
        return None
    return data[len(_FORMAT)]


def encode_format(version: int) -> bytes:
    """The bytes of the format file of a version."""
    return _FORMAT + bytes([version]) + b"\n"


def check_format(place: str, data: bytes, *, newest: int = FORMAT_VERSION) -> None:
    """Refuse a store that another version of Clew wrote.

    Raises:
        Invalid: ``store.format``.
    """
    version = version_of(data)
    if version == newest:
        return
    raise Invalid(
        "store.format",
        f"{place} says format {version}; this version of Clew reads format {newest}.",
        hint="Use the version of Clew that wrote this workspace, or upgrade Clew.",
    )


def open_shelf(
    address: BucketAddress, exclusive: Exclusive | None
) -> tuple[RemoteShelf, Keep | None]:
    """The shelf in a bucket, made on first use, and what is kept of it here.

    The lock stands in the bucket if that keeps conditional writes: it is tried out now, unless it
    was within a day and the cache remembers. Else ``exclusive`` is taken, and must be given.

    Raises:
        Unavailable: ``store.unconditional``, ``store.unreachable``; Denied ``store.denied``;
            NotFound ``store.bucket_missing``; Invalid ``store.address``, ``store.format``;
            Corrupt ``store.format_missing``.
    """
    bucket = Bucket.open(address)
    _settle_format(bucket)
    home = _cache_of(address)
    lock = _own_lock(bucket, home) or exclusive
    if lock is None:
        raise _unconditional(bucket)
    return RemoteShelf(bucket, lock), _keep(home)


def attach_shelf(address: BucketAddress) -> tuple[RemoteShelf, Keep | None]:
    """As :func:`open_shelf`, for a process that only adds: it is never alone, and needs no lock."""
    bucket = Bucket.open(address)
    _settle_format(bucket)
    return RemoteShelf(bucket, Never()), _keep(_cache_of(address))


def _keep(home: Path | None) -> Keep | None:
    return None if home is None else Keep(home)


def _settle_format(bucket: Bucket) -> None:
    try:
        data = bucket.get("format").data
        for _ in range(_LOOKS):
            if data == FORMAT:
                return
            data = bucket.get("format").data  # it may have been spoilt on its way
        check_format(f"{bucket.place}/format", data)
    except FileNotFoundError:
        if bucket.list(PACKS):
            raise Corrupt(
                "store.format_missing",
                f"{bucket.place} holds packs, but its format object is gone.",
                hint="Restore the object `format` from a backup or a version of the bucket.",
            ) from None
        bucket.put("format", FORMAT)


def _own_lock(bucket: Bucket, home: Path | None) -> BucketLock | None:
    conditions = _remembered(home)
    if conditions is None:
        conditions = probing.probe(bucket)
        _remember(home, conditions)
    return BucketLock(bucket, conditions) if conditions.kept else None


def _unconditional(bucket: Bucket) -> Unavailable:
    return Unavailable(
        "store.unconditional",
        f"{bucket.place} ignores conditional writes: of several writers that each asked to be the "
        "only one, more came through.",
        hint="Open it with a lock from elsewhere (a workspace lends that of its database), or use "
        "an object store that keeps If-None-Match and If-Match.",
    )


def _cache_of(address: BucketAddress) -> Path | None:
    if address.cache is None:
        return None
    endpoint = address.config.get("endpoint", "")
    return address.cache / key_of("address", f"{address.place} {endpoint}".encode()).hex()[:16]


def _remembered(home: Path | None) -> Conditions | None:
    """What was seen of the bucket within a day; None where it must be tried out."""
    if home is None:
        return None
    try:
        seen = json.loads((home / "conditions.json").read_text())
        if not 0 <= time.time() - seen.pop("seen_at") < _REMEMBER_S:
            return None
        found = Conditions(**{key: value is True for key, value in seen.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found


def _remember(home: Path | None, conditions: Conditions) -> None:
    if home is not None:
        with suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"seen_at": time.time(), **asdict(conditions)})
            (home / "conditions.json").write_text(text)
