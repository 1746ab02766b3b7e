"""What is kept here of a store far away: verified, bounded, never needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clew.store.digests import key_of
from clew.store.keeping import Keep
from clew.store.packs import PackBuilder


def built() -> PackBuilder:
    builder = PackBuilder()
    builder.add(key_of("tree", b"content"), "tree", 0, 7, b"content")
    return builder


def test_the_index_of_a_pack_comes_back_as_it_was(tmp_path: Path) -> None:
    name, parts, pack = built().build()
    keep = Keep(tmp_path)
    assert keep.pack(name) is None
    keep.put_pack(name, pack.size_bytes, parts[-2])
    again = Keep(tmp_path).pack(name)
    assert again is not None
    assert again.size_bytes == pack.size_bytes
    assert list(again.objects()) == list(pack.objects())


@pytest.mark.parametrize("change", ["flip", "cut", "empty", "other name"])
def test_an_index_that_has_changed_counts_as_absent(tmp_path: Path, change: str) -> None:
    name, parts, pack = built().build()
    keep = Keep(tmp_path)
    keep.put_pack(name, pack.size_bytes, parts[-2])
    file = tmp_path / "indexes" / name
    data = file.read_bytes()
    if change == "flip":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif change == "other name":
        name = "0" * 64 + ".pack"
        file.rename(file.with_name(name))
    else:
        file.write_bytes(data[: len(data) // 2] if change == "cut" else b"")
    assert keep.pack(name) is None


def test_trees_are_kept_and_content_of_files_is_not(tmp_path: Path) -> None:
    keep = Keep(tmp_path)
    for tag in ("tree", "commit", "chunks", "file", "chunk"):
        keep.put_payload(tag, key_of(tag, b"payload"), b"payload")
        kept = keep.payload(tag, key_of(tag, b"payload"))
        assert kept == (None if tag in {"file", "chunk"} else b"payload")


def test_an_object_that_has_changed_counts_as_absent(tmp_path: Path) -> None:
    keep, key = Keep(tmp_path), key_of("tree", b"payload")
    keep.put_payload("tree", key, b"payload")
    (file,) = (path for path in tmp_path.rglob("tree-*"))
    file.write_bytes(b"PAYLOAD")
    assert keep.payload("tree", key) is None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    keep = Keep(tmp_path, limit_bytes=10_000)
    payloads = [b"%d" % n * 1000 for n in range(10, 30)]
    for age, payload in enumerate(payloads):
        keep.put_payload("tree", key_of("tree", payload), payload)
        (file,) = tmp_path.rglob(f"tree-{key_of('tree', payload).hex()}")
        os.utime(file, (1e9 - age, 1e9 - age))
    assert keep.payload("tree", key_of("tree", payloads[-1])) == payloads[-1]  # used just now
    keep.shrink()
    left = [n for n, p in enumerate(payloads) if keep.payload("tree", key_of("tree", p))]
    assert sum(len(payloads[n]) for n in left) <= 10_000
    assert left == [0, 1, 2, len(payloads) - 1]


def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    keep, key = Keep(tmp_path / "file"), key_of("tree", b"payload")
    keep.put_payload("tree", key, b"payload")
    assert keep.payload("tree", key) is None
