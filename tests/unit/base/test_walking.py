"""A scan that another process begins is the scan that this one would have made."""

import os
import signal
import tempfile
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.base import walking
from clew.base.errors import Invalid, NotFound
from clew.base.walking import begin_scan, end_scans, scan


@pytest.fixture
def place(tmp_path):
    for name in ("b", "ü/ö", "ü/a b", "empty/none", ".clew/never"):
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name * 100)
    (tmp_path / "data/empty/none").write_bytes(b"")
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _no_child_is_left():
    before = children()
    yield
    end_scans()
    assert children() <= before  # other tests may have left theirs to this process


def children() -> set[int]:
    """Children of this process, those that ended and were not waited for among them."""
    return {child.pid for child in psutil.Process().children()}


def plain(found):
    return found.root, found.names, found.sizes, found.states


def test_what_was_begun_is_what_would_be_found(place):
    alone = scan(place)
    begin_scan(place)
    begun = walking._begun[str(place)]
    assert plain(begun.scan()) == plain(alone)
    assert alone.names == ["b", "empty/none", "ü/a b", "ü/ö"]
    del walking._begun[str(place)]


def test_it_is_used_once_then_files_are_looked_at_again(place):
    begin_scan(place)
    first = scan(place)
    (place / "new").write_text("x")
    assert scan(place).names == sorted([*first.names, "new"])


def test_an_empty_directory_has_no_files(tmp_path):
    begin_scan(tmp_path)
    assert scan(tmp_path).names == []


def test_a_child_that_is_killed_costs_only_time(place):
    begin_scan(place)
    os.kill(walking._begun[str(place)]._child, signal.SIGKILL)
    assert len(scan(place).names) == 4


def test_errors_are_those_of_a_scan(place, tmp_path):
    (place / "link").symlink_to("nowhere")
    begin_scan(place)
    with pytest.raises(Invalid) as caught:
        scan(place)
    assert caught.value.code == "file.special"
    begin_scan(tmp_path / "missing")
    with pytest.raises(NotFound):
        scan(tmp_path / "missing")


def test_what_was_never_asked_for_is_ended(place):
    begin_scan(place)
    end_scans()
    assert walking._begun == {}


@given(
    st.sets(
        st.lists(st.sampled_from(["a", "a.b", "a-b", "a b", "é", "b", "𝄞"]), min_size=1, max_size=3)
        .map("/".join), max_size=12,
    )
)  # fmt: skip
def test_files_come_by_the_bytes_of_their_paths_whatever_stands_beside_a_directory(paths):
    with tempfile.TemporaryDirectory() as name:
        made = []
        for path in sorted(paths, key=len, reverse=True):  # a directory before a file of its name
            file = Path(name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.is_dir():
                file.write_bytes(path.encode())
                made.append(path)
        found = scan(Path(name))
        assert found.names == sorted(made, key=str.encode)
        assert found.sizes == [len(path.encode()) for path in found.names]
