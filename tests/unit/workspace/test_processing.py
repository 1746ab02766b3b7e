"""Functions around the model of an endpoint, from a file of the user to the answer."""

from __future__ import annotations

import json
from contextlib import closing
from importlib.util import find_spec
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from clew.base.errors import Invalid, Unavailable
from clew.base.records.exports import InferenceServiceWish
from clew.base.settings import Settings
from clew.sdk.loading import load
from clew.serving import ServingProcess
from clew.workspace import open_workspace, serving_settings

HELP = """
import polars as pl

FACTOR = 10.0

def tens(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(x=pl.col("tens") * FACTOR)
"""
FILE = """
import clew
import helping
import numpy as np
from sklearn.linear_model import LogisticRegression

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.5))
def model(data, trial):
    return LogisticRegression().fit(data.select("x").to_pandas(), data["y"].to_numpy())

@p.gate(model)
def good(candidate):
    candidate.replay()
    candidate.compatible()

def before(rows):
    if rows["tens"].is_nan().any():
        raise ValueError("no number")
    return helping.tens(rows)

def after(outputs, rows):
    return {"risk": outputs["probability"], "of": rows["tens"].to_numpy()}

p.endpoint(
    "tens", model, preprocess=before, postprocess=after, inputs={"tens": float},
    example=[{"tens": 1.0}],
)
p.endpoint("plain", model)

def worst(answers, rows):
    return {"risk": np.maximum(answers["plain"]["probability"], answers["tens"]["risk"])}

p.graph("both", clew.ensemble("plain", "tens", combine=worst))
p.graph("champion", clew.sequence(clew.node(model, name="first")))
"""
ROWS = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n > 50) for n in range(100))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    directory = tmp_path_factory.mktemp("project")
    file = directory / "p.py"
    file.write_text(FILE)
    (directory / "helping.py").write_text(HELP)
    settings = Settings(home=directory / ".clew", workers=2)
    workspace = open_workspace(settings, create=True)
    workspace.apply(file)
    workspace.put("p/rows", {"/rows.csv": ROWS})
    workspace.wait()
    yield workspace, file
    workspace.close()


@pytest.fixture(scope="module")
def process(project):
    workspace, _ = project
    process = ServingProcess.start(serving_settings(workspace.rooms.settings))
    yield process
    process.stop()


@pytest.fixture(scope="module")
def served(process):
    return process.url


def asked(url, endpoint, tens):
    tensor = {"name": "tens", "datatype": "FP64", "shape": [len(tens)], "data": tens}
    request = Request(
        f"{url}/v2/models/{endpoint}/infer", json.dumps({"inputs": [tensor]}).encode()
    )
    try:
        with urlopen(request) as reply:
            return reply.status, json.load(reply), reply.headers
    except HTTPError as refused:
        return refused.code, json.load(refused), refused.headers


def is_ready(url, endpoint) -> bool:
    try:
        with urlopen(f"{url}/v2/models/{endpoint}/ready") as reply:
            return reply.status == 200
    except HTTPError:
        return False


def told(body) -> dict:
    return {one["name"]: one["data"] for one in body["outputs"]}


def test_a_client_sends_what_the_function_takes_and_gets_what_it_gives(project, served):
    workspace, _ = project
    with urlopen(f"{served}/v2/models/tens") as reply:
        described = json.load(reply)
    assert [one["name"] for one in described["inputs"]] == ["tens"]
    assert [one["name"] for one in described["outputs"]] == ["risk", "of"], "of the example"
    status, body, headers = asked(served, "tens", [3.0, 7.0])
    exact = workspace.predict("plain", [{"x": 30}, {"x": 70}]).outputs["probability"]
    assert (status, told(body)) == (200, {"risk": pytest.approx(exact), "of": [3.0, 7.0]})
    workspace.rooms.serving.collect(force=True)
    logged = workspace.rooms.serving.find_prediction(headers["clew-prediction-id"])
    assert (logged.inputs, logged.outputs) == ({"tens": [3.0, 7.0]}, told(body))
    assert workspace.why(logged.id).subject.detail["inputs"] == {"tens": [3.0, 7.0]}


def test_the_model_in_this_process_has_them_too(project, served):
    _, file = project
    _, body, _ = asked(served, "tens", [3.0])
    with load("tens", directory=file.parent) as here:
        assert here.predict([{"tens": 3.0}]).outputs == told(body)
        with pytest.raises(Invalid, match="no input x"):
            here.predict([{"tens": 3.0, "x": 1}])
    with pytest.raises(Invalid) as refused:
        load("both", directory=file.parent)
    assert refused.value.code == "load.graph"


