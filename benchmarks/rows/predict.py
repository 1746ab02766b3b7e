"""Single-row predict over HTTP at concurrency 1 and 16: the same scikit-learn model everywhere.

30 float features, logistic regression, Open Inference Protocol v2 JSON. Clew serves it as it serves
anything: prediction ids, prediction log, router and metrics on. The servers, each on one core, are
those of ``serving_servers`` and run one at a time, in turn; the client is a process of its own. The
row ``serving`` has more peers, models and latencies.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row, more_is_better, paired
from serving_servers import PEERS, ours, post

ROUNDS = 3
SECONDS = 4.0
WARM_S = 1.0
HERE = Path(__file__).parent
SERVERS = {"Clew": ours, **{name: PEERS[name] for name in ("KServe Python server", "MLServer")}}


def measure_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name))


def _measure(place: Path) -> list[Row]:
    rows = []
    for connections in (1, 16):
        runs = [
            lambda start=start, c=connections: _throughput(start, place, c)
            for start in SERVERS.values()
        ]
        mine, kserve, mlserver = paired(ROUNDS, *runs)
        for name, theirs in (("KServe Python server", kserve), ("MLServer", mlserver)):
            least = 5 if (connections, name) == (16, "KServe Python server") else 1
            rows.append(
                more_is_better(
                    f"predict_concurrency_{connections}",
                    mine,
                    "req/s",
                    name,
                    theirs,
                    rounds=ROUNDS,
                    bar=f"at least {least} times",
                    holds=lambda _, ratio, least=least: ratio >= least,
                )
            )
    return rows


def _throughput(start, place: Path, connections: int) -> float:
    with start(place, "lr") as (url, body):
        post(url, body)
        file = place / "body.json"
        file.write_bytes(body)
        _load(url, file, connections, WARM_S)
        found = _load(url, file, connections, SECONDS)
    if found["failed"]:
        raise RuntimeError(f"{url} failed {found['failed']} requests")
    return found["per_s"]


def _load(url: str, body: Path, connections: int, seconds: float) -> dict:
    command = [sys.executable, HERE.parent / "load.py", url, body, str(connections), str(seconds)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
