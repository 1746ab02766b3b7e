"""Ten changed files in a repo of many: commit and diff in one process, and what memory it takes."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row, less_is_better

SIZES = (10_000, 100_000, 1_000_000)
SCRIPT = """
import json, statistics, sys, time
from pathlib import Path
from clew.base.settings import Settings
from clew.store import EMPTY_TREE, Entry
from clew.workspace import open_workspace
home, count, fill = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "fill"
w = open_workspace(Settings(home=home), create=fill)
if fill:
    w.create_repo("bench/files")
    with w.rooms.store.writer() as writer:
        name, size = writer.put(b"content")
        files = (Entry(path=f"/{n % 1000:03}/{n:07}", digest=name, size_bytes=size)
                 for n in range(count))
        tree = writer.tree(EMPTY_TREE, files)
    w.rooms.repos.commit_tree("bench/files", tree)
    w.close()
    sys.exit()
before = w.commit("bench/files@main")
commits, diffs = [], []
for turn in range(15):
    puts = {f"/{k * 97 % 1000:03}/{(k * 97 % 1000) + 1000 * (turn % 10):07}":
            b"%d %d" % (turn, k) for k in range(10)}
    start = time.perf_counter()
    after = w.put("bench/files", puts)
    commits.append(time.perf_counter() - start)
    start = time.perf_counter()
    changes = w.diff(before.id, after.id)
    diffs.append(time.perf_counter() - start)
    assert len(changes) == 10, len(changes)
    before = after
w.close()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([statistics.median(commits) * 1000, statistics.median(diffs) * 1000,
                  int(status["VmHWM"].split()[0]) / 1024]))
"""


def measure_rows() -> list[Row]:
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for count in SIZES:
            home = Path(place) / f"{count}" / ".clew"
            home.parent.mkdir()
            for mode in ("fill", "measure"):
                command = [sys.executable, "-c", SCRIPT, home, count, mode]
                done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE)
            found[count] = json.loads(done.stdout)
    (commit_ms, diff_ms, rss), few = found[SIZES[-1]], found[SIZES[0]]
    return [
        less_is_better(
            "commit_of_ten_in_a_million", commit_ms, "ms", "of 10,000 files", few[0], rounds=15,
            bar="at most 50 ms", holds=lambda ms, _ratio: ms <= 50,
        ),
        less_is_better(
            "diff_of_ten_in_a_million", diff_ms, "ms", "of 10,000 files", few[1], rounds=15,
            bar="at most 20 ms", holds=lambda ms, _ratio: ms <= 20,
        ),
        less_is_better(
            "memory_with_a_million", rss, "MiB", "of 10,000 files", few[2], rounds=1,
            bar="at most 1.2 times", holds=lambda _mib, ratio: ratio >= 1 / 1.2,
        ),
    ]  # fmt: skip