def test_kserve_is_not_given_half_an_endpoint(project):
    workspace, _ = project
    with pytest.raises(Invalid) as refused:
        workspace.export_inference_service("tens", InferenceServiceWish())
    assert refused.value.code == "export.processing"
    wish = InferenceServiceWish(image="registry.example/tens:1")
    (made,) = workspace.export_inference_service("tens", wish).manifests
    (container,) = made["spec"]["predictor"]["containers"]
    assert container["image"] == wish.image, "the functions are in the image"
    (whole,) = workspace.export_inference_service("both", wish).manifests
    assert whole["spec"] == made["spec"], "and so is all that a graph asks"
    assert whole["metadata"]["annotations"]["clew.graph"]


def test_another_function_is_another_revision_and_the_same_one_is_none(project, served):
    workspace, file = project
    first = [one.id for one in workspace.endpoint("tens").revisions]
    workspace.apply(file)
    assert [one.id for one in workspace.endpoint("tens").revisions] == first
    helping = file.parent / "helping.py"
    helping.write_text(HELP.replace("10.0", "5.0"))  # what a function uses counts too
    workspace.apply(file)
    revisions = workspace.endpoint("tens").revisions
    assert len(revisions) == 2
    assert len({one.processing for one in revisions}) == 2
    assert len({one.model_version for one in revisions}) == 1
    assert len(workspace.endpoint("plain").revisions) == 1
    newest = max(revisions, key=lambda one: one.number)
    until(workspace, lambda: workspace.rooms.serving.revision(newest.id).state == "live")
    exact = workspace.predict("plain", [{"x": 30}]).outputs["probability"]
    until(workspace, lambda: asked(served, "tens", [6.0])[1]["parameters"]["clew-revision"]
          == newest.id)  # fmt: skip
    assert told(asked(served, "tens", [6.0])[1])["risk"] == pytest.approx(exact)
    workspace.rollback("tens")
    workspace.apply(file)  # what was rolled back is not tried again by itself
    assert len(workspace.endpoint("tens").revisions) == 2
    until(workspace, lambda: told(asked(served, "tens", [3.0])[1])["risk"]
          == pytest.approx(exact))  # fmt: skip


@pytest.mark.slow
def test_functions_that_fail_for_their_example_are_not_let_in(project, served):
    workspace, file = project
    before = workspace.rooms.serving.live("tens")
    file.write_text(FILE.replace('outputs["probability"]', "outputs['nothing']"))
    workspace.apply(file)
    newest = max(workspace.endpoint("tens").revisions, key=lambda one: one.number)
    until(workspace, lambda: workspace.rooms.serving.revision(newest.id).state == "failed")
    assert workspace.rooms.serving.live("tens").id == before.id
    assert asked(served, "tens", [3.0])[0] == 200


def answers(workspace):
    try:
        return workspace.predict("tens", [{"tens": 1.0}])
    except Unavailable:
        return None


def test_of_an_endpoint_whose_function_fails_it_is_said_why_until_it_is_mended(tmp_path):
    text = FILE.replace('outputs["probability"]', "outputs['nothing']")
    (tmp_path / "p.py").write_text(text)
    (tmp_path / "helping.py").write_text(HELP)
    settings = Settings(home=tmp_path / ".clew", workers=2)
    with closing(open_workspace(settings, create=True)) as workspace:
        workspace.apply(tmp_path / "p.py")
        workspace.put("p/rows", {"/rows.csv": ROWS})
        workspace.wait()
        process = ServingProcess.start(serving_settings(workspace.rooms.settings))
        try:
            until(workspace, lambda: workspace.endpoint("tens").revisions[0].state == "failed")
            with pytest.raises(Invalid, match="after raised KeyError: 'nothing'") as caught:
                workspace.predict("tens", [{"tens": 1.0}])
            (tmp_path / "p.py").write_text(FILE)
            workspace.apply(tmp_path / "p.py")
            until(workspace, lambda: workspace.endpoint("tens").revisions[0].state == "live")
            until(workspace, lambda: answers(workspace))  # it is live a moment before it is loaded
            assert set(workspace.predict("tens", [{"tens": 1.0}]).outputs) == {"risk", "of"}
            workspace.apply(tmp_path / "p.py")
            assert len(workspace.endpoint("tens").revisions) == 2
        finally:
            process.stop()
    assert caught.value.code == "endpoint.load"


