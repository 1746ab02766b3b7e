"""A graph answers as its steps would, says who made what, and fails as little as it can."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from clew.authoring.graphs import ensemble, graph_of, node, sequence, splitter, switch
from clew.base.errors import Invalid
from clew.base.records import Column, Signature
from clew.base.records.graphs import Graph
from clew.serving.dataplane import Call, DataPlane, Route
from clew.serving.graph_checks import Known, check_nodes, settle
from clew.serving.graph_model import GraphModel
from clew.serving.graph_settling import headers_of, settle_graphs
from clew.serving.runtime import Identity, Runtime
from clew.serving.spool import Spool, records, segments

CLASSES = ("no", "yes")


def signature(inputs, task="binary", classes=CLASSES) -> Signature:
    columns = tuple(Column(name=name, type=kind) for name, kind in inputs.items())
    return Signature(frame="polars", inputs=columns, width=len(columns), task=task, classes=classes)


class Chance:
    """The chance of yes is a factor of a column; it counts its batches."""

    platform = "test"

    def __init__(self, factor, inputs=None, column="a"):
        self.signature = signature(inputs or {"a": "double"})
        self.factor, self.column, self.batches, self.broken = factor, column, [], ""

    def predict(self, data):
        values = data[:, 0] if isinstance(data, np.ndarray) else data[self.column]
        chance = np.asarray(values, dtype=float) * self.factor
        self.batches.append(len(chance))
        if self.broken:
            raise ValueError("bad") if self.broken == "bad" else RuntimeError("broken")
        return {"label": np.array(CLASSES)[(chance > 0.5).astype(int)], "probability": chance}


class Plane:
    """A data plane with endpoints, and a graph over them; with a spool where there is a place."""

    def __init__(self, models, written, place=None, inputs=()):
        root, functions = graph_of("g", written)
        graph = Graph(
            code="c", root=root, inputs=tuple(inputs), functions={k: f"f.py:{k}" for k in functions}
        )
        self.models = models | {"g": GraphModel(graph, functions)}
        self.place = place

    def ask(self, *requests, before=None, **more):
        """Answers to requests (rows by column) that arrive together: status, body, outputs."""
        return asyncio.run(self._ask(requests, before, more))

    async def _ask(self, requests, before, more):
        loop = asyncio.get_running_loop()
        spool = None if self.place is None else Spool(self.place)
        plane = DataPlane(loop, spool)
        runtimes = {}
        for at, (name, model) in enumerate(self.models.items()):
            ids = {"revision": f"r-{name}", "model_version": f"m-{name}", "version": str(at)}
            runtimes[name] = Runtime(Identity(endpoint=name, number=1, global_id="g", **ids), model)
            runtimes[name].warm(None)
        self.runtimes = runtimes
        plane.routes = {name: Route(name, [(each, 100)]) for name, each in runtimes.items()}
        settle_graphs(plane.routes)
        self.route = plane.routes["g"]
        if before is not None:
            before(plane, self)
        futures = [self._submit(plane, loop, rows, more) for rows in requests]
        answers = await asyncio.wait_for(asyncio.gather(*futures), 20)
        plane.close()
        if spool is not None:
            spool.close()
        found = []
        for one in answers:
            body = json.loads(one.body)
            found.append(
                (one.status, body, {o["name"]: o["data"] for o in body.get("outputs", ())})
            )
        return found

    def _submit(self, plane, loop, rows, more):
        future = loop.create_future()
        kinds = {float: "FP64", int: "INT64", str: "BYTES"}
        tensors = [
            {"name": name, "datatype": kinds[type(values[0])], "shape": [len(values)],
             "data": values}
            for name, values in rows.items()
        ]  # fmt: skip
        body = json.dumps({"inputs": tensors}).encode()
        call = Call(kind="v2", endpoint="g", version="", body=body, head=-1,
                    reply=future.set_result, **more)  # fmt: skip
        plane.submit(call)
        return future


def nodes(body) -> dict:
    return json.loads(body["parameters"]["clew-nodes"])


def test_an_ensemble_means_numbers_and_takes_the_label_of_the_largest():
    plane = Plane({"x": Chance(1.0), "y": Chance(0.5)}, ensemble("x", "y", weights=[3, 1]))
    ((status, body, told), (_, _, other)) = plane.ask({"a": [0.4, 0.8]}, {"a": [1.0]})
    assert (status, told["label"]) == (200, ["no", "yes"])
    assert told["probability"] == pytest.approx([0.35, 0.7])
    assert other["probability"] == pytest.approx([0.875])
    assert nodes(body)["y"] == {
        "endpoint": "y", "version": "1", "revision": "r-y", "status": 200,
        "prediction-id": nodes(body)["y"]["prediction-id"],
    }  # fmt: skip
    assert plane.models["x"].batches[-1] == 3, "requests to a graph are one batch of its nodes"
    assert [one["name"] for one in plane.runtimes["g"].outputs] == ["label", "probability"]
    assert [one["name"] for one in plane.runtimes["g"].contract.describe()] == ["a"]


def test_votes_are_counted_by_weight_and_a_tie_goes_to_the_first_class():
    models = {"x": Chance(1.0), "y": Chance(0.5), "z": Chance(0.1)}
    ((_, _, told),) = Plane(models, ensemble("x", "y", "z", combine="vote")).ask({"a": [0.8, 1.2]})
    assert told == {"label": ["no", "yes"], "votes": pytest.approx([2 / 3, 2 / 3])}
    ((_, _, tie),) = Plane(models, ensemble("x", "z", combine="vote")).ask({"a": [0.8]})
    assert tie == {"label": ["no"], "votes": [0.5]}


def test_a_function_combines_and_its_faults_are_told():
    def best(answers, rows):
        return {"best": np.maximum(answers["x"]["probability"], answers["y"]["probability"]),
                "a": rows["a"]}  # fmt: skip

    models = {"x": Chance(1.0), "y": Chance(0.5)}
    ((_, _, told),) = Plane(models, ensemble("x", "y", combine=best)).ask({"a": [0.4, 0.8]})
    assert told == {"best": [0.4, 0.8], "a": [0.4, 0.8]}
    ((_, _, whole),) = Plane(models, ensemble("x", "y", combine="all")).ask({"a": [0.4]})
    assert whole["x.probability"] == [0.4]
    assert whole["y.label"] == ["no"]
    for wrong, status, said in (
        (lambda answers: answers["nobody"], 500, "KeyError"),
        (lambda answers: [1.0, 2.0], 500, "for 1 rows"),
        (lambda answers: int("x"), 400, "invalid literal"),
    ):
        ((found, body, _),) = Plane(models, ensemble("x", "y", combine=wrong)).ask({"a": [0.4]})
        assert (found, said in body["error"]) == (status, True)


def test_a_sequence_hands_answers_on_beside_the_request():
    models = {"x": Chance(0.5), "y": Chance(2.0, {"probability": "double", "b": "int64"},
                                            column="probability")}  # fmt: skip
    plane = Plane(models, sequence("x", "y"))
    ((status, body, told),) = plane.ask({"a": [0.4], "b": [7]})
    assert (status, told["probability"]) == (200, [0.4])
    assert list(nodes(body)) == ["x", "y"]
    assert [one["name"] for one in plane.runtimes["g"].contract.describe()] == ["a", "b"]
    ((status, body, _),) = plane.ask({"a": [0.4]})
    assert (status, "missing 'b'" in body["error"]) == (400, True)


def test_a_switch_sends_each_row_its_way_and_puts_them_together_again():
    models = {"x": Chance(1.0), "y": Chance(0.5)}
    written = switch(("a > 1 and inputs['b'] in ['far', 'near']", "x"), default="y")
    extra = [Column(name="b", type="string")]
    plane = Plane(models, written, inputs=extra)
    rows = {"a": [2.0, 2.0, 0.5, 4.0], "b": ["far", "x", "far", "near"]}
    ((status, body, told),) = plane.ask(rows)
    assert (status, told["probability"]) == (200, [2.0, 1.0, 0.25, 4.0])
    assert set(nodes(body)) == {"x", "y"}
    ((status, body, _),) = Plane(models, switch(("a > 1", "x"))).ask({"a": [2.0, 0.0]})
    assert (status, "no case holds for row 1" in body["error"]) == (400, True)
    ((_, _, told),) = Plane(models, switch((lambda rows: [v > 1 for v in rows["a"]], "x"),
                                           default="y")).ask({"a": [2.0, 1.0]})  # fmt: skip
    assert told["probability"] == [2.0, 0.5]


def test_a_switch_may_ask_for_headers_and_they_are_the_only_ones_it_sees():
    models = {"x": Chance(1.0), "y": Chance(0.5)}
    plane = Plane(models, switch(('headers["X-Tenant"] == "big"', "x"), default="y"))
    for tenant, chance in ((b"big", 1.0), (b"small", 0.5)):
        headers = {b"x-tenant": tenant, b"authorization": b"secret"}
        ((_, _, told),) = plane.ask({"a": [1.0]}, headers=headers)
        assert told["probability"] == [chance]
    assert headers_of({"g": plane.route}) == {b"x-tenant"}


def test_a_splitter_draws_by_weight_and_keeps_a_key_at_its_step():
    models = {"x": Chance(1.0), "y": Chance(0.5)}
    plane = Plane(models, splitter((70, "x"), (30, "y")))
    found = plane.ask(*[{"a": [1.0]}] * 400)
    share = sum("x" in nodes(body) for _, body, _ in found) / 400
    assert 0.55 < share < 0.85, "400 draws of 0.7"
    same = plane.ask(*[{"a": [1.0]}] * 20, key="somebody")
    assert len({tuple(nodes(body)) for _, body, _ in same}) == 1


def test_what_is_not_required_may_fail_and_what_is_fails_the_graph():
    models = {"x": Chance(1.0), "y": Chance(0.5)}

    def broken(kind, *names):
        def act(plane, mine):
            for name in names:
                mine.models[name].broken = kind

        return act

    loose = ensemble("x", node("y", required=False))
    ((status, body, told),) = Plane(models, loose).ask({"a": [0.4]}, before=broken("dead", "y"))
    assert (status, told["probability"]) == (200, [0.4])
    assert nodes(body)["y"]["status"] == 500
    ((status, body, _),) = Plane(models, loose).ask({"a": [0.4]}, before=broken("bad", "x"))
    assert (status, body["error"]) == (400, "x: The model refused the input: bad")
    models = {"x": Chance(1.0), "y": Chance(0.5)}
    written = switch(("a > 0", node("x", required=False)), default="y")
    ((status, _, told),) = Plane(models, written).ask({"a": [0.4]}, before=broken("dead", "x"))
    assert (status, told["probability"]) == (200, [0.2])
    models = {"x": Chance(1.0), "y": Chance(0.5)}
    written = sequence(node("x", required=False), node("y", data="request"))
    ((status, _, told),) = Plane(models, written).ask({"a": [0.4]}, before=broken("dead", "x"))
    assert (status, told["probability"]) == (200, [0.2])


def test_a_deadline_holds_for_the_nodes():
    plane = Plane({"x": Chance(1.0), "y": Chance(0.5)}, ensemble("x", "y"))
    ((status, body, _),) = plane.ask({"a": [0.4]}, timeout_s=-1.0)
    assert (status, "deadline" in body["error"]) == (504, True)


def test_a_graph_without_its_nodes_says_which_and_answers_503():
    plane = Plane({"x": Chance(1.0)}, ensemble("x", "gone"))
    ((status, body, _),) = plane.ask({"a": [0.4]})
    assert (status, "'gone'" in body["error"]) == (503, True)
    assert not plane.route.ready


def test_graphs_may_ask_graphs():
    root, _ = graph_of("inner", ensemble("x", "y"))
    inner = GraphModel(Graph(code="i", root=root), {})
    models = {"g2": inner, "x": Chance(1.0), "y": Chance(0.5)}
    ((status, body, told),) = Plane(models, sequence("g2")).ask({"a": [0.8]})
    assert (status, told["probability"]) == (200, pytest.approx([0.6]))
    assert list(nodes(body)) == ["g2"]


def logged(place) -> list:
    return [one for each in segments(place) for one, _ in records(each.read(0, 1 << 20))]


def test_columns_that_a_graph_does_not_keep_are_not_kept_by_its_nodes_for_it(tmp_path):
    plane = Plane({"x": Chance(1.0)}, sequence(node("x")), tmp_path)

    def secret(data_plane, one):
        one.route.redact = frozenset({"a"})

    ((status, _, _),) = plane.ask({"a": [0.75]}, before=secret)
    assert status == 200
    found = logged(tmp_path)
    assert {one.endpoint for one in found} == {"g", "x"}
    assert not any(b"0.75" in one.request for one in found)
    assert json.loads(found[0].request) == {"columns": {}, "rows": 1}


def test_an_answer_that_cannot_be_written_is_a_fault_and_gives_its_place_back():
    def half(answers, _columns):
        rows = len(next(iter(answers.values()))["label"])
        return {"label": np.array(["\ud800"] * rows)}

    models = {"x": Chance(1.0), "y": Chance(0.5)}
    plane = Plane(models, ensemble(node("x"), node("y"), combine=half))
    ((status, body, _),) = plane.ask({"a": [0.4]})
    assert status == 500
    assert "cannot be written" in body["error"]
    assert plane.runtimes["g"].waiting == 0


def test_the_log_has_the_graph_and_its_nodes_and_each_names_the_other(tmp_path):
    plane = Plane({"x": Chance(1.0), "y": Chance(0.5)}, ensemble("x", "y"), tmp_path)
    ((_, body, _),) = plane.ask({"a": [0.4]})
    found = {
        record.endpoint: record
        for segment in segments(tmp_path)
        for record, _ in records(segment.read(0, -1))
    }
    whole = found["g"]
    assert whole.id == body["parameters"]["clew-prediction-id"]
    assert set(whole.parts) == {found["x"].id, found["y"].id}
    assert {found[name].part_of for name in "xy"} == {whole.id}
    assert json.loads(whole.request) == {"columns": {"a": [0.4]}, "rows": 1}
    assert json.loads(whole.answer)["columns"]["probability"] == pytest.approx([0.3])


# what is refused --------------------------------------------------------------------------------


def graph(written, name="g") -> Graph:
    root, functions = graph_of(name, written)
    return Graph(code="c", root=root, functions=dict.fromkeys(functions, "f.py:f"))


PROBABILITY = {"label": (), "probability": ()}
KNOWN = {
    "x": Known(signature=signature({"a": "double"}), outputs=PROBABILITY),
    "i": Known(signature=signature({"a": "int64"}), outputs=PROBABILITY),
    "t": Known(signature=signature({"a": "string"}), outputs=PROBABILITY),
    "r": Known(signature=signature({"a": "double"}, "regression", ()), outputs={"prediction": ()}),
    "other": Known(signature=signature({"a": "double"}, classes=("u", "v")), outputs=PROBABILITY),
    "m": Known(
        signature=Signature(frame="numpy", inputs=(), width=3, task="regression"),
        outputs={"prediction": ()},
    ),
    "next": Known(signature=signature({"prediction": "double"}), outputs=PROBABILITY),
}


@pytest.mark.parametrize(
    ("written", "code", "said"),
    [
        (ensemble("x", "t"), "graph.signature", "takes a as string"),
        (ensemble("x", "m", combine="all"), "graph.signature", "matrix without names"),
        (ensemble("x", "r"), "graph.outputs", "no number in common"),
        (ensemble("x", "r", combine="vote"), "graph.outputs", "not all of them give a label"),
        (ensemble("x", "other"), "graph.outputs", "different classes"),
        (switch(("a > 1", "x"), default="r"), "graph.outputs", "different outputs"),
        (splitter((1, "x"), (1, "r")), "graph.outputs", "different outputs"),
        (sequence("x", node("next", data="response")), "graph.signature", "takes prediction"),
        (switch(("b > 1", "x"), default="i"), "graph.condition", "'b'"),
    ],
)
def test_steps_that_do_not_fit_are_refused_by_name(written, code, said):
    with pytest.raises(Invalid, match=said) as refused:
        settle("g", graph(written), KNOWN.get)
    assert refused.value.code == code


def test_what_fits_says_what_a_client_sends():
    found = settle("g", graph(ensemble("x", "i")), KNOWN.get)
    assert [(one.name, one.type) for one in found.signature.inputs] == [("a", "int64")]
    assert found.signature.classes == CLASSES
    found = settle("g", graph(sequence("r", "next")), KNOWN.get)
    assert [one.name for one in found.signature.inputs] == ["a"]
    assert settle("g", graph(sequence("nobody", "next")), KNOWN.get).outputs == PROBABILITY


def test_circles_and_missing_nodes_are_refused():
    graphs = {"a": graph("b"), "b": graph("c"), "c": graph("a"), "d": graph("nobody"), "x": None}
    with pytest.raises(Invalid, match="a → b → c → a") as refused:
        check_nodes("a", graphs)
    assert refused.value.code == "graph.cycle"
    with pytest.raises(Invalid, match="'nobody'") as refused:
        check_nodes("d", graphs)
    assert refused.value.code == "graph.node"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ensemble("x", "x"),
        lambda: ensemble(),
        lambda: ensemble("x", combine="median"),
        lambda: ensemble("x", "y", weights=[1]),
        lambda: splitter((0, "x")),
        lambda: node("x", data="all"),
        lambda: switch("x"),
        lambda: switch(("__import__('os')", "x")),
        lambda: switch(("a.b > 1", "x")),
        lambda: switch(("a >", "x")),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(wrong):
    with pytest.raises(Invalid):
        graph_of("g", wrong())
