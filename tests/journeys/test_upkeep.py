"""What somebody does who keeps a workspace in order, on its files and through its server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clew.base.errors import Corrupt
from clew.store import Store

FILE = """
import clew

p = clew.Pipeline("p")
source = p.source("numbers")

@p.step(source.glob("/*.txt"), per="file")
def double(number: str) -> str:
    return number * 2
"""


@pytest.mark.parametrize("served", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_garbage_is_freed_checked_and_measured_here_and_through_a_server(
    tmp_path: Path, place_at: Callable[..., object], served: bool
) -> None:
    place = place_at(tmp_path)
    try:
        place.clew("init", "--bare")
        place.write("p.py", FILE)
        place.clew("apply", "p.py")
        place.write("1.txt", "1" * 1000)
        place.clew("put", "p/numbers", "1.txt")
        if served:
            place.server()
        upkeep(place, "extra")
        assert "p/double" in place.clew("du").out
        assert place.clew("du", "no", "--json", exits=3).error["code"] == "repo.unknown"
        assert place.clew("rebuild", "--json", exits=4).error["code"] == "rebuild.exists"
    finally:
        place.close()
    if served:
        lose_the_database(place)


def upkeep(place, repo: str) -> None:
    (place.directory / "big.bin").write_bytes(os.urandom(300_000))
    place.clew("create", repo)
    place.clew("put", repo, "big.bin", "--no-wait")
    (took,) = place.json("du", repo)
    assert 300_000 < took["exclusive_bytes"] < 310_000
    place.clew("delete", repo)
    would = place.json("gc", "--dry-run")
    did = place.json("gc")
    assert would["dry_run"]
    assert not did["waiting"]
    assert did["freed_bytes"] > 300_000
    assert abs(would["freed_bytes"] - did["freed_bytes"]) < 20_000
    assert "all is well" in place.clew("fsck").out


def lose_the_database(place) -> None:
    before = place.json("show", "p/double")["commit"]
    for path in place.home.glob("clew.db*"):
        path.unlink()
    report = place.json("rebuild")
    assert report["repos"] >= 3
    assert report["unconfirmed"] == []
    assert "all is well" in place.clew("fsck").out
    assert place.json("show", "p/double")["commit"] == before
    place.clew("apply", "p.py")
    place.clew("wait")
    assert place.json("show", "p/double")["commit"]["tree"] == before["tree"]
    damage(place.home / "store", before["tree"])
    told = place.clew("fsck", exits=1)
    assert "commit.damaged" in told.out
    assert f"p/double@{before['id']}:/" in told.out
    assert place.clew("gc", "--json", exits=8).error["code"] == "gc.damaged"


def damage(path: Path, tree: str) -> None:
    """Flip a bit of every copy of an object."""
    store = Store.open(path)
    key = bytes.fromhex(tree.partition(":")[2])
    for pack in store._catalog.packs():
        found = pack.find(key)
        if found is not None:
            file = path / "packs" / pack.name
            data = bytearray(file.read_bytes())
            data[found.offset] ^= 1
            file.write_bytes(data)
    with pytest.raises(Corrupt):
        Store.open(path).read(tree)
