"""The golden store of version 1 is read for ever, and an older store is brought up step by step."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from clew.base.errors import Conflict, Invalid
from clew.store import Store
from clew.store.local import Disk
from clew.store.upgrading import UPGRADES, bring_up

GOLDEN = Path(__file__).with_name("golden_v1")
TREE = "tree:6e909bd002798317195c4b8e9121c04fb79d136d68a2e06a41062c274b896cea"
COMMIT = "commit:345225d613479107ee8cc69d67b6d767cff65db9230eb49e09171c8e58ec8cf0"
JOURNAL = "journal:517d17d38070cffb64cc19ccf310a14d6ee892bc49264d74ec941c03617de4b5"
TEXT = b"clew golden store, version 1\n"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    home = tmp_path / "store"
    shutil.copytree(GOLDEN, home)
    (home / "tmp").mkdir()
    return home


def read_all(store: Store) -> dict[str, bytes]:
    return {entry.path: store.read(entry.digest) for entry in store.entries(TREE)}


def test_a_store_of_version_1_is_read_byte_for_byte(golden: Path) -> None:
    store = Store.open(golden)
    found = read_all(store)
    assert len(found) == 305
    assert found["/empty"] == b""
    assert found["/small.txt"] == TEXT
    assert found["/many/lines.txt"] == TEXT * 200
    assert found["/ümläut"] == "ü".encode()
    assert found["/large.bin"] == b"".join(bytes([n % 251]) * 4096 for n in range(300))
    assert found["/n/299"] == b"299"
    assert store.read(COMMIT) == b"a commit"
    assert store.objects("journal") == [JOURNAL]
    assert store.fsck() == []
    with store.writer() as writer:  # and what is put again is found to be there
        name, _ = writer.put(TEXT)
        assert name in {entry.digest for entry in store.entries(TREE)}
    assert len(list((golden / "packs").iterdir())) == 2


def test_this_version_has_nothing_to_bring_up(golden: Path) -> None:
    assert dict(UPGRADES) == {}
    assert bring_up(golden, Disk()) == []


def second(path: Path, disk: Disk) -> None:
    """A step that a test invents: packs get a companion."""
    del disk
    for pack in (path / "packs").glob("*.pack"):
        pack.with_suffix(".second").write_bytes(b"2")


def third(path: Path, disk: Disk) -> None:
    """Another: and one for the whole."""
    del disk
    assert list((path / "packs").glob("*.second"))
    (path / "third").write_bytes(b"3")


STEPS = {1: second, 2: third}


def test_a_store_climbs_every_step_in_order_and_stays_readable(golden: Path) -> None:
    assert bring_up(golden, Disk(), upgrades=STEPS, newest=3) == [1, 2]
    assert (golden / "format").read_bytes() == b"clew store \x03\n"
    assert (golden / "third").exists()
    assert bring_up(golden, Disk(), upgrades=STEPS, newest=3) == []
    with pytest.raises(Invalid) as caught:
        Store.open(golden)
    assert caught.value.code == "store.format"
    assert "format 3" in caught.value.message


def test_a_step_that_is_cut_short_is_begun_again(golden: Path) -> None:
    tries = []

    def dying(path: Path, disk: Disk) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise KeyboardInterrupt
        second(path, disk)

    with pytest.raises(KeyboardInterrupt):
        bring_up(golden, Disk(), upgrades={1: dying}, newest=2)
    assert read_all(Store.open(golden))["/small.txt"] == TEXT  # still of version 1, and whole
    assert bring_up(golden, Disk(), upgrades={1: dying}, newest=2) == [1]


def test_a_version_that_nothing_leads_from_is_refused(golden: Path) -> None:
    with pytest.raises(Invalid) as caught:
        bring_up(golden, Disk(), upgrades={2: third}, newest=3)
    assert caught.value.code == "store.format"
    assert (golden / "format").read_bytes() == b"clew store \x01\n"
    for spoilt in (b"", b"clew store", b"clew store \x01", b"clew store \x01\nx", os.urandom(13)):
        (golden / "format").write_bytes(spoilt)
        with pytest.raises(Invalid):
            Store.open(golden)


def test_one_process_upgrades_at_a_time(golden: Path) -> None:
    with Store.open(golden)._shelf.alone() as mine:
        assert mine
        with pytest.raises(Conflict) as caught:
            bring_up(golden, Disk(), upgrades=STEPS, newest=3)
    assert caught.value.code == "store.upgrading"
