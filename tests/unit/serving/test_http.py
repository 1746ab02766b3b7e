"""HTTP/1.1 as it is spoken on the wire, against a server whose app is a few lines."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import zlib

import pytest

from clew.serving import http as clew_http
from clew.serving.dataplane import Answer
from clew.serving.http import HttpServer


class Echo:
    """Answers with what it was asked; ``/wait`` answers when ``let_go`` is called."""

    def __init__(self):
        self.waiting = []
        self.seen = []

    def __call__(self, request, reply):
        self.seen.append(request.target)
        if request.target == b"/bug":
            raise KeyError("a bug")
        if request.target == b"/wait":
            self.waiting.append(reply)
        elif request.target == b"/long":
            reply(Answer(200, b"x" * 5_000_000))
        else:
            said = [request.method, request.target.decode(), len(request.body), request.head]
            reply(Answer(200, json.dumps(said).encode()))

    def let_go(self):
        for reply in self.waiting:
            reply(Answer(200, b'"late"'))


class Client:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, data: bytes):
        self.writer.write(data)

    async def head(self):
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def answer(self, *, bare=False):
        """Status, headers and body of the next answer."""
        lines = (await self.head()).split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        size = 0 if bare else int(headers["content-length"])
        return int(lines[0].split()[1]), headers, await self.reader.readexactly(size)

    async def closed(self):
        return await self.reader.read() == b""


def served(scenario, **settings):
    """Run a scenario(server, app, connect) against a server on a real socket."""

    async def run():
        app = Echo()
        server = HttpServer(app, **settings)
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        await server.start(listener)
        clients = []

        async def connect():
            client = Client(*await asyncio.open_connection(*address))
            clients.append(client)
            return client

        try:
            async with asyncio.timeout(20):
                await scenario(server, app, connect)
                app.let_go()
                await server.drain(idle_s=0)
        finally:
            for client in clients:
                client.writer.close()

    asyncio.run(run())


GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body, headers=b"", target=b"/a"):
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST " + target + b" HTTP/1.1\r\nHost: x\r\n" + headers + length + b"\r\n" + body


def test_a_connection_is_kept_for_the_next_request():
    async def scenario(server, app, connect):
        client = await connect()
        for _ in range(3):
            client.send(GET)
            status, headers, body = await client.answer()
            assert (status, json.loads(body)) == (200, ["GET", "/a", 0, -1])
            assert "connection" not in headers
            assert "date" in headers

    served(scenario)


def test_pipelined_requests_are_answered_in_their_order():
    async def scenario(server, app, connect):
        client = await connect()
        client.send(GET.replace(b"/a", b"/wait") + post(b"12") + GET.replace(b"/a", b"/c"))
        while len(app.seen) < 3:
            await asyncio.sleep(0)
        app.let_go()
        bodies = [json.loads((await client.answer())[2]) for _ in range(3)]
        assert bodies == ["late", ["POST", "/a", 2, -1], ["GET", "/c", 0, -1]]

    served(scenario)


def test_hundreds_of_pipelined_requests_are_all_answered():
    async def scenario(server, app, connect):
        client = await connect()
        client.send(b"".join(GET.replace(b"/a", b"/%d" % at) for at in range(500)))
        for at in range(500):
            assert json.loads((await client.answer())[2])[1] == f"/{at}"

    served(scenario)


def test_a_request_may_come_byte_by_byte():
    async def scenario(server, app, connect):
        client = await connect()
        for byte in post(b"abc", target=b"/a-long-path"):
            client.send(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert json.loads((await client.answer())[2]) == ["POST", "/a-long-path", 3, -1]

    served(scenario)


def test_a_chunked_body_is_put_together():
    async def scenario(server, app, connect):
        client = await connect()
        head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + b"3\r\nabc\r\n")
        client.send(b"4\r\ndefg\r\n0\r\n\r\n" + GET)
        assert json.loads((await client.answer())[2]) == ["POST", "/a", 7, -1]
        assert (await client.answer())[0] == 200

    served(scenario)


def test_who_expects_100_continue_gets_it_before_sending():
    async def scenario(server, app, connect):
        client = await connect()
        whole = post(b"abc", b"Expect: 100-continue\r\n")
        client.send(whole[:-3])
        assert (await client.head()).startswith("HTTP/1.1 100 ")
        client.send(b"abc")
        assert json.loads((await client.answer())[2])[2] == 3

    served(scenario)


def test_an_answer_to_head_has_the_length_and_no_body():
    async def scenario(server, app, connect):
        client = await connect()
        client.send(GET.replace(b"GET", b"HEAD") + GET)
        status, headers, _ = await client.answer(bare=True)
        assert (status, int(headers["content-length"]) > 0) == (200, True)
        assert json.loads((await client.answer())[2])[0] == "GET"

    served(scenario)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_413_and_the_connection_ends(declared):
    async def scenario(server, app, connect):
        client = await connect()
        if declared:
            client.send(post(b"x" * 2000)[:200])
        else:
            head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.send(head + b"400\r\n" + b"x" * 1024 + b"\r\n")
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert "1000 bytes" in json.loads(body)["error"]
        assert await client.closed()
        assert app.seen == []

    served(scenario, limit_bytes=1000)


def test_a_head_without_end_is_431():
    async def scenario(server, app, connect):
        client = await connect()
        client.send(b"GET /a HTTP/1.1\r\n" + b"X-Y: " + b"z" * 8000 + b"\r\n" * 1)
        for _ in range(10):
            client.send(b"X-Y: " + b"z" * 8000 + b"\r\n")
        assert (await client.answer())[0] == 431

    served(scenario)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_400_and_the_connection_ends(garbage):
    async def scenario(server, app, connect):
        client = await connect()
        client.send(garbage)
        status, _, body = await client.answer()
        assert status == 400
        assert "error" in json.loads(body)
        assert await client.closed()

    served(scenario)


def test_a_bug_of_the_app_is_500_and_the_server_goes_on(caplog):
    async def scenario(server, app, connect):
        client = await connect()
        client.send(GET.replace(b"/a", b"/bug"))
        assert (await client.answer())[0] == 500
        for one in (client, await connect()):
            one.send(GET)
            assert (await one.answer())[0] == 200

    served(scenario)
    assert "a bug" in caplog.text


def test_probes_need_no_token_and_everything_else_does():
    async def scenario(server, app, connect):
        client = await connect()
        for path, status in [(b"/up", 200), (b"/up?x=1", 200), (b"/a", 401), (b"/up/", 401)]:
            client.send(GET.replace(b"/a", path))
            assert (await client.answer())[0] == status, path
        client.send(GET.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer secret\r\n\r\n"))
        assert (await client.answer())[0] == 200

    served(scenario, token="secret", open_paths=[b"/up"])


@pytest.mark.parametrize(
    ("version", "asked", "kept"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
    ],
)
def test_connections_are_kept_as_the_client_asks(version, asked, kept):
    async def scenario(server, app, connect):
        client = await connect()
        client.send(f"GET /a HTTP/{version}\r\nHost: x\r\n{asked}\r\n".encode())
        _, headers, _ = await client.answer()
        if kept:
            client.send(GET)
            assert (await client.answer())[0] == 200
        else:
            assert headers["connection"] == "close"
            assert await client.closed()

    served(scenario)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_bodies_may_be_compressed(encoding):
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[encoding]

    async def scenario(server, app, connect):
        client = await connect()
        client.send(post(packed(b"x" * 3000), f"Content-Encoding: {encoding}\r\n".encode()))
        assert json.loads((await client.answer())[2])[2] == 3000

    served(scenario)


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"not gzip", "gzip", 400),
        pytest.param(gzip.compress(b"x" * 100, mtime=0)[:-9], "gzip", 400, id="cut short"),
        pytest.param(gzip.compress(b"x" * 100_000, mtime=0), "gzip", 413, id="too large"),
        (b"x", "br", 415),
    ],
)
def test_compressed_bodies_that_are_wrong_or_too_large_are_refused(body, encoding, status):
    async def scenario(server, app, connect):
        client = await connect()
        client.send(post(body, f"Content-Encoding: {encoding}\r\n".encode()))
        assert (await client.answer())[0] == status
        client.send(GET)
        assert (await client.answer())[0] == 200

    served(scenario, limit_bytes=10_000)


def test_long_answers_are_compressed_for_who_accepts_it():
    async def scenario(server, app, connect):
        client = await connect()
        client.send(b"GET /long HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
        _, headers, body = await client.answer()
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(body) == b"x" * 5_000_000

    served(scenario)


def test_a_client_that_does_not_read_holds_nobody_else_up():
    async def scenario(server, app, connect):
        slow, quick = await connect(), await connect()
        slow.send(GET.replace(b"/a", b"/long") * 20)
        while b"/long" not in app.seen:
            await asyncio.sleep(0)
        for _ in range(10):
            quick.send(GET)
            assert (await quick.answer())[0] == 200
        assert app.seen.count(b"/long") <= 20
        for _ in range(20):
            assert len((await slow.answer())[2]) == 5_000_000

    served(scenario)


def test_a_client_that_leaves_before_its_answer_is_forgotten():
    async def scenario(server, app, connect):
        client = await connect()
        client.send(GET.replace(b"/a", b"/wait"))
        while not app.waiting:
            await asyncio.sleep(0)
        client.writer.transport.abort()
        app.let_go()
        while server.connections:
            await asyncio.sleep(0.001)

    served(scenario)


def test_a_client_that_stops_sending_still_gets_its_answer():
    async def scenario(server, app, connect):
        client = await connect()
        client.send(GET.replace(b"/a", b"/wait"))
        client.writer.write_eof()
        while not app.waiting:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        app.let_go()
        assert (await client.answer())[2] == b'"late"'
        assert await client.closed()

    served(scenario)


def test_a_drain_answers_what_was_asked_and_then_closes():
    async def scenario(server, app, connect):
        busy, idle = await connect(), await connect()
        idle.send(GET)
        await idle.answer()
        busy.send(GET.replace(b"/a", b"/wait"))
        while not app.waiting:
            await asyncio.sleep(0)
        drain = asyncio.create_task(server.drain(idle_s=0))
        assert await idle.closed()
        app.let_go()
        _, headers, body = await busy.answer()
        assert (body, headers["connection"]) == (b'"late"', "close")
        await drain

    served(scenario)


@pytest.mark.parametrize(
    ("name", "sent", "status"),
    [("REQUEST_S", GET[:-2], 408), ("IDLE_S", b"", None), ("IDLE_S", GET, 200)],
)
def test_who_is_too_slow_is_let_go(monkeypatch, name, sent, status):
    monkeypatch.setattr(clew_http, name, 0.0)

    async def scenario(server, app, connect):
        client = await connect()
        client.send(sent)
        if status is not None:
            assert (await client.answer())[0] == status
        assert await client.closed()

    served(scenario)


def test_a_token_is_asked_for_where_one_is_set():
    async def scenario(server, app, connect):
        client = await connect()
        for given, status in [("", 401), ("Bearer wrong", 401), ("Bearer secret", 200)]:
            client.send(post(b"", f"Authorization: {given}\r\n".encode()))
            assert (await client.answer())[0] == status

    served(scenario, token="secret")


def test_an_upgrade_is_answered_as_plain_http():
    async def scenario(server, app, connect):
        client = await connect()
        client.send(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert (await client.answer())[0] == 200

    served(scenario)


def test_a_wrong_header_length_is_refused():
    async def scenario(server, app, connect):
        client = await connect()
        client.send(post(b"{}", b"Inference-Header-Content-Length: two\r\n"))
        assert (await client.answer())[0] == 400
        client.send(post(b"{}", b"Inference-Header-Content-Length: 2\r\n"))
        assert json.loads((await client.answer())[2])[3] == 2

    served(scenario)
