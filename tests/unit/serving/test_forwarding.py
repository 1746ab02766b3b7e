"""Requests that go on to a cluster: answered once, in time, and no more of them than may wait."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clew.serving import forwarding
from clew.serving.dataplane import Call, Route
from clew.serving.forwarding import Forwarding
from clew.serving.http import HttpServer


class Cluster(ThreadingHTTPServer):
    """Answers as it is told; while ``open`` is not set, it answers nothing."""

    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.media = 200, b"{}", "application/json"
        self.told: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Semaphore(0)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.append(self.path)
        self.server.told.append({name.lower(): each for name, each in self.headers.items()})
        self.server.asked.release()
        self.server.open.wait(60)
        self.send_response(self.server.status)
        self.send_header("content-type", self.server.media)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def handle(self):
        with suppress(OSError):  # who asked has gone: it is what these tests are about
            super().handle()


@pytest.fixture
def cluster():
    server = Cluster()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.open.set()
    server.shutdown()
    thread.join()
    server.server_close()


def forwarded(cluster, scenario, threads=1, max_queue=1024):
    """Run scenario(plane, ask) with a plane of so many threads; ``ask`` gives a future."""

    async def run():
        loop = asyncio.get_running_loop()
        plane = Forwarding(loop, cluster.url, "")
        plane._threads.shutdown()
        plane._threads = ThreadPoolExecutor(threads)
        plane.follow({"e": Route("e", [], max_queue=max_queue)})

        def ask(**more):
            future = loop.create_future()
            plane.submit(
                Call(kind="v2", endpoint="e", version="", body=b"{}", head=-1,
                     reply=future.set_result, **more)
            )  # fmt: skip
            return future

        try:
            return await scenario(plane, ask)
        finally:
            cluster.open.set()
            for _ in range(threads):  # what the pool's threads keep
                await loop.run_in_executor(plane._threads, plane._drop)
            plane.close()

    return asyncio.run(run())


def test_after_an_answer_that_did_not_come_in_time_the_next_one_comes(cluster, monkeypatch):
    monkeypatch.setattr(forwarding, "TIMEOUT_S", 0.2)

    async def scenario(_, ask):
        cluster.open.clear()
        late = await ask()
        cluster.open.set()
        monkeypatch.setattr(forwarding, "TIMEOUT_S", 30.0)
        return late, [await ask() for _ in range(3)]

    late, after = forwarded(cluster, scenario)
    assert late.status == 503
    assert b"does not answer" in late.body
    assert [each.status for each in after] == [200, 200, 200]


def test_beyond_the_room_of_an_endpoint_requests_are_refused(cluster):
    async def scenario(plane, ask):
        cluster.open.clear()
        taken = [ask() for _ in range(3)]
        refused = await ask()
        assert plane.in_flight == 3
        cluster.open.set()
        answers = [await each for each in taken]
        return refused, answers, await ask(), plane.in_flight

    refused, answers, after, left = forwarded(cluster, scenario, max_queue=3)
    assert refused.status == 429
    assert [each.status for each in answers] == [200, 200, 200]
    assert (after.status, left) == (200, 0)


def test_what_is_late_before_its_turn_is_not_passed_on(cluster):
    async def scenario(_, ask):
        gone = await ask(timeout_s=-1)
        return gone, await ask()

    gone, after = forwarded(cluster, scenario)
    assert (gone.status, after.status) == (504, 200)
    assert len(cluster.told) == 1


def test_who_waits_no_longer_than_so_gets_504_from_a_cluster_that_is_slow(cluster):
    async def scenario(_, ask):
        cluster.open.clear()
        return await ask(timeout_s=0.2)

    assert forwarded(cluster, scenario).status == 504


def test_the_rest_of_the_deadline_and_the_trace_go_along(cluster):
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    async def scenario(_, ask):
        await ask(timeout_s=600.0, headers={b"traceparent": trace, b"tracestate": b"a=1"})
        await ask()

    forwarded(cluster, scenario)
    first, second = cluster.told
    assert 0 < int(first["x-request-timeout-ms"]) <= 600_000
    assert (first["traceparent"], first["tracestate"]) == (trace.decode(), "a=1")
    assert not {"x-request-timeout-ms", "traceparent", "tracestate"} & second.keys()


@pytest.mark.parametrize(
    ("status", "media", "wanted"),
    [(502, "text/html", 503), (302, "text/html", 503), (500, "text/plain", 500)],
)
def test_what_a_proxy_says_is_an_error_in_our_words(cluster, status, media, wanted):
    cluster.status, cluster.media, cluster.body = status, media, b"<p>Ahem"

    async def scenario(_, ask):
        return await ask()

    answer = forwarded(cluster, scenario)
    assert (answer.status, answer.media) == (wanted, "application/json")
    assert b"<p>Ahem" in answer.body


def test_a_length_of_the_head_that_is_no_number_costs_one_answer(cluster, monkeypatch):
    send = Handler.end_headers

    def also(self):
        self.send_header("inference-header-content-length", "many")
        send(self)

    monkeypatch.setattr(Handler, "end_headers", also)

    async def scenario(plane, ask):
        return await ask(), plane.in_flight

    answer, left = forwarded(cluster, scenario)
    assert (answer.status, left) == (500, 0)


def test_a_status_without_a_word_of_ours_is_still_an_answer():
    class Teapot:
        status, body, media, head, identity, allow, trace = 418, b"{}", "a/b", -1, None, "", ""

    class Plain:
        zipped, old, bare = b"", False, False

    server = HttpServer(lambda *_: None)
    assert server.render(Teapot(), Plain(), True).startswith(b"HTTP/1.1 418 Unknown\r\n")


def test_a_question_why_goes_where_the_model_is_with_what_graphs_ask_for(cluster):
    class Graph:
        headers = frozenset({"x-tier"})

    async def scenario(plane, ask):
        runtime = type("Runtime", (), {"graph": Graph()})()
        plane.routes["e"].versions["1"] = runtime
        done = asyncio.get_running_loop().create_future()
        plane.explain("v2", "e", "", b"{}", -1, done.set_result)
        await done
        await ask(headers={b"x-tier": b"gold", b"cookie": b"mine"})

    forwarded(cluster, scenario)
    assert cluster.paths == ["/v2/models/e/explain", "/v2/models/e/infer"]
    assert cluster.told[1]["x-tier"] == "gold"
    assert "cookie" not in cluster.told[1]
