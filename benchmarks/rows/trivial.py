"""Three trivial steps, whole process, against Metaflow; then the same again with nothing to do."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from measure import Row, less_is_better, paired, seconds
from peers import python_of

ROUNDS = 5
CLEW = Path(os.environ.get("CLEW_COMMAND", Path(__file__).parents[2] / ".venv" / "bin" / "clew"))

OURS = """
import clew

p = clew.Pipeline("trivial")

@p.step()
def one() -> int:
    return 1

@p.step(one)
def two(one: int) -> int:
    return one + 1

@p.step(two)
def three(two: int) -> int:
    return two + 1
"""

THEIRS = """
from metaflow import FlowSpec, step

class Trivial(FlowSpec):
    @step
    def start(self):
        self.x = 1
        self.next(self.two)

    @step
    def two(self):
        self.x += 1
        self.next(self.end)

    @step
    def end(self):
        self.x += 1

if __name__ == "__main__":
    Trivial()
"""


def measure_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name))


def _measure(place: Path) -> list[Row]:
    (place / "flow.py").write_text(THEIRS)
    count = iter(range(1000))
    again: list[float] = []

    def ours() -> float:
        home = place / f"run{next(count)}"
        home.mkdir()
        (home / "trivial.py").write_text(OURS)
        subprocess.run([CLEW, "init", "--bare"], cwd=home, check=True, stdout=subprocess.DEVNULL)
        spent = seconds([CLEW, "apply", "trivial.py"], cwd=home)
        again.append(seconds([CLEW, "apply", "trivial.py"], cwd=home))
        second = subprocess.run(
            [CLEW, "apply", "trivial.py", "--json"], cwd=home, check=True, stdout=subprocess.PIPE
        )
        assert json.loads(second.stdout)["jobs"] == [], "an unchanged run executed something"
        return spent

    metaflow = {
        "USERNAME": "bench",
        "METAFLOW_HOME": str(place / "metaflow"),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(place),
    }

    def theirs() -> float:
        return seconds([python_of("metaflow"), "flow.py", "run"], cwd=place, env=metaflow)

    ours_s, theirs_s = paired(ROUNDS, ours, theirs)
    again_s = sorted(again)[len(again) // 2]
    return [
        less_is_better(
            "trivial_pipeline", ours_s, "s", "Metaflow", theirs_s, rounds=ROUNDS,
            bar="under 1 s and faster", holds=lambda s, ratio: s < 1 and ratio > 1,
        ),
        less_is_better(
            "trivial_pipeline_unchanged", again_s, "s", "Metaflow", theirs_s, rounds=ROUNDS,
            bar="executes nothing, faster", holds=lambda _s, ratio: ratio > 1,
        ),
    ]  # fmt: skip
