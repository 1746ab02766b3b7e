"""Checksums are those of their specifications, however the bytes come."""

import base64
import hashlib
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.server.s3 import checksums

CHECK = {"crc32": "cbf43926", "crc32c": "e3069283", "crc64nvme": "ae8b14860a799888"}


def checksum(algorithm, *pieces):
    one = checksums.new(algorithm)
    for piece in pieces:
        one.update(piece)
    return one.digest()


def bit_by_bit(polynomial, bits, data):
    state = ones = (1 << bits) - 1
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (polynomial if state & 1 else 0)
    return (state ^ ones).to_bytes(bits // 8, "big")


@pytest.mark.parametrize(("algorithm", "value"), CHECK.items())
def test_the_check_values_of_the_catalogue_hold(algorithm, value):
    assert checksum(algorithm, b"123456789").hex() == value


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 5000), cuts=st.lists(st.integers(0, 5000), max_size=3), seed=st.binary())
def test_lanes_give_what_single_bits_give(size, cuts, seed):
    data = hashlib.shake_128(seed).digest(size)
    bounds = [0, *sorted(min(cut, size) for cut in cuts), size]
    pieces = [data[a:b] for a, b in pairwise(bounds)]
    assert checksum("crc32c", *pieces) == bit_by_bit(0x82F63B78, 32, data)
    assert checksum("crc64nvme", *pieces) == bit_by_bit(0x9A6C9329AC4BC9B5, 64, data)


def test_more_bytes_than_there_are_lanes_at_once():
    data = hashlib.shake_128(b"long").digest(512 * 8192 + 512 * 5 + 3)
    halves = checksum("crc32c", data[: 1 << 20], data[1 << 20 :])
    assert checksum("crc32c", data) == halves
    thirds = [data[n : n + 511] for n in range(0, len(data), 511)]
    assert checksum("crc64nvme", data) == checksum("crc64nvme", *thirds)


def test_the_others_are_those_of_the_standard_library():
    assert checksum("crc32", b"ab", b"c") == zlib.crc32(b"abc").to_bytes(4, "big")
    assert checksum("sha1", b"abc") == hashlib.sha1(b"abc").digest()
    assert base64.b64decode(checksums.encoded(checksum("sha256", b"abc")))[:2] == b"\xba\x78"
