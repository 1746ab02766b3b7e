"""Random 1 MB reads from a file of 4 GB through fsspec: how many chunks each fetches, and how fast.

Against the same reads from the plain file, warm.
"""

import random
import tempfile
import time
from pathlib import Path

from measure import Row, less_is_better, paired

from clew.base.settings import Settings
from clew.sdk.filesystem import ClewFileSystem
from clew.workspace import open_workspace

ROUNDS = 3
READS = 100
PART = 1_000_000
SIZE = 4_000_000_000


def measure_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name))


def _measure(place: Path) -> list[Row]:
    draw = random.Random(1)
    source = place / "big.bin"
    with source.open("wb") as file:
        for _ in range(SIZE // PART):
            file.write(draw.randbytes(PART))
    workspace = open_workspace(Settings(home=place / ".clew"), create=True)
    workspace.create_repo("big")
    workspace.put("big", {"big.bin": source})
    workspace.close()
    fs = ClewFileSystem(home=str(place / ".clew"), skip_instance_cache=True)
    places = [draw.randrange(SIZE - PART) for _ in range(READS)]
    most = _most_chunks(fs, places)

    def ours() -> float:
        with fs.open("big/big.bin") as file:
            return _timed(file, places)

    def plain() -> float:
        with source.open("rb") as file:
            return _timed(file, places)

    ours_s, plain_s = paired(ROUNDS, ours, plain)
    fs.verbs.close()
    return [
        less_is_better(
            "random_reads_of_4_gb", ours_s, "s", f"plain file, {READS} × 1 MB", plain_s,
            rounds=ROUNDS, bar=f"at most 3 chunks each (most: {most})",
            holds=lambda _s, _ratio: most <= 3,
        ),
    ]  # fmt: skip


def _most_chunks(fs: ClewFileSystem, places: list[int]) -> int:
    catalog = fs.verbs.rooms.store._catalog
    fetched: list[str] = []
    fetch = catalog.fetch

    def counted(tag: str, key: bytes) -> bytes:
        fetched.append(tag)
        return fetch(tag, key)

    catalog.fetch = counted
    most = 0
    with fs.open("big/big.bin") as file:
        for at in places:
            fetched.clear()
            file.seek(at)
            file.read(PART)
            most = max(most, fetched.count("chunk"))
    catalog.fetch = fetch
    return most


def _timed(file, places: list[int]) -> float:
    start = time.perf_counter()
    for at in places:
        file.seek(at)
        assert len(file.read(PART)) == PART
    return time.perf_counter() - start