@pytest.mark.slow
def test_a_gate_replays_what_clients_sent_through_the_functions(project, served):
    workspace, file = project
    file.write_text(FILE)
    workspace.apply(file)
    live = workspace.rooms.serving.live("tens")
    until(workspace, lambda: asked(served, "tens", [1.0, 9.0])[1]["parameters"]["clew-revision"]
          == live.id)  # fmt: skip
    workspace.put("p/rows", {"/more.csv": ROWS.replace(b"x,y\n0,0\n", b"x,y\n0.5,0\n")})
    workspace.wait()
    verdict = workspace.verdicts("p/model")[0]
    names = {check.name: check for check in verdict.checks}
    assert verdict.blessed, verdict.checks
    assert names["replay requests of tens"].passed
    assert names["compatible"].passed, "the endpoint asks for what its function takes"


def test_a_graph_is_asked_as_an_endpoint_and_leads_to_its_nodes_and_the_raw_file(project, served):
    workspace, _ = project
    with urlopen(f"{served}/v2/models/both") as reply:
        described = json.load(reply)
    assert [one["name"] for one in described["inputs"]] == ["x", "tens"]
    found = workspace.predict("both", [{"x": 30.0, "tens": 7.0}])
    plain = workspace.predict("plain", [{"x": 70}]).outputs["probability"]
    assert found.outputs == {"risk": pytest.approx(plain)}
    workspace.rooms.serving.collect(force=True)
    logged = workspace.rooms.serving.find_prediction(found.prediction_id)
    assert (logged.inputs, logged.outputs) == ({"x": [30.0], "tens": [7.0]}, found.outputs)
    parts = [workspace.rooms.serving.find_prediction(one) for one in logged.parts]
    assert {one.endpoint: one.part_of for one in parts} == {"plain": logged.id, "tens": logged.id}
    why = workspace.why(logged.id)
    titles = [node.title for node in why.nodes]
    assert any(title.startswith("p/rows@") for title in titles), titles
    down = workspace.why("p/rows@main:/rows.csv", down=True)
    ids = {node.id for node in down.nodes}
    assert {logged.id, *logged.parts} <= ids
    with urlopen(f"{served}/v2/models/both/stats") as reply:
        (statistics,) = json.load(reply)["model_stats"]
    assert statistics["inference_count"] == 1


