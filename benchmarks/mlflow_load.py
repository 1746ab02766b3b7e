"""A load generator for MLflow's hot calls: keep-alive connections, a new step in each request.

The same for every server, on raw asyncio streams, so that the client costs little and equally.
Run: python mlflow_load.py URL CALL CONNECTIONS SECONDS; prints how many requests a second were
answered, how many failed in all, and what the last of these was told.
"""

import asyncio
import itertools
import json
import sys
import time
import urllib.request
from urllib.parse import urlsplit

IN_A_BATCH = 20
NOW_MS = 1_700_000_000_000


def _bodies(call: str, run: str):
    for step in itertools.count():
        at = {"timestamp": NOW_MS + step, "step": step, "value": 0.5}
        if call == "log-metric":
            yield json.dumps({"run_id": run, "run_uuid": run, "key": "loss", **at}).encode()
        else:
            metrics = [{"key": f"m{n}", **at} for n in range(IN_A_BATCH)]
            yield json.dumps({"run_id": run, "metrics": metrics, "params": [], "tags": []}).encode()


async def _connection(url, call: str, bodies, until: float, failures: list[str]) -> int:
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    count = 0
    while time.perf_counter() < until:
        body = next(bodies)
        head = (
            f"POST /api/2.0/mlflow/runs/{call} HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        said = (await reader.readuntil(b"\r\n\r\n")).lower()
        at = said.index(b"content-length:") + 15
        answer = await reader.readexactly(int(said[at : said.index(b"\r\n", at)]))
        if b" 200 " in said[:16]:
            count += 1
        else:
            failures.append(f"{said[:16]!r} {answer[:300]!r}")
    writer.close()
    return count


async def _load(address: str, call: str, run: str, connections: int, seconds: float) -> dict:
    bodies, url, failures = _bodies(call, run), urlsplit(address), []
    until = time.perf_counter() + seconds
    counts = await asyncio.gather(
        *(_connection(url, call, bodies, until, failures) for _ in range(connections))
    )
    return {"per_s": max(sum(counts), 1) / seconds, "failed": len(failures), "last": failures[-1:]}


def main(address: str, call: str, connections: str, seconds: str) -> None:
    body = json.dumps({"experiment_id": "0", "start_time": NOW_MS}).encode()
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/runs/create", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        run = json.load(answer)["run"]["info"]["run_id"]
    print(json.dumps(asyncio.run(_load(address, call, run, int(connections), float(seconds)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
