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

from clew.base.errors import Denied
from clew.base.settings import Settings
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


def test_a_model_of_a_training_step_and_a_pickle_are_no_imports(both, tmp_path):
    _, far = both
    file = tmp_path / "m.pkl"
    file.write_bytes(b"\x80\x04N.")
    with pytest.raises(Denied) as caught:
        far.import_model(file, name="p/bought")
    assert caught.value.code == "import.untrusted"
