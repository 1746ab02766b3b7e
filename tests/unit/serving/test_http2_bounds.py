"""What one client can make a server keep, or do, is bounded; by counts, with a clock of our own."""

from __future__ import annotations

import asyncio
import threading

import pytest

pytest.importorskip("google.protobuf", reason='not installed: pip install "clew[grpc]"')
pytest.importorskip("h2", reason='not installed: pip install "clew[grpc]"')
import hpack

from clew.serving import http2, questions
from clew.serving.dataplane import DataPlane, refusal
from clew.serving.grpc_calls import GrpcApp, Messages, Method, Refused
from clew.serving.grpc_server import GrpcServer
from clew.serving.http import Request
from clew.serving.http2 import Connection, Http2Server
from clew.serving.parking import Parked
from clew.serving.rest import Rest
from clew.serving.sleeping import Wake, Wakes
from clew.serving.streams import Stream

from .conftest import Wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
HEAD, TAIL = ((b":status", b"200"),), ((b"grpc-status", b"0"),)
ANSWER = HEAD, bytes(100), TAIL
STATISTICS = "/inference.GRPCInferenceService/ModelStatistics"


class Client:
    def __init__(self, server):
        self.wire, self.connection = Wire(), Connection(server)
        self.connection.connection_made(self.wire)
        self.connection.data_received(PREFACE)
        self.send(SETTINGS, 0, 0)
        self.begun_s = self.connection.now_s

    def send(self, kind, flags, id, payload=b""):
        head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + id.to_bytes(4, "big")
        self.connection.data_received(head + payload)

    def open(self, id, path, flags=4):
        named = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
                 "content-type": "application/grpc"}  # fmt: skip
        block = hpack.Encoder().encode([(*each, True) for each in named.items()])  # no table
        self.send(HEADERS, flags, id, block)

    def after(self, seconds):
        self.connection.sweep(self.begun_s + seconds)

    def told(self, kind):
        self.connection._flush()
        return self.wire.frames(kind)

    def ended(self):
        """Streams that were ended without an answer, and the codes."""
        return {id: code[3] for id, code in reversed(self.told(RST))}  # the first of each

    def code(self):
        return [said[7] for _, said in self.told(GOAWAY)]


@pytest.fixture
def server(loop):
    def nobody(_):
        raise Refused(16, "no token")

    def stream(rpc):
        Messages(rpc, lambda _: None, rpc.finish)

    methods = {
        "/closed": Method(nobody, lambda rpc, raw: rpc.reply(raw)),
        "/echo": Method(lambda _: None, lambda rpc, raw: rpc.reply(raw)),
        "/large": Method(lambda _: None, lambda rpc, raw: rpc.reply(bytes(100_000))),
        "/never": Method(lambda _: None, lambda rpc, raw: None),
        "/stream": Method(lambda _: None, begin=stream),
    }
    return Http2Server(loop, GrpcApp(methods, limit_bytes=64 << 20))


@pytest.fixture
def client(server):
    return Client(server)


def message(size):
    return b"\0" + size.to_bytes(4, "big") + bytes(size)


def window(size):
    return (4).to_bytes(2, "big") + size.to_bytes(4, "big")


def test_who_has_no_token_is_refused_before_anything_of_the_body_is_kept(client):
    client.open(1, "/closed")
    client.send(DATA, 0, 1, bytes(16_000))
    assert client.told(HEADERS)
    assert (client.connection.held, client.connection._streams) == (0, {})


def test_a_request_that_does_not_end_is_given_up_after_a_minute(client):
    for id, path in [(1, "/echo"), (3, "/stream"), (5, "/stream"), (7, "/echo")]:
        client.open(id, path)
    client.send(DATA, 0, 1, message(9)[:7])
    client.send(DATA, 0, 3, message(9)[:7])
    client.send(DATA, 0, 5, message(9))  # a stream may be silent between its messages
    client.after(59)
    for _ in range(40):
        client.send(DATA, 0, 7, bytes(16_000))  # half a window: it goes on
    assert client.ended() == {}
    client.after(62)
    assert client.ended() == {1: 8, 3: 8}
    assert client.connection.held == 40 * 16_000
    client.after(122)
    assert client.ended() == {1: 8, 3: 8, 7: 8}
    assert client.connection.held == client.connection.coming == 0