def test_a_node_of_an_alias_is_served_and_follows_it(project, served):
    workspace, file = project
    workspace.apply(file)  # so does the engine, a little later
    newest = max(workspace.endpoint("champion.first").revisions, key=lambda one: one.number)
    assert newest.model_version == workspace.model("p/model@champion").id
    until(workspace, lambda: workspace.rooms.serving.live("champion.first").id == newest.id)
    until(workspace, lambda: is_ready(served, "champion"))
    found = workspace.predict("champion", [{"x": 70.0}]).outputs
    assert found == workspace.predict("plain", [{"x": 70.0}]).outputs


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ('clew.sequence("nobody")', "graph.node"),
        ('clew.sequence("wrong")', "graph.cycle"),
        ("clew.switch(('z > 1', \"plain\"))", "graph.condition"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused_when_it_is_applied(project, tmp_path, steps, code):
    workspace, _ = project
    file = tmp_path / "wrong.py"
    file.write_text(f'import clew\nq = clew.Pipeline("q")\nq.graph("wrong", {steps})\n')
    with pytest.raises(Invalid) as refused:
        workspace.apply(file)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("preprocess=3", "is not a function"),
        ("preprocess=lambda a, b: a", "takes 2 parameters"),
        ("inputs={'tens': float}", "no function around"),
        ("postprocess=after, inputs={'tens': float}", "no preprocess="),
        ("preprocess=before, inputs={'tens': dict}", "cannot be"),
        ("preprocess=before, example={'tens': 1}", "no list of rows"),
        ("preprocess=lambda rows: rows", "not a function at module level"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(project, tmp_path, wrong, said):
    workspace, _ = project
    (tmp_path / "helping.py").write_text(HELP)
    file = tmp_path / "wrong.py"
    file.write_text(FILE.replace('Pipeline("p")', 'Pipeline("q")').partition("p.endpoint(")[0]
                    + f'p.endpoint("wrong", model, {wrong})\n')  # fmt: skip
    with pytest.raises(Invalid, match=said):
        workspace.apply(file)


def until(workspace, holds) -> None:
    """Wait by the events of the workspace."""
    for _ in range(2400):
        seen = workspace.rooms.db.events.last()
        if holds():
            return
        workspace.rooms.db.events.wait(seen, 0.05)
    raise AssertionError("it did not come to pass")


@pytest.mark.skipif(find_spec("shap") is not None, reason="shap is installed here")
def test_without_shap_an_explanation_says_what_is_missing_and_a_graph_has_none(project, process):
    workspace, _ = project
    (server,) = process.pids
    before = psutil.Process(server).cpu_times()
    with pytest.raises(Unavailable, match=r"clew\[explain\]"):
        workspace.explain("plain", [{"x": 1}])
    with pytest.raises(Invalid, match="has no x"):
        workspace.explain("plain", [{"z": 1}])
    after = psutil.Process(server).cpu_times()
    spent = (after.children_user, after.children_system)
    assert spent == (before.children_user, before.children_system), "no process is started for that"
    with pytest.raises(Invalid, match="is a graph; ask for explanations of plain, tens"):
        workspace.explain("both", [{"x": 1, "tens": 1.0}])


def numbers(workspace, endpoint) -> dict:
    return {one.number: one.state for one in workspace.endpoint(endpoint).revisions}


def test_the_graph_of_one_endpoint_is_a_shadow_of_another(project, served):
    workspace, file = project
    until(workspace, lambda: is_ready(served, "champion"))
    shadow = workspace.deploy("plain", "graph:champion", rollout={"kind": "shadow"})
    again = workspace.deploy("plain", "graph:champion", rollout={"kind": "shadow"})
    assert again.id == shadow.id
    until(workspace, lambda: numbers(workspace, "plain")[shadow.number] == "shadow")

    def compared():
        workspace.predict("plain", [{"x": 70.0}])
        arms = {one.number: one for one in workspace.traffic("plain").arms}
        return arms[shadow.number].compared >= 3 and arms[shadow.number]

    until(workspace, compared)
    arm = compared()
    assert (arm.errors, arm.disagreed) == (0, 0)
    workspace.rooms.serving.collect(force=True)
    (copy, *_) = workspace.rooms.serving.predictions_of_revision(shadow.id, 5)
    assert (copy.arm, copy.inputs) == ("shadow", {"x": [70.0]})
    assert workspace.prediction(copy.copy_of).outputs == copy.outputs
    (part,) = [workspace.prediction(one) for one in copy.parts]
    assert (part.endpoint, part.arm, part.part_of) == ("champion.first", "shadow", copy.id)
    before = numbers(workspace, "plain")
    workspace.apply(file)
    assert numbers(workspace, "plain") == before, "its functions are not those of the endpoint"
    with pytest.raises(Invalid) as refused:
        workspace.explain_prediction(copy.id)
    assert (refused.value.code, part.id in refused.value.hint) == ("explain.graph", True)


def test_arms_that_come_together_may_be_graphs(project, served):
    workspace, _ = project
    version = workspace.model("p/model@champion").id
    arms = {version: 20, "graph:champion": 30}
    found = workspace.deploy_arms("plain", arms)
    again = workspace.deploy_arms("plain", arms)
    assert [one.id for one in again] == [one.id for one in found]
    until(workspace, lambda: {numbers(workspace, "plain")[one.number] for one in found} == {"arm"})
    shares = [one.weight for one in workspace.traffic("plain").arms if one.state != "shadow"]
    assert sorted(shares) == [20, 30, 50]
    answers = {}

    def all_have_answered():  # the serving process follows the rows
        one = workspace.predict("plain", [{"x": 70.0}])
        answers[one.revision] = one.outputs
        return len(answers) == 3

    until(workspace, all_have_answered)
    first, *others = answers.values()
    assert others == [first, first]
    workspace.rollback("plain")
    assert list(numbers(workspace, "plain").values()).count("live") == 1


@pytest.mark.parametrize(
    ("endpoint", "ref", "code"),
    [
        ("plain", "graph:both", "graph.arm"),
        ("champion.first", "graph:champion", "graph.cycle"),
        ("plain", "graph:tens", "endpoint.no_graph"),
        ("both", "p/model@champion", "endpoint.other_model"),
    ],
)
def test_what_cannot_stand_on_an_endpoint_is_refused_by_name(project, endpoint, ref, code):
    workspace, _ = project
    with pytest.raises(Invalid) as refused:
        workspace.deploy(endpoint, ref, rollout={"kind": "shadow"})
    assert refused.value.code == code


@pytest.mark.skipif(find_spec("shap") is not None, reason="shap is installed here")
def test_a_logged_prediction_is_explained_by_the_version_that_made_it(project, served):
    workspace, _ = project
    made = workspace.predict("tens", [{"tens": 7.0}]).prediction_id
    with pytest.raises(Unavailable, match=r"clew\[explain\]"):
        workspace.explain_prediction(made)
    with pytest.raises(Invalid, match="and no row 1") as refused:
        workspace.explain_prediction(made, row=1)
    assert refused.value.code == "explain.inputs"
