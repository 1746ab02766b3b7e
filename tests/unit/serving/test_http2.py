"""Frames of HTTP/2, one by one: what clients rarely do, and what they never should."""

from __future__ import annotations

import socket
import struct
import zlib

import pytest

pytest.importorskip("google.protobuf", reason='not installed: pip install "clew[grpc]"')
pytest.importorskip("h2", reason='not installed: pip install "clew[grpc]"')
import hpack

from clew.serving.messages import MESSAGES

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32
X = {"name": "x", "datatype": "FP64", "shape": [1, 3], "contents": {"fp64_contents": [1, 2, 3]}}


def asked(path="/inference.GRPCInferenceService/ModelInfer", **more):
    named = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
             "te": "trailers",
             "content-type": "application/grpc", **more}  # fmt: skip
    return hpack.Encoder().encode([(*each, True) for each in named.items()])  # no table


def message(name="matrix", packed=None, **more):
    raw = MESSAGES["ModelInferRequest"](model_name=name, inputs=[X], **more).SerializeToString()
    raw = raw if packed is None else packed(raw)
    return bytes([packed is not None]) + struct.pack(">I", len(raw)) + raw


class Peer:
    """A connection, frame by frame."""

    def __init__(self, address, settings=b""):
        host, port = address.rsplit(":", 1)
        self.sock = socket.create_connection((host, int(port)), 30)
        self.rest, self.decoder = b"", hpack.Decoder()
        self.sock.sendall(PREFACE)
        self.send(SETTINGS, 0, 0, settings)

    def send(self, kind, flags, id, payload=b""):
        self.sock.sendall(
            struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", id)
            + payload
        )  # fmt: skip

    def frame(self):
        """The next one: kind, flags, stream, payload; None at the end."""
        while len(self.rest) < 9 or len(self.rest) < 9 + int.from_bytes(self.rest[:3], "big"):
            more = self.sock.recv(65536)
            if not more:
                return None
            self.rest += more
        stop = 9 + int.from_bytes(self.rest[:3], "big")
        head, payload, self.rest = self.rest[:9], self.rest[9:stop], self.rest[stop:]
        return head[3], head[4], int.from_bytes(head[5:9], "big"), payload

    def until(self, kind, id=None):
        """The next frame of a kind (and stream); what comes before it is passed over."""
        while (found := self.frame()) is not None:
            if found[0] == kind and id in {None, found[2]}:
                return found
            if found[0] == HEADERS:
                self.decoder.decode(found[3])
        return None

    def answer(self, id):
        """Headers, body and trailers of a stream, as they came."""
        blocks, body = [], b""
        while (found := self.frame()) is not None:
            kind, flags, of, payload = found
            if kind == HEADERS:
                headers = dict(self.decoder.decode(payload, raw=True))
            if of == id and kind in {HEADERS, DATA}:
                body += payload if kind == DATA else b""
                blocks += [headers] if kind == HEADERS else []
                if flags & END_STREAM:
                    return blocks[0], body, blocks[-1]
        raise AssertionError("the connection ended")

    def code(self):
        """The code of the GOAWAY that comes, before the end."""
        found = self.until(GOAWAY)
        assert found is not None
        while self.frame() is not None:
            pass
        return int.from_bytes(found[3][4:8], "big")

    def close(self):
        self.sock.close()


@pytest.fixture
def connect(served):
    peers = []

    def made(**more):
        peers.append(Peer(served.process.grpc_address, **more))
        return peers[-1]

    yield made
    for peer in peers:
        peer.close()


def infers(peer, id):
    peer.send(HEADERS, END_HEADERS, id, asked())
    peer.send(DATA, END_STREAM, id, message())
    head, body, tail = peer.answer(id)
    assert (head[b":status"], tail[b"grpc-status"]) == (b"200", b"0")
    answer = MESSAGES["ModelInferResponse"].FromString(body[5:])
    assert list(answer.outputs[0].contents.fp64_contents) == [12.0]
    assert tail[b"clew-prediction-id"]


def test_a_request_may_come_in_any_frames_that_the_protocol_has(connect):
    peer = connect()
    block, body = asked(), message()
    peer.send(HEADERS, PADDED | PRIORITY, 1, b"\3" + b"\0\0\0\0\x10" + block[:9] + b"\0\0\0")
    peer.send(CONTINUATION, 0, 1, block[9:20])
    peer.send(CONTINUATION, END_HEADERS, 1, block[20:])
    for at in range(0, len(body), 7):
        peer.send(DATA, PADDED, 1, b"\2" + body[at : at + 7] + b"\0\0")
        peer.send(0xFA, 0xFF, 1, b"nobody knows this")
        peer.send(2, 0, 1, b"\0\0\0\0\x01")
    peer.send(
        HEADERS, END_HEADERS | END_STREAM, 1, hpack.Encoder().encode([(b"trailer", b"x", True)])
    )
    assert peer.answer(1)[2][b"grpc-status"] == b"0"
    infers(peer, 3)


def test_packed_messages_are_taken_and_what_is_not_packed_is_told(connect):
    peer = connect()
    codes = []
    for id, packed, name in [
        (1, zlib.compress, "deflate"), (3, zlib.compress, "snappy"), (5, bytes, "gzip"),
        (7, lambda raw: zlib.compress(raw)[:-9], "deflate"),
    ]:  # fmt: skip
        peer.send(HEADERS, END_HEADERS, id, asked(**{"grpc-encoding": name}))
        peer.send(DATA, END_STREAM, id, message(packed=packed))
        codes.append(int(peer.answer(id)[2][b"grpc-status"]))
    assert codes == [0, 12, 3, 3]


