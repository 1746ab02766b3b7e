"""What expectations refuse goes to the handler of errors, too."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from clew.base.settings import Settings
from clew.workspace import open_workspace

FLOW = """
import clew
import polars as pl

p = clew.Pipeline("p")
raw = p.source("raw")

def noted(error):
    print("handled", error.code, error.message)
    {raises}

@p.step(raw, per="file", retries=3, on_error=noted)
def read(raw: pl.DataFrame) -> pl.DataFrame:
    return raw

@p.expect(read)
def positive(table):
    table.column("x").between(0, 10)
"""


@pytest.mark.parametrize(
    ("raises", "state", "datum"), [("", "done", "recovered"), ("1 / 0", "refused", "refused")]
)
def test_a_refused_datum_is_handled_once_and_the_job_goes_on_where_the_handler_returns(
    tmp_path: Path, raises: str, state: str, datum: str
) -> None:
    (tmp_path / "flow.py").write_text(FLOW.format(raises=raises or "return"))
    settings = Settings(home=tmp_path / ".clew", workers=1)
    with closing(open_workspace(settings, create=True)) as workspace:
        workspace.apply(tmp_path / "flow.py")
        workspace.put("p/raw", {"/good.csv": b"x\n1\n", "/bad.csv": b"x\n99\n"})
        workspace.wait()
        (job,) = workspace.jobs()
        states = {
            one.inputs[0][0].rpartition("/")[2]: one.state for one in workspace.datums(job.id)
        }
        log = workspace.job_log(job.id)
        assert (job.state, states) == (state, {"good.csv": "done", "bad.csv": datum})
        assert log.count("handled step.refused") == 1
        if state == "done":
            assert [file.path for file in workspace.ls("p/read")] == ["/good.parquet"]
