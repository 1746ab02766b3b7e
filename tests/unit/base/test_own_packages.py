"""What of the user's own code on PYTHONPATH belongs to a project: what its files import, whole."""

from __future__ import annotations

import pytest

from clew.base.own_packages import LARGEST_BYTES, MOST_FILES, imported, is_on_path, own_packages


@pytest.fixture
def code(tmp_path):
    """Files below a directory of one's own; gives it as a path to look on."""

    def code(files, name="code"):
        for file, content in files.items():
            place = tmp_path / name / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(tmp_path / name)

    return code


def project(text: str = "import team") -> dict[str, bytes]:
    return {"p.py": text.encode()}


TEAM = {
    "team/__init__.py": "",
    "team/models.py": "import shared.sums",
    "team/words.json": "{}",
    "team/deep/few.bin": b"\0\1",
    "team/__pycache__/models.cpython-311.pyc": b"no",
    "team/.hidden": "no",
    "shared/sums.py": "def f():\n    import single",
    "single.py": "",
    "never.py": "",
}


def test_what_is_imported_goes_along_whole_and_so_does_what_that_imports(code):
    path = code(TEAM)
    assert sorted(own_packages(project(), path)) == [
        "shared/sums.py",
        "single.py",
        "team/__init__.py",
        "team/deep/few.bin",
        "team/models.py",
        "team/words.json",
    ]
    assert own_packages(project("import numpy"), path) == {}
    assert own_packages(project(), "") == {}


@pytest.mark.parametrize(
    "text",
    [
        "from team.models import x",
        "from team import models",
        "import os, team.models as m",
        "def f():\n    import team",
        "import importlib\nimportlib.import_module('team.models')",
        "__import__('team')",
        "try:\n    import team\nexcept ImportError:\n    team = None",
    ],
)
def test_however_it_is_imported(text):
    assert "team" in imported(text.encode())


@pytest.mark.parametrize("text", ["from . import team", "from .team import x", "team = 1", "def ("])
def test_what_is_no_import_of_it_is_none(text):
    assert "team" not in imported(text.encode())


def test_what_the_project_has_itself_comes_first(code):
    path = code(TEAM)
    assert own_packages({**project(), "team.py": b""}, path) == {}
    assert own_packages({**project(), "team/__init__.py": b""}, path) == {}


def test_the_first_directory_that_has_it_counts_and_a_directory_without_init_comes_last(code):
    first, second = code({"team/x.py": ""}, "first"), code({"team/__init__.py": ""}, "second")
    third = code({"team/__init__.py": "", "team/y.py": ""}, "third")
    found = own_packages(project(), f"{first}:{second}:{third}")
    assert list(found.values()) == [type(found["team/__init__.py"])(second, "team/__init__.py")]
    assert list(own_packages(project(), first)) == ["team/x.py"]


@pytest.mark.parametrize(
    "more",
    [
        {"team/fast.cpython-311-x86_64-linux-gnu.so": b"\x7fELF"},
        {"team/weights.bin": b"\0" * (LARGEST_BYTES + 1)},
        {f"team/many/{n}.txt": "" for n in range(MOST_FILES + 1)},
    ],
    ids=["compiled", "large", "many"],
)
def test_what_cannot_go_along_whole_stays_where_it_is(code, monkeypatch, more):
    path = code({"team/__init__.py": "import single", "single.py": "", **more})
    assert own_packages(project(), path) == {}
    monkeypatch.setenv("PYTHONPATH", path)
    assert is_on_path("team")
    assert not is_on_path("numpy")


def test_nothing_that_is_installed_goes_along(code, monkeypatch):
    path = code({"team/__init__.py": "", "team-1.0.dist-info/METADATA": ""})
    assert own_packages(project(), path) == {}
    monkeypatch.setenv("PYTHONPATH", path)
    assert not is_on_path("team")


def test_clew_itself_never_does(code):
    path = code({"clew/__init__.py": "", "team.py": ""})
    assert list(own_packages(project("import clew, team"), path)) == ["team.py"]
