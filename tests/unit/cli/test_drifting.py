"""The status says which endpoints drift now, in which columns, and where to look."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import polars as pl
from typer.testing import CliRunner

from clew.base.settings import Settings
from clew.cli.app import tree
from clew.monitoring import MonitorDefinition
from clew.quality import profile
from clew.workspace import open_workspace


def rows(shift: float) -> pl.DataFrame:
    random = np.random.default_rng(1)
    return pl.DataFrame({"in.age": random.normal(shift, 1, 400)})


def test_the_newest_report_of_each_endpoint_counts(tmp_path, monkeypatch):
    reference = {"inputs": profile(rows(0.0).rename({"in.age": "age"}))}
    shifts = {"calm": [3.0, 0.0], "far": [0.0, 3.0], **{f"more{n}": [0.0] for n in range(6)}}
    with closing(open_workspace(Settings(home=tmp_path / ".clew"), create=True)) as workspace:
        room = workspace.rooms.monitoring
        with workspace.rooms.db.begin() as tx:
            for name in shifts:
                room.define(tx, MonitorDefinition(pipeline="p", endpoint=name))
        for name, several in shifts.items():
            for shift in several:
                asked = {"model_version": "v", "reference": reference, "commits": []}
                assert room.observe(name, rows=rows(shift), **asked) is not None
        assert {one.endpoint for one in workspace.status().drift} == set(shifts)
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(tree(), ["status"]).output
    assert "drift at far: age (400 rows, " in said
    assert "Look: clew drift far" in said
    assert said.count("drift at") == 1
