"""What is pickled of a project goes along whole, and what cannot be read again says why."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from clew.base import pickled
from clew.base.errors import Corrupt, Unavailable
from clew.base.options import number_of
from clew.base.pickled import along, by_value, dumped_whole, own_modules, read_function


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A directory whose module is imported through a link to it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "of_project.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.syspath_prepend(str(tmp_path / "link"))
    yield tmp_path, importlib.import_module("of_project")
    sys.modules.pop("of_project")


@pytest.mark.parametrize("name", ["real", "link"])
def test_a_projects_modules_go_along_whichever_way_they_were_found(project, name):
    place, module = project
    assert own_modules(place / name) == own_modules(str(place / name)) == [module]
    with by_value(place / name):
        content = cloudpickle.dumps(module.twice)
    read = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())(21))"
    told = subprocess.run(
        [sys.executable, "-c", read], input=content, capture_output=True, check=True
    )
    assert told.stdout == b"42\n", "where there is no such module"
    assert len(cloudpickle.dumps(module.twice)) < len(content), "by name again"


def test_no_directory_has_no_modules(project):
    assert own_modules("") == []


TEAM = """
import threading

GUARD = threading.Lock()

def thrice(x):
    return 3 * x

def guarded(x):
    with GUARD:
        return thrice(x)
"""


@pytest.fixture
def team(tmp_path, monkeypatch):
    """A module of the user's own on ``PYTHONPATH``, and where it is."""
    place = tmp_path / "team"
    place.mkdir()
    (place / "of_team.py").write_text(TEAM)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", str(place))
    yield importlib.import_module("of_team"), place
    sys.modules.pop("of_team")


def told(content, **environ):
    """What a pickle of a function of 7 says in a process that has no such module."""
    read = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())(7))"
    return subprocess.run(
        [sys.executable, "-c", read], input=content, capture_output=True, check=False, env=environ
    )


def test_own_modules_on_pythonpath_go_along_too(team):
    module, _ = team
    assert along("") == {"of_team"}
    assert told(dumped_whole(module.thrice, "")).stdout == b"21\n"
    assert along("") == {"of_team"}, "and are known by name again"
    assert told(cloudpickle.dumps(module.thrice)).returncode != 0


def test_what_cannot_go_along_is_named(team):
    module, place = team
    content = dumped_whole(module.guarded, "")
    assert b"No module named 'of_team'" in told(content).stderr
    assert told(content, PYTHONPATH=str(place)).stdout == b"21\n"


def test_what_cannot_be_pickled_at_all_says_why(team):
    with pytest.raises(TypeError, match="pickle"):
        dumped_whole(team[0].GUARD, "")


def test_installed_modules_and_clews_own_are_named(team, monkeypatch):
    _, place = team
    (place / "of_team-1.0.dist-info").mkdir()
    assert along("") == set()
    monkeypatch.setenv("PYTHONPATH", str(Path(pickled.__file__).parents[2]))
    assert along("") == set()


def test_a_function_that_needs_what_is_not_there_says_what(project):
    _, module = project
    content = pickle.dumps(module.twice)
    sys.modules.pop("of_project")
    sys.path.remove(next(one for one in sys.path if one.endswith("link")))
    with pytest.raises(Unavailable, match="of the graph needs the module 'of_project'") as refused:
        read_function(content, "the graph")
    assert refused.value.code == "model.distribution"
    sys.modules["of_project"] = module


def test_a_function_that_cannot_be_read_says_so():
    with pytest.raises(Corrupt, match="of the endpoint cannot be read: UnpicklingError") as refused:
        read_function(b"nothing", "the endpoint")
    assert refused.value.code == "processing.code"


@pytest.mark.parametrize("text", ["few", "-1", "nan", "inf", ""])
def test_an_option_that_is_no_number_is_refused_in_the_words_of_who_reads_it(text):
    with pytest.raises(KeyError, match=r"size=.* is no number"):
        number_of({"size": text}, "size", 1, KeyError)
    assert number_of({}, "size", 1, KeyError) == 1
    assert number_of({"size": "0.5"}, "size", 1, KeyError) == 0.5
