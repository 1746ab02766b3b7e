"""A notebook that connects to a server logs what it trains there, and nobody else does."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys, types
if {notebook}:
    sys.modules["ipykernel"] = types.ModuleType("ipykernel")  # what a kernel has loaded
import clew
clew.connect("http://127.0.0.1:9", token="secret").close()
heard = any(type(one).__module__ == "clew.base.autologging" and one.active
            for one in sys.meta_path)
print(os.environ.get("MLFLOW_TRACKING_URI"), os.environ.get("MLFLOW_TRACKING_TOKEN"),
      os.environ.get("MLFLOW_EXPERIMENT_NAME"), heard, "mlflow" in sys.modules)
"""


def said(monkeypatch, *, notebook, **environ):
    for name in ("CLEW_URL", "CLEW_TOKEN", "MLFLOW_TRACKING_URI", "CLEW_AUTOLOG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    program = PROGRAM.format(notebook=notebook)
    return subprocess.check_output([sys.executable, "-c", program], text=True).split()


def test_a_notebook_logs_to_the_server_that_it_connects_to(monkeypatch):
    told = said(monkeypatch, notebook=True, JPY_SESSION_NAME="/lab/flights.ipynb")
    assert told == ["http://127.0.0.1:9", "secret", "flights", "True", "False"]


@pytest.mark.parametrize(
    ("notebook", "environ"),
    [
        (False, {}),
        (True, {"CLEW_AUTOLOG": "off"}),
        (True, {"MLFLOW_TRACKING_URI": "http://elsewhere"}),
    ],
)
def test_a_script_or_whoever_logs_elsewhere_is_left_alone(monkeypatch, notebook, environ):
    told = said(monkeypatch, notebook=notebook, **environ)
    assert told == [environ.get("MLFLOW_TRACKING_URI", "None"), "None", "None", "False", "False"]
