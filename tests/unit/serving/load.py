"""A small load generator on raw sockets: closed loops that count and check every answer.

Knows nothing of Clew but the names of its headers. Also a program: load.py HOST PORT PATH.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Report:
    """What a load saw. ``failures``: connections that broke before an answer was whole."""

    statuses: Counter = field(default_factory=Counter)
    revisions: Counter = field(default_factory=Counter)
    ids: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    latencies_s: list = field(default_factory=list)
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        return sum(self.statuses.values())

    def quantile_ms(self, share):
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3 if ordered else None


def request(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def read_answer(reader: asyncio.StreamReader):
    """Status, headers (bytes, lower case) and body of one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    return int(lines[0].split()[1]), headers, body


class Load:
    """Closed loops against one server, until told to stop or for a number of requests."""

    def __init__(self, host, port, payload: bytes, *, concurrency=16, keep_ids=True):
        self.host, self.port, self.payload = host, port, payload
        self.concurrency, self.keep_ids = concurrency, keep_ids
        self.report = Report()
        self.stopping = False
        self.started = asyncio.Event()

    async def run(self, seconds: float | None = None) -> Report:
        began = time.perf_counter()
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, self.stop)
        await asyncio.gather(*(self._client() for _ in range(self.concurrency)))
        self.report.seconds = time.perf_counter() - began
        return self.report

    def stop(self) -> None:
        self.stopping = True

    async def _client(self) -> None:
        while not self.stopping:
            try:
                reader, writer = await asyncio.open_connection(self.host, self.port)
            except OSError as error:
                self.report.failures.append(repr(error))
                return
            await self._loop(reader, writer)
            writer.close()

    async def _loop(self, reader, writer) -> None:
        report = self.report
        while not self.stopping:
            began = time.perf_counter()
            try:
                writer.write(self.payload)
                status, headers, _ = await read_answer(reader)
            except (OSError, asyncio.IncompleteReadError) as error:
                report.failures.append(repr(error))
                return
            report.latencies_s.append(time.perf_counter() - began)
            report.statuses[status] += 1
            if self.keep_ids and b"clew-prediction-id" in headers:
                report.ids.append(headers[b"clew-prediction-id"].decode())
                report.revisions[headers[b"clew-revision"].decode()] += 1
            self.started.set()
            if headers.get(b"connection") == b"close":
                return


class _Quick(asyncio.Protocol):
    """One closed loop with as little work as possible: for measuring the server."""

    def __init__(self, payload, report, ends):
        self.payload, self.report, self.ends = payload, report, ends
        self.done = asyncio.get_running_loop().create_future()
        self.buffer = b""

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        self.began = time.perf_counter()
        self.transport.write(self.payload)

    def data_received(self, data):
        data = self.buffer = self.buffer + data
        end = data.find(b"\r\n\r\n")
        at = data.find(b"content-length: ")
        if end < 0 or len(data) < end + 4 + int(data[at + 16 : data.index(b"\r", at)]):
            return
        self.buffer = b""
        now = time.perf_counter()
        self.report.latencies_s.append(now - self.began)
        self.report.statuses[int(data[9:12])] += 1
        if now < self.ends:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, exc):
        if exc:
            self.report.failures.append(repr(exc))
        self.done.set_result(None)


async def measure(host, port, payload, *, concurrency, seconds) -> Report:
    """Requests a second and latencies, with a client that costs little itself."""
    report = Report(seconds=seconds)
    ends = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Quick(payload, report, ends), host, port)
        for _ in range(concurrency)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    return report


if __name__ == "__main__":
    import uvloop

    host, port, path, rounds = sys.argv[1], int(sys.argv[2]), sys.argv[3], 3
    width = 30
    row = [round(0.1 * at, 3) for at in range(width)]
    tensor = {"name": "input-0", "shape": [1, width], "datatype": "FP64", "data": row}
    payload = request(path, json.dumps({"inputs": [tensor]}).encode())
    for concurrency in (1, 16, 64):
        for _ in range(rounds):
            work = measure(host, port, payload, concurrency=concurrency, seconds=2.0)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                report = runner.run(work)
            print(
                f"{concurrency:3} {report.answered / report.seconds:9.0f}/s "
                f"p50 {report.quantile_ms(0.5):.3f} ms p99 {report.quantile_ms(0.99):.3f} ms "
                f"max {max(report.latencies_s) * 1e3:.1f} ms {dict(report.statuses)}"
            )


def under_load(process, scenario, body, *, concurrency=16):
    """The report of clients of the endpoint ``e`` while ``scenario`` ran in a thread."""
    place = urlsplit(process.url)
    payload = request("/v2/models/e/infer", body)
    clients = Load(place.hostname, place.port, payload, concurrency=concurrency)

    async def run():
        task = asyncio.create_task(clients.run())
        await clients.started.wait()
        try:
            await asyncio.to_thread(scenario, clients.report)
        finally:
            clients.stop()
        return await task

    return asyncio.run(run())
