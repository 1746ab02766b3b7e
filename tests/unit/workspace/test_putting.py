"""Directories are put by what has changed in them: the scan cache is quick and never wrong."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.base.errors import Invalid, NotFound
from clew.base.settings import Settings
from clew.base.walking import scan
from clew.repos.scanning import RACY_NS, Scans
from clew.workspace import open_workspace

OLD = 1_700_000_000


@pytest.fixture
def home(tmp_path):
    return tmp_path / ".clew"


@pytest.fixture
def clew(home):
    workspace = open_workspace(Settings(home=home), create=True)
    workspace.create_repo("p/raw")
    yield workspace
    workspace.close()


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    for name in ("a", "b/c", "b/d", "e"):
        write(root / name, name.encode())
    return root


def write(path, content, at=OLD):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at, at))


def content(clew, address="p/raw"):
    return {f.path: clew.read(f"{address}:{f.path}") for f in clew.ls(address, recursive=True)}


def aged(clew, monkeypatch):
    """As if every file had been there for a while: ctime cannot be set back."""
    monkeypatch.setattr("clew.repos.scanning.RACY_NS", -RACY_NS)


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read, in order."""
    from clew.store.writer import Writer  # noqa: PLC0415 - this test alone needs it

    seen, put_many = [], Writer.put_many

    def watched(self, paths, **told):
        paths = list(paths)
        seen.extend(Path(path).name for path in paths)
        return put_many(self, paths, **told)

    monkeypatch.setattr(Writer, "put_many", watched)
    return seen


def test_a_directory_goes_below_its_path_and_the_second_time_nothing_is_read(
    clew, data, reads, monkeypatch
):
    aged(clew, monkeypatch)
    first = clew.put("p/raw", {"/in": data})
    assert content(clew) == {f"/in/{n}": n.encode() for n in ("a", "b/c", "b/d", "e")}
    assert reads == ["a", "c", "d", "e"]
    assert clew.put("p/raw", {"/in": data}) == first
    assert reads == ["a", "c", "d", "e"]
    assert len(clew.log("p/raw")) == 1


def test_only_what_has_changed_is_read_and_committed(clew, data, reads, monkeypatch):
    aged(clew, monkeypatch)
    clew.put("p/raw", {"/": data})
    reads.clear()
    write(data / "b/c", b"new content", OLD + 1)
    write(data / "f", b"f")
    (data / "e").unlink()
    second = clew.put("p/raw", {"/": data})
    assert sorted(reads) == ["c", "f"]
    assert content(clew)["/b/c"] == b"new content"
    assert content(clew)["/e"] == b"e"  # put never deletes
    assert [c.path for c in clew.diff(second.parent, second.id)] == ["/b/c", "/f"]
    clew.put("p/raw", {"/": data}, replace=True)
    assert sorted(content(clew)) == ["/a", "/b/c", "/b/d", "/f"]
    assert sorted(reads) == ["c", "f"]


def test_a_file_of_the_same_size_and_time_is_told_by_its_inode_and_ctime(clew, data, monkeypatch):
    aged(clew, monkeypatch)
    clew.put("p/raw", {"/": data})
    write(data / "a", b"A")
    clew.put("p/raw", {"/": data})
    assert content(clew)["/a"] == b"A"
    write(data / "new", b"B")
    (data / "new").rename(data / "a")
    clew.put("p/raw", {"/": data})
    assert content(clew)["/a"] == b"B"


def test_a_file_written_just_before_the_scan_is_read_again(clew, data, reads):
    clew.put("p/raw", {"/": data})
    clew.put("p/raw", {"/": data})
    assert reads == ["a", "c", "d", "e"] * 2
    assert len(clew.log("p/raw")) == 1


def test_what_others_changed_meanwhile_is_put_back(clew, data, monkeypatch):
    aged(clew, monkeypatch)
    clew.put("p/raw", {"/in": data})
    clew.put("p/raw", {"/in/a": b"theirs", "/other": b"stays"}, delete=["/in/b"])
    clew.put("p/raw", {"/in": data})
    assert content(clew) == {
        **{f"/in/{n}": n.encode() for n in ("a", "b/c", "b/d", "e")},
        "/other": b"stays",
    }


def test_another_branch_and_another_place_get_everything_without_reading(
    clew, data, reads, monkeypatch
):
    aged(clew, monkeypatch)
    clew.put("p/raw", {"/": data})
    clew.put("p/raw", {"/copy": data})
    clew.put("p/raw", {"/": data}, branch="side", replace=True)
    assert len(content(clew)) == 8
    assert len(content(clew, "p/raw@side")) == 4
    assert len(reads) == 4


