"""A step without inputs makes something of nothing: once, and again when its code changes."""

import json

from clew.base.settings import read_settings
from clew.sdk import connect_embedded
from clew.testing.postgres import database_url
from clew.workspace import make_workspace

FILE = """
import clew

p = clew.Pipeline("p")


@p.step()
def one() -> int:
    return 1


@p.step(one)
def two(one: int) -> int:
    return one + 1
"""


def test_a_step_without_inputs_runs_once_and_again_when_its_code_changes(tmp_path):
    url = database_url(tmp_path / ".clew")
    make_workspace(tmp_path / ".clew", {}, db="" if url.startswith("sqlite") else url)
    file = tmp_path / "p.py"
    work = connect_embedded(read_settings({}, tmp_path), working=True)
    changed = FILE.replace("return 1\n", "return 5\n")
    try:
        for text, result, jobs in ((FILE, 2, 2), (FILE, 2, 2), (changed, 6, 4)):
            file.write_text(text)
            work.apply(file)
            work.wait()
            assert json.loads(work.read("p/two:/two.json")) == result
            assert [one.state for one in work.jobs()] == ["done"] * jobs
    finally:
        work.close()
