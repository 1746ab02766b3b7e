"""What tests of exports share: one workspace with a blessed model and one that is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.base.settings import Settings
from clew.workspace import open_workspace

FILE = """
import clew
from sklearn.dummy import DummyClassifier

p = clew.Pipeline("shop")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.5))
def model(data, trial):
    return DummyClassifier().fit(data.select("x").to_pandas(), data["y"].to_numpy())

@p.train(rows, target="y", test=clew.holdout(0.5))
def poor(data, trial):
    return DummyClassifier().fit(data.select("x").to_pandas(), data["y"].to_numpy())

@p.gate(poor)
def never(candidate):
    candidate.require("good enough", False)

p.endpoint("late_shop", model)
p.endpoint("empty", poor)
"""
ROWS = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(40))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("shop")
    workspace = open_workspace(Settings(home=home / ".clew", workers=2), create=True)
    workspace.apply_files({"shop.py": FILE.encode()}, "shop.py")
    workspace.put("shop/rows", {"/rows.csv": ROWS})
    workspace.wait()
    yield workspace
    workspace.close()


def alone(place: Path, *flags: str, port: int = 0) -> subprocess.Popen[str]:
    """The server of an image as the image starts it, with the code of its context alone."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place / "src")}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "clew.serving.alone", str(place / "model"), *flags],
        env=environ | {"CLEW_PORT": str(port), "CLEW_HOST": "127.0.0.1"}, cwd=place, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
