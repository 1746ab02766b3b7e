"""kill -9 of the server amid uploads: what was answered stays, nothing is half there."""

import http.client
import random
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from clew.store import Store

BUCKET = "main.flights.late-flights"
MIB = 1 << 20
PROGRAM = """
import sys
from pathlib import Path
from clew.db import Database
from clew.repos import Repos
from clew.server import serve
from clew.server.s3 import Gateway, Rooms
from clew.store import Store
home = Path(sys.argv[1])
db = Database.open(f"sqlite:///{home}/clew.db")
db.create()
store = Store.open(home / "store")
repos = Repos(db, store)
repos.create("late-flights/flights", exist_ok=True)
serve(None, port=0, s3=lambda rules: Gateway(Rooms(repos=repos, store=store, db=db), rules),
      ready=lambda url: print(url, flush=True))
"""


class Server:
    """A server of its own process, to be killed."""

    def __init__(self, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(home)], stdout=subprocess.PIPE, text=True
        )
        self.url = self._process.stdout.readline().strip()
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="thing",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self.client.close()


@contextmanager
def running(home):
    server = Server(home)
    try:
        yield server
    finally:
        server.kill()


def noise(size, seed):
    return random.Random(seed).randbytes(size)


def keys(client):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [one["Key"] for page in pages for one in page.get("Contents", [])]


def send_half(url, path, size):
    """Begin a PUT of ``size`` bytes and send half of them; the connection, which stays open."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.putrequest("PUT", path)
    connection.putheader("Content-Length", str(size))
    connection.putheader(
        "Authorization",
        "AWS4-HMAC-SHA256 Credential=a/20260101/r/s3/aws4_request,SignedHeaders=host,Signature=0",
    )
    connection.putheader("x-amz-date", "20260101T000000Z")
    connection.endheaders()
    connection.send(noise(size // 2, 9))
    return connection


def test_an_upload_goes_on_after_the_server_was_killed(tmp_path):
    parts = [noise(5 * MIB, 1), noise(5 * MIB, 2), noise(100, 3)]
    with running(tmp_path) as server:
        s3 = server.client
        where = {"Bucket": BUCKET, "Key": "m"}
        where["UploadId"] = s3.create_multipart_upload(**where, Metadata={"k": "v"})["UploadId"]
        etags = [s3.upload_part(**where, PartNumber=1, Body=parts[0])["ETag"]]
        put = send_half(server.url, f"/{BUCKET}/half", 40 * MIB)
        part = send_half(
            server.url, f"/{BUCKET}/m?partNumber=2&uploadId={where['UploadId']}", 40 * MIB
        )
        server.kill()
        put.close()
        part.close()
    with running(tmp_path) as server:
        s3 = server.client
        assert keys(s3) == []
        assert [one["PartNumber"] for one in s3.list_parts(**where)["Parts"]] == [1]
        for number in (2, 3):
            etags.append(s3.upload_part(**where, PartNumber=number, Body=parts[number - 1])["ETag"])
        chosen = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": chosen})
        found = s3.get_object(Bucket=BUCKET, Key="m")
        assert found["Body"].read() == b"".join(parts)
        assert found["Metadata"] == {"k": "v"}


def killed_while_writing(home, kills):
    """What was answered with success in all rounds: key → content."""
    kept: dict[str, bytes] = {}
    for round_ in range(kills):
        with running(home) as server:
            enough = threading.Event()
            writers = [
                threading.Thread(target=write, args=(server, f"{round_}-{n}", kept, enough))
                for n in range(4)
            ]
            for writer in writers:
                writer.start()
            enough.wait()
            server.kill()
            for writer in writers:
                writer.join()
    return kept


def write(server, name, kept, enough):
    number = 0
    while True:
        key = f"{name}/{number}"
        content = noise(2 * MIB if number % 5 == 4 else 300, key)
        try:
            server.client.put_object(Bucket=BUCKET, Key=key, Body=content)
        except (BotoCoreError, ClientError):
            return
        kept[key] = content
        number += 1
        if number == 7:
            enough.set()


def check(home, kept):
    with running(home) as server:
        found = keys(server.client)
        assert set(kept) <= set(found)
        for key in found:
            content = server.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            number = int(key.partition("/")[2])
            assert content == noise(2 * MIB if number % 5 == 4 else 300, key)
    assert Store.open(home / "store").fsck() == []


def test_what_was_answered_outlives_a_kill(tmp_path):
    check(tmp_path, killed_while_writing(tmp_path, kills=1))


@pytest.mark.slow
def test_what_was_answered_outlives_many_kills(tmp_path):
    check(tmp_path, killed_while_writing(tmp_path, kills=25))
