"""Graphs beside models: as arms and as shadows, on the endpoints of others."""

from __future__ import annotations

import asyncio
import json
import threading

import numpy as np
import pytest

from clew.authoring.graphs import ensemble, graph_of, node
from clew.base.errors import Invalid
from clew.base.records import Column, Signature
from clew.base.records.graphs import Graph
from clew.serving import shadowing
from clew.serving.dataplane import Call, DataPlane, Route
from clew.serving.definitions import EndpointDefinition
from clew.serving.graph_arms import circle_of, fitted
from clew.serving.graph_checks import check_fit
from clew.serving.graph_model import GraphModel
from clew.serving.graph_settling import settle_graphs
from clew.serving.router import Arm
from clew.serving.runtime import Identity, Runtime
from clew.serving.spool import Spool, records, segments

CLASSES = ("no", "yes")


def signature(inputs) -> Signature:
    columns = tuple(Column(name=name, type=kind) for name, kind in inputs.items())
    return Signature(
        frame="polars", inputs=columns, width=len(columns), task="binary", classes=CLASSES
    )


class Chance:
    """The chance of yes is a factor of the column a."""

    platform = "test"

    def __init__(self, factor=1.0, inputs=None, outputs=("label", "probability")):
        self.signature = signature(inputs or {"a": "double"})
        self.factor, self.outputs, self.rows, self.slow = factor, outputs, 0, False

    def predict(self, data):
        values = data[:, 0] if isinstance(data, np.ndarray) else data["a"]
        chance = np.asarray(values, dtype=float) * self.factor
        self.rows += len(chance)
        found = {"label": np.array(CLASSES)[(chance > 0.5).astype(int)], "probability": chance}
        return {name: found[name] for name in self.outputs}


def graph(written) -> GraphModel:
    root, functions = graph_of("g", written)
    return GraphModel(Graph(code="c", root=root), functions)


def runtime(endpoint, name, model) -> Runtime:
    ids = {"revision": f"r-{name}", "model_version": f"m-{name}", "version": name}
    found = Runtime(Identity(endpoint=endpoint, number=1, global_id="g", **ids), model)
    found.warm(None)
    return found


def arm(made, weight=50, role="arm"):
    return Arm(made, made.identity.revision, weight, role)


def asked(plane, loop, rows, endpoint="late"):
    future = loop.create_future()
    tensors = [
        {"name": name, "datatype": "FP64", "shape": [len(values)], "data": values}
        for name, values in rows.items()
    ]
    body = json.dumps({"inputs": tensors}).encode()
    plane.submit(
        Call(kind="v2", endpoint=endpoint, version="", body=body, head=-1, reply=future.set_result)
    )
    return future


async def until(true):
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def kept(place):
    return [one for each in segments(place) for one, _ in records(each.read(0, 1 << 20))]


def run(act):
    return asyncio.run(act())


def routes_of(late, **others):
    routes = {"late": late}
    routes |= {name: Route(name, [(runtime(name, name, one), 100)]) for name, one in others.items()}
    settle_graphs(routes)
    return routes


def test_a_graph_as_a_shadow_is_asked_logged_and_compared(tmp_path):
    one, other = Chance(0.5), Chance(0.1)

    async def act():
        spool = Spool(tmp_path)
        plane = DataPlane(asyncio.get_running_loop(), spool)
        copied = runtime("late", "copied", graph(ensemble("x", "y")))
        late = Route("late", [(runtime("late", "live", Chance()), 100)], shadows=((copied, 1.0),))
        plane.follow(routes_of(late, x=one, y=other))
        answers = [await asked(plane, plane._loop, {"a": [value]}) for value in (0.2, 0.9)]
        await until(lambda: copied.account.compared == 2)
        plane.close()
        spool.close()
        return answers, copied.account

    answers, account = run(act)
    assert [json.loads(each.body)["outputs"][1]["data"] for each in answers] == [[0.2], [0.9]]
    assert (account.errors, account.dropped) == (0, 0)
    assert account.disagreed == 1, "0.27 is no where 0.9 was yes; 0.06 is no as 0.2 was"
    found = kept(tmp_path)
    mine = [each for each in found if each.revision == "r-copied"]
    assert {each.copy_of for each in mine} == {each.prediction_id for each in answers}
    assert {each.arm for each in mine} == {"shadow"}
    parts = {part for each in mine for part in each.parts}
    nodes = [each for each in found if each.endpoint in {"x", "y"}]
    assert parts == {each.id for each in nodes}
    assert {each.arm for each in nodes} == {"shadow"}, "no test of a node counts them"


