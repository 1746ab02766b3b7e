"""Nobody is told how what Clew runs is used: not by ONNX Runtime, which writes down who asks."""

import os
import subprocess
import sys

import pytest

from clew.base.untold import UNTOLD, tell_nobody
from clew.compute.process import environment_of_workers

OPENED = """
import sys
from pathlib import Path
from clew.models.onnx_model import session_of
from onnx import TensorProto, helper

port = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 1]) for name in "ab"]
graph = helper.make_graph([helper.make_node("Neg", ["a"], ["b"])], "g", port[:1], port[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
assert session_of(model.SerializeToString()).run(None, {"a": [[1.0]]})[0] == -1
told = Path.home().rglob("*")
print(*(path for path in told if "onnxruntime" in str(path) or "Microsoft" in str(path)))
"""


def test_a_model_of_onnx_runtime_leaves_nothing_about_who_asked_it(tmp_path):
    environ = {name: value for name, value in os.environ.items() if name not in {*UNTOLD, "CI"}}
    done = subprocess.run(
        [sys.executable, "-c", OPENED], env=environ | {"HOME": str(tmp_path)}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("name", UNTOLD)
def test_workers_tell_nobody_unless_somebody_wants_it(name):
    assert environment_of_workers({}, 1)[name] == UNTOLD[name]
    assert environment_of_workers({name: "mine"}, 1)[name] == "mine"


def test_what_is_set_already_stays(monkeypatch):
    first, *others = UNTOLD
    monkeypatch.setenv(first, "mine")
    for name in others:
        monkeypatch.delenv(name, raising=False)
    tell_nobody()
    assert {name: os.environ[name] for name in UNTOLD} == {**UNTOLD, first: "mine"}
