"""An open-loop load: requests come at a rate whether they are answered or not, as callers do.

Keep-alive connections with one request each; one that is due while all wait for answers goes as
soon as one is free, and its latency counts from when it was due. Run: python open_load.py URL
BODY_FILE RATE SECONDS CONNECTIONS; prints JSON. RATE 0: closed loops on all connections.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

TICK_S = 0.001


class Load:
    """What was sent and what came back. Refusals are all answers but 200."""

    def __init__(self, rate: float, seconds: float):
        self.rate, self.seconds = rate, seconds
        self.free: deque[Client] = deque()
        self.due: deque[float] = deque()
        self.statuses: Counter = Counter()
        self.took: dict[bool, list[float]] = {True: [], False: []}
        self.broken = 0
        self.until = 0.0

    def answered(self, client, status: int, due: float):
        now = time.perf_counter()
        if now < self.until:
            self.statuses[status] += 1
            self.took[status == 200].append(now - due)
        if not self.rate:
            if now < self.until:
                client.ask(now)
        elif self.due:
            client.ask(self.due.popleft())
        else:
            self.free.append(client)

    async def run(self, clients) -> dict:
        begun = time.perf_counter()
        self.until = begun + self.seconds
        if not self.rate:
            for client in clients:
                client.ask(begun)
            await asyncio.sleep(self.seconds)
            return self.report(0)
        self.free.extend(clients)
        sent = 0
        while (now := time.perf_counter()) < self.until:
            while sent < (now - begun) * self.rate:
                due = begun + sent / self.rate
                sent += 1
                if self.free:
                    self.free.popleft().ask(due)
                else:
                    self.due.append(due)
            await asyncio.sleep(TICK_S)
        return self.report(sent)

    def report(self, sent: int) -> dict:
        good, refused = sorted(self.took[True]), sorted(self.took[False])
        return {
            "offered_per_s": sent / self.seconds,
            "good_per_s": len(good) / self.seconds,
            "refused_per_s": len(refused) / self.seconds,
            "unsent": len(self.due),
            "statuses": {str(each): count for each, count in sorted(self.statuses.items())},
            "good_ms": [_at(good, 0.5), _at(good, 0.99)],
            "refused_ms": [_at(refused, 0.5), _at(refused, 0.99)],
            "broken": self.broken,
        }


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3 if ordered else 0.0


class Client(asyncio.Protocol):
    def __init__(self, load: Load, request: bytes):
        self.load, self.request, self.rest = load, request, b""

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, due: float):
        self.due = due
        self.transport.write(self.request)

    def data_received(self, data: bytes):
        data = self.rest = self.rest + data if self.rest else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        at = data.index(b"content-length: ") + 16
        if len(data) < end + 4 + int(data[at : data.index(b"\r", at)]):
            return
        self.rest = b""
        self.load.answered(self, int(data[9:12]), self.due)

    def connection_lost(self, _):
        self.load.broken += time.perf_counter() < self.load.until


async def main(address: str, body: bytes, rate: float, seconds: float, connections: int) -> dict:
    url = urlsplit(address)
    request = (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    load, loop = Load(rate, seconds), asyncio.get_running_loop()
    clients = []
    for _ in range(connections):
        made = await loop.create_connection(lambda: Client(load, request), url.hostname, url.port)
        clients.append(made[1])
    found = await load.run(clients)
    for client in clients:
        client.transport.abort()
    return found


if __name__ == "__main__":
    address, body_file, rate, seconds, connections = sys.argv[1:]
    body = Path(body_file).read_bytes()
    done = main(address, body, float(rate), float(seconds), int(connections))
    print(json.dumps(uvloop.run(done)))
