"""Whatever is sent, over HTTP or gRPC, is answered as the client's fault or as it should be: never
with a fault of the server, never with silence; and the next request is answered right.

Examples are drawn from fixed seeds. The long suite draws many times as many: FUZZ_DRAWS of them,
by the seed FUZZ_SEED.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .conftest import fuzz

grpc = pytest.importorskip("grpc", reason='gRPC is not installed: pip install "clew[grpc]"')
pytest.importorskip("h2", reason='gRPC is not installed: pip install "clew[grpc]"')
from clew.serving.messages import MESSAGES  # noqa: E402 - it needs what is looked for above

QUICK, LONG = 80, int(os.environ.get("FUZZ_DRAWS", "20000"))
ASKED = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 3], "data": [1, 2, 3]}]}
SEEDS = [
    ("wide", ASKED),
    ("columns", {"inputs": [
        {"name": "distance", "datatype": "FP64", "shape": [1], "data": [1.5]},
        {"name": "delay", "datatype": "FP64", "shape": [1, 1], "data": [None]},
        {"name": "stops", "datatype": "INT32", "shape": [1], "data": [1]},
        {"name": "carrier", "datatype": "BYTES", "shape": [1], "data": ["UA"]},
    ], "outputs": [{"name": "prediction", "parameters": {"binary_data": True}}]}),
    ("text", {"id": "7", "inputs": [
        {"name": "word", "datatype": "BYTES", "shape": [2], "data": ["a", "é"]}
    ], "parameters": {"binary_data_output": True, "clew-key": "k"}}),
    ("moments", {"inputs": [
        {"name": "lasted", "datatype": "BYTES", "shape": [2], "data": ["PT1H30M", None]},
        {"name": "at", "datatype": "BYTES", "shape": [2], "data": ["23:59:59.999999", "00:00"]},
        {"name": "day", "datatype": "BYTES", "shape": [2], "data": ["0001-01-01", "9999-12-31"]},
        {"name": "price", "datatype": "FP64", "shape": [2], "data": [9.99, "-0.01"]},
    ]}),
    ("half", {"inputs": [
        {"name": "x", "datatype": "FP16", "shape": [1, 2], "parameters": {"binary_data_size": 4}}
    ]}),
]  # fmt: skip
"""Requests to begin from: (endpoint, message)."""

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**30, 1e308, 0.5]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["FP64", "BYTES", "BF16", "x", "word", "label", "\x00", "\ud800"]),
    st.sampled_from(
        [
            "P999999999D",
            "-P999999999DT86399.999999S",
            "PT",
            "P1Y",
            "24:00",
            "1e400",
            "23:59+23:59",
            "-0",
            "sNaN",
            "1_0",
            "１",
            "10000-01-01",
            "99999999999.99",
        ]
    ),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-2, 3), max_size=4),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2), max_leaves=20),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["inference-header-content-length", "content-encoding", "accept-encoding", "content-type",
         "expect", "connection", "transfer-encoding", "authorization", "traceparent"]
    ),
    st.one_of(
        st.sampled_from(["0", "1", "-1", "10000000000000000000000", "gzip", "deflate", "br",
                         "gzip;q=", ";;,,", "*", "100-continue", "close", "keep-alive",
                         "00-00000000000000000000000000000000-0000000000000000-01"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8),
    ),
    max_size=3,
)  # fmt: skip
PARTS = st.one_of(
    st.sampled_from(["v1", "v2", "models", "repository", "index", "health", "live", "ready",
                     "wide", "wide:predict", "text:predict", "nobody", "versions", "3", "infer",
                     "stats", "config", "metrics", "load", "", ".", "..", "%00", "%ff", "a:b:c"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=5),
)  # fmt: skip


@st.composite
def changed(draw):
    """A request of the seeds with some of its places changed: (endpoint, message)."""
    name, message = draw(st.sampled_from(SEEDS))
    message = json.loads(json.dumps(message))
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, message)
    return name, message


def _change(draw, value):
    while isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw(st.sampled_from(keys))
        if not isinstance(value[key], dict | list) or not value[key] or draw(st.booleans()):
            act = draw(st.sampled_from(["set", "drop", "twice"]))
            if act == "drop":
                del value[key]
            elif act == "twice" and isinstance(value, list):
                value.append(value[key])
            else:
                value[key] = draw(VALUES)
            return
        value = value[key]


class Target:
    """A served process, one connection that must always work, and one channel."""

    def __init__(self, process) -> None:
        self.place = urlsplit(process.url)
        self.steady = HTTPConnection(self.place.hostname, self.place.port, timeout=30)
        self.channel = grpc.insecure_channel(process.grpc_address)

    def still_right(self):
        self.steady.request("POST", "/v2/models/wide/infer", json.dumps(ASKED))
        answer = self.steady.getresponse()
        assert json.loads(answer.read())["outputs"][0]["data"] == [6.0, -6.0]

    def ask(self, method, target, body, headers):
        connection = HTTPConnection(self.place.hostname, self.place.port, timeout=30)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if "transfer-encoding" not in headers:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders()
            connection.send(body)
            connection.sock.shutdown(socket.SHUT_WR)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        assert answer.status < 500, (answer.status, said[:300])
        if answer.status >= 400 and said:
            assert list(json.loads(said)) == ["error"]
        self.still_right()

    def send(self, data):
        """Bytes as they are; what comes back until the server closes."""
        with socket.create_connection((self.place.hostname, self.place.port), 30) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            said = b"".join(iter(lambda: sock.recv(65536), b""))
        for line in said.split(b"\r\n"):
            if line.startswith(b"HTTP/1.1 "):
                assert line.split()[1] < b"500", line
        self.still_right()

    def call(self, method, raw):
        call = self.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        code = call.future(raw, timeout=30).code()
        assert code.name in {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}, code
        self.still_right()


@pytest.fixture(scope="module")
def target(served):
    target = Target(served.process)
    yield target
    target.steady.close()
    target.channel.close()


def bodies(target, drawn, headers):
    name, message = drawn
    body = json.dumps(message).encode()
    if isinstance(message, dict) and "parameters" in json.dumps(message):
        headers = {"inference-header-content-length": str(len(body)), **headers}
        body += b"\0\x3c\0\x40"
    target.ask("POST", f"/v2/models/{name}/infer", body, headers)
    v1 = json.dumps({"instances": message.get("inputs"), **message}).encode()
    target.ask("POST", f"/v1/models/{name}:predict", v1, headers)


def targets(target, method, parts, query, body, headers):
    path = "/" + "/".join(parts)
    if "unload" not in path:
        target.ask(method, path + query, body, headers)


def wires(target, data):
    target.send(data)


def messages(target, drawn, raws, flips):
    name, message = drawn
    built = MESSAGES["ModelInferRequest"](model_name=name, raw_input_contents=raws)
    for each in message.get("inputs") or [] if isinstance(message.get("inputs"), list) else []:
        _add(built, each)
    raw = bytearray(built.SerializeToString())
    for at, bit in flips:
        if raw:
            raw[at % len(raw)] ^= 1 << bit
    target.call("ModelInfer", bytes(raw))


def _add(built, each):
    """As much of a tensor as there is a field for."""
    tensor = built.inputs.add()
    for name, value in each.items() if isinstance(each, dict) else []:
        try:
            if name == "data":
                tensor.contents.fp64_contents.extend(value)
            elif isinstance(value, list):
                getattr(tensor, name).extend(value)
            else:
                setattr(tensor, name, value)
        except (TypeError, ValueError, AttributeError):
            continue


METHODS = st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH"])
TARGETS = [METHODS, st.lists(PARTS, max_size=7), st.sampled_from(["", "?", "?a=%zz", "?x"]),
           st.sampled_from([b"", b"{}", b"[", b"\xff", json.dumps(ASKED).encode()]),
           HEADERS]  # fmt: skip
LINES = st.sampled_from(
    [b"POST /v2/models/wide/infer HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"Host: x\r\n",
     b"Content-Length: 5\r\n", b"Content-Length: 99999999999\r\n", b"Content-Length: -5\r\n",
     b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"\r\n", b"{}\r\n", b"5\r\n",
     b"ffffffffffffffff\r\n", b"0\r\n\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n",
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b": \r\n", b"\0\n"]
)  # fmt: skip
WIRES = st.lists(st.one_of(LINES, st.binary(max_size=12)), max_size=8).map(b"".join)
FLIPS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 7)), max_size=4)
RAWS = st.lists(
    st.one_of(st.binary(max_size=24), st.just(struct.pack("<I", 2**32 - 1))), max_size=3
)
ALL = [
    "ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics",
    "RepositoryIndex", "RepositoryModelLoad", "ServerLive", "ServerReady", "ServerMetadata",
]  # fmt: skip


@fuzz(QUICK)
@given(drawn=changed(), headers=HEADERS)
def test_no_body_is_the_servers_fault(target, drawn, headers):
    bodies(target, drawn, headers)


@fuzz(QUICK)
@given(asked=st.tuples(*TARGETS))
def test_no_target_method_or_header_is_the_servers_fault(target, asked):
    targets(target, *asked)


@fuzz(QUICK)
@given(data=WIRES)
def test_no_bytes_on_a_connection_are_the_servers_fault(target, data):
    wires(target, data)


@fuzz(QUICK)
@given(drawn=changed(), raws=RAWS, flips=FLIPS)
def test_no_grpc_message_is_the_servers_fault(target, drawn, raws, flips):
    messages(target, drawn, raws, flips)


@fuzz(QUICK)
@given(method=st.sampled_from(ALL), raw=st.binary(max_size=30))
def test_no_bytes_of_a_grpc_call_are_the_servers_fault(target, method, raw):
    target.call(method, raw)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@fuzz(LONG)
@given(
    drawn=changed(), headers=HEADERS, asked=st.tuples(*TARGETS), data=WIRES, raws=RAWS, flips=FLIPS
)
def test_nothing_that_is_drawn_for_long_is_the_servers_fault(
    target, drawn, headers, asked, data, raws, flips
):
    bodies(target, drawn, headers)
    targets(target, *asked)
    wires(target, data)
    messages(target, drawn, raws, flips)