def test_one_message_after_a_long_silence_has_its_time_again(client):
    client.open(1, "/stream")
    client.after(1000)
    client.send(DATA, 0, 1, message(9)[:7])
    client.after(1059)
    assert client.ended() == {}
    client.after(1062)
    assert client.ended() == {1: 8}


def test_an_answer_of_which_nothing_is_taken_is_given_up_after_a_minute(client):
    client.send(SETTINGS, 0, 0, window(0))
    for id in (1, 3, 5):
        client.open(id, "/never")
        client.send(DATA, 1, id, message(100))
    client.after(1000)
    assert client.ended() == {}  # what is computed takes as long as it takes
    for id in (1, 3):
        client.connection._streams[id].answer(*ANSWER)
    assert client.connection.untaken == 200
    client.after(1059)
    client.send(WINDOW, 0, 3, (5).to_bytes(4, "big"))
    client.after(1062)
    assert client.ended() == {1: 8}
    client.after(1120)
    assert client.ended() == {1: 8, 3: 8}
    assert client.connection.untaken == 0
    assert set(client.connection._streams) == {5}


def test_an_end_waits_seconds_for_who_does_not_go_on(client, server):
    client.send(SETTINGS, 0, 0, window(0))
    for id in (1, 3):
        client.open(id, "/echo")
    client.send(DATA, 1, 3, message(100))
    server.draining = True
    client.after(4)
    assert client.ended() == {}
    client.after(6)
    assert client.ended() == {1: 8, 3: 8}


def test_no_more_comes_than_is_kept_of_a_connection(client, monkeypatch):
    monkeypatch.setattr(http2, "HELD_BYTES", 1 << 20)
    monkeypatch.setattr(http2, "WINDOW_BYTES", 1 << 17)

    def given():
        return sum(int.from_bytes(more, "big") for id, more in client.told(WINDOW) if not id)

    for id in range(1, 41, 2):
        client.open(id, "/never")
        for at in range(4):
            client.send(DATA, at == 3, id, message(63_995)[at * 16_000 :][:16_000])
    before = given()
    assert client.connection.held == 20 * 64_000  # all whole, and not answered
    client.send(RST, 0, 1, b"\0\0\0\x08")
    assert given() == before
    for id in range(3, 11, 2):
        client.send(RST, 0, id, b"\0\0\0\x08")
    assert given() - before > 1 << 16  # there is room again, and all that came may come


def test_requests_that_never_end_do_not_take_the_room_of_others(client, monkeypatch):
    monkeypatch.setattr(http2, "HELD_BYTES", 100_000)
    for id in (1, 3):
        client.open(id, "/echo")
        for _ in range(3):
            client.send(DATA, 0, id, bytes(16_000))
    client.send(DATA, 0, 3, bytes(16_000))
    assert client.ended() == {3: 11}
    assert client.connection.coming == 48_000


def test_who_takes_no_answers_is_not_asked_for_more(client, monkeypatch):
    monkeypatch.setattr(http2, "HELD_BYTES", 150_000)
    client.send(SETTINGS, 0, 0, window(0))
    for id in (1, 3, 5):
        client.open(id, "/large")
        client.send(DATA, 1, id, message(1))
    assert client.ended() == {5: 7}
    assert client.connection.untaken == 200_010


def test_a_body_in_tiny_parts_takes_as_much_memory_as_in_one(client):
    client.open(1, "/echo")
    for at in range(0, 900, 2):
        client.send(DATA, at == 898, 1, message(895)[at : at + 2])
    assert client.told(DATA) == [(1, message(895))]


