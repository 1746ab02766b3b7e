"""Single-row predict over HTTP: requests a second and latencies, every peer and two limits.

30 float features, logistic regression and a random forest of 100 trees, at concurrency 1, 16
and 64. The server has one core, the load (``wrk`` where it is, else ``load.py``) the others.
Clew serves as it serves anything: prediction ids, log before the answer, metrics and router are
on, and its engine commits the log beside, on the core of the load. The limits are apps that do
nothing of it. Servers run one at a time, in turn, three rounds; medians. Of Clew no request may
fail; failures of a peer are printed and count in its favour.
``SERVING=Clew,MLServer ROUNDS=1 MODELS=lr`` measures a part.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row, less_is_better, more_is_better
from serving_servers import CORE, LIMITS, PEERS, ours, post

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = float(os.environ.get("SECONDS", "3"))
WARM_S = 1.0
CONCURRENCY = (1, 16, 64)
MODELS = tuple(os.environ.get("MODELS", "lr,forest").split(","))
OURS = "Clew"
LEAST = {"lr": 10, "forest": 20}
HERE = Path(__file__).parents[1]
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.body = file:read("*a")
function done(summary, latency, requests)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read
      + summary.errors.timeout
  io.write(string.format('\\n{"per_s": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}\\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, failed))
end
"""


def measure_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "load.lua").write_text(SCRIPT)
        return [row for model in MODELS for row in _measure(place, model)]


def _measure(place: Path, model: str) -> list[Row]:
    servers = {OURS: ours, **PEERS, **LIMITS}
    wanted = os.environ.get("SERVING")
    if wanted:
        servers = {name: servers[name] for name in wanted.split(",")}
    found: dict[tuple[str, int], list[dict]] = {}
    for round_number in range(ROUNDS):
        for name, start in servers.items():
            for connections, figures in _figures(start, place, model).items():
                if figures["failed"] and name == OURS:
                    raise RuntimeError(f"{name} failed {figures['failed']} requests")
                found.setdefault((name, connections), []).append(figures)
                print(f"  {model} {name} × {connections}, round {round_number + 1}: "
                      f"{figures['per_s']:,.0f}/s p50 {figures['p50_ms']:.3f} ms "
                      f"p99 {figures['p99_ms']:.3f} ms failed {figures['failed']}",
                      flush=True)  # fmt: skip
    medians = {key: _median(values) for key, values in found.items()}
    return [row for connections in CONCURRENCY for row in _rows(medians, model, connections)]


def _figures(start, place: Path, model: str) -> dict[int, dict]:
    """By concurrency; one start of the server for all."""
    found = {}
    with start(place, model) as (url, content):
        body = place / "body.json"
        body.write_bytes(content)
        post(url, content)
        for connections in CONCURRENCY:
            _load(place, url, body, connections, WARM_S)
            found[connections] = _load(place, url, body, connections, SECONDS)
    return found


def _load(place: Path, url: str, body: Path, connections: int, seconds: float) -> dict:
    cores = sorted(set(range(os.cpu_count() or 1)) - {int(CORE)}) or [0]
    pinned = ["taskset", "-c", ",".join(str(core) for core in cores)]
    if shutil.which("wrk"):
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s",
                   "-s", place / "load.lua", url]  # fmt: skip
    else:
        command = [sys.executable, HERE / "load.py", url, body, connections, seconds]
    done = subprocess.run(
        [*pinned, *(str(part) for part in command)], check=True, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "BENCH_BODY": str(body)},
    )  # fmt: skip
    found = json.loads(done.stdout.strip().splitlines()[-1])
    found["per_s"] = max(found["per_s"], 1 / seconds)  # one that gave no answer in that time
    return found


def _median(values: list[dict]) -> dict:
    return {name: statistics.median(one[name] for one in values) for name in values[0]}


def _rows(medians: dict, model: str, connections: int) -> list[Row]:
    if (OURS, connections) not in medians:
        return []
    mine = medians[OURS, connections]
    name = f"serve_{model}_{connections}"
    best = max(
        (medians[peer, connections]["per_s"] for peer in PEERS if (peer, connections) in medians),
        default=0.0,
    )
    rows = []
    for peer in PEERS:
        if (peer, connections) not in medians:
            continue
        theirs = medians[peer, connections]
        least = LEAST[model] if connections > 1 else 1
        judged = theirs["per_s"] == best
        rows.append(
            more_is_better(
                name,
                mine["per_s"],
                "req/s",
                peer,
                theirs["per_s"],
                rounds=ROUNDS,
                bar=f"at least {least} times{' (best peer)' if judged else ''}",
                holds=lambda _, ratio, least=least: ratio >= least,
            )
        )
        if connections == 16:
            rows.append(
                less_is_better(
                    f"{name}_p99",
                    mine["p99_ms"],
                    "ms",
                    peer,
                    theirs["p99_ms"],
                    rounds=ROUNDS,
                    bar="under 3 ms",
                    holds=lambda ours, _: ours < 3,
                )
            )
    for limit in LIMITS:
        if (limit, connections) not in medians:
            continue
        share = 0.6 if limit.startswith("bare ASGI") and connections > 1 else 0.0
        rows.append(
            more_is_better(
                name,
                mine["per_s"],
                "req/s",
                limit,
                medians[limit, connections]["per_s"],
                rounds=ROUNDS,
                bar=f"at least {share:.0%} of it" if share else "how near",
                holds=lambda _, ratio, share=share: ratio >= share,
            )
        )
        if connections == 16:  # what of it is the machine's own
            rows.append(
                less_is_better(
                    f"{name}_p99",
                    mine["p99_ms"],
                    "ms",
                    limit,
                    medians[limit, connections]["p99_ms"],
                    rounds=ROUNDS,
                    bar="how near",
                    holds=lambda *_: True,
                )
            )
    if connections == 64:
        rows.append(
            more_is_better(
                name,
                mine["per_s"],
                "req/s",
                "20,000 a second, p99 < 10 ms",
                20_000.0,
                rounds=ROUNDS,
                bar="at least it",
                holds=lambda ours, _: ours >= 20_000 and mine["p99_ms"] < 10,
            )
        )
    return rows
