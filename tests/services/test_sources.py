"""Sources over real servers, each item once: PostgreSQL, Redis, Kafka's mock cluster, S3."""

import io
import json
import random
import shutil
import socket
import subprocess
import time
from collections import Counter

import boto3
import psycopg
import pyarrow.parquet as pq
import pytest

import clew
from clew.base.errors import Unavailable
from clew.db import Database
from clew.repos import Repos
from clew.sources import FeedDefinition, Sources
from clew.store import Store


class House:
    """The rooms that a source stands on, and what it has committed."""

    def __init__(self, place):
        self.place = place
        self.db = Database.open(f"sqlite:///{place}/clew.db")
        self.db.create()
        self.repos = Repos(self.db, Store.open(place / "store"))
        self.repos.create("shop/in", kind="source", exist_ok=True)
        self.sources = self.room()

    def room(self):
        return Sources(self.db, self.repos, self.place / "scratch", root=self.place)

    def define(self, feed):
        one = FeedDefinition(name="shop/in", pipeline="shop", repo="shop/in", feed=feed)
        with self.db.begin() as tx:
            self.sources.define(tx, "shop", [one])

    def poll(self):
        return self.sources.poll("shop/in")

    def contents(self):
        head = self.repos.head("shop/in")
        return [self.repos.read(head, one.path) for one in self.repos.entries(head)] if head else []

    def messages(self):
        return [json.loads(one) for text in self.contents() for one in text.splitlines()]

    def restart(self):
        self.sources.close()
        self.sources = self.room()

    def close(self):
        self.sources.close()
        self.db.close()


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    made.close()


# PostgreSQL --------------------------------------------------------------------------------------


def test_rows_of_postgresql_come_by_their_time_of_change(house, postgres):
    with psycopg.connect(postgres.url, autocommit=True) as db:
        db.execute("drop table if exists orders")
        db.execute(
            """create table orders (id bigint, price numeric(10, 2), tags text[], doc jsonb,
               raw bytea, updated_at timestamptz not null)"""
        )
        insert = """insert into orders select n, n / 4.0, array['a'], '{"k": 1}', '\\x00ff',
                    timestamptz '2024-01-01 00:00+02' + n * interval '1 minute'
                    from generate_series(%s::int, %s::int) n"""
        house.sources.close()
        house.sources = Sources(
            house.db,
            house.repos,
            house.place / "scratch",
            root=house.place,
            secret=lambda text: {"env:SHOP": postgres.url}.get(text, text),
        )
        house.define(
            clew.database(
                "select * from orders where price::text <> ':none'",
                url="env:SHOP",
                watermark="updated_at",
                overlap="5m",
                batch_rows=400,
            )
        )
        db.execute(insert, (1, 1000))
        assert len(house.poll()) == 3
        db.execute(insert, (996, 1010))  # some are there twice now, as they are in the table
        house.poll()
        rows = [
            row for one in house.contents() for row in pq.read_table(io.BytesIO(one)).to_pylist()
        ]
        in_table = db.execute("select count(*) from orders").fetchone()[0]
        assert len(rows) == in_table == 1015
        assert rows[0]["updated_at"].isoformat() == "2023-12-31T22:01:00+00:00"
        assert (rows[0]["raw"], rows[0]["doc"], rows[0]["tags"]) == (
            b"\x00\xff",
            '{"k":1}',
            '["a"]',
        )
        assert str(rows[3]["price"]) == "1.00"


# Redis -------------------------------------------------------------------------------------------


