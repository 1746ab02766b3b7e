"""Whatever frames come on a connection: it is closed or goes on, nothing is raised or kept.

Examples are drawn from a fixed seed. The long suite draws many times as many (FUZZ_DRAWS), by
the seed FUZZ_SEED.
"""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("google.protobuf", reason='not installed: pip install "clew[grpc]"')
pytest.importorskip("h2", reason='not installed: pip install "clew[grpc]"')
import hpack

from clew.serving.grpc_calls import GrpcApp, Messages, Method
from clew.serving.http2 import Connection, Http2Server

from .conftest import Wire, fuzz

QUICK, LONG = 200, int(os.environ.get("FUZZ_DRAWS", "20000"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def block(path):
    named = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
             "content-type": "application/grpc"}  # fmt: skip
    return hpack.Encoder().encode([(*each, True) for each in named.items()])


BLOCKS = [block("/echo"), block("/stream"), block("/nobody"), block("/large"), block("")]
PAYLOADS = st.one_of(
    st.sampled_from([*BLOCKS, b"\0\0\0\0\3abc", b"\0\0\0\0\3abc" * 3, b"\0\0\0\0\x09ab",
                     b"\0\0\0\1", b"\0\0\0\x08", bytes(8), b"\0\4\0\0\0\0", b"\0\4\xff\xff\xff\xff",
                     b"\0\1\0\0\0\0", b"\0\5\0\0\x40\0", b"\x3f\xe1\xff\xff\xff\x0f", b"\xff" * 6,
                     b"\0\0\0\0\0\0\0\1", b"\x7f\xff\xff\xff", b""]),
    st.binary(max_size=20),
)  # fmt: skip
FRAMES = st.tuples(
    st.sampled_from([0, 0, 1, 1, 1, 3, 4, 8, 2, 5, 6, 7, 9, 10, 0x10, 0xFA]),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x25, 0x2D, 0xFF]),
    st.sampled_from([0, 1, 1, 3, 3, 5, 7, 2, 2**31 - 1, 2**32 - 1]),
    PAYLOADS,
)
CONVERSATIONS = st.lists(st.one_of(FRAMES, st.binary(min_size=1, max_size=12)), max_size=14)
CUTS = st.sampled_from([1, 7, 40, 100_000])


def converse(loop, server, said, cut, caplog):
    wire, connection = Wire(), Connection(server)
    connection.connection_made(wire)
    raw = PREFACE + SETTINGS
    for one in said:
        if isinstance(one, bytes):
            raw += one
        else:
            kind, flags, id, payload = one
            raw += len(payload).to_bytes(3, "big") + bytes((kind, flags)) + id.to_bytes(4, "big")
            raw += payload
    for at in range(0, len(raw), cut):
        connection.data_received(raw[at : at + cut])
        loop.run_until_complete(asyncio.sleep(0))
    connection.sweep(connection.now_s + 1000)
    loop.run_until_complete(asyncio.sleep(0))
    connection.connection_lost(None)
    kept = connection.held, connection.coming, connection.untaken, connection._streams
    assert kept == (0, 0, 0, {})
    assert server.connections == set()
    assert not caplog.records, caplog.records[0].getMessage()


@pytest.fixture
def server(loop):
    methods = {
        "/echo": Method(lambda _: None, lambda rpc, raw: rpc.reply(raw)),
        "/large": Method(lambda _: None, lambda rpc, raw: rpc.reply(bytes(100_000))),
        "/stream": Method(lambda _: None, begin=lambda rpc: Messages(rpc, rpc.send, rpc.finish)),
    }
    return Http2Server(loop, GrpcApp(methods, limit_bytes=1 << 20))


@fuzz(QUICK)
@given(said=CONVERSATIONS, cut=CUTS)
def test_no_frames_on_a_connection_are_the_servers_fault(loop, server, caplog, said, cut):
    converse(loop, server, said, cut, caplog)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@fuzz(LONG)
@given(said=CONVERSATIONS, cut=CUTS)
def test_no_frames_drawn_for_long_are_the_servers_fault(loop, server, caplog, said, cut):
    converse(loop, server, said, cut, caplog)
