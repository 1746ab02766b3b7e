"""A model that somebody else made comes in, is judged by a gate, and serves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from clew.base.errors import Denied
from clew.base.settings import Settings
from clew.cli.app import tree
from clew.client import RemoteWorkspace
from clew.server import serve
from clew.workspace import open_workspace

PIPELINE = """
import clew

p = clew.Pipeline("p")
labelled = p.source("labelled")
bought = p.model("bought", target="y", test=labelled)

@p.gate(bought, slices=["a > 0"])
def good(candidate):
    candidate.at_least("roc_auc", 0.8)
    candidate.beats_champion("roc_auc")
    candidate.compatible()
    candidate.replay(tolerance=1e-5)

p.endpoint("e", bought)

ungated = p.model("ungated", target="y", test=labelled)
p.endpoint("f", ungated)
"""


def table(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(7).normal(size=(rows, 2)).astype(np.float32)
    return values, (values[:, 0] + 0.2 * values[:, 1] > 0).astype(int)


def onnx(place: Path, name: str, *, wrong: bool = False) -> Path:
    x, y = table()
    model = LogisticRegression().fit(x, 1 - y if wrong else y)
    inputs = [("rows", FloatTensorType([None, 2]))]
    file = place / name
    file.write_bytes(convert_sklearn(model, initial_types=inputs).SerializeToString())
    return file


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """A workspace on files, and the same one through a server."""
    near = open_workspace(Settings(home=tmp_path / ".clew", workers=1), create=True)
    stop, bound, url = threading.Event(), threading.Event(), []
    server = threading.Thread(
        target=lambda: serve(
            near, port=0, ready=lambda at: (url.append(at), bound.set()), stop=stop
        )
    )
    try:
        file = tmp_path / "p.py"
        file.write_text(PIPELINE)
        near.apply(file)
        x, y = table()
        rows = "\n".join(["a,b,y", *(f"{a},{b},{c}" for (a, b), c in zip(x, y, strict=True))])
        near.put("p/labelled", {"/rows.csv": rows.encode()})
        near.wait()
        server.start()
        bound.wait()
        far = RemoteWorkspace(url[0])
        yield near, far
        far.close()
    finally:
        stop.set()
        if server.ident:
            server.join()
        near.close()


def test_a_bought_model_is_judged_blessed_and_served_and_a_worse_one_is_not(both, tmp_path):
    near, far = both
    good = near.import_model(
        onnx(tmp_path, "good.onnx"), name="p/bought", test="p/labelled", target="y"
    )
    near.wait()
    found = near.model(good.id)
    assert (found.state, found.aliases) == ("blessed", ("champion",)), near.verdicts()
    assert near.report(good.id).slices[0].by == "a > 0"
    live = near.endpoint("e").revisions[0]
    assert live.model_version == good.id
    worse = far.import_model(
        onnx(tmp_path, "worse.onnx", wrong=True), name="p/bought", test="p/labelled", target="y"
    )
    near.wait()
    assert near.model(worse.id).state == "refused"
    assert near.model("p/bought@champion").id == good.id
    why = near.why(good.id)
    assert {"p/bought", "p/bought.source", "p/labelled"} <= {
        node.detail.get("repo", node.title.partition("@")[0]) for node in why.nodes
    }


def test_a_model_of_a_pipeline_is_asked_with_the_rows_and_the_target_that_are_named_there(
    both, tmp_path
):
    near, far = both
    labelled = near.commit("p/labelled@main")
    good = far.import_model(onnx(tmp_path, "good.onnx"), name="p/bought")
    near.wait()
    found = near.model(good.id)
    assert (found.state, found.test_commit) == ("blessed", labelled.id)
    assert labelled.id in near.commit(found.commit).provenance
    assert [one.name for one in found.signature.inputs] == ["a", "b"], "not a matrix of two columns"


def test_what_is_given_with_the_import_goes_first(both, tmp_path):
    near, _ = both
    example = tmp_path / "rows.csv"
    example.write_text("c,d\n1.5,2.5\n")
    found = near.import_model(onnx(tmp_path, "m.onnx"), name="p/bought", example=example)
    assert [one.name for one in found.signature.inputs] == ["c", "d"]
    assert found.test_commit == ""
    near.put("p/labelled", {"/rows.csv": b"x,y,z\n1.0,0,1.0\n2.0,1,2.0\n"})
    given = near.import_model(
        onnx(tmp_path, "m.onnx"), name="p/bought", test="p/labelled@main^1", target="y"
    )
    assert [one.name for one in given.signature.inputs] == ["a", "b"]


def test_a_model_without_a_gate_is_evaluated_and_blessed_as_what_is_trained_without_one(
    both, tmp_path
):
    near, _ = both
    found = near.import_model(onnx(tmp_path, "good.onnx"), name="p/ungated")
    near.wait()
    (verdict,) = near.verdicts("p/ungated")
    assert [(one.name, one.passed) for one in verdict.checks] == [("no gate", True)]
    assert verdict.metrics["roc_auc"] > 0.9
    assert near.model(found.id).aliases == ("champion",)
    assert near.endpoint("f").revisions[0].model_version == found.id


def test_before_there_are_labelled_rows_a_model_comes_in_as_it_tells_itself(tmp_path):
    near = open_workspace(Settings(home=tmp_path / ".clew", workers=1), create=True)
    try:
        (tmp_path / "p.py").write_text(PIPELINE)
        near.apply(tmp_path / "p.py")
        found = near.import_model(onnx(tmp_path, "good.onnx"), name="p/bought")
        assert (found.state, found.test_commit, found.signature.width) == ("candidate", "", 2)
    finally:
        near.close()


def test_the_command_shows_the_gate_and_ends_with_what_it_says(both, tmp_path, monkeypatch):
    near, _ = both
    monkeypatch.chdir(tmp_path)
    for name, wrong, exits in (("worse.onnx", True, 1), ("good.onnx", False, 0)):
        file = onnx(tmp_path, name, wrong=wrong)
        words = ["models", "import", str(file), "--name", "p/bought"]
        done = CliRunner().invoke(tree(words), words, catch_exceptions=False)
        assert done.exit_code == exits, done.output
        assert "bought.gate" in done.output
    assert near.model("p/bought@champion").version == 2


def test_a_model_of_a_training_step_and_a_pickle_are_no_imports(both, tmp_path):
    _, far = both
    file = tmp_path / "m.pkl"
    file.write_bytes(b"\x80\x04N.")
    with pytest.raises(Denied) as caught:
        far.import_model(file, name="p/bought")
    assert caught.value.code == "import.untrusted"
