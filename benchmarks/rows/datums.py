"""1,000 trivial datums, then one more file; against the same function in a plain Python loop.

The plain loop keeps no history, no keys and no lineage: it is the physical limit of this machine
for reading a small file and writing a small result, not a peer.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from measure import Row, less_is_better, paired, seconds

ROUNDS = 3
FILES = 1000
CLEW = Path(os.environ.get("CLEW_COMMAND", Path(__file__).parents[2] / ".venv" / "bin" / "clew"))

OURS = """
import clew

p = clew.Pipeline("many")
texts = p.source("texts")

@p.step(texts, per="file")
def count(text: str) -> dict:
    return {"words": len(text.split())}
"""


def measure_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name))


def _measure(place: Path) -> list[Row]:
    source = place / "source"
    source.mkdir()
    for number in range(FILES):
        (source / f"{number:05}.txt").write_text(f"file {number} " * 100)
    one = place / "one-more.txt"
    one.write_text("one more")
    numbers = iter(range(1000))
    more: list[float] = []

    def ours() -> float:
        home = place / f"run{next(numbers)}"
        home.mkdir()
        (home / "many.py").write_text(OURS)
        subprocess.run([CLEW, "init", "--bare"], cwd=home, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([CLEW, "apply", "many.py"], cwd=home, check=True, stdout=subprocess.DEVNULL)
        spent = seconds([CLEW, "put", "many/texts", source], cwd=home)
        more.append(seconds([CLEW, "put", "many/texts", one], cwd=home))
        jobs = json.loads(
            subprocess.run(
                [CLEW, "jobs", "--json"], cwd=home, check=True, stdout=subprocess.PIPE
            ).stdout
        )
        assert (jobs[0]["done"], jobs[0]["skipped"]) == (1, FILES), jobs[0]
        shutil.rmtree(home)
        return spent

    def plain() -> float:
        target = place / f"plain{next(numbers)}"
        target.mkdir()
        start = time.perf_counter()
        for file in sorted(source.iterdir()):
            words = len(file.read_text().split())
            (target / f"{file.stem}.json").write_text(json.dumps({"words": words}))
        return time.perf_counter() - start

    ours_s, plain_s = paired(ROUNDS, ours, plain)
    more_s = sorted(more)[len(more) // 2]
    return [
        less_is_better(
            "thousand_datums", ours_s, "s", "plain Python loop", plain_s, rounds=ROUNDS,
            bar="whole process, no bar yet", holds=lambda _s, _ratio: True,
        ),
        less_is_better(
            "one_more_datum", more_s, "s", "1,000 datums at first", ours_s, rounds=ROUNDS,
            bar="runs one, skips 1,000", holds=lambda _s, ratio: ratio > 1,
        ),
    ]  # fmt: skip
