"""What nobody waits for is not computed; what cannot wait is told at once; memory is bounded."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter

import numpy as np
import pytest

from clew.base.records import Signature
from clew.serving import quick
from clew.serving.dataplane import SLOW_S, Answer, Call, DataPlane, Route
from clew.serving.http import Connection, HttpServer
from clew.serving.runtime import Identity, Runtime

BODY = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}


class Held:
    """A model that answers when it is let go, and counts the rows that it was asked for."""

    platform = "held"
    signature = Signature(frame="numpy", inputs=(), width=3, task="regression")

    def __init__(self):
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.rows = []

    def predict(self, data):
        self.rows.append(len(data))
        self.begun.set()
        assert self.let_go.wait(60)
        return {"prediction": data.sum(axis=1)}


def plane_of(scenario, max_queue=1024):
    """Run scenario(plane, ask, model) on a loop, with one slow revision."""

    async def run():
        loop = asyncio.get_running_loop()
        plane, model = DataPlane(loop, None), Held()
        identity = Identity(
            endpoint="e", revision="r", number=1, model_version="m", version="1", global_id="g"
        )
        runtime = Runtime(identity, model)
        runtime.cost_s = 10 * SLOW_S
        plane.routes = {"e": Route("e", [(runtime, 100)], max_queue=max_queue)}

        def ask(body=BODY, **more):
            future = loop.create_future()
            raw = json.dumps(body).encode()
            plane.submit(
                Call(kind="v2", endpoint="e", version="", body=raw, head=-1,
                     reply=future.set_result, **more)
            )  # fmt: skip
            return future

        try:
            return await scenario(plane, ask, model)
        finally:
            model.let_go.set()
            plane.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (BODY, {"timeout_s": 1e-9}),
        ({**BODY, "parameters": {"timeout": 1}}, {}),
    ],
    ids=["header", "parameter"],
)
def test_a_request_whose_deadline_has_passed_is_answered_504_and_not_computed(body, more):
    async def scenario(plane, ask, model):
        first = ask()
        await asyncio.to_thread(model.begun.wait, 20)
        late, patient = ask(body, **more), ask(timeout_s=60)
        await asyncio.sleep(1e-5)
        model.let_go.set()
        statuses = [(await answer).status for answer in (first, late, patient)]
        return statuses, model.rows, plane.in_flight, plane.routes["e"].peek("").account.expired

    assert plane_of(scenario) == ([200, 504, 200], [1, 1], 0, 1)


def test_more_than_may_wait_is_told_at_once_and_the_rest_is_answered():
    async def scenario(plane, ask, model):
        first = ask()
        await asyncio.to_thread(model.begun.wait, 20)
        asked = [ask() for _ in range(30)]
        told = [answer for answer in asked if answer.done()]
        waiting = plane.routes["e"].peek("").waiting
        model.let_go.set()
        statuses = Counter([(await answer).status for answer in asked])
        return {one.result().status for one in told}, len(told), waiting, statuses, await first

    told, refused, waiting, statuses, first = plane_of(scenario, max_queue=8)
    assert (told, refused, waiting) == ({429}, 23, 8)  # the first one counts: it is not answered
    assert statuses == {429: 23, 200: 7}
    assert first.status == 200


@pytest.mark.parametrize("timeout", [-1, 1.5, "soon", True])
def test_a_timeout_that_is_no_number_of_microseconds_is_refused(timeout):
    async def scenario(plane, ask, model):
        model.let_go.set()
        return await ask({**BODY, "parameters": {"timeout": timeout}})

    answer = plane_of(scenario)
    assert (answer.status, b"'timeout'" in answer.body) == (400, True)


@pytest.mark.parametrize("header", ["X-Request-Timeout-Ms", "x-envoy-expected-rq-timeout-ms"])
def test_the_deadline_comes_by_header_in_milliseconds(header):
    seen = []

    class Wire:
        def __init__(self):
            self.sent = b""

        def get_extra_info(self, _):
            return None

        def write(self, data):
            self.sent += data

        def is_closing(self):
            return False

        def close(self):
            pass

    def app(request, reply):
        seen.append(request.timeout_s)
        reply(Answer(200, b"{}"))

    connection, wire = Connection(HttpServer(app)), Wire()
    connection.connection_made(wire)
    for value in ("1500", "0", "soon"):
        said = f"POST / HTTP/1.1\r\nHost: x\r\n{header}: {value}\r\nContent-Length: 0\r\n\r\n"
        connection.data_received(said.encode())
    assert seen == [1.5, np.inf]
    assert wire.sent.count(b"HTTP/1.1 200 OK") == 2
    assert b"HTTP/1.1 400 Bad Request" in wire.sent


def test_the_short_way_has_no_parameters_and_so_no_deadline_of_its_own():
    assert quick.read(json.dumps({**BODY, "parameters": {"timeout": 1}}).encode()) is None
