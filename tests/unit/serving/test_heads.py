"""Who is answered by what is known of the head gets what a parser would have given."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.serving.dataplane import Answer
from clew.serving.heads import MOST, Head, Heads
from clew.serving.http import Connection, HttpServer


class Wire:
    """A transport that keeps what was written."""

    def __init__(self):
        self.written, self.closed = b"", False

    def get_extra_info(self, _):
        return None

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closed

    def can_write_eof(self):
        return False

    def close(self):
        self.closed = True

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    @property
    def statuses(self):
        return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3})", self.written)]


class Door:
    """A connection to a server of which ``/full`` may be full; counts what was refused."""

    def __init__(self, *, token=""):
        self.full, self.refused, self.asked, self.late = True, 0, [], []
        self.server = HttpServer(self.answer, token=token, full=self.is_full, refused=self.count)
        self.wire, self.connection = Wire(), Connection(self.server)
        self.connection.connection_made(self.wire)

    def is_full(self, target):
        return self.full and target == b"/full"

    def count(self, target):
        assert target == b"/full"
        self.refused += 1

    def answer(self, request, reply):
        seen = {slot: getattr(request, slot) for slot in request.__slots__}
        self.asked.append(seen | {"headers": dict(request.headers)})
        if request.target == b"/late":
            self.late.append(reply)
        else:
            reply(Answer(200, request.body * 300))

    def take(self, data):
        if not self.wire.closed:
            self.connection.data_received(data)


def post(body=b"12", headers=b"", target=b"/full"):
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST " + target + b" HTTP/1.1\r\nHost: x\r\n" + headers + length + b"\r\n" + body


CHUNKED = b"POST /full HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
requests = st.sampled_from(
    [
        post(),
        post(),
        post(b"34"),
        post(b"a longer body"),
        post(b"\r\n\r\n"),
        post(post()),
        post(headers=b"X: y\r\n"),
        post(headers=b"Expect: 100-continue\r\n"),
        post(headers=b"Connection: close\r\n"),
        post(target=b"/free"),
        post(target=b"/free"),
        post(target=b"/late"),
        post(b"x" * 4000, target=b"/free"),
        post(b"{}12", b"Inference-Header-Content-Length: 2\r\n", b"/free"),
        post(b"{}12", b"Inference-Header-Content-Length: x\r\n", b"/free"),
        post(b"{}12" * 300, b"Accept-Encoding: gzip\r\n", b"/free"),
        post(headers=b"Clew-Key: a\r\n", target=b"/free"),
        post(headers=b"X-Request-Timeout-Ms: 5\r\n", target=b"/free"),
        post(headers=b"traceparent: 00-1-2-01\r\n", target=b"/free"),
        post(headers=b"Content-Encoding: gzip\r\n", target=b"/free"),
        post(b""),
        CHUNKED,
        b"GET /full HTTP/1.1\r\n\r\n",
        b"\r\n",
        b"\r\nPOST /full HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
        b"nonsense\r\n\r\n",
    ]
)


@given(st.lists(st.tuples(st.lists(requests, max_size=4), st.booleans()), max_size=8), st.data())
def test_however_requests_come_they_are_answered_as_if_each_was_parsed(rounds, data):
    learning, parsing = Door(), Door()
    rest = b""
    for sent, full in rounds:
        whole = rest + b"".join(sent)
        cut = max(0, len(whole) - data.draw(st.sampled_from([0, 0, 0, 1, 3, len(whole)])))
        rest = whole[cut:]
        answers = data.draw(st.booleans())
        for door in (learning, parsing):
            door.full = full
            door.take(whole[:cut])
            while answers and door.late:
                door.late.pop(0)(Answer(200, b"late"))
        parsing.server.heads.clear()
    assert learning.wire.statuses == parsing.wire.statuses
    assert (learning.asked, learning.refused) == (parsing.asked, parsing.refused)
    assert learning.wire.closed == parsing.wire.closed


def test_the_second_of_a_kind_is_not_parsed():
    door = Door()
    door.take(post())
    door.connection._parser = None
    door.take(post(b"34"))
    door.take(post(b"56") * 3)
    assert (door.wire.statuses, door.refused) == ([429] * 5, 5)
    door.full = False
    door.take(post(b"78"))
    assert door.wire.statuses[5:] == [200]
    assert [each["body"] for each in door.asked] == [b"78"]


def test_when_another_header_counts_heads_are_parsed_again():
    door = Door()
    for names in ([], [b"x-region"], [b"x-region"]):
        door.server.want(names)
        door.take(post(headers=b"X-Region: eu\r\n", target=b"/free"))
    assert [b"x-region" in each["headers"] for each in door.asked] == [False, True, True]


def test_who_shows_another_token_is_not_taken_for_one_that_may_ask():
    door = Door(token="secret")
    door.take(post(headers=b"Authorization: Bearer secret\r\n"))
    door.take(post(headers=b"Authorization: Bearer Secret\r\n"))
    door.take(post())
    assert door.wire.statuses == [429, 401, 401]


def test_a_server_that_ends_says_so_with_the_next_answer():
    door = Door()
    door.take(post())
    door.server.draining = True
    door.take(post())
    assert b"connection: close" in door.wire.written
    assert door.wire.closed


def head_of(length):
    return Head(target=b"/", headers={}, length=length, raw=-1, zipped=b"")


@pytest.mark.parametrize(
    ("data", "length"),
    [(b"POST / HTTP/1.1\r\n\r\n12", 3), (b"POST / HTTP/1.1\r\n\r\n12", 1), (b"\r\n\r", 0)],
)
def test_what_is_not_one_whole_request_is_not_learned(data, length):
    heads = Heads()
    heads.learn(data, head_of(length))
    assert len(heads) == 0
    assert heads.find(data, 0) is None


def test_as_many_heads_are_known_as_there_is_room_for():
    heads = Heads()
    for at in range(3 * MOST):
        heads.learn(b"POST /%d HTTP/1.1\r\n\r\n12" % at, head_of(2))
        assert len(heads) <= MOST
    long = b"POST / HTTP/1.1\r\n" + b"X" * 5000 + b"\r\n\r\n12"
    heads.learn(long, head_of(2))
    assert heads.find(long, 0) is None
