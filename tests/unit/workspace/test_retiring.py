"""A pipeline that is retired runs no more and loses nothing; to apply it again brings it back."""

from contextlib import closing

import pytest

from clew.base.errors import NotFound
from clew.base.settings import Settings
from clew.workspace import open_workspace

FILE = """
import clew

p = clew.Pipeline("p")
texts = p.source("texts")

@p.step(texts.glob("/*.txt"), per="file")
def long(text: str) -> dict:
    return {"length": len(text)}

@p.step(long)
def total(long: list[dict]) -> dict:
    return {"sum": sum(one["length"] for one in long)}

p.trigger("nightly", when=clew.schedule("0 3 * * *"), do=clew.run(total))
"""


@pytest.fixture
def project(tmp_path):
    file = tmp_path / "p.py"
    file.write_text(FILE)
    settings = Settings(home=tmp_path / ".clew", workers=2)
    with closing(open_workspace(settings, create=True)) as workspace:
        workspace.apply(file)
        workspace.put("p/texts", {"/a.txt": b"abc", "/b.txt": b"de"})
        workspace.wait()
        yield workspace, file


def test_nothing_runs_for_a_retired_pipeline_and_what_it_made_stays(project):
    workspace, _ = project
    before, made = workspace.jobs(), workspace.read("p/total:/total.json")
    applied = workspace.retire("p", reason="replaced")
    assert (applied.version, applied.changed, applied.global_id) == (2, True, None)
    workspace.put("p/texts", {"/c.txt": b"f"})
    workspace.wait()
    assert workspace.jobs() == before
    assert workspace.read("p/total:/total.json") == made
    assert workspace.triggers() == []
    assert next(iter(workspace.log("p/p.code"))).message == "retired: replaced"
    (info,) = workspace.pipelines()
    assert (info.version, info.steps) == (2, ())


def test_to_retire_again_changes_nothing(project):
    workspace, _ = project
    workspace.retire("p")
    assert not workspace.retire("p").changed
    with pytest.raises(NotFound, match="no pipeline 'q'"):
        workspace.retire("q")


def test_applied_again_it_catches_up_and_skips_what_was_done(project):
    workspace, file = project
    workspace.retire("p")
    workspace.put("p/texts", {"/c.txt": b"f"})
    workspace.apply(file)
    workspace.wait()
    total, long = workspace.jobs(limit=2)
    assert (long.step, long.done, long.skipped) == ("long", 1, 2)
    assert total.state == "done"
    assert workspace.read("p/total:/total.json") == b'{"sum":6}'
    assert [one.name for one in workspace.triggers()] == ["nightly"]


def test_jobs_that_wait_for_a_retired_pipeline_are_cancelled(project):
    workspace, _ = project
    commit = workspace.put("p/texts", {"/c.txt": b"f"})
    workspace.retire("p")
    workspace.wait()
    states = {job.state for job in workspace.jobs() if job.global_id == commit.global_id}
    assert states == {"cancelled"}


def test_the_pipeline_of_a_branch_is_retired_alone(project):
    workspace, file = project
    workspace.apply(file, branch="try")
    workspace.wait()
    workspace.retire("p@try")
    jobs = len(workspace.jobs())
    workspace.put("p/texts", {"/c.txt": b"f"}, branch="try")
    workspace.wait()
    assert len(workspace.jobs()) == jobs
    workspace.put("p/texts", {"/c.txt": b"f"})
    workspace.wait()
    assert len(workspace.jobs()) == jobs + 2
