"""A small load generator for ModelInfer over gRPC: closed loops, the same bytes for every server.

Raw HTTP/2 frames on asyncio, so that the client costs little and equally: gRPC's own Python client
is slower than the servers that are measured. Run: python grpc_load.py HOST:PORT MODEL INPUT
CONCURRENCY SECONDS; prints JSON.
"""

import asyncio
import json
import statistics
import struct
import sys
import time

import uvloop

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CONNECTIONS = 4
WINDOW = 1 << 30


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: str) -> bytes:
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def field(number: int, value: bytes) -> bytes:
    """A protobuf field of bytes; all here are shorter than 16,384."""
    size = bytes([len(value)]) if len(value) < 128 else bytes([len(value) & 127 | 128,
                                                              len(value) >> 7])  # fmt: skip
    return bytes([number << 3 | 2]) + size + value


def request(model: str, name: str) -> bytes:
    """One row of 30 FP64 values in raw_input_contents."""
    tensor = field(1, name.encode()) + field(2, b"FP64") + field(3, b"\x01\x1e")
    raw = struct.pack("<30d", *(n / 30 for n in range(30)))
    message = field(1, model.encode()) + field(5, tensor) + field(7, raw)
    return b"\0" + struct.pack(">I", len(message)) + message


class Client(asyncio.Protocol):
    """One connection with several streams under way; a new one for each that has its answer."""

    def __init__(self, body: bytes, address: str, streams: int, until: float, took: list[float]):
        named = {":method": "POST", ":scheme": "http", ":authority": address, "te": "trailers",
                 ":path": "/inference.GRPCInferenceService/ModelInfer",
                 "content-type": "application/grpc"}  # fmt: skip
        self.block = b"".join(header(*each) for each in sorted(named.items()))
        self.body, self.streams, self.until, self.took = body, streams, until, took
        self.begun: dict[int, float] = {}
        self.failed, self.next, self.rest = 0, 1, b""
        self.data_bytes = 0
        self.given: set[int] = set()
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        settings = struct.pack(">HIHI", 2, 0, 4, (1 << 31) - 1)
        start = frame(4, 0, 0, settings) + frame(8, 0, 0, struct.pack(">I", WINDOW))
        transport.write(PREFACE + start + b"".join(self.ask() for _ in range(self.streams)))

    def ask(self) -> bytes:
        id, self.next = self.next, self.next + 2
        self.begun[id] = time.perf_counter()
        return frame(1, 4, id, self.block) + frame(0, 1, id, self.body)

    def data_received(self, data: bytes):
        data, out, at = self.rest + data, [], 0
        while len(data) - at >= 9:
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if len(data) - at - 9 < size:
                break
            kind, flags = data[at + 3], data[at + 4]
            id = int.from_bytes(data[at + 5 : at + 9], "big")
            payload = data[at + 9 : at + 9 + size]
            at += 9 + size
            if kind == 4 and not flags & 1:
                out.append(frame(4, 1, 0, b""))
            elif kind == 6 and not flags & 1:
                out.append(frame(6, 1, 0, payload))
            elif kind == 0:
                self.data_bytes += size
                self.given.add(id)
            elif kind in {3, 7}:
                self.failed += 1
            if kind in {0, 1} and flags & 1:
                now = time.perf_counter()
                self.failed += id not in self.given  # a refusal is trailers alone
                self.given.discard(id)
                self.took.append(now - self.begun.pop(id))
                if now < self.until:
                    out.append(self.ask())
        self.rest = data[at:]
        if self.data_bytes > WINDOW // 2:
            out.append(frame(8, 0, 0, struct.pack(">I", self.data_bytes)))
            self.data_bytes = 0
        if out:
            self.transport.write(b"".join(out))
        if not self.begun and not self.done.done():
            self.transport.close()

    def connection_lost(self, _):
        self.failed += len(self.begun)
        if not self.done.done():
            self.done.set_result(None)


async def load(address: str, model: str, name: str, concurrency: int, seconds: float) -> dict:
    host, port = address.rsplit(":", 1)
    took: list[float] = []
    until = time.perf_counter() + seconds
    connections = min(CONNECTIONS, concurrency)
    loop = asyncio.get_running_loop()
    body = request(model, name)
    clients = [
        (await loop.create_connection(
            lambda: Client(body, address, concurrency // connections, until, took), host, int(port)
        ))[1] for _ in range(connections)
    ]  # fmt: skip
    await asyncio.gather(*(each.done for each in clients))
    cuts = statistics.quantiles(took, n=100)
    return {
        "per_s": len(took) / seconds,
        "p50_ms": cuts[49] * 1e3,
        "p99_ms": cuts[98] * 1e3,
        "failed": sum(each.failed for each in clients),
    }


if __name__ == "__main__":
    address, model, name, concurrency, seconds = sys.argv[1:]
    done = load(address, model, name, int(concurrency), float(seconds))
    print(json.dumps(uvloop.run(done)))
