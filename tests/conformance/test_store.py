"""Every shelf, lock and store keeps its law: on the local disk, and over HTTP in a bucket.

The bucket is rclone's S3 server over a directory: a real server, and one that ignores conditions,
so that the lock is the database's. `make test-services` runs the same over Ceph.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.exceptions import BaseError
from obstore.store import MemoryStore

from clew.base.errors import Unavailable
from clew.db import Database
from clew.store import Store
from clew.store.address import BucketAddress
from clew.store.local import Disk, LocalShelf
from clew.store.locking import BucketLock, Conditions
from clew.store.objects import Bucket
from clew.store.probing import probe
from clew.store.remote import RemoteShelf
from clew.testing.store import ExclusiveConformance, ShelfConformance, StoreConformance
from clew.workspace.lending import DatabaseLock

KEYS = ("clewaccess", "clewsecret")
RCLONE = Path(sys.executable).with_name("rclone")


# local disk -----------------------------------------------------------------------------------


class TestLocalShelf(ShelfConformance):
    def make(self, directory: Path) -> LocalShelf:
        for name in ("packs", "tmp"):
            (directory / name).mkdir(exist_ok=True)
        return LocalShelf(directory / "packs", directory / "tmp", Disk())


class TestLocalStore(StoreConformance):
    def make(self, directory: Path) -> Store:
        return Store.open(directory / "store")


# a bucket -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with one bucket, ``clew``."""
    root = tmp_path_factory.mktemp("buckets")
    (root / "clew").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(RCLONE), "serve", "s3", "--auth-key", ",".join(KEYS), "--vfs-cache-mode=off"]
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--addr=127.0.0.1:{port}", str(root)], stdout=log, stderr=log
        )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture
def environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user has in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    db = Database.open(f"sqlite:///{tmp_path_factory.mktemp('rows') / 'clew.db'}")
    yield db
    db.close()


class InBucket:
    @pytest.fixture(autouse=True)
    def _given(self, environment: None, database: Database) -> None:
        self.lock = DatabaseLock(database)

    def address(self, directory: Path) -> str:
        return f"s3://clew/{directory.parent.name}/{directory.name}"


class TestBucketShelf(InBucket, ShelfConformance):
    def make(self, directory: Path) -> RemoteShelf:
        address = self.address(directory).removeprefix("s3://clew/")
        return RemoteShelf(
            Bucket.open(BucketAddress(scheme="s3", bucket="clew", prefix=address)), self.lock
        )


class TestBucketStore(InBucket, StoreConformance):
    def make(self, directory: Path) -> Store:
        cache = directory.parent / f"{directory.name}.cache"
        return Store.open(self.address(directory), exclusive=self.lock, cache=cache)


class TestBucketThatIgnoresConditions(InBucket):
    def test_it_is_found_out(self, tmp_path: Path) -> None:
        found = probe(Bucket.open(BucketAddress(scheme="s3", bucket="clew", prefix=tmp_path.name)))
        assert not found.kept

    def test_without_another_lock_it_is_refused_and_the_next_step_is_named(
        self, tmp_path: Path
    ) -> None:
        for _ in range(2):  # what a cache remembers refuses as well
            with pytest.raises(Unavailable) as refused:
                Store.open(self.address(tmp_path), cache=tmp_path)
            assert refused.value.code == "store.unconditional"
            assert "lock" in refused.value.hint

    def test_a_process_that_only_adds_needs_no_lock(self, tmp_path: Path) -> None:
        store = Store.attach(self.address(tmp_path))
        for n in range(40):
            with store.writer() as writer:
                writer.put(b"%d" % n)
        assert sum(name.endswith(".pack") for name in store._shelf.list()) == 40
        assert Store.attach(store.address).fsck() == []


# locks ----------------------------------------------------------------------------------------


class TestDatabaseLock(ExclusiveConformance):
    @pytest.fixture(autouse=True)
    def _given(self, database: Database) -> None:
        self.db = database

    def make(self, directory: Path) -> DatabaseLock:
        return DatabaseLock(self.db)


class TestBucketLock(ExclusiveConformance):
    """Over obstore's store in memory, which keeps conditions; over Ceph in tests/services."""

    @pytest.fixture(autouse=True)
    def _given(self) -> None:
        address = BucketAddress(scheme="s3", bucket="memory")
        self.bucket = Bucket(MemoryStore(), address, BaseError)

    def make(self, directory: Path) -> BucketLock:
        return BucketLock(self.bucket, Conditions(create=True, update=True))

    def test_a_store_that_keeps_conditions_is_seen_to(self) -> None:
        assert probe(self.bucket) == Conditions(create=True, update=True)
