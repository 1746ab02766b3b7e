"""Overload: what is still answered where once, twice and three times the capacity is asked for.

Forests that are served by scikit-learn itself (`convert=False`) in the serving process
(`isolate=False`: a busy machine would find them heavy and give them a process of their own, which
is another thing to measure). `heavy` has 2,400 trees and is what overload mostly is: a model that
costs. `original` has 600 and is so cheap in batches that the refusals, some 13 us of the kernel
each and as much of Python, come to cost as much as it. The load on the other core can really offer
three times of both (where it cannot, the row fails: what was offered is a row of its own). The
capacity is measured first, by closed loops on 1,000 connections, which just do not fill the queue;
then requests come at a rate, whether they are answered or not (`open_load.py`), on enough
connections to fill the queue (`max_queue`, 1,024) and more. A batch of `heavy` takes half a second,
so a measurement takes many of them.
Goodput counts answers 200; a refusal is a 429, and its time counts from when it was due.

`…_3x` is by the clock, `…_3x_cpu` by the time that the serving process computed: that one holds
beside other work too. `MODELS=heavy ROUNDS=1` measures a part.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
from measure import Row, less_is_better, more_is_better
from serving_servers import CORE, post, started

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = float(os.environ.get("SECONDS", "12"))
MODELS = tuple(os.environ.get("MODELS", "heavy,original").split(","))
CLOSED, OPEN = 1000, 2048
TIMES = (1, 2, 3)
HERE = Path(__file__).parents[1]


def measure_rows() -> list[Row]:
    return [row for model in MODELS for row in _measure(model)]


def _measure(model: str) -> list[Row]:
    rounds = [_round(model) for _ in range(ROUNDS)]
    name = f"overload_{model}"
    capacity = statistics.median(each["capacity"] for each in rounds)
    rows = []
    for times in TIMES:
        shares = [each[times]["good_per_s"] / each["capacity"] for each in rounds]
        rows.append(
            more_is_better(
                f"{name}_{times}x",
                statistics.median(shares) * capacity,
                "req/s",
                "capacity, closed loops",
                capacity,
                rounds=ROUNDS,
                bar="at least 80 % of it" if times > 1 else "reported",
                holds=lambda _, ratio, times=times: ratio >= 0.8 or times == 1,
            )
        )
        by_cpu = [each[times]["good_per_cpu_s"] / each["capacity_per_cpu_s"] for each in rounds]
        per_cpu_s = statistics.median(each["capacity_per_cpu_s"] for each in rounds)
        rows.append(
            more_is_better(
                f"{name}_{times}x_cpu",
                statistics.median(by_cpu) * per_cpu_s,
                "req/CPU s",
                "capacity, closed loops",
                per_cpu_s,
                rounds=ROUNDS,
                bar="at least 80 % of it" if times > 1 else "reported",
                holds=lambda _, ratio, times=times: ratio >= 0.8 or times == 1,
            )
        )
    offered = statistics.median(each[3]["sent_per_s"] / each["capacity"] for each in rounds)
    rows.append(
        more_is_better(
            f"{name}_offered",
            offered,
            "capacities",
            "asked for",
            3.0,
            rounds=ROUNDS,
            bar="at least 95 % of it was sent",
            holds=lambda _, ratio: ratio >= 0.95,
        )
    )
    for at, which in enumerate(("p50", "p99")):
        refused = statistics.median(each[3]["refused_ms"][at] for each in rounds)
        answered = statistics.median(each[3]["good_ms"][at] for each in rounds)
        rows.append(
            less_is_better(
                f"{name}_refusal_{which}",
                refused,
                "ms",
                f"{which} of answers",
                answered,
                rounds=ROUNDS,
                bar="sooner than an answer",
                holds=lambda _, ratio: ratio > 1,
            )
        )
    before = statistics.median(each["before_mb"] for each in rounds)
    rows.append(
        less_is_better(
            f"{name}_memory",
            statistics.median(each["most_mb"] for each in rounds),
            "MB",
            "before the load",
            before,
            rounds=ROUNDS,
            bar="at most 100 MB more",
            holds=lambda ours, _: ours <= before + 100,
        )
    )
    return rows


def _round(model: str) -> dict:
    found: dict = {}
    with tempfile.TemporaryDirectory() as name, started(Path(name), model) as (url, content):
        body = Path(name) / "body.json"
        body.write_bytes(content)
        post(url, content)
        with _watched() as memory:
            found["before_mb"] = memory["now"]()
            _load(url, body, 0, 1.0, CLOSED)
            closed = _measured(memory["cpu_s"], url, body, 0, CLOSED)
            found["capacity"] = closed["good_per_s"]
            found["capacity_per_cpu_s"] = closed["good_per_cpu_s"]
            print(f"  capacity {found['capacity']:,.0f}/s", flush=True)
            for times in TIMES:
                rate = times * found["capacity"]
                each = found[times] = _measured(memory["cpu_s"], url, body, rate, OPEN)
                if set(each["statuses"]) - {"200", "429"} or each["broken"]:
                    raise RuntimeError(f"not all were answered: {each}")
                share = each["good_per_cpu_s"] / found["capacity_per_cpu_s"]
                print(f"  {times}x: sent {each['sent_per_s']:,.0f}/s, good "
                      f"{each['good_per_s']:,.0f}/s (by CPU time {share:.0%} of the capacity), "
                      f"refused {each['refused_per_s']:,.0f}/s, "
                      f"answers p50 p99 {each['good_ms']} ms, refusals {each['refused_ms']} ms, "
                      f"unsent {each['unsent']}", flush=True)  # fmt: skip
        found["most_mb"] = memory["most"]
        print(
            f"  memory {found['before_mb']:.0f} MB, at most {found['most_mb']:.0f} MB", flush=True
        )
    return found


@contextlib.contextmanager
def _watched():
    """The resident memory of the serving process in MB, now and at most; its CPU seconds."""
    serving = next(
        one for one in psutil.process_iter(["cmdline"])
        if "clew.serving.process" in (one.info["cmdline"] or ())
        and os.getpid() in [parent.pid for parent in one.parents()]
    )  # fmt: skip
    memory = {
        "most": 0.0,
        "now": lambda: serving.memory_info().rss / 1e6,
        "cpu_s": lambda: sum(_cpu_s(one) for one in (serving, *serving.children())),
    }
    ended = threading.Event()

    def watch():
        while not ended.wait(0.05):
            memory["most"] = max(memory["most"], memory["now"]())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


def _cpu_s(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def _measured(cpu_s, url: str, body: Path, rate: float, connections: int) -> dict:
    before_s = cpu_s()
    found = _load(url, body, rate, SECONDS, connections)
    spent_s = cpu_s() - before_s
    found["good_per_cpu_s"] = found["good_per_s"] * SECONDS / spent_s
    found["sent_per_s"] = found["offered_per_s"] - found["unsent"] / SECONDS
    return found


def _load(url: str, body: Path, rate: float, seconds: float, connections: int) -> dict:
    cores = sorted(set(range(os.cpu_count() or 1)) - {int(CORE)}) or [0]
    command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, HERE / "open_load.py",
               url, body, rate, seconds, connections]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)