@pytest.fixture
def redis_url(tmp_path):
    pytest.importorskip("redis", reason='needs pip install "clew[redis]"')
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server here: apt-get install redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen(
        [*command, "--dir", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"redis://127.0.0.1:{port}/0"
    yield url
    server.terminate()
    server.wait()


@pytest.fixture
def stream(redis_url):
    redis = pytest.importorskip("redis")
    with redis.Redis.from_url(redis_url) as client:
        end = time.monotonic() + 30
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < end
                time.sleep(0.05)
        yield client


def feed_of_redis(url, **options):
    return clew.redis_stream("clicks", url=url, **({"batch_every": "100ms"} | options))


def test_entries_of_a_stream_are_committed_in_batches_and_acknowledged(house, redis_url, stream):
    house.define(feed_of_redis(redis_url, batch_count=40))
    for number in range(100):
        stream.xadd("clicks", {"n": number, "who": b"\xff" if number == 3 else "é"})
    commits = house.poll()
    assert [one.message.split()[0] for one in commits] == ["40", "40", "20"]
    found = house.messages()
    assert [int(one["n"]) for one in found] == list(range(100))
    assert found[3]["who"] == "base64:/w=="
    assert stream.xpending("clicks", "clew")["pending"] == 0
    assert house.sources.get("in").lag == 0


def test_entries_that_are_delivered_again_are_not_committed_again(house, redis_url, stream):
    house.define(feed_of_redis(redis_url))
    rng, sent = random.Random(7), 0
    for _ in range(12):
        for _ in range(rng.randrange(5)):
            stream.xadd("clicks", {"n": sent})
            sent += 1
        act = rng.choice(["poll", "in", "after", "restart"])
        if act == "poll":
            house.poll()
        elif act == "restart":
            house.restart()
        else:
            stream.xadd("clicks", {"n": sent})
            sent += 1
            crash(house, act)
            house.restart()
    house.poll()
    counted = Counter(int(one["n"]) for one in house.messages())
    assert counted == Counter(range(sent))
    assert stream.xpending("clicks", "clew")["pending"] == 0


def test_a_group_that_was_lost_begins_behind_what_was_committed(house, redis_url, stream):
    house.define(feed_of_redis(redis_url))
    stream.xadd("clicks", {"n": 0})
    house.poll()
    stream.xgroup_destroy("clicks", "clew")
    stream.xadd("clicks", {"n": 1})
    house.poll()
    assert [int(one["n"]) for one in house.messages()] == [0, 1]


def test_a_redis_that_is_away_is_said_and_found_again(house, tmp_path):
    pytest.importorskip("redis", reason='needs pip install "clew[redis]"')
    house.define(feed_of_redis("redis://127.0.0.1:1/0"))
    with pytest.raises(Unavailable) as raised:
        house.poll()
    assert raised.value.code == "source.queue"


# Kafka -------------------------------------------------------------------------------------------


@pytest.fixture
def brokers():
    """librdkafka's mock cluster: it lives in a producer, and speaks the real protocol."""
    kafka = pytest.importorskip("confluent_kafka", reason='needs pip install "clew[kafka]"')
    producer = kafka.Producer({"test.mock.num.brokers": 2, "bootstrap.servers": "mock"})
    metadata = producer.list_topics("clicks", timeout=30)
    servers = ",".join(f"{one.host}:{one.port}" for one in metadata.brokers.values())
    yield producer, servers
    producer.flush(30)


def send(producer, *numbers):
    for number in numbers:
        value = b"\xff\x00" if number == 3 else json.dumps({"n": number}).encode()
        producer.produce("clicks", value, key=f"k{number}", headers=[("h", b"1")])
    assert producer.flush(30) == 0


def feed_of_kafka(servers, **options):
    return clew.kafka("clicks", servers=servers, **({"batch_every": "200ms"} | options))


def numbers_of(house):
    return [one["value"]["n"] if isinstance(one["value"], dict) else 3 for one in house.messages()]


def drain(house, wanted):
    """A mock broker may take a moment to give what it has."""
    end = time.monotonic() + 60
    while len(house.messages()) < wanted and time.monotonic() < end:
        house.poll()


def test_messages_of_a_topic_are_committed_in_batches(house, brokers):
    producer, servers = brokers
    house.define(feed_of_kafka(servers, batch_count=30))
    send(producer, *range(100))
    drain(house, 100)
    assert sorted(numbers_of(house)) == list(range(100))
    one = next(one for one in house.messages() if one["key"] == "k3")
    assert (one["value"], one["headers"]) == ("base64:/wA=", {"h": "1"})
    assert all(len(text.splitlines()) <= 30 for text in house.contents())


def test_offsets_move_with_the_commits_whatever_dies_when(house, brokers):
    producer, servers = brokers
    house.define(feed_of_kafka(servers))
    rng, sent = random.Random(11), 0
    for _ in range(8):
        more = rng.randrange(1, 5)
        send(producer, *range(sent, sent + more))
        sent += more
        act = rng.choice(["poll", "in", "after", "restart"])
        if act == "poll":
            house.poll()
        elif act == "restart":
            house.restart()
        else:
            crash(house, act)
            house.restart()
    drain(house, sent)
    assert Counter(numbers_of(house)) == Counter(range(sent))


def test_latest_begins_behind_what_is_there(house, brokers):
    producer, servers = brokers
    send(producer, 1, 2)
    house.define(feed_of_kafka(servers, start="latest"))
    house.poll()
    house.restart()
    send(producer, 5)
    drain(house, 1)
    assert numbers_of(house) == [5]


# S3 ----------------------------------------------------------------------------------------------


def test_objects_of_a_bucket_come_change_and_go(house, s3, monkeypatch):
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    client = boto3.client(
        "s3",
        endpoint_url=s3.url,
        region_name="us-east-1",
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )

    def put(key, body):
        client.put_object(Bucket="clew", Key=f"inbox/{key}", Body=body)

    house.define(clew.bucket("s3://clew/inbox", glob="**/*.csv", deletes=True, batch_files=2))
    for number in range(3):
        put(f"deep/{number}.csv", b"%d" % number)
    put("other.txt", b"no")
    assert len(house.poll()) == 2
    assert sorted(house.contents()) == [b"0", b"1", b"2"]
    assert house.poll() == []
    put("deep/1.csv", b"changed")
    client.delete_object(Bucket="clew", Key="inbox/deep/0.csv")
    house.poll()
    assert sorted(house.contents()) == [b"2", b"changed"]


def crash(house, where):
    """Die in the transaction of a commit, or after it before anything was acknowledged."""

    def die(*_):
        raise KeyboardInterrupt

    if where == "in":
        house.repos.listeners.append(die)
    else:
        original, house.sources._polled = house.sources._polled, die
    try:
        house.sources.turn("shop/in")
        house.sources.turn("shop/in")
    except KeyboardInterrupt:
        pass
    finally:
        if where == "in":
            house.repos.listeners.remove(die)
        else:
            house.sources._polled = original
