"""Content-defined cutting: pinned places, bounds, and stability under edits."""

from __future__ import annotations

import io
from collections.abc import Sequence

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.store.cutter import LARGEST, SMALLEST, cut
from clew.store.intake import views


def noise(size: int, seed: bytes = b"noise") -> bytes:
    return blake3.blake3(seed).digest(length=size)


def chunks(data: bytes) -> list[bytes]:
    return [bytes(one) for one in views(io.BytesIO(data).read)]


def test_the_places_of_format_1_never_change() -> None:
    assert [len(chunk) for chunk in chunks(noise(8 << 20))] == [
        800245,
        1017519,
        1121224,
        599810,
        786760,
        544468,
        1543854,
        779080,
        678504,
        517144,
    ]


def plain_sum(data: bytes, i: int) -> int:
    """H(i) as design/0003-on-disk-format.md writes it down."""

    def w(at: int) -> int:
        return data[at - 1] + 256 * data[at]

    def a(at: int) -> int:
        return w(at) + 0x9E35 * w(at - 2)

    def b(at: int) -> int:
        return a(at) + 0x9E35**2 * a(at - 4)

    def c(at: int) -> int:
        value = (b(at) + 0x9E35**4 * b(at - 8)) % 65536
        return value ^ value >> 7

    return (c(i) + 0x9E35**8 * c(i - 16)) % 65536


def test_a_cut_is_where_the_plain_rule_says() -> None:
    data = noise(LARGEST, b"plain")
    size = cut(data)
    assert SMALLEST < size < LARGEST
    for at in range(size - 70_000, size):
        window = blake3.blake3(data[at - 31 : at + 1]).digest(length=1)[0]
        is_cut = plain_sum(data, at) == 0x5BD1 and window < 32
        assert is_cut == (at + 1 == size)


def test_a_column_of_numbers_is_cut_by_content() -> None:
    counters = b"".join(number.to_bytes(8, "little") for number in range(1 << 20))
    found = chunks(counters)
    assert 3 <= len(found) <= 12
    assert len(set(chunks(counters[8_000:])) - set(found)) <= 3


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
    found = views(lambda size: stream.read(min(next(steps, size), size)), first)
    assert [bytes(one) for one in found] == chunks(data)


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
