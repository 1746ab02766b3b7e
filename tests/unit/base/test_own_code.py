"""Of PYTHONPATH another Python gets the user's own code, and nothing that is installed."""

from __future__ import annotations

import os

import pytest

from clew.base.own_code import for_another_python, own_directories


@pytest.fixture
def places(tmp_path):
    own = ("team", "src with spaces")
    installed = (
        "site-packages",
        "lib/python3/dist-packages/more",
        "vendored",
        "a.egg",
        "python3.9",
    )
    for name in (*own, *installed):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "vendored" / "thing-1.0.dist-info").mkdir()
    (tmp_path / "python3.9" / "os.py").touch()
    (tmp_path / "team" / "team.egg-info").mkdir()  # of a development install: still the source
    (tmp_path / "code.zip").touch()
    return tmp_path


def test_what_is_installed_is_left_out_and_what_is_written_stays(places, monkeypatch):
    monkeypatch.chdir(places)
    given = [
        "team", "site-packages", str(places / "src with spaces"), "", "gone", "vendored", "a.egg",
        "lib/python3/dist-packages/more", "python3.9", "code.zip", str(places / "team"),
    ]  # fmt: skip
    kept = [str(places / name) for name in ("team", "src with spaces", "code.zip")]
    assert list(own_directories(os.pathsep.join(given))) == kept
    told = for_another_python(
        {"PYTHONPATH": os.pathsep.join(given), "PYTHONHOME": "/x", "VIRTUAL_ENV": "/y", "LANG": "C"}
    )
    assert told == {"LANG": "C", "PYTHONPATH": os.pathsep.join(kept)}


@pytest.mark.parametrize("environ", [{}, {"PYTHONPATH": ""}, {"PYTHONPATH": "/no/such/place"}])
def test_where_nothing_is_the_users_there_is_no_path(environ):
    assert for_another_python({**environ, "LANG": "C"}) == {"LANG": "C"}