class Counted(bytes):
    """Bytes that count what is copied of them."""

    copied = 0

    def __getitem__(self, key):
        found = Counted(super().__getitem__(key))
        Counted.copied += len(found)
        return found


def test_a_large_answer_is_copied_once(client):
    client.send(SETTINGS, 0, 0, window(1 << 30))
    client.send(WINDOW, 0, 0, (1 << 30).to_bytes(4, "big"))
    client.open(1, "/never")
    body = Counted(bytes(range(256)) * 8192)
    Counted.copied = 0
    client.connection._streams[1].answer(HEAD, body, TAIL)
    assert Counted.copied <= 2 * len(body)
    assert b"".join(part for _, part in client.told(DATA)) == body


def test_settings_cost_what_they_cost_also_between_requests(client):
    for id in range(1, 2001, 2):
        client.open(id, "/never")
    for at in range(200):
        client.send(SETTINGS, 0, 0, window(70_000 + at))
        client.send(DATA, 0, 1, b"x")
    assert client.code() == [11]


def test_more_room_on_a_connection_looks_at_those_alone_that_wait_for_it(client, monkeypatch):
    for id in range(1, 401, 2):
        client.open(id, "/never")
    for id in (401, 403, 405):
        client.open(id, "/large")
        client.send(WINDOW, 0, id, (1 << 20).to_bytes(4, "big"))
        client.send(DATA, 1, id, message(1))
    pumped = []
    pump = Stream.pump
    monkeypatch.setattr(Stream, "pump", lambda stream: [pumped.append(stream.id), pump(stream)][1])
    for _ in range(20):
        client.send(WINDOW, 0, 0, (1).to_bytes(4, "big"))
    assert len(pumped) == 20
    client.send(WINDOW, 0, 0, (1 << 20).to_bytes(4, "big"))
    for id in (401, 403, 405):
        assert sum(len(part) for of, part in client.told(DATA) if of == id) == 100_005


def test_who_gives_up_all_that_it_asks_is_closed_and_who_has_answers_is_not(server, monkeypatch):
    monkeypatch.setattr(http2, "GIVEN_UP", 100)
    gives_up, mixed = Client(server), Client(server)
    for id in range(1, 501, 2):
        gives_up.open(id, "/never")
        gives_up.send(DATA, 1, id, message(0))
        gives_up.send(RST, 0, id, b"\0\0\0\x08")
        mixed.open(id, "/never" if id % 4 == 1 else "/echo")
        mixed.send(DATA, 1, id, message(0))
        mixed.send(RST, 0, id, b"\0\0\0\x08")
    assert gives_up.code() == [11]
    assert gives_up.connection.frames.highest_inbound_stream_id == 2 * http2.GIVEN_UP + 1
    assert mixed.code() == []


def test_who_asks_nothing_makes_room_where_there_is_none(loop):
    methods = {"/never": Method(lambda _: None, lambda rpc, raw: None)}
    server = Http2Server(loop, GrpcApp(methods, limit_bytes=100), most=3)
    idle, deaf, busy = (Client(server) for _ in range(3))
    busy.open(1, "/never")
    busy.send(DATA, 1, 1, message(0))
    late = Client(server)
    assert (late.wire.closed, server.refused, len(server.connections)) == (True, 1, 3)
    for each in (idle, deaf, busy):
        each.after(59)
        assert each.code() == []
        each.after(61)
    assert [each.code() for each in (idle, deaf, busy)] == [[0], [0], []]
    ((_, asked),) = idle.told(PING)
    idle.send(PING, 1, 0, asked)
    idle.told(PING)
    for each in (idle, deaf, busy):
        each.after(67)
    assert [each.wire.closed for each in (idle, deaf, busy)] == [True, True, False]


class Desk:
    """Answers when it is told to."""

    def __init__(self):
        self.may = threading.Event()

    def statistics(self, name, version):
        self.may.wait()
        return []

    def load(self, name):
        self.may.wait()

    def metrics(self):
        self.may.wait()
        return "told"