def test_an_answer_waits_until_the_client_takes_it(connect):
    peer = connect(settings=struct.pack(">HI", 4, 40))  # 40 bytes of each answer, no more
    peer.send(HEADERS, END_HEADERS, 1, asked())
    peer.send(DATA, END_STREAM, 1, message())
    found = peer.until(DATA)
    assert len(found[3]) == 40
    peer.send(PING, 0, 0, b"anything")
    assert peer.until(PING)[3] == b"anything"  # nothing else has come meanwhile
    peer.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 50))
    assert len(peer.until(DATA)[3]) == 10
    peer.send(WINDOW, 0, 1, struct.pack(">I", 1 << 20))
    assert peer.answer(1)[2][b"grpc-status"] == b"0"


def test_what_is_asked_of_nobody_or_not_as_grpc_is_told_and_the_connection_goes_on(connect):
    peer = connect()
    peer.send(HEADERS, END_HEADERS | END_STREAM, 1, asked("/inference.GRPCInferenceService/No"))
    assert peer.answer(1)[2][b"grpc-status"] == b"12"
    peer.send(HEADERS, END_HEADERS | END_STREAM, 3, asked(**{"content-type": "text/html"}))
    assert peer.answer(3)[0][b":status"] == b"415"
    for id, body in [(5, b""), (7, b"\0\0\0\0\x09short"), (9, message() * 2)]:
        peer.send(HEADERS, END_HEADERS, id, asked())
        peer.send(DATA, END_STREAM, id, body)
        assert peer.answer(id)[2][b"grpc-status"] == b"3"
    infers(peer, 11)


def test_a_message_that_is_too_large_is_refused_before_it_is_whole(connect, served):
    peer = connect()
    peer.send(HEADERS, END_HEADERS, 1, asked("/inference.GRPCInferenceService/ModelStreamInfer"))
    peer.send(DATA, 0, 1, b"\0" + struct.pack(">I", (64 << 20) + 1) + b"begun")
    assert peer.answer(1)[2][b"grpc-status"] == b"8"
    assert peer.until(RST, 1)[3] == b"\0\0\0\0"  # what follows of it is not wanted
    peer.send(DATA, END_STREAM, 1, b"what was on its way")
    infers(peer, 3)


def test_a_request_that_is_given_up_leaves_the_others_alone(connect):
    peer = connect()
    for id in (1, 3):
        peer.send(HEADERS, END_HEADERS, id, asked())
    peer.send(DATA, 0, 1, message()[:9])
    peer.send(RST, 0, 1, b"\0\0\0\x08")
    peer.send(DATA, END_STREAM, 1, message()[9:])  # it was on its way
    peer.send(DATA, END_STREAM, 3, message())
    assert peer.answer(3)[2][b"grpc-status"] == b"0"


BROKEN = {
    "a frame that is too large": (6, lambda peer: peer.send(DATA, 0, 1, bytes(16385))),
    "data of no stream": (1, lambda peer: peer.send(DATA, 0, 1, b"x")),
    "an even stream": (1, lambda peer: peer.send(HEADERS, END_HEADERS, 2, asked())),
    "a push": (1, lambda peer: peer.send(PUSH, END_HEADERS, 1, b"\0\0\0\2")),
    "no header block": (1, lambda peer: peer.send(HEADERS, END_HEADERS, 1, b"\xff\xff")),
    "padding alone": (1, lambda peer: peer.send(HEADERS, PADDED | END_HEADERS, 1, b"\x09x")),
    "an interrupted block": (
        1,
        lambda peer: [peer.send(HEADERS, 0, 1, b"\x82"), peer.send(PING, 0, 0, bytes(8))],
    ),
    "a continuation of nothing": (1, lambda peer: peer.send(CONTINUATION, 4, 1, b"\x82")),
    "endless headers": (
        1,
        lambda peer: [
            peer.send(HEADERS if at == 0 else CONTINUATION, 0, 1, bytes(1000)) for at in range(66)
        ],
    ),
    "headers that unpack to much": (
        11,
        lambda peer: peer.send(
            HEADERS, END_HEADERS, 1, b"\x40\1a\x7f\x81\x1e" + b"b" * 3968 + b"\xbe" * 99
        ),
    ),
    "a window without end": (3, lambda peer: peer.send(WINDOW, 0, 0, b"\x7f\xff\xff\xff")),
    "a window by nothing": (1, lambda peer: peer.send(WINDOW, 0, 0, bytes(4))),
    "half a setting": (6, lambda peer: peer.send(SETTINGS, 0, 0, b"\0\4\0")),
    "frames that ask for nothing": (
        11,
        lambda peer: peer.sock.sendall(b"\0\0\0\4\1\0\0\0\0" * 10_001),
    ),
}


@pytest.mark.parametrize(("code", "act"), BROKEN.values(), ids=BROKEN)
def test_who_breaks_the_protocol_is_told_why_and_closed(connect, code, act):
    peer = connect()
    act(peer)
    assert peer.code() == code
    infers(connect(), 1)  # the others are served


def test_who_speaks_something_else_is_closed(connect, served):
    host, port = served.process.grpc_address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while sock.recv(65536):
            pass
    infers(connect(), 1)
