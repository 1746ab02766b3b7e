"""Bytes on a real S3 server (Ceph): the laws, the lock, and all that can go wrong on the way."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clew.base.errors import ClewError, Corrupt, Denied, NotFound, Unavailable
from clew.store import Store, digest
from clew.store.address import BucketAddress, parse
from clew.store.locking import BucketLock
from clew.store.objects import Bucket
from clew.store.probing import probe
from clew.store.remote import RemoteShelf
from clew.testing.faults import FAULTS, FaultyProxy, every, never
from clew.testing.store import (
    ExclusiveConformance,
    ShelfConformance,
    StoreConformance,
    noise,
    packs_of,
    put_tree,
)

LEASE_S = 3.0
NO_FEATURES = {"patient", "benign"}


def open_bucket(address: str, **options: str) -> Bucket:
    place = parse(address, options)
    assert isinstance(place, BucketAddress)
    return Bucket.open(place)


class OnCeph:
    @pytest.fixture(autouse=True)
    def _given(self, bucket: str) -> None:
        self.bucket = bucket


class TestCephShelf(OnCeph, ShelfConformance):
    def make(self, directory: Path) -> RemoteShelf:
        bucket = open_bucket(self.bucket)
        return RemoteShelf(bucket, BucketLock(bucket, probe(bucket)))

    def test_more_names_than_a_page_holds_are_listed(self, tmp_path: Path) -> None:
        shelf = self.make(tmp_path)
        names = {f"{n:064x}.pack" for n in range(1100)}
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: shelf.put(name, [b"x"]), names))
        assert shelf.list() == names


class TestCephStore(OnCeph, StoreConformance):
    def make(self, directory: Path) -> Store:
        return Store.open(self.bucket, cache=directory.parent / f"{directory.name}.cache")


class TestCephStoreWithoutCache(OnCeph, StoreConformance):
    def make(self, directory: Path) -> Store:
        return Store.open(self.bucket)


class TestCephLock(OnCeph, ExclusiveConformance):
    def make(self, directory: Path) -> BucketLock:
        bucket = open_bucket(self.bucket)
        return BucketLock(bucket, probe(bucket))


# conditions and the lock ----------------------------------------------------------------------


def test_what_the_server_does_with_conditions_is_seen_and_litter_is_left_by_nobody(
    bucket: str,
) -> None:
    place = open_bucket(bucket)
    found = probe(place)
    assert found.kept
    assert found.bare  # this server wants ETags without quotes
    assert place.list("tmp") == {}


def test_what_was_seen_is_remembered_for_a_day_where_there_is_a_cache(
    s3: Any, bucket: str, tmp_path: Path
) -> None:
    with FaultyProxy(s3.url) as proxy:
        address = f"{bucket}?endpoint={proxy.url}"
        Store.open(address, cache=tmp_path)
        probed = len(proxy.seen)
        Store.open(address, cache=tmp_path)
        assert len(proxy.seen) == probed + 1
        Store.open(address)
        assert len(proxy.seen) > probed + 10


def test_a_lock_is_renewed_as_long_as_it_is_held(bucket: str) -> None:
    place = open_bucket(bucket)
    conditions = probe(place)
    mine, other = (BucketLock(place, conditions, LEASE_S) for _ in range(2))
    with mine.hold("merge") as held:
        until = time.monotonic() + 3 * LEASE_S
        while time.monotonic() < until:
            with other.hold("merge") as theirs:
                assert not theirs
            assert held
    with other.hold("merge") as theirs:
        assert theirs


HOLDER = """
import sys
from clew.store.address import parse
from clew.store.locking import BucketLock, Conditions
from clew.store.objects import Bucket