def test_a_shadow_that_hangs_takes_nothing_from_another_and_its_room_is_bounded(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(shadowing, "MOST_COPIES", 3)
    release = threading.Event()

    class Hangs(Chance):
        def predict(self, data):
            if self.rows:  # it was warmed up before
                release.wait(60)
            return super().predict(data)

    async def act():
        spool = Spool(tmp_path)
        plane = DataPlane(asyncio.get_running_loop(), spool)
        hung, quick = runtime("late", "hung", Hangs()), runtime("late", "quick", Chance())
        shadows = ((hung, 1.0), (quick, 1.0))
        late = Route("late", [(runtime("late", "live", Chance()), 100)], shadows=shadows)
        plane.follow({"late": late})
        for at in range(10):
            answer = await asked(plane, plane._loop, {"a": [0.9]})
            assert answer.status == 200
            await until(lambda seen=at: quick.account.compared + quick.account.dropped > seen)
        waiting = hung.account.compared, hung.account.dropped
        release.set()
        await until(lambda: hung.account.compared + hung.account.dropped == 10)
        plane.close()
        spool.close()
        return quick.account, waiting, hung.account

    quick, waiting, hung = run(act)
    assert (quick.compared, quick.dropped) == (10, 0)
    assert waiting[0] == 0
    assert waiting[1] >= 6, "one is computed, three wait"
    found = [each for each in kept(tmp_path) if each.arm == "shadow"]
    arms = [each.revision for each in found]
    assert (arms.count("r-quick"), arms.count("r-hung")) == (10, hung.compared)


def test_a_graph_has_shadows_that_are_models():
    async def act():
        plane = DataPlane(asyncio.get_running_loop(), None)
        copied = runtime("late", "copied", Chance(0.5))
        made = runtime("late", "live", graph(node("x")))
        late = Route("late", [(made, 100)], shadows=((copied, 1.0),))
        plane.follow(routes_of(late, x=Chance()))
        answer = await asked(plane, plane._loop, {"a": [0.9]})
        await until(lambda: copied.account.compared == 1)
        plane.close()
        return answer, copied.account

    answer, account = run(act)
    assert answer.status == 200
    assert account.disagreed == 1


def test_copies_for_a_graph_make_no_copies_of_their_own():
    async def act():
        plane = DataPlane(asyncio.get_running_loop(), None)
        copied, further = runtime("late", "c", graph(node("x"))), runtime("x", "f", Chance())
        late = Route("late", [(runtime("late", "live", Chance()), 100)], shadows=((copied, 1.0),))
        routes = routes_of(late, x=Chance())
        routes["x"] = Route("x", routes["x"].arms, shadows=((further, 1.0),))
        plane.follow(routes)
        await asked(plane, plane._loop, {"a": [0.9]})
        await until(lambda: copied.account.compared == 1)
        plane.close()
        return further.account

    account = run(act)
    assert (account.compared, account.dropped) == (0, 0)


def test_what_nodes_have_no_room_for_is_no_fault_of_a_shadow():
    async def act():
        plane = DataPlane(asyncio.get_running_loop(), None)
        copied = runtime("late", "c", graph(node("x")))
        late = Route("late", [(runtime("late", "live", Chance()), 100)], shadows=((copied, 1.0),))
        routes = routes_of(late, x=Chance())
        plane.follow(routes)
        routes["x"].max_queue = 0
        await asked(plane, plane._loop, {"a": [0.9]})
        await until(lambda: copied.account.dropped == 1)
        plane.close()
        return copied.account

    account = run(act)
    assert (account.errors, account.compared) == (0, 0)


def test_a_graph_beside_a_model_is_asked_as_the_model_is():
    """Also with a column that no node takes: the endpoint's requests have it."""
    both = {"a": "double", "b": "double"}

    async def act():
        plane = DataPlane(asyncio.get_running_loop(), None)
        live, beside = runtime("late", "live", Chance(1.0, both)), runtime("late", "g", graph("x"))
        late = Route("late", [arm(live, 50, "live"), arm(beside)])
        plane.follow(routes_of(late, x=Chance(0.5)))
        requests = [asked(plane, plane._loop, {"a": [0.8], "b": [1.0]}) for _ in range(40)]
        answers = await asyncio.gather(*requests)
        plane.close()
        return answers

    found = {
        (each.status, each.identity.revision, *json.loads(each.body)["outputs"][1]["data"])
        for each in run(act)
    }
    assert found == {(200, "r-live", 0.8), (200, "r-g", 0.4)}


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: graph("wants"), "it takes c"),
        (lambda: graph("less"), "it gives no label"),
        (lambda: graph("late"), "it would ask itself: late → late"),
        (lambda: graph("nobody"), "'nobody' does not exist"),
    ],
    ids=["inputs", "outputs", "circle", "node"],
)
def test_a_graph_that_does_not_fit_harms_nobody_beside_it(made, why):
    live, beside = runtime("late", "live", Chance()), runtime("late", "g", made())
    late = Route("late", [arm(live, 50, "live"), arm(beside, 50)])
    others = {"wants": Chance(inputs={"c": "double"}), "less": Chance(outputs=("probability",))}
    routes = routes_of(late, **others)
    assert why in beside.why
    assert (late.ready, late.why, late.only and late.only.value) == (True, "", live)
    assert bool(beside.misfit) == (why != "'nobody' does not exist")
    assert routes["late"].choose("g", "") is None


