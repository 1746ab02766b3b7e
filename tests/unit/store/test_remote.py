"""A bucket that is seen through: how much is asked of it, and the lock in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import BaseError, NotSupportedError
from obstore.store import MemoryStore

from clew.base.errors import Unavailable
from clew.store.address import BucketAddress
from clew.store.locking import BucketLock, Conditions, Never
from clew.store.objects import Bucket
from clew.store.probing import probe
from clew.store.remote import RemoteShelf

KEPT = Conditions(create=True, update=True)


class Counted(Bucket):
    """Remembers the sizes that were asked for."""

    def __init__(self, store: Any) -> None:
        super().__init__(store, BucketAddress(scheme="s3", bucket="memory"), BaseError)
        self.sizes: list[int] = []

    def read(self, name: str, offset: int, size: int) -> tuple[bytes, int]:
        self.sizes.append(size)
        return super().read(name, offset, size)


@pytest.fixture
def bucket() -> Counted:
    return Counted(MemoryStore())


@pytest.fixture
def shelf(bucket: Counted) -> RemoteShelf:
    return RemoteShelf(bucket, Never())


def test_small_reads_one_behind_the_other_come_in_few_requests(
    bucket: Counted, shelf: RemoteShelf
) -> None:
    data = bytes(range(256)) * 80_000  # 20 MB
    shelf.put("a.pack", [data])
    for at in range(0, len(data), 5000):
        assert shelf.read("a.pack", at, 4900) == data[at : at + 4900]
    assert len(bucket.sizes) <= 8
    assert max(bucket.sizes) <= 8 * 1024 * 1024


def test_a_read_somewhere_costs_what_it_asks_for_or_a_little(
    bucket: Counted, shelf: RemoteShelf
) -> None:
    data = bytes(30_000_000)
    shelf.put("a.pack", [data])
    for at in range(29_000_000, 0, -2_000_000):
        shelf.read("a.pack", at, 1_000_000)
    assert bucket.sizes == [1_000_000] * 15
    shelf.read("a.pack", 500_000, 100)
    assert bucket.sizes[-1] <= 128 * 1024


def test_what_was_read_ahead_is_bounded(bucket: Counted, shelf: RemoteShelf) -> None:
    for n in range(20):
        shelf.put(f"{n}.pack", [bytes(8 * 1024 * 1024)])
        shelf.read(f"{n}.pack", 0, 8 * 1024 * 1024)
    assert shelf._held == sum(len(window.data) for window in shelf._windows.values())
    assert shelf._held <= 64 * 1024 * 1024
    for n in range(20):
        shelf.remove(f"{n}.pack")
    assert shelf._held == 0


def test_conditions_that_are_kept_are_told_from_those_that_are_not(bucket: Counted) -> None:
    assert probe(bucket) == KEPT

    class Careless(MemoryStore):
        def put(self, name: str, data: bytes, **options: Any) -> Any:
            return super().put(name, data)

    class CreatesAlone(MemoryStore):
        def put(self, name: str, data: bytes, **options: Any) -> Any:
            mode = "create" if options.get("mode") == "create" else "overwrite"
            return super().put(name, data, mode=mode)

    class Refuses(MemoryStore):
        def put(self, name: str, data: bytes, **options: Any) -> Any:
            if options.get("mode") not in {None, "overwrite"}:
                raise NotSupportedError("501 Not Implemented")
            return super().put(name, data)

    assert probe(Counted(Careless())) == Conditions(create=False, update=False)
    assert probe(Counted(CreatesAlone())) == Conditions(create=True, update=False)
    assert not probe(Counted(Refuses())).kept
    assert bucket.list("tmp") == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"lease_s": "long"}'])
def test_a_lock_that_was_damaged_is_held_until_its_lease_would_have_ended(
    bucket: Counted, content: bytes
) -> None:
    bucket.put("locks/merge", content)
    with BucketLock(bucket, KEPT, lease_s=30).hold("merge") as mine:
        assert not mine


def test_a_lock_that_was_let_go_of_stays_as_a_name_without_a_lease(bucket: Counted) -> None:
    lock = BucketLock(bucket, KEPT)
    with lock.hold("merge") as mine:
        assert mine
        assert json.loads(bucket.get("locks/merge").data)["lease_s"] == 30
    assert json.loads(bucket.get("locks/merge").data)["lease_s"] == 0
    assert bucket.list("tmp") == {}


def test_who_was_robbed_of_a_lock_neither_frees_nor_keeps_it(bucket: Counted) -> None:
    lock = BucketLock(bucket, KEPT, lease_s=0.3)
    with lock.hold("merge") as mine:
        bucket.put("locks/merge", json.dumps({"holder": "other", "lease_s": 1000}).encode())
        while mine:
            pass
    assert json.loads(bucket.get("locks/merge").data)["holder"] == "other"


def test_an_answer_that_was_lost_is_told_by_what_stands_there(tmp_path: Path) -> None:
    class Forgetful(MemoryStore):
        def put(self, name: str, data: bytes, **options: Any) -> Any:
            result = super().put(name, data, **options)
            if options.get("mode") == "create" and not lost:
                lost.append(name)
                raise OSError("connection reset")
            return result

    lost: list[str] = []
    bucket = Counted(Forgetful())
    assert bucket.create("name", b"mine") is not None
    assert lost == ["name"]
    assert bucket.create("name", b"another's") is None


def test_a_server_that_never_answers_is_unreachable_after_a_few_tries() -> None:
    class Dead(MemoryStore):
        def head(self, name: str) -> Any:
            tries.append(name)
            raise OSError("connection refused")

    tries: list[str] = []
    with pytest.raises(Unavailable) as refused:
        Counted(Dead()).size("name")
    assert refused.value.code == "store.unreachable"
    assert 1 < len(tries) < 10
