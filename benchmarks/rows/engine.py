"""The engine beside DVC, Metaflow, Snakemake, Prefect and Dagster: datums, latency, memory.

Ours is a real `clew server` and its client; every figure is from commit to finished job. The peers
get fewer datums, as ours would take them hours, and what is in their favour: shell commands without
Python where they run commands (DVC, Snakemake), and warm processes where they can be called in one
(Prefect, Dagster). Their throughput is seconds for a run with datums, less a run with one.

``none`` is, of ours, a commit of a file that no datum reads: told, judged, its job ended in the
rows and heard of over HTTP, with 10,000 datums behind it. Of Dagster it is one look of its
automation in one process, at 100 partitions, where nothing has happened: it writes nothing.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import Row, less_is_better, more_is_better, seconds
from peers import python_of

import clew

DATUMS = 10_000
MANY = 100_000
MANY_ROUNDS = 3
ROUNDS = 9
PEERS = Path(__file__).parent / "engine_peers"
COUNTS = {"DVC": 100, "Snakemake": 100, "Metaflow": 20, "Prefect": 100, "Dagster": 100}

COUNT = """
import clew
p = clew.Pipeline("many")
texts = p.source("texts")

@p.step(texts.glob("/**/*.txt"), per="file")
def count(text: str) -> dict:
    return {"words": len(text.split())}
"""
THREE = """
import time
import clew
p = clew.Pipeline("many")
texts = p.source("texts")

@p.step(texts)
def one(text: list[str]) -> dict:
    return {"entered": time.time(), "sum": len(text)}

@p.step(one)
def two(one: dict) -> dict:
    return {"sum": one["sum"] + 1}

@p.step(two)
def three(two: dict) -> dict:
    return {"sum": two["sum"] + 1}
"""


class Served:
    """A workspace with a server of its own."""

    def __init__(self, place: Path, code: str) -> None:
        place.mkdir()
        (place / "many.py").write_text(code)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("CLEW_")}
        command = [sys.executable, "-P", "-m", "clew.cli"]
        subprocess.run(
            [*command, "init", "--bare"],
            cwd=place,
            env=environ,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        self.process = subprocess.Popen(
            [*command, "server", "--port", "0", "--serving-port", "0"],
            cwd=place,
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        next(line for line in self.process.stdout if "endpoints" in line)
        told = json.loads((place / ".clew" / "server.json").read_text())
        self.verbs = clew.connect(told["url"], token=told.get("token"))
        self.verbs.apply(place / "many.py")
        self.repo = "many/texts"

    def put(self, files: dict[str, bytes | Path]) -> float:
        """Seconds from a commit to the end of its last job."""
        commit = self.verbs.put(self.repo, files)
        start = time.perf_counter()
        self.verbs.wait(commit.global_id)
        return time.perf_counter() - start

    def release(self) -> float:
        """Commit what was put on the branch `stage`; seconds until its jobs have ended."""
        start = time.perf_counter()
        commit = self.verbs.move_branch(self.repo, "main", "stage")
        self.verbs.wait(commit.global_id)
        return time.perf_counter() - start

    def counts(self) -> tuple[int, int]:
        """Datums that the last job has run and skipped."""
        job = self.verbs.jobs(limit=1)[0]
        return job.done, job.skipped

    def memory(self) -> int:
        """Resident bytes of the server's process, its workers left out."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) << 10

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def served(place: Path, code: str) -> Iterator[Served]:
    one = Served(place, code)
    try:
        yield one
    finally:
        one.close()


def write_files(directory: Path, count: int) -> Path:
    for number in range(count):
        path = directory / f"{number // 1000:03}" / f"f{number:06}.txt"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_text(f"file {number:06} " * 85)  # 1 KB
    return directory


def median(act: Callable[[int], float], rounds: int = ROUNDS) -> float:
    return statistics.median(act(number) for number in range(rounds))


# rows ---------------------------------------------------------------------------------------


