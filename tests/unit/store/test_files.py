"""Files: what goes in comes out, whatever its size and however it is read."""

from __future__ import annotations

import io
import os
from pathlib import Path

import blake3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.base.errors import Invalid, NotFound
from clew.store import Store, Writer, digest
from clew.store.chunks import WHOLE_BELOW


def noise(size: int, seed: bytes = b"file") -> bytes:
    return blake3.blake3(seed).digest(length=size)


SIZES = [0, 1, 127, 128, WHOLE_BELOW - 1, WHOLE_BELOW, WHOLE_BELOW + 1, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["bytes", "path", "stream"])
def test_a_file_of_any_size_comes_back(store: Store, tmp_path: Path, size: int, how: str) -> None:
    data = noise(size)
    (tmp_path / "source").write_bytes(data)
    source = {"bytes": data, "path": tmp_path / "source", "stream": io.BytesIO(data)}[how]
    with store.writer() as writer:
        name, size_bytes = writer.put(source)
    again = Store.open(store.address)
    assert size_bytes == size
    assert again.read(name) == data
    with again.open_file(name) as stream:
        assert stream.read() == data
    again.export(name, tmp_path / "deep" / "target")
    assert (tmp_path / "deep" / "target").read_bytes() == data
    assert again.fsck() == []


@pytest.mark.parametrize("size", SIZES)
def test_the_way_in_does_not_change_the_digest(store: Store, tmp_path: Path, size: int) -> None:
    data = noise(size)
    (tmp_path / "source").write_bytes(data)
    writer = store.writer()
    assert writer.put(data) == writer.put(tmp_path / "source") == writer.put(io.BytesIO(data))


def test_small_files_are_named_by_their_bytes_and_large_ones_by_their_chunks(store: Store) -> None:
    writer = store.writer()
    small = noise(WHOLE_BELOW - 1)
    assert writer.put(small)[0] == digest("file", small)
    assert writer.put(noise(WHOLE_BELOW))[0].startswith("chunks:")


def test_a_stream_is_read_from_where_it_stands(store: Store) -> None:
    stream = io.BytesIO(b"head body")
    stream.seek(5)
    with store.writer() as writer:
        name, size = writer.put(stream)
    assert (store.read(name), size) == (b"body", 4)


class Dribble(io.RawIOBase):
    """A stream that gives a few bytes at a time, as sockets do."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, 70_001))


def test_short_reads_of_a_stream_change_nothing(store: Store) -> None:
    data = noise(2_500_000)
    writer = store.writer()
    assert writer.put(Dribble(data)) == writer.put(data)
    assert writer.put(Dribble(data[:900_000])) == writer.put(data[:900_000])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, bytes]:
    store = Store.open(tmp_path_factory.mktemp("large") / "store")
    data = noise(6_000_000)
    with store.writer() as writer:
        name, _ = writer.put(data)
    return store, name, data


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]),
            st.integers(-6_100_000, 6_100_000),
            st.integers(0, 1_500_000),
        ),
        max_size=6,
    )
)
def test_a_large_file_reads_like_a_file_on_disk(
    large: tuple[Store, str, bytes], steps: list[tuple[int, int, int]]
) -> None:
    store, name, data = large
    model = io.BytesIO(data)
    with store.open_file(name) as stream:
        for whence, offset, size in steps:
            base = {os.SEEK_SET: 0, os.SEEK_CUR: model.tell(), os.SEEK_END: len(data)}[whence]
            if base + offset < 0:
                continue
            assert stream.seek(offset, whence) == model.seek(base + offset)
            assert stream.read(size) == model.read(size)
            assert stream.tell() == model.tell()


def test_equal_content_is_kept_once(store: Store, home: Path) -> None:
    data = noise(3_000_000)
    with store.writer() as writer:
        writer.put(data)
        writer.put(data)
    size = sum(path.stat().st_size for path in (home / "packs").iterdir())
    with Store.open(home).writer() as writer:
        writer.put(data)
    assert size < 3_010_000
    assert sum(path.stat().st_size for path in (home / "packs").iterdir()) == size


def test_what_compresses_is_kept_small_and_what_does_not_is_kept_as_it_is(
    store: Store, home: Path
) -> None:
    with store.writer() as writer:
        writer.put(b"all the same " * 50_000)
        writer.put(noise(100_000))
    size = sum(path.stat().st_size for path in (home / "packs").iterdir())
    assert 100_000 < size < 104_000


def test_many_files_on_disk_go_in_at_once(store: Store, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}" for number in range(50)]
    for number, path in enumerate(paths):
        path.write_bytes(noise(number * 10))
    with store.writer() as writer:
        found = writer.put_many(paths)
    assert [store.read(name) for name, _ in found] == [path.read_bytes() for path in paths]
    assert [size for _, size in found] == [number * 10 for number in range(50)]


def test_more_than_a_pack_holds_is_spread_over_packs(store: Store, home: Path) -> None:
    data = noise(70 << 20)
    with store.writer() as writer:
        name, _ = writer.put(data)
    sizes = [path.stat().st_size for path in (home / "packs").iterdir()]
    assert len(sizes) == 3
    assert max(sizes) < 40 << 20
    assert store.read(name) == data


def test_records_of_other_kinds_are_kept_by_their_tag(store: Store) -> None:
    with store.writer() as writer:
        name = writer.put_object("commit", b"payload")
    assert name == digest("commit", b"payload")
    assert Store.open(store.address).read(name) == b"payload"


def test_a_source_that_cannot_be_read_is_named(store: Store, tmp_path: Path) -> None:
    writer = store.writer()
    with pytest.raises(NotFound) as missing:
        writer.put(tmp_path / "nowhere.csv")
    with pytest.raises(Invalid) as directory:
        writer.put(tmp_path)
    assert missing.value.code == "file.missing"
    assert "nowhere.csv" in missing.value.message
    assert directory.value.code == "file.unreadable"


def test_export_replaces_a_file_and_leaves_nothing_else(store: Store, tmp_path: Path) -> None:
    with store.writer() as writer:
        name, _ = writer.put(b"new")
    target = tmp_path / "out" / "file"
    target.parent.mkdir()
    target.write_bytes(b"old")
    store.export(name, target)
    assert target.read_bytes() == b"new"
    with pytest.raises(NotFound):
        store.export(digest("file", b"never put"), target)
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_a_writer_that_leaves_with_an_error_keeps_nothing(store: Store) -> None:
    def fail(writer: Writer) -> None:
        with writer:
            writer.put(b"never flushed")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(store.writer())
    with pytest.raises(NotFound):
        Store.open(store.address).read(digest("file", b"never flushed"))
