"""A server with the S3 door over a store of its own, and real clients for it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import boto3
import obstore.store
import pyarrow.fs
import pytest
from botocore.config import Config

from clew.db import Database
from clew.repos import Repos
from clew.server.s3 import Gateway, Rooms
from clew.store import Store
from clew.testing.postgres import database_url

TOKEN = "a-long-random-token"
BUCKET = "main.flights.late-flights"
REPO = "late-flights/flights"


@dataclass(frozen=True)
class Door:
    """A running gateway and what is behind it."""

    url: str
    repos: Repos
    token: str

    def boto(self, *, key="clew", secret=None, **config):
        """The client of the AWS SDK for Python."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret or self.token or "anything",
            config=Config(
                **{"signature_version": "s3v4", "retries": {"total_max_attempts": 1}, **config}
            ),
        )

    def arrow(self):
        """The filesystem of Arrow: the AWS SDK for C++."""
        return pyarrow.fs.S3FileSystem(
            access_key="clew",
            secret_key=self.token or "anything",
            endpoint_override=self.url.removeprefix("http://"),
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )

    def rust(self, bucket=BUCKET):
        """The client of the crate object_store."""
        return obstore.store.S3Store(
            bucket,
            endpoint=self.url,
            access_key_id="clew",
            secret_access_key=self.token or "anything",
            region="us-east-1",
            client_options={"allow_http": True},
            virtual_hosted_style_request=False,
        )

    def files(self):
        """Paths at the head of the repo."""
        head = self.repos.head(REPO)
        return [] if head is None else [entry.path for entry in self.repos.entries(head)]

    def log(self):
        """Messages of the commits, newest first."""
        return [commit.message for commit in self.repos.log(REPO, limit=10_000)]


@pytest.fixture(autouse=True)
def _plain_clients(monkeypatch):
    """No proxy, no metadata service, no configuration of the machine."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def rooms(tmp_path):
    db = Database.open(database_url(tmp_path))
    db.create()
    store = Store.open(tmp_path / "store")
    repos = Repos(db, store)
    repos.create(REPO)
    yield Rooms(repos=repos, store=store, db=db)
    db.close()


class Frame:
    """What a server that outlives a test asks: the gateway of the test that runs."""

    def __init__(self):
        self.rules = None
        self.gateway = None

    def framed(self, rules):
        self.rules = rules
        return self

    def answers(self, scope):
        return self.gateway.answers(scope)

    async def __call__(self, scope, receive, send):
        await self.gateway(scope, receive, send)


@pytest.fixture(scope="module")
def frames(fake, serving):
    """Two servers: one that asks for a token, one that does not."""
    locked, free = Frame(), Frame()
    verbs = fake.FakeVerbs()
    with (
        serving(verbs, token=TOKEN, s3=locked.framed) as one,
        serving(verbs, s3=free.framed) as other,
    ):
        yield (locked, one), (free, other)


@pytest.fixture
def door(rooms, frames):
    frame, url = frames[0]
    frame.gateway = Gateway(rooms, frame.rules)
    return Door(url, rooms.repos, TOKEN)


@pytest.fixture
def open_door(rooms, frames):
    """Without a token, as on loopback."""
    frame, url = frames[1]
    frame.gateway = Gateway(rooms, frame.rules)
    return Door(url, rooms.repos, "")


@pytest.fixture
def s3(door):
    client = door.boto()
    yield client
    client.close()