def test_more_questions_than_may_wait_are_refused_and_the_others_are_answered():
    desk = Desk()

    async def ask():
        loop, answers = asyncio.get_running_loop(), []
        plane = DataPlane(loop, None)
        client = Client(GrpcServer(loop, plane, desk, version="1", limit_bytes=1 << 20)._server)
        client.send(SETTINGS, 0, 0, window(1 << 20))
        rest = Rest(loop, plane, desk, "1")
        count = questions.MOST + 3
        done = asyncio.Event()

        def reply(answer):
            answers.append(answer.status)
            if len(answers) == count + 1:
                done.set()

        for at in range(count):
            client.open(1 + 2 * at, STATISTICS)
            client.send(DATA, 1, 1 + 2 * at, message(0))
            rest(_request(b"POST", b"/v2/repository/models/x/load"), reply)
        rest(_request(b"GET", b"/metrics"), reply)  # which has places of its own
        assert answers == [429] * 3
        decoder = hpack.Decoder()
        codes = [dict(decoder.decode(block, raw=True)) for _, block in client.told(HEADERS)]
        assert [code[b"grpc-status"] for code in codes] == [b"8"] * 3
        desk.may.set()
        await done.wait()
        while client.connection._streams:
            await asyncio.sleep(0)
        plane.close()
        return answers

    try:
        assert asyncio.run(ask()) == [429] * 3 + [200] * (questions.MOST + 1)
    finally:
        desk.may.set()


def _request(method, target):
    return Request(method.decode(), target, b"", -1, {}, "")


class Sleeping:
    def __init__(self, **asleep):
        self.asleep = {"": asleep["why"]}


def test_one_that_cannot_go_on_does_not_hold_up_those_behind_it(caplog):
    parked, acted = Parked(), []

    def broken(*_):
        raise RuntimeError("a bug")

    for act, fail in [(broken, broken), (lambda: acted.append("on"), acted.append)] * 2:
        assert parked.take("m", "", act, fail, 9)
    parked.follow({})
    assert acted == ["on", "on"]
    for act, fail in [(broken, broken), (broken, acted.append)]:
        parked.take("m", "", act, fail, 9)
    parked.follow({"m": Sleeping(why="no room")})
    assert acted == ["on", "on", "no room"]
    assert len(caplog.records) == 3


def test_an_answer_that_cannot_be_told_does_not_hold_up_those_behind_it(loop, caplog):
    plane, told = DataPlane(loop, None), []

    class Asked:
        endpoint = "m"

        def __init__(self, reply):
            self.reply = reply

    plane._outbox = [(Asked(None), refusal(500, "x")), (Asked(told.append), refusal(500, "y"))]
    plane._flush()
    plane.close()
    assert [answer.status for answer in told] == [500]
    assert "could not be told" in caplog.text


def test_one_request_to_what_sleeps_costs_one_attempt():
    wakes = Wakes()
    for _ in range(3):
        wakes.ask(Wake("m", ""))
    wakes.ask(Wake("m", "1"))
    _, asked = wakes.get()
    assert wakes.is_new("revision", asked)
    wakes.ask(Wake("m", ""))  # routes are published while it is loaded
    wakes.fail("revision")
    for _ in range(2):
        assert not wakes.is_new("revision", wakes.get()[1])
    wakes.ask(Wake("m", ""))
    assert wakes.is_new("revision", wakes.get()[1])


def test_who_asks_after_an_attempt_is_not_taken_for_who_asked_before_it():
    wakes = Wakes()
    wakes.ask(Wake("m", ""))
    wakes.fail("revision")
    wakes.ask(Wake("m", ""))
    assert wakes.is_new("revision", wakes.get()[1])
    wakes.fail("revision")
    wakes.ask(Wake("m", "", threading.Event()))
    assert wakes.is_new("revision", wakes.get()[1])
    wakes.ask(None)
    assert wakes.get()[0] is None
