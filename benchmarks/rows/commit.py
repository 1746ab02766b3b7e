"""A commit of 10,000 small files against `cp -r` and `dvc add`."""

import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

from measure import Row, less_is_better, paired, seconds
from peers import python_of

ROUNDS = 3
FILES = 10_000
CLEW = Path(os.environ.get("CLEW_COMMAND", Path(__file__).parents[2] / ".venv" / "bin" / "clew"))


def measure_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name))


def _measure(place: Path) -> list[Row]:
    source = place / "source"
    draw = random.Random(1)
    for number in range(FILES):
        file = source / f"{number % 100:02}" / f"{number:05}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(draw.randbytes(3000))
    numbers = iter(range(1000))

    def ours() -> float:
        home = place / f"run{next(numbers)}"
        home.mkdir()
        subprocess.run([CLEW, "init", "--bare"], cwd=home, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(
            [CLEW, "create", "bench/files"], cwd=home, check=True, stdout=subprocess.DEVNULL
        )
        spent = seconds([CLEW, "put", "bench/files", source], cwd=home)
        shutil.rmtree(home)
        return spent

    def copy() -> float:
        target = place / f"copy{next(numbers)}"
        spent = seconds(["cp", "-r", source, target], cwd=place)
        shutil.rmtree(target)
        return spent

    def dvc() -> float:
        home = place / f"dvc{next(numbers)}"
        home.mkdir()
        command = [python_of("dvc"), "-m", "dvc"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*command, "init", "--no-scm"], cwd=home, check=True, **quiet)
        subprocess.run(
            [*command, "config", "core.analytics", "false"], cwd=home, check=True, **quiet
        )
        shutil.copytree(source, home / "data")
        spent = seconds([*command, "add", "data"], cwd=home)
        shutil.rmtree(home)
        return spent

    ours_s, copy_s, dvc_s = paired(ROUNDS, ours, copy, dvc)
    return [
        less_is_better(
            "commit_small_files", ours_s, "s", "cp -r", copy_s, rounds=ROUNDS,
            bar="whole process, no bar yet", holds=lambda _s, _ratio: True,
        ),
        less_is_better(
            "commit_small_files", ours_s, "s", "dvc add", dvc_s, rounds=ROUNDS,
            bar="faster", holds=lambda _s, ratio: ratio > 1,
        ),
    ]  # fmt: skip
