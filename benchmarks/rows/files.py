"""100,000 files and one large file: put and get against `cp` and `dvc add`."""

import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

from measure import Row, less_is_better, more_is_better, paired, seconds
from peers import python_of

ROUNDS = 3
AGAIN = 7
FILES = int(os.environ.get("BENCH_FILES", "100000"))
LARGE_MB = int(os.environ.get("BENCH_LARGE_MB", "4096"))
CLEW = Path(os.environ.get("CLEW_COMMAND", Path(__file__).parents[2] / ".venv" / "bin" / "clew"))
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def measure_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        return _many(Path(name))


def measure_large() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        return [*_large(Path(name), "random"), *_large(Path(name), "csv")]


def _workspace(home: Path) -> Path:
    home.mkdir()
    subprocess.run([CLEW, "init", "--bare"], cwd=home, check=True, **QUIET)
    subprocess.run([CLEW, "create", "bench/files"], cwd=home, check=True, **QUIET)
    return home


def _many(place: Path) -> list[Row]:
    source = place / "source"
    draw = random.Random(1)
    for number in range(FILES):
        file = source / f"{number % 200:03}" / f"{number:06}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(draw.randbytes(draw.randint(200, 5800)))
    numbers = iter(range(1000))

    def put() -> float:
        home = _workspace(place / f"run{next(numbers)}")
        _warm(source)
        spent = seconds([CLEW, "put", "bench/files", source], cwd=home)
        shutil.rmtree(home)
        return spent

    def copy() -> float:
        target = place / f"copy{next(numbers)}"
        _warm(source)
        spent = seconds(["cp", "-r", source, target], cwd=place)
        shutil.rmtree(target)
        return spent

    def dvc() -> float:
        home = place / f"dvc{next(numbers)}"
        home.mkdir()
        command = [python_of("dvc"), "-m", "dvc"]
        subprocess.run([*command, "init", "--no-scm"], cwd=home, check=True, **QUIET)
        subprocess.run(
            [*command, "config", "core.analytics", "false"], cwd=home, check=True, **QUIET
        )
        shutil.copytree(source, home / "data")
        _warm(home / "data")
        spent = seconds([*command, "add", "data"], cwd=home)
        shutil.rmtree(home)
        return spent

    put_s, cp_s, dvc_s = paired(ROUNDS, put, copy, dvc)
    kept = _workspace(place / "kept")
    seconds([CLEW, "put", "bench/files", source], cwd=kept)

    def again() -> float:
        return seconds([CLEW, "put", "bench/files", source], cwd=kept)

    def get() -> float:
        target = place / f"got{next(numbers)}"
        _warm(kept / ".clew" / "store")
        spent = seconds([CLEW, "get", "bench/files", target], cwd=kept)
        shutil.rmtree(target)
        return spent

    _warm(source)
    again()
    (again_s,) = paired(AGAIN, again)
    get_s, cp2_s = paired(ROUNDS, get, copy)
    return [
        less_is_better(
            "put_many_files", put_s, "s", "cp -r", cp_s, rounds=ROUNDS,
            bar="at most 1.5 times cp -r", holds=lambda _s, ratio: ratio >= 1 / 1.5,
        ),
        less_is_better(
            "put_many_files", put_s, "s", "dvc add", dvc_s, rounds=ROUNDS,
            bar="6 times faster", holds=lambda _s, ratio: ratio >= 6,
        ),
        less_is_better(
            "put_unchanged", again_s, "s", "cp -r", cp_s, rounds=AGAIN,
            bar="at most 0.6 s", holds=lambda s, _ratio: s <= 0.6,
        ),
        less_is_better(
            "get_many_files", get_s, "s", "cp -r", cp2_s, rounds=ROUNDS,
            bar="at most 1.5 times cp -r", holds=lambda _s, ratio: ratio >= 1 / 1.5,
        ),
    ]  # fmt: skip


def _warm(directory: Path) -> None:
    """What rounds before have written is on the disk, and what a command will read is in memory:
    the system forgets cached files between the rounds.
    """
    os.sync()
    for file in directory.rglob("*"):
        if file.is_file():
            file.read_bytes()


def _large(place: Path, kind: str) -> list[Row]:
    source = place / f"{kind}.bin"
    _write(source, kind)
    home = _workspace(place / f"large_{kind}")
    numbers = iter(range(1000))

    def put() -> float:
        run = _workspace(place / f"run{kind}{next(numbers)}")
        spent = seconds([CLEW, "put", "bench/files", source], cwd=run)
        shutil.rmtree(run)
        return LARGE_MB / spent

    def copy() -> float:
        target = place / "copied"
        spent = seconds(["sh", "-c", f"cp {source} {target} && sync {target}"], cwd=place)
        target.unlink()
        return LARGE_MB / spent

    ours, theirs = paired(ROUNDS, put, copy)
    seconds([CLEW, "put", "bench/files", source, "--path", "/f.bin"], cwd=home)
    before = _stored(home)
    with source.open("rb") as old, (place / "new").open("wb") as new:
        new.write(old.read(LARGE_MB * (1 << 19)))
        new.write(os.urandom(1 << 20))
        shutil.copyfileobj(old, new, 1 << 24)
    seconds([CLEW, "put", "bench/files", place / "new", "--path", "/f.bin"], cwd=home)
    more = 100 * (_stored(home) - before) / before
    shutil.rmtree(home)
    source.unlink()
    (place / "new").unlink()
    return [
        more_is_better(
            f"put_large_{kind}", ours, "MB/s", "cp and sync", theirs, rounds=ROUNDS,
            bar="at least 60 % of cp", holds=lambda _s, ratio: ratio >= 0.6,
        ),
        less_is_better(
            f"insert_1mb_{kind}", more, "%", "all again", 100.0, rounds=1,
            bar="less than 2 % more is stored", holds=lambda share, _ratio: share < 2,
        ),
    ]  # fmt: skip


def _write(target: Path, kind: str) -> None:
    with target.open("wb") as file:
        for block in range(LARGE_MB // 16):
            if kind == "random":
                file.write(os.urandom(1 << 24))
            else:
                start = block * 700_000
                rows = b"".join(
                    b"%d,%d,%.3f,abc\n" % (n, n * 7919 % 100_003, n * 0.37)
                    for n in range(start, start + 700_000)
                )
                file.write(rows[: 1 << 24].ljust(1 << 24, b"\n"))


def _stored(home: Path) -> int:
    packs = home / ".clew" / "store" / "packs"
    return sum(pack.stat().st_size for pack in packs.iterdir())
