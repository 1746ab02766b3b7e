"""Code of one's own beside the project is code: what uses it runs anew, and as it was applied."""

from __future__ import annotations

import sys
from contextlib import closing

import pytest

from clew.base.settings import Settings
from clew.workspace import open_workspace

FILE = """
import clew
from own_team.sums import doubled

p = clew.Pipeline("p")
rows = p.source("rows")

@p.step(rows.glob("/*.txt"), per="file")
def uses(row: str) -> str:
    return str(doubled(int(row)))

@p.step(rows.glob("/*.txt"), per="file")
def does_not(row: str) -> str:
    return row
"""
SUMS = """
from own_factors import FACTOR

def doubled(n):
    return n * FACTOR

def unused():
    return 0
"""


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """The user's own code, on PYTHONPATH."""
    place = tmp_path / "beside"
    (place / "own_team").mkdir(parents=True)
    (place / "own_team" / "__init__.py").touch()
    (place / "own_team" / "sums.py").write_text(SUMS)
    (place / "own_factors.py").write_text("FACTOR = 2\n")
    monkeypatch.setenv("PYTHONPATH", str(place), prepend=":")
    yield place
    for name in [one for one in sys.modules if one.startswith("own_")]:
        del sys.modules[name]


@pytest.fixture
def project(tmp_path):
    place = tmp_path / "project"
    place.mkdir()
    (place / "p.py").write_text(FILE)
    return place / "p.py"


@pytest.fixture
def workspace(project, beside):
    settings = Settings(home=project.parent / ".clew", workers=1)
    with closing(open_workspace(settings, create=True)) as opened:
        yield opened


def ran(workspace) -> dict[str, int]:
    """How many datums of each step ran since it was last asked."""
    workspace.wait()
    done = {one.step: 0 for one in workspace.jobs()}
    for one in workspace.jobs():
        done[one.step] += one.done
    before = dict(ran.before)
    ran.before = done
    return {step: count - before.get(step, 0) for step, count in done.items()}


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.before = {}


def result(workspace, name: str) -> bytes:
    return workspace.read(f"p/uses@main:/{name}.txt")


def test_a_change_of_it_runs_what_reaches_it_and_nothing_else(workspace, project, beside):
    workspace.apply(project)
    workspace.put("p/rows", {"/a.txt": b"1", "/b.txt": b"2"})
    assert ran(workspace) == {"uses": 2, "does_not": 2}
    assert result(workspace, "b") == b"4"
    (beside / "own_factors.py").write_text("FACTOR = 3\n")  # imported by what is imported
    workspace.apply(project)
    assert ran(workspace) == {"uses": 2, "does_not": 0}
    assert result(workspace, "b") == b"6"
    job = next(one for one in workspace.jobs() if one.step == "uses")
    assert "own_factors.py:FACTOR" in job.reason, job.reason
    (cause,) = workspace.why(job.id).causes
    assert (cause.name, cause.old, cause.new) == (
        "own_factors.py:FACTOR",
        "FACTOR = 2",
        "FACTOR = 3",
    )


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("own_team/sums.py", "return 0", "return 1"),
        ("own_team/sums.py", "def doubled", "# a comment\ndef doubled"),
        ("own_factors.py", "FACTOR", "OTHER = 7\nFACTOR"),
    ],
)
def test_a_change_of_what_is_not_reached_runs_nothing(workspace, project, beside, file, old, new):
    workspace.apply(project)
    workspace.put("p/rows", {"/a.txt": b"1"})
    ran(workspace)
    place = beside / file
    place.write_text(place.read_text().replace(old, new))
    workspace.apply(project)
    assert set(ran(workspace).values()) == {0}


def test_between_two_applies_it_is_what_was_applied_that_runs(workspace, project, beside):
    workspace.apply(project)
    workspace.put("p/rows", {"/a.txt": b"1"})
    ran(workspace)
    (beside / "own_factors.py").write_text("FACTOR = 5\n")
    workspace.put("p/rows", {"/b.txt": b"1"})
    assert ran(workspace) == {"uses": 1, "does_not": 1}
    assert result(workspace, "b") == b"2", "as all of the project's code"
    (beside / "own_factors.py").unlink()
    workspace.put("p/rows", {"/c.txt": b"1"})
    assert ran(workspace) == {"uses": 1, "does_not": 1}
    assert result(workspace, "c") == b"2", "it need not be there any more"


def test_a_plan_tells_what_a_change_of_it_would_run(workspace, project, beside):
    workspace.apply(project)
    workspace.put("p/rows", {"/a.txt": b"1"})
    ran(workspace)
    (beside / "own_factors.py").write_text("FACTOR = 3\n")
    (plan,) = workspace.plan(project)
    would = {one.step for one in plan.datums if one.action == "run"}
    assert would == {"uses"}


def test_a_warm_worker_that_has_it_from_the_path_takes_what_went_along(workspace, project, beside):
    """So it is with a version that was applied before such code went along."""
    files = {"p.py": project.read_bytes()}
    workspace.apply_files(files, "p.py")
    workspace.put("p/rows", {"/a.txt": b"1"})
    ran(workspace)
    assert result(workspace, "a") == b"2"
    (beside / "own_factors.py").write_text("FACTOR = 3\n")
    workspace.apply(project)
    assert ran(workspace) == {"uses": 1, "does_not": 0}, "from the next apply on it counts"
    assert result(workspace, "a") == b"3"


def test_what_cannot_go_along_is_told(workspace, project, beside):
    (beside / "own_team" / "weights.bin").write_bytes(b"\0" * (2 << 20))
    (applied,) = workspace.apply(project)
    assert any(note.startswith("own_team is used from PYTHONPATH") for note in applied.notes)
    workspace.put("p/rows", {"/a.txt": b"1"})
    assert ran(workspace) == {"uses": 1, "does_not": 1}
    (beside / "own_team" / "weights.bin").unlink()
    (applied,) = workspace.apply(project)
    assert not any("PYTHONPATH" in note for note in applied.notes)
