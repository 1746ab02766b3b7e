"""What tests of exports share: one workspace with a blessed model and one that is not."""

from __future__ import annotations

from collections.abc import Iterator
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