bucket = Bucket.open(parse(sys.argv[1]))
conditions = Conditions(create=True, update=True, bare=True)
with BucketLock(bucket, conditions, float(sys.argv[2])).hold("merge") as held:
    print(bool(held), flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_process_that_was_killed_is_taken_when_its_lease_ends_not_before(
    bucket: str,
) -> None:
    place = open_bucket(bucket)
    lock = BucketLock(place, probe(place), LEASE_S)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, bucket, str(LEASE_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "True"
        holder.send_signal(signal.SIGKILL)
        died = time.monotonic()
    while True:
        with lock.hold("merge") as mine:
            if mine:
                break
        assert time.monotonic() - died < 60
    assert time.monotonic() - died > LEASE_S * 2 / 3 - 1  # it may have been renewed up to then


def test_who_cannot_renew_the_lock_knows_that_it_is_lost_before_others_may_take_it(
    s3: Any, bucket: str
) -> None:
    direct = open_bucket(bucket)
    conditions = probe(direct)
    with FaultyProxy(s3.url) as proxy:
        far = open_bucket(bucket, endpoint=proxy.url, timeout_s="0.5", retry_s="0.5")
        with BucketLock(far, conditions, LEASE_S).hold("merge") as held:
            assert held
            proxy.choose = lambda _method, _path: "hang"
            other = BucketLock(direct, conditions, LEASE_S)
            while True:
                with other.hold("merge") as theirs:
                    if theirs:
                        assert not held
                        break
        assert not held
    with BucketLock(direct, conditions, LEASE_S).hold("merge") as mine:
        assert mine  # the one that had lost it did not free, or take, what was another's


def test_of_two_processes_that_write_for_long_no_byte_is_lost(bucket: str, tmp_path: Path) -> None:
    Store.open(bucket)
    code = (
        "import sys; from clew.store import Store\n"
        "store = Store.open(sys.argv[1])\n"
        "for n in range(60):\n"
        "    with store.writer() as writer: writer.put(b'%d of ' % n + sys.argv[2].encode())\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, bucket, str(number)]) for number in range(2)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    store = Store.open(bucket)
    found = {store.read(name) for name in names_of(60, 2)}
    assert len(found) == 120
    assert len(packs_of(store)) < 120
    assert store.fsck() == []


def names_of(each: int, writers: int) -> Iterator[str]:
    for number in range(writers):
        for n in range(each):
            yield digest("file", b"%d of %d" % (n, number))


# what goes wrong on the way -------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_now_and_then_is_got_over(s3: Any, bucket: str, fault: str, tmp_path: Path) -> None:
    with FaultyProxy(s3.url) as proxy:
        address = f"{bucket}?endpoint={proxy.url}&timeout_s=2&retry_s=20"
        store = Store.open(address)
        proxy.choose = every(5, fault)
        tree, contents = put_tree(store, 300)
        data = noise(18_000_000)
        with store.writer() as writer:
            large, _ = writer.put(data)
        reader = Store.attach(address)
        assert {e.path: reader.read(e.digest) for e in reader.entries(tree)} == contents
        assert reader.read(large) == data
        assert sum(1 for _ in proxy.seen) > 10
        proxy.choose = never
    assert Store.open(bucket).fsck() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_named_and_nothing_wrong_is_returned(
    s3: Any, bucket: str, fault: str
) -> None:
    store = Store.open(bucket)
    data = noise(500_000)
    with store.writer() as writer:
        name, _ = writer.put(data)
    with FaultyProxy(s3.url) as proxy:
        reader = Store.attach(f"{bucket}?endpoint={proxy.url}&timeout_s=1&retry_s=2")
        reader.fsck()
        proxy.choose = lambda _method, path: "" if "list-type" in path else fault
        began = time.monotonic()
        with pytest.raises((Unavailable, Corrupt)) as refused:
            reader.read(name)
        assert refused.value.code == ("object.corrupt" if fault == "flip" else "store.unreachable")
        assert refused.value.hint
        assert time.monotonic() - began < 60
        proxy.choose = never
        assert reader.read(name) == data  # and it was not taken for damaged for good


def test_a_write_that_cannot_be_done_is_named_and_may_be_done_again(s3: Any, bucket: str) -> None:
    with FaultyProxy(s3.url) as proxy:
        store = Store.open(f"{bucket}?endpoint={proxy.url}&timeout_s=1&retry_s=2")
        writer = store.writer()
        name, _ = writer.put(b"content")
        proxy.choose = lambda method, _path: "503" if method in {"PUT", "POST"} else ""
        with pytest.raises(Unavailable) as refused:
            writer.flush()
        assert refused.value.code == "store.unreachable"
        proxy.choose = never
        writer.flush()
    assert Store.open(bucket).read(name) == b"content"


@pytest.mark.parametrize("size", [1000, 20_000_000])
def test_an_upload_whose_answer_is_lost_is_there_once(s3: Any, bucket: str, size: int) -> None:
    data = noise(size)
    with FaultyProxy(s3.url) as proxy:
        store = Store.open(f"{bucket}?endpoint={proxy.url}&retry_s=20")
        lost = threading.Event()

        def first_put(method: str, path: str) -> str:
            if method in {"PUT", "POST"} and ".pack" in path and not lost.is_set():
                lost.set()
                return "lost"
            return ""

        proxy.choose = first_put
        with store.writer() as writer:
            name, _ = writer.put(data)
        assert lost.is_set()
    fresh = Store.open(bucket)
    assert fresh.read(name) == data
    assert fresh.fsck() == []


def refusal(address: str) -> ClewError:
    with pytest.raises(ClewError) as refused:
        Store.open(address)
    assert refused.value.hint
    return refused.value


def test_wrong_keys_are_denied(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert isinstance(refusal(bucket), Denied)
    assert refusal(bucket).code == "store.denied"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert refusal(bucket).code == "store.denied"


def test_missing_keys_are_denied(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    denied = refusal(f"{bucket}?timeout_s=1&retry_s=1")
    assert denied.code == "store.denied"
    assert "AWS_ACCESS_KEY_ID" in denied.hint


def test_a_bucket_that_does_not_exist_is_said_to_be_missing(bucket: str) -> None:
    missing = refusal("s3://no-such-bucket-here/x")
    assert isinstance(missing, NotFound)
    assert missing.code == "store.bucket_missing"


def test_a_server_that_is_not_there_is_unreachable(bucket: str) -> None:
    assert refusal(f"{bucket}?endpoint=http://127.0.0.1:9&retry_s=1").code == "store.unreachable"


def test_packs_without_a_format_are_not_taken_for_an_empty_store(bucket: str) -> None:
    with Store.open(bucket).writer() as writer:
        writer.put(b"content")
    open_bucket(bucket).remove("format")
    assert refusal(bucket).code == "store.format_missing"


def test_a_format_of_another_version_is_refused(bucket: str) -> None:
    Store.open(bucket)
    open_bucket(bucket).put("format", b"clew store \x02\n")
    assert refusal(bucket).code == "store.format"


# many packs, many small files -----------------------------------------------------------------


def test_indexes_of_many_packs_are_fetched_once(s3: Any, bucket: str, tmp_path: Path) -> None:
    store = Store.attach(bucket)
    names = []
    for n in range(200):
        with store.writer() as writer:
            names.append(writer.put(noise(100, n))[0])
    assert len(packs_of(store)) == 200
    with FaultyProxy(s3.url) as proxy:
        address = f"{bucket}?endpoint={proxy.url}&cache={tmp_path}"
        assert Store.attach(address).read(names[0]) == noise(100, 0)
        first = len(proxy.seen)
        assert Store.attach(address).read(names[199]) == noise(100, 199)
        assert first > 200
        assert len(proxy.seen) - first <= 4


def test_small_files_come_many_in_a_request(s3: Any, bucket: str) -> None:
    tree, contents = put_tree(Store.open(bucket), 10_000)
    with FaultyProxy(s3.url) as proxy:
        store = Store.attach(f"{bucket}?endpoint={proxy.url}")
        assert {e.path: store.read(e.digest) for e in store.entries(tree)} == contents
        assert len(proxy.seen) < 30


def test_a_tree_is_exported_by_many_hands_in_few_requests(
    s3: Any, bucket: str, tmp_path: Path
) -> None:
    tree, contents = put_tree(Store.open(bucket), 5_000)
    with FaultyProxy(s3.url) as proxy:
        store = Store.attach(f"{bucket}?endpoint={proxy.url}")
        store.export_tree(tree, "/", tmp_path / "out")
        assert len(proxy.seen) < 60
    found = {
        f"/{path.relative_to(tmp_path / 'out')}": path.read_bytes()
        for path in (tmp_path / "out").rglob("*.txt")
    }
    assert found == contents


def test_a_damaged_cache_is_no_damage(bucket: str, tmp_path: Path) -> None:
    tree, contents = put_tree(Store.open(bucket, cache=tmp_path), 500)
    Store.open(bucket, cache=tmp_path).fsck()
    assert len(list(Store.open(bucket, cache=tmp_path).entries(tree))) == 500
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    store = Store.open(bucket, cache=tmp_path)
    assert {e.path: store.read(e.digest) for e in store.entries(tree)} == contents


# the whole loop -------------------------------------------------------------------------------


def clew(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "clew.cli", *arguments],
        cwd=directory,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tensor(name: str, values: list[float]) -> dict[str, object]:
    return {"name": name, "shape": [len(values)], "datatype": "FP64", "data": values}


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The URL of the endpoints of a server over the workspace in ``directory``."""
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "clew.cli", "server", "--port=0", "--serving-port=0"],
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        for line in server.stdout:
            if "endpoints" in line:
                break
        yield json.loads((directory / ".clew" / "server.json").read_text())["serving_url"]
        server.send_signal(signal.SIGTERM)


def test_a_project_trains_and_predicts_with_its_bytes_in_a_bucket(
    s3: Any, bucket: str, tmp_path: Path
) -> None:
    clew(tmp_path, "init", "--store", f"{bucket}?endpoint={s3.url}")
    clew(tmp_path, "apply", "pipeline.py", "--json")
    put = json.loads(clew(tmp_path, "put", "tumours/measurements", "data/first.csv", "--json"))
    assert {job["state"] for job in put["jobs"]} == {"done"}
    assert json.loads(clew(tmp_path, "endpoints", "--json"))[0]["revisions"][0]["state"] == "live"
    with (tmp_path / "data" / "first.csv").open(newline="") as file:
        patient = next(csv.DictReader(file))
    row = {name: float(value) for name, value in patient.items() if name not in NO_FEATURES}
    (tmp_path / "row.json").write_text(json.dumps([row]))
    answer = json.loads(clew(tmp_path, "predict", "tumours", "@row.json", "--json"))
    why = clew(tmp_path, "why", answer["prediction_id"])
    assert "first.csv" in why
    with served(tmp_path) as url:  # serving processes read the model from the bucket, too
        columns = {name: [value] for name, value in row.items()}
        body = json.dumps({"inputs": [tensor(*one) for one in columns.items()]}).encode()
        request = urllib.request.Request(f"{url}/v2/models/tumours/infer", body)
        with urllib.request.urlopen(request, timeout=60) as found:
            assert found.headers["clew-prediction-id"]
    assert not (tmp_path / ".clew" / "store").exists()
    assert packs_of(Store.attach(bucket))
    assert Store.open(bucket).fsck() == []
