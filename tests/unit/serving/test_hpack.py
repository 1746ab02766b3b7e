"""Header blocks: the examples of RFC 7541, what is wrong, and what is written reads as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.serving.hpack import STATIC, Decoder, HpackError, encode

REQUESTS = [
    {b":method": b"GET", b":scheme": b"http", b":path": b"/", b":authority": b"www.example.com"},
    {
        b":method": b"GET",
        b":scheme": b"http",
        b":path": b"/",
        b":authority": b"www.example.com",
        b"cache-control": b"no-cache",
    },
    {
        b":method": b"GET",
        b":scheme": b"https",
        b":path": b"/index.html",
        b":authority": b"www.example.com",
        b"custom-key": b"custom-value",
    },
]
PLAIN = [
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
]
PACKED = [
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
]


@pytest.mark.parametrize("blocks", [PLAIN, PACKED], ids=["plain", "packed"])
def test_the_examples_of_the_standard_are_read(blocks):
    decoder = Decoder(dict)
    assert [decoder.decode(bytes.fromhex(block)) for block in blocks] == REQUESTS  # C.3 and C.4
    assert decoder._bytes == 164


def test_what_leaves_the_table_is_not_found_in_it_any_more():
    decoder = Decoder(list)
    # C.5, its table of 256 bytes: each answer puts out what the one before has put in
    first = (
        "3fe101"
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
        "6e1768747470733a2f2f7777772e6578616d706c652e636f6d"
    )
    told = decoder.decode(bytes.fromhex(first))
    assert told[0] == (b":status", b"302")
    assert decoder.decode(bytes.fromhex("4803333037c1c0bf"))[0] == (b":status", b"307")
    assert decoder._bytes == 222
    assert decoder._table[0] == (b"cache-control", b"private")
    with pytest.raises(HpackError, match="not in the table"):
        decoder.decode(bytes.fromhex("c2"))


def test_a_block_that_changed_meaning_is_read_anew():
    decoder = Decoder(list)
    decoder.decode(b"\x40\x01a\x01x")
    assert decoder.decode(b"\xbe") == [(b"a", b"x")]
    decoder.decode(b"\x40\x01b\x01y")
    assert decoder.decode(b"\xbe") == [(b"b", b"y")]
    assert decoder.decode(b"\xbf") == decoder.decode(b"\xbf") == [(b"a", b"x")]


@pytest.mark.parametrize(
    "block",
    [
        "80",  # an index that is none
        "ff",  # an integer that goes on nowhere
        "ffffffffffffffffff7f",  # one that is larger than anything
        "0005abc0",  # a text that ends too early
        "3fe2ff03",  # a table that is larger than it may be
        "823f00",  # a change of the table behind a header
        "00016184ffffffff",  # the end inside a packed text
        "0001618100",  # a packed text that ends with zeros
    ],
)
def test_what_is_no_block_is_told(block):
    with pytest.raises(HpackError):
        Decoder(list).decode(bytes.fromhex(block))


def test_headers_that_unpack_to_too_much_are_refused():
    large = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000  # 127 + 33 + 30 * 128
    decoder = Decoder(list)
    decoder.decode(large)
    with pytest.raises(HpackError, match="too large"):
        decoder.decode(b"\xbe" * 17)


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=20))
def test_what_is_written_is_read_as_it_was(headers):
    assert Decoder(list).decode(encode(headers)) == headers


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_bytes_are_headers_or_no_block_and_nothing_else(blocks):
    decoder = Decoder(list)
    for block in blocks:
        try:
            decoder.decode(block)
        except HpackError:
            return


def test_what_every_connection_knows_has_the_places_of_the_standard():
    assert len(STATIC) == 61
    for place, header in {2: (b":method", b"GET"), 8: (b":status", b"200"), 61: (
        b"www-authenticate", b""), 16: (b"accept-encoding", b"gzip, deflate")}.items():  # fmt: skip
        assert STATIC[place - 1] == header
