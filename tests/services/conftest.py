"""Real servers for the tests in this directory: `make test-services` starts them by itself.

A test that lacks one is skipped, and says which.
"""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import boto3
import pytest

from clew.testing.postgres import PostgresServer


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind():
    """Every process that these tests start has ended after the last of them, or is said."""
    guard = beside("guard").Guard()
    yield
    left = guard.close()
    assert not left, "it outlived the tests and was killed: " + "; ".join(left)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server with a database."""
    try:
        server = PostgresServer.make()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    yield server
    server.remove()


@dataclass(frozen=True, kw_only=True)
class S3:
    """A server with one bucket, ``clew``, and the keys to it."""

    url: str
    access_key: str = "clewaccess"
    secret_key: str = "clewsecret"

    def environment(self, url: str = "") -> dict[str, str]:
        """What a user has in the environment; ``url`` is a proxy in front."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": url or self.url,
            "AWS_REGION": "us-east-1",
        }


@pytest.fixture(scope="session")
def s3():
    """Ceph's S3 server, in memory."""
    program = Path(__file__).with_name("ceph.py")
    server = subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with server:
        url = server.stdout.readline().strip()
        if not url.startswith("http"):
            server.stdin.close()
            pytest.skip(url or "Ceph did not start")
        found = S3(url=url)
        boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id=found.access_key,
            aws_secret_access_key=found.secret_key,
        ).create_bucket(Bucket="clew")
        yield found
        server.stdin.close()


@pytest.fixture(scope="session")
def homes():
    """How a workspace with its server is started, and environments of packages: ``homes.py``."""
    return beside("homes")


@pytest.fixture
def home(homes, tmp_path):
    """A user's directory, whose server ends with the test."""
    found = homes.Home(tmp_path)
    yield found
    found.stop()


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray cluster of a head without cores and two nodes with two each: ``left`` and ``right``."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: make test-services installs it")
    cluster = beside("ray_nodes").Cluster()
    try:
        cluster.add("left", resources='{"left": 2}')
        cluster.add("right", resources='{"right": 2}')
        yield cluster
    finally:
        cluster.close()


def beside(name):
    """A module beside this one."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_numbers = count()


@pytest.fixture
def bucket(s3, monkeypatch):
    """A fresh address in the bucket, with the keys in the environment."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://clew/test-{next(_numbers)}"
