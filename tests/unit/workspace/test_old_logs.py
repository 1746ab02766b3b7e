"""Logs of jobs are kept as long as the setting says, and those of jobs under way always."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from clew.base.errors import Invalid
from clew.base.settings import Settings, read_settings
from clew.workspace import open_workspace

FLOW = """
import clew

p = clew.Pipeline("p")
raw = p.source("raw")

@p.step(raw)
def said(raw: list[bytes]) -> str:
    print("hello")
    return "x"
"""
DAY_S = 86_400.0


def test_logs_that_are_older_than_the_setting_go_but_not_those_of_jobs_under_way(tmp_path: Path):
    (tmp_path / "flow.py").write_text(FLOW)
    home = tmp_path / ".clew"
    with closing(open_workspace(Settings(home=home, workers=1), create=True)) as workspace:
        workspace.apply(tmp_path / "flow.py")
        workspace.put("p/raw", {"/a": b"1"})
        workspace.wait()
        (done,) = workspace.jobs()
        workspace.pause("p")
        workspace.put("p/raw", {"/a": b"2"})
        held = workspace.jobs()[0].id
        (home / "logs" / f"{held}.jsonl").write_text('[1,"","before it was paused"]\n')
        for file in (home / "logs").glob("*.jsonl"):
            os.utime(file, (1, 1))
        assert workspace.gc(wait_s=0).logs == 0
        assert "hello" in workspace.job_log(done.id)
    settings = Settings(home=home, workers=1, keep_logs_s=DAY_S)
    with closing(open_workspace(settings)) as workspace:
        assert workspace.gc(dry_run=True).logs == 0
        assert workspace.gc(wait_s=0).logs == 1
        assert workspace.job_log(done.id) == ""
        assert "before it was paused" in workspace.job_log(held)


def test_the_setting_is_a_span_of_time(tmp_path: Path):
    assert read_settings({"CLEW_KEEP_LOGS": "30d"}, tmp_path).keep_logs_s == 30 * DAY_S
    assert read_settings({}, tmp_path).keep_logs_s == 0
    assert read_settings({"CLEW_KEEP_FEEDBACK": "90d"}, tmp_path).keep_feedback_s == 90 * DAY_S
    with pytest.raises(Invalid) as wrong:
        read_settings({"CLEW_KEEP_LOGS": "long"}, tmp_path)
    assert wrong.value.code == "settings.invalid"
