"""A small load generator: keep-alive connections that send one fixed request again and again.

The same for every server, in a process of its own, on raw asyncio streams, so that the client costs
little and equally. Run: python load.py URL BODY_FILE CONNECTIONS SECONDS; prints JSON.
"""

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit


async def connection(url, request: bytes, until: float, latencies: list[float]) -> int:
    failed = 0
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    while (start := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        at = lower.index(b"content-length:") + 15
        length = int(lower[at : lower.index(b"\r\n", at)])
        await reader.readexactly(length)
        latencies.append(time.perf_counter() - start)
        failed += b" 200 " not in head[:16]
    writer.close()
    return failed


async def load(address: str, body: bytes, connections: int, seconds: float) -> dict:
    url = urlsplit(address)
    request = (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    latencies: list[float] = []
    until = time.perf_counter() + seconds
    failed = await asyncio.gather(
        *(connection(url, request, until, latencies) for _ in range(connections))
    )
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "per_s": len(latencies) / seconds,
        "p50_ms": cuts[49] * 1e3,
        "p99_ms": cuts[98] * 1e3,
        "failed": sum(failed),
    }


if __name__ == "__main__":
    address, body_file, connections, seconds = sys.argv[1:]
    body = Path(body_file).read_bytes()
    print(json.dumps(asyncio.run(load(address, body, int(connections), float(seconds)))))