def measure_datums() -> list[Row]:
    """10,000 trivial datums, one more, none; against the peers."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        ours = _ten_thousand(place)
        rows = [
            _bar("datums_a_second", ours[0], "1/s", 2000, more=True),
            _bar("one_more_of_10000", ours[1], "s", 0.3),
            _bar("none_of_10000", ours[2], "s", 0.1),
        ]
        for peer, act in _PEERS.items():
            theirs = act(place, COUNTS[peer])
            against = f"{peer}, {COUNTS[peer]} datums"
            rows.append(
                more_is_better(
                    "datums_a_second", ours[0], "1/s", against, 1 / theirs[0], rounds=1,
                    bar="10 times faster", holds=lambda _s, ratio: ratio >= 10,
                )
            )  # fmt: skip
            for row, own, figure in zip(
                ("one_more_of_10000", "none_of_10000"), ours[1:], theirs[1:], strict=True
            ):
                rows.append(
                    less_is_better(
                        row, own, "s", against, figure, rounds=ROUNDS,
                        bar="10 times faster", holds=lambda _s, ratio: ratio >= 10,
                    )
                )  # fmt: skip
        return rows


def measure_many() -> list[Row]:
    """100,000 trivial datums: ten more, and the memory of the server; each round a server anew.

    What a server holds differs by megabytes from one round to the next, as freed pages are given
    back whole: hence the median.
    """
    figures = zip(*(_many() for _ in range(MANY_ROUNDS)), strict=True)
    every, more_s, grown = map(statistics.median, figures)
    return [
        _bar("datums_a_second_of_100000", every, "1/s", 2000, more=True, rounds=MANY_ROUNDS),
        _bar("ten_more_of_100000", more_s, "s", 1.0, rounds=MANY_ROUNDS * ROUNDS),
        _bar("server_bytes_a_datum", max(grown, 1.0), "B", 200, rounds=MANY_ROUNDS),
    ]


def _many() -> tuple[float, float, float]:
    """Datums a second; median seconds for ten more; bytes by which the server grew for each."""
    with tempfile.TemporaryDirectory() as name, served(Path(name) / "ours", COUNT) as one:
        source = write_files(Path(name) / "source", MANY)
        for number in range(5):
            one.put({f"/warm{number}.txt": b"warm"})
        one.verbs.put(one.repo, {"/d": source}, branch="stage")
        time.sleep(2)  # the server gives back what the upload took
        before = one.memory()
        spent = one.release()
        assert one.counts()[0] == MANY
        time.sleep(2)
        grown = (one.memory() - before) / MANY

        def ten(number: int) -> float:
            files = {f"/more/{number}/{at}.txt": b"more" for at in range(10)}
            return one.put(dict(files))

        ten_s = median(ten)
        assert one.counts()[0] == 10
        return MANY / spent, ten_s, grown


def measure_latency() -> list[Row]:
    """Three trivial steps, warm; and from a commit to the user's function."""
    with tempfile.TemporaryDirectory() as name, served(Path(name) / "ours", THREE) as one:
        entered: list[float] = []

        def act(number: int) -> float:
            """By the times in the rows: whoever asks over HTTP in between is served too."""
            commit = one.verbs.put(one.repo, {f"/{number}.txt": b"x" * (number + 1)})
            time.sleep(0.3)
            one.verbs.wait(commit.global_id)
            ended = [job.finished_at for job in one.verbs.jobs(limit=3)]
            made = json.loads(one.verbs.read("many/one:/one.json"))
            entered.append(made["entered"] - commit.finished_at.timestamp())
            return max(ended).timestamp() - commit.finished_at.timestamp()

        median(act, 5)
        entered.clear()
        steps_s = median(lambda number: act(5 + number), 31)
        rows = [
            _bar("three_steps", steps_s, "s", 0.03, rounds=31),
            _bar("commit_to_function", statistics.median(entered), "s", 0.02, rounds=31),
        ]
        source = _source(Path(name), 3)
        for peer, figures in (("Prefect", _prefect), ("Dagster", _dagster)):
            theirs = figures(Path(name), 3, source)[3]
            rows.append(
                less_is_better(
                    "three_steps", steps_s, "s", f"{peer}, one warm process", theirs, rounds=5,
                    bar="10 times faster", holds=lambda _s, ratio: ratio >= 10,
                )
            )  # fmt: skip
        return rows


def _bar(
    name: str, ours: float, unit: str, bar: float, *, more: bool = False, rounds: int = ROUNDS
) -> Row:
    if more:
        return more_is_better(
            name, ours, unit, "the bar", bar, rounds=rounds, bar=f"at least {bar:,} {unit}",
            holds=lambda _s, ratio: ratio >= 1,
        )  # fmt: skip
    return less_is_better(
        name, ours, unit, "the bar", bar, rounds=rounds, bar=f"at most {bar:g} {unit}",
        holds=lambda _s, ratio: ratio >= 1,
    )  # fmt: skip