@pytest.mark.parametrize("harm", [b"", b"clew scan \x01\n", b"x" * 500])
def test_a_cache_that_is_damaged_or_lost_costs_only_time(
    clew, data, home, reads, monkeypatch, harm
):
    aged(clew, monkeypatch)
    first = clew.put("p/raw", {"/": data})
    for kept in (home / "cache" / "scans").iterdir():
        kept.write_bytes(harm or kept.read_bytes()[:-3])
    assert clew.put("p/raw", {"/": data}) == first
    assert len(reads) == 8


def test_bytes_that_are_no_longer_stored_are_read_again(tmp_path, data, monkeypatch):
    aged(None, monkeypatch)
    for home in ("one", "two"):
        workspace = open_workspace(Settings(home=tmp_path / home), create=True)
        workspace.create_repo("p/raw")
        if home == "two":  # a cache that tells of what this store never had
            (tmp_path / "two" / "cache").mkdir(exist_ok=True)
            (tmp_path / "one" / "cache" / "scans").rename(tmp_path / "two" / "cache" / "scans")
        workspace.put("p/raw", {"/": data})
        assert content(workspace)["/b/d"] == b"b/d"
        assert workspace.rooms.store.fsck() == []
        workspace.close()


def test_what_is_no_file_is_reported_by_name_and_nothing_is_committed(clew, data, tmp_path):
    (data / "b" / "loop").symlink_to(data)
    (data / "lost").symlink_to(tmp_path / "nowhere")
    os.mkfifo(data / "pipe")
    with pytest.raises(Invalid) as refused:
        clew.put("p/raw", {"/": data})
    assert refused.value.code == "file.special"
    assert all(name in refused.value.message for name in ("b/loop", "lost", "pipe"))
    with pytest.raises(NotFound, match="Nothing was committed"):
        clew.log("p/raw")


def test_a_link_to_a_file_is_that_file(clew, data, tmp_path):
    write(tmp_path / "far", b"far")
    (data / "link").symlink_to(tmp_path / "far")
    clew.put("p/raw", {"/": data})
    assert content(clew)["/link"] == b"far"


def test_the_workspace_is_not_among_its_own_data(clew, tmp_path, data):
    clew.put("p/raw", {"/": tmp_path})
    assert sorted(content(clew)) == ["/data/a", "/data/b/c", "/data/b/d", "/data/e"]


def test_a_name_that_is_not_utf8_is_refused(clew, data):
    os.close(os.open(os.fsencode(data) + b"/\xff", os.O_CREAT))
    with pytest.raises(Invalid) as refused:
        clew.put("p/raw", {"/": data})
    assert refused.value.code == "path.invalid"


def test_a_directory_without_files_is_nothing_to_commit(clew, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid) as refused:
        clew.put("p/raw", {"/": tmp_path / "empty"})
    assert refused.value.code == "put.nothing"
    with pytest.raises(NotFound):
        scan(tmp_path / "nowhere")


def test_the_cache_is_bounded(tmp_path, data, monkeypatch):
    monkeypatch.setattr("clew.repos.scanning.LIMIT_FILES", 3)
    scans = Scans(tmp_path / "scans")
    for number in range(6):
        write(tmp_path / f"d{number}" / "x", b"x")
        scans.keep(scan(tmp_path / f"d{number}"), ["file:" + "00" * 32], {})
    assert len(list((tmp_path / "scans").iterdir())) == 3


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20
).filter(lambda n: n not in {".", "..", ".clew"} and len(n.encode()) < 200)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    files=st.dictionaries(
        st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.binary(max_size=40), max_size=8
    )
)
def test_any_names_go_in_and_come_out_as_they_are(clew, tmp_path_factory, files):
    root = tmp_path_factory.mktemp("any")
    made = {}
    for name, data in files.items():
        path = root / "in" / name
        try:
            write(path, data)
        except (NotADirectoryError, IsADirectoryError, FileExistsError):
            continue  # would be both a file and a directory
        made[name] = data
    if not made:
        return
    commit = clew.put("p/raw", {"/": root / "in"}, replace=True)
    assert commit.files == len(made)
    clew.get("p/raw", root / "out")
    back = {p.relative_to(root / "out").as_posix(): p.read_bytes()
            for p in (root / "out").rglob("*") if p.is_file()}  # fmt: skip
    assert back == made


def test_case_and_unicode_forms_are_kept_apart(clew, tmp_path):
    names = ["é", unicodedata.normalize("NFD", "é"), "É", "a", "A", "d/" * 60 + "deep"]
    for name in names:
        write(tmp_path / "in" / name, name.encode())
    clew.put("p/raw", {"/": tmp_path / "in"})
    assert content(clew) == {f"/{name}": name.encode() for name in names}
