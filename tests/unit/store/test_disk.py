"""The local disk: what fills up, what may not be written, and what dead writers leave."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from clew.base.errors import NotFound, Unavailable
from clew.store import Store, digest
from clew.store.local import Disk, _host, sweep


class Failing(Disk):
    """Fails at one kind of step, with one error, as long as it is told to."""

    def __init__(self) -> None:
        self.step = ""
        self.error = errno.ENOSPC

    def _fail(self, step: str) -> None:
        if step == self.step:
            raise OSError(self.error, os.strerror(self.error))

    def write(self, descriptor: int, parts: Sequence[bytes]) -> None:
        super().write(descriptor, [b"".join(parts)[:30]])
        self._fail("write")
        os.lseek(descriptor, 0, os.SEEK_SET)
        super().write(descriptor, parts)

    def sync(self, descriptor: int) -> None:
        self._fail("sync")
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._fail("rename")
        super().rename(source, target)

    def sync_directory(self, directory: Path) -> None:
        self._fail("sync_directory")
        super().sync_directory(directory)

    def remove(self, path: Path) -> None:
        self._fail("remove")
        super().remove(path)


CODES = {
    errno.ENOSPC: "disk.full",
    errno.EDQUOT: "disk.full",
    errno.EROFS: "workspace.read_only",
    errno.EACCES: "workspace.read_only",
    errno.EIO: "store.unreachable",
}


@pytest.mark.parametrize("step", ["write", "sync", "rename", "sync_directory"])
@pytest.mark.parametrize("error", CODES)
def test_a_step_that_fails_says_why_and_leaves_nothing_half_written(
    home: Path, step: str, error: int
) -> None:
    disk = Failing()
    store = Store.open(home, disk=disk)
    with store.writer() as writer:
        kept, _ = writer.put(b"before")
    disk.step, disk.error = step, error
    writer = store.writer()
    name, _ = writer.put(b"content")
    with pytest.raises(Unavailable) as refused:
        writer.flush()
    assert refused.value.code == CODES[error]
    assert refused.value.hint
    assert list((home / "tmp").iterdir()) == []
    assert Store.open(home).fsck() == []
    assert Store.open(home).read(kept) == b"before"
    if step != "sync_directory":
        with pytest.raises(NotFound):
            Store.open(home).read(name)
    disk.step = ""
    writer.flush()
    assert Store.open(home).read(name) == b"content"


def test_a_full_disk_while_packs_are_merged_does_not_fail_the_flush(home: Path) -> None:
    disk = Failing()
    store = Store.open(home, disk=disk)
    disk.step = "remove"
    for number in range(40):
        with store.writer() as writer:
            writer.put(b"%d" % number)
    assert all(store.read(digest("file", b"%d" % n)) == b"%d" % n for n in range(40))
    assert Store.open(home).fsck() == []


def test_a_store_can_be_read_where_nothing_can_be_written(home: Path, store: Store) -> None:
    with store.writer() as writer:
        name, _ = writer.put(b"content")
    disk = Failing()
    disk.error = errno.EROFS
    for disk.step in ("write", "sync", "rename", "sync_directory", "remove"):
        assert Store.open(home, disk=disk).read(name) == b"content"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_of_somebody_else_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Unavailable) as refused:
        Store.open(tmp_path / "store")
    assert refused.value.code == "workspace.read_only"


def test_export_to_a_place_that_cannot_be_is_named(store: Store, tmp_path: Path) -> None:
    with store.writer() as writer:
        name, _ = writer.put(b"content")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable) as refused:
        store.export(name, tmp_path / "file" / "below")
    assert refused.value.code == "store.unreachable"
    assert "file/below" in refused.value.message


# what dead writers leave ----------------------------------------------------------------------


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_opening_sweeps_what_dead_writers_left(store: Store, home: Path) -> None:
    left = home / "tmp" / f"{_host()}-{dead_pid()}-0123.tmp"
    left.write_bytes(b"half")
    Store.open(home)
    assert not left.exists()


def test_what_a_living_writer_writes_is_left_alone(store: Store, home: Path) -> None:
    own = home / "tmp" / f"{_host()}-{os.getpid()}-0123.tmp"
    own.write_bytes(b"half")
    Store.open(home)
    assert own.exists()


def test_what_another_host_writes_is_left_alone_for_a_day(store: Store, home: Path) -> None:
    far = home / "tmp" / f"elsewhere-{dead_pid()}-0123.tmp"
    far.write_bytes(b"half")
    Store.open(home)
    assert far.exists()
    yesterday = time.time() - 25 * 3600
    os.utime(far, (yesterday, yesterday))
    sweep(home / "tmp")
    assert not far.exists()


def test_other_files_in_the_directory_of_packs_are_no_packs(store: Store, home: Path) -> None:
    (home / "packs" / ".DS_Store").write_bytes(b"x")
    with store.writer() as writer:
        writer.put(b"content")
    assert Store.open(home).fsck() == []