def test_a_graph_goes_on_without_a_node_that_it_does_not_need():
    """Also after a restart, when that node has not been in memory: it takes what it took."""
    wants = signature({"a": "double", "b": "double"})
    made = runtime("late", "g", graph(ensemble("x", node("y", required=False))))

    async def act():
        plane = DataPlane(asyncio.get_running_loop(), None)
        late = Route("late", [(made, 100)])
        routes = {"late": late, "x": Route("x", [(runtime("x", "x", Chance(0.5)), 100)])}
        routes["y"] = Route("y", [])
        settle_graphs(routes, {"y": wants}.get)
        plane.follow(routes)
        answer = await asked(plane, plane._loop, {"a": [0.8], "b": [1.0]})
        plane.close()
        return answer, routes

    answer, routes = run(act)
    outputs = {one["name"]: one["data"] for one in json.loads(answer.body)["outputs"]}
    assert (answer.status, outputs["probability"]) == (200, [0.4])
    told = json.loads(json.loads(answer.body)["parameters"]["clew-nodes"])
    assert (told["x"]["status"], told["y"]["status"]) == (200, 503)
    routes["x"] = Route("x", [])
    settle_graphs(routes, {"y": wants}.get)
    assert "its node 'x' has no revision loaded" in routes["late"].why


def test_a_function_of_a_graph_that_hangs_holds_up_no_model():
    release = threading.Event()

    def hangs(answers):
        release.wait(60)
        return {"label": answers["x"]["label"]}

    root, functions = graph_of("g", ensemble("x", combine=hangs))
    made = GraphModel(
        Graph(code="c", root=root, functions=dict.fromkeys(functions, "f")), functions
    )
    slow = runtime("slow", "slow", Chance())
    slow.cost_s = 1.0  # it computes in a thread

    async def act():
        plane = DataPlane(asyncio.get_running_loop(), None)
        late = Route("late", [(runtime("late", "g", made), 100)])
        routes = routes_of(late, x=Chance())
        routes["slow"] = Route("slow", [(slow, 100)])
        plane.follow(routes)
        hung = [asked(plane, plane._loop, {"a": [0.1]}) for _ in range(40)]
        async with asyncio.timeout(20):
            answer = await asked(plane, plane._loop, {"a": [0.9]}, "slow")
        assert not any(one.done() for one in hung)
        release.set()
        async with asyncio.timeout(20):
            found = await asyncio.gather(*hung)
        plane.close()
        return answer, found

    answer, found = run(act)
    assert answer.status == 200
    assert {one.status for one in found} == {200}


def test_a_graph_that_stands_alone_says_why_it_cannot_be_asked():
    late = Route("late", [(runtime("late", "g", graph("nobody")), 100)])
    routes_of(late)
    assert (late.ready, late.why) == (False, "its node 'nobody' does not exist")


def test_ways_that_lead_back_are_found_through_what_is_served():
    asked = {"late": {"x"}, "x": {"y"}, "y": {"late"}, "z": set()}
    assert circle_of("late", ("x",), asked) == ("late", "x", "y", "late")
    assert circle_of("late", ("z",), asked) == ()


def test_what_a_graph_takes_beside_a_model_is_what_that_is_asked_with():
    asked = signature({"b": "int64", "a": "double", "word": "string"})
    found, why = fitted(signature({"a": "float", "b": "double"}), asked)
    assert (why, found.inputs, found.width) == ("", asked.inputs, 3)
    for mine, said in (
        ({"word": "double"}, "as double, and requests have string"),
        ({"b": "bool"}, "as bool"),
        ({"a": "int64"}, "as int64, and requests have double"),
    ):
        assert said in fitted(signature(mine), asked)[1]
    missing = Signature(frame="polars", inputs=(Column(name="a", type="double", nullable=True),),
                        width=1, task="")  # fmt: skip
    assert "may be missing" in fitted(signature({"a": "double"}), missing)[1]
    matrix = Signature(frame="numpy", inputs=(), width=3, task="")
    assert fitted(matrix, asked)[1] == ""
    assert "3 columns" in fitted(Signature(frame="numpy", inputs=(), width=4, task=""), asked)[1]


def test_a_deploy_is_refused_where_it_is_known_not_to_fit():
    root, _ = graph_of("g", node("x"))
    endpoints = {
        "late": EndpointDefinition(name="late", pipeline="p", model="p/m"),
        "x": EndpointDefinition(name="x", pipeline="p", model="p/x"),
        "g": EndpointDefinition(name="g", pipeline="p", model="", graph=Graph(code="c", root=root)),
    }
    known = {"late": (signature({"a": "double"}), None), "x": (signature({"c": "double"}), None)}
    with pytest.raises(Invalid, match="beside what late serves: it takes c") as refused:
        check_fit(endpoints, "late", "g", known.get)
    assert refused.value.code == "graph.arm"
    check_fit(endpoints, "late", "g", (known | {"x": known["late"]}).get)
