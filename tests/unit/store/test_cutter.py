"""Content-defined cutting: pinned places, bounds, and stability under edits."""

from __future__ import annotations

import io
from collections.abc import Sequence

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.store.cutter import LARGEST, SMALLEST, cut, cut_stream


def noise(size: int, seed: bytes = b"noise") -> bytes:
    return blake3.blake3(seed).digest(length=size)


def chunks(data: bytes) -> list[bytes]:
    return list(cut_stream(io.BytesIO(data).read))


def test_the_places_of_format_1_never_change() -> None:
    assert [len(chunk) for chunk in chunks(noise(8 << 20))] == [
        1918877,
        824087,
        1257660,
        770818,
        763259,
        1238477,
        791887,
        823543,
    ]


def test_a_cut_is_where_the_plain_gear_hash_says() -> None:
    table = blake3.blake3(b"clew gear 1").digest(length=1024)
    gear = [int.from_bytes(table[at : at + 4], "little") for at in range(0, 1024, 4)]
    data = noise(LARGEST, b"gear")
    value, size = 0, 0
    for size, byte in enumerate(data, start=1):
        value = (value << 1) + gear[byte] & 0xFFFFFFFF
        if size > SMALLEST and value < 1 << 13:
            break
    assert cut(data) == size < LARGEST


@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(9 << 20), b"ab" * (5 << 20), noise(SMALLEST), noise(LARGEST + 1)]
)
def test_chunks_joined_are_the_file_and_keep_their_bounds(data: bytes) -> None:
    found = chunks(data)
    assert b"".join(found) == data
    assert all(SMALLEST <= len(chunk) <= LARGEST for chunk in found[:-1])
    assert all(0 < len(chunk) <= LARGEST for chunk in found[-1:])


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 3 << 20), max_size=6), st.binary(max_size=40))
def test_how_a_stream_is_read_does_not_move_a_cut(sizes: Sequence[int], first: bytes) -> None:
    data = first + noise(5 << 20)
    stream = io.BytesIO(data[len(first) :])
    steps = iter(sizes)
    found = list(cut_stream(lambda size: stream.read(min(next(steps, size), size)), first))
    assert found == chunks(data)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 12 << 20), st.binary(min_size=1, max_size=2000))
def test_an_insertion_changes_few_chunks(place: int, inserted: bytes) -> None:
    data = noise(12 << 20)
    before = chunks(data)
    after = chunks(data[:place] + inserted + data[place:])
    assert len(set(after) - set(before)) <= 4


def test_a_cut_depends_on_the_bytes_of_its_chunk_alone() -> None:
    data = noise(8 << 20)
    size = cut(data[:LARGEST])
    assert cut(data[:size] + bytes(LARGEST)) == size


def test_chunks_are_about_a_mebibyte() -> None:
    found = chunks(noise(48 << 20))
    assert (3 << 18) < (48 << 20) / len(found) < (3 << 19)