def _ten_thousand(place: Path) -> tuple[float, float, float]:
    with served(place / "ours", COUNT) as one:
        source = write_files(place / "source", DATUMS)
        one.put({"/warm.txt": b"warm"})
        one.verbs.put(one.repo, {"/d": source}, branch="stage")
        every = DATUMS / one.release()
        assert one.counts()[0] == DATUMS
        more = median(lambda number: one.put({f"/more/{number}.txt": b"one more"}))
        assert one.counts() == (1, DATUMS + ROUNDS)
        none = median(lambda number: one.put({f"/other/{number}.md": b"no datum"}))
        assert one.counts()[0] == 0
        return every, more, none


# peers --------------------------------------------------------------------------------------


def _source(place: Path, count: int) -> Path:
    """As many files as datums, and two: one to warm up with, and one that comes later."""
    source = place / f"files{count}-{time.monotonic_ns()}"
    source.mkdir()
    for number in range(count + 2):
        (source / f"f{number:06}.txt").write_text(f"file {number:06} " * 85)
    return source


def _figures(peer: str, script: str, source: Path, environ: dict[str, str]) -> list[float]:
    done = subprocess.run(
        [python_of(peer), PEERS / script, source],
        env={**os.environ, **environ}, cwd=source.parent, capture_output=True, text=True,
    )  # fmt: skip
    line = next((one for one in done.stdout.splitlines() if one.startswith("FIGURES")), None)
    if line is None:
        raise RuntimeError(f"{script}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return [float(figure) for figure in line.split()[1:]]


def _prefect(place: Path, count: int, source: Path | None = None) -> list[float]:
    quiet = {
        "PREFECT_HOME": str(place / "prefect"),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    return _figures("prefect", "prefect_flow.py", source or _source(place, count), quiet)


def _dagster(place: Path, count: int, source: Path | None = None) -> list[float]:
    quiet = {"DAGSTER_DISABLE_TELEMETRY": "1"}
    return _figures("dagster", "dagster_assets.py", source or _source(place, count), quiet)


def _dvc(place: Path, count: int) -> tuple[float, float, float]:
    home = place / "dvc"
    source = home / "data"
    home.mkdir()
    _source(place, count).rename(source)
    command = [python_of("dvc"), "-m", "dvc"]
    for words in (["init", "--no-scm"], ["config", "core.analytics", "false"]):
        seconds([*command, *words], cwd=home)
    (home / "out").mkdir()
    names = sorted(path.stem for path in source.iterdir())

    def repro(names: list[str]) -> float:
        stages = {
            "count": {
                "foreach": names,
                "do": {
                    "cmd": "wc -w < data/${item}.txt > out/${item}.txt",
                    "deps": ["data/${item}.txt"],
                    "outs": ["out/${item}.txt"],
                },
            }
        }
        (home / "dvc.yaml").write_text(json.dumps({"stages": stages}))
        return seconds([*command, "repro"], cwd=home)

    first = repro(names[:1])
    every = repro(names[:-1])
    return (every - first) / count, repro(names), repro(names)


def _snakemake(place: Path, count: int) -> tuple[float, float, float]:
    home = place / "snakemake"
    home.mkdir()
    _source(place, count).rename(home / "data")
    names = sorted(path.stem for path in (home / "data").iterdir())

    def make(names: list[str]) -> float:
        targets = [f"out/{name}.txt" for name in names]
        (home / "Snakefile").write_text(
            f"rule all:\n    input: {targets!r}\n"
            "rule count:\n    input: 'data/{name}.txt'\n    output: 'out/{name}.txt'\n"
            "    shell: 'wc -w < {input} > {output}'\n"
        )
        command = [python_of("snakemake"), "-m", "snakemake", "--cores", "2", "--quiet", "all"]
        return seconds(command, cwd=home)

    first = make(names[:1])
    every = make(names[:-1])
    return (every - first) / count, make(names), make(names)


def _metaflow(place: Path, count: int) -> tuple[float, float, float]:
    """It has no memory of what it did: one more, or none, is everything again."""
    environ = {
        "USERNAME": "bench",
        "METAFLOW_HOME": str(place / "metaflow"),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(place),
    }

    def run(count: int) -> float:
        source = _source(place, count - 2)
        command = [python_of("metaflow"), PEERS / "metaflow_foreach.py", "run"]
        return seconds([*command, "--source", source, "--max-workers", "2"], cwd=place, env=environ)

    first, every = run(2), run(count + 1)
    return (every - first) / (count - 1), every, every


_PEERS: dict[str, Callable[[Path, int], tuple[float, float, float]]] = {
    "DVC": _dvc,
    "Snakemake": _snakemake,
    "Metaflow": _metaflow,
    "Prefect": lambda place, count: tuple(_prefect(place, count)[:3]),
    "Dagster": lambda place, count: tuple(_dagster(place, count)[:3]),
}
