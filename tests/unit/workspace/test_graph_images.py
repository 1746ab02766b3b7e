"""A graph as an image: all that it asks goes along, and answers as it does where it is served."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from clew.base.errors import NotReady
from clew.base.settings import Settings
from clew.cli.images import write_context
from clew.serving import ServingProcess
from clew.workspace import open_workspace, serving_settings

from .conftest import alone

FILE = """
import clew
import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.5))
def line(data, trial):
    return LogisticRegression().fit(data.select("x", "z"), data["y"])

@p.train(rows, target="y", test=clew.holdout(0.5))
def tree(data, trial):
    return DecisionTreeClassifier(max_depth=3).fit(data.select("x", "z"), data["y"])

@p.train(rows, target="y", test=clew.holdout(0.5))
def poor(data, trial):
    return DecisionTreeClassifier(max_depth=1).fit(data.select("x", "z"), data["y"])

@p.gate(poor)
def never(candidate):
    candidate.require("ever", False)

def doubled(rows):
    return rows.with_columns(x=pl.col("x") * 2.0)

def worst(answers, rows):
    found = [one["probability"] for one in answers.values()]
    return {"risk": np.max(found, axis=0), "x": np.asarray(rows["x"])}

p.endpoint("line", line, preprocess=doubled, inputs={"x": float, "z": int})
p.endpoint("tree", tree)
p.endpoint("spare", poor)
p.graph("both", clew.ensemble("line", "tree", combine=worst))
p.graph("mean", clew.ensemble("line", "tree", clew.node("spare", required=False)))
p.graph("outer", clew.switch(("z == 3", "mean"), default="tree", headers=["x-side"]))
p.graph("lost", clew.sequence("spare"))
"""
ROWS = b"x,z,y\n" + b"".join(b"%d,%d,%d\n" % (n, n % 7, n > 50) for n in range(120))
ASKED = {"x": [20.0, 45.0, 70.0, 101.0], "z": [3, 1, 3, 0]}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    workspace = open_workspace(
        Settings(home=tmp_path_factory.mktemp("p") / ".clew", workers=2), create=True
    )
    workspace.apply_files({"p.py": FILE.encode()}, "p.py")
    workspace.put("p/rows", {"/rows.csv": ROWS})
    workspace.wait()
    yield workspace
    workspace.close()


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data=data), timeout=60) as reply:
        content = reply.read()
    return json.loads(content) if content.startswith((b"{", b"[")) else content.decode()


def infer(url: str, endpoint: str) -> Any:
    kinds = {"x": "FP64", "z": "INT64"}
    inputs = [
        {"name": name, "datatype": kinds[name], "shape": [len(values)], "data": values}
        for name, values in ASKED.items()
    ]
    return ask(f"{url}/v2/models/{endpoint}/infer", {"inputs": inputs})


@pytest.fixture(scope="module")
def expected(project):
    """What each graph answers where it is served: its outputs, metadata and parameters."""
    process = ServingProcess.start(serving_settings(project.rooms.settings))
    try:
        return {
            name: (infer(process.url, name), ask(f"{process.url}/v2/models/{name}"))
            for name in ("both", "outer")
        }
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("endpoint", "nodes"), [("both", ["line", "tree"]), ("outer", ["mean", "tree", "line"])]
)
def test_the_image_of_a_graph_answers_as_it_does_here(project, expected, endpoint, nodes, tmp_path):
    place = tmp_path / "context"
    context = project.export_image(endpoint)
    write_context(project, context, place)
    assert [one.endpoint for one in context.manifest.nodes] == nodes
    recipe = (place / "Containerfile").read_text()
    assert f'clew.graph="{endpoint}"' in recipe
    lock = (place / "requirements.lock").read_text()
    assert {"scikit-learn", "polars", "numpy"} <= {one.partition("==")[0] for one in lock.split()}
    served = alone(place)
    assert served.stdout is not None
    url = "http://" + served.stdout.readline().rsplit(" ", 1)[-1].strip()
    try:
        told, about = expected[endpoint]
        found = infer(url, endpoint)
        assert found["outputs"] == told["outputs"]
        same = ("clew-revision", "clew-global-id")
        assert [found["parameters"][one] for one in same] == [
            told["parameters"][one] for one in same
        ]
        assert ask(f"{url}/v2/models/{endpoint}")["inputs"] == about["inputs"]
        assert ask(f"{url}/v2/models/{endpoint}")["outputs"] == about["outputs"]
        names = {one["name"] for one in ask(f"{url}/v2/repository/index", {})}
        assert names == {endpoint, *nodes}
        counted = {one["name"] for one in ask(f"{url}/v2/models/stats")["model_stats"]}
        assert counted == {endpoint, *nodes}
        for one in (endpoint, *nodes):
            assert f'endpoint="{one}"' in ask(f"{url}/metrics")
        with pytest.raises(HTTPError) as refused:
            ask(f"{url}/v2/repository/models/{nodes[0]}/unload", {})
        assert refused.value.code == 403
        refused.value.close()
    finally:
        served.send_signal(signal.SIGTERM)
        said = served.communicate(timeout=60)
    assert served.returncode == 0, said


def test_a_graph_that_needs_what_serves_nothing_makes_no_image(project):
    with pytest.raises(NotReady) as refused:
        project.export_image("lost")
    assert refused.value.code == "endpoint.empty"


def test_the_same_graph_gives_the_same_bytes(project, tmp_path: Path):
    first = write_context(project, project.export_image("outer"), tmp_path / "one")
    assert write_context(project, project.export_image("outer"), tmp_path / "two") == first
