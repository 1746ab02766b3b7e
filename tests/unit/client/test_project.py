"""Which files travel with a pipeline's file, and as what."""

import io
import os

import pytest

from clew.base.archive import pack, unpack
from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.project import MAX_FILES, project_files


def make(root, *names, content="x"):
    for name in names:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    return root / names[0]


def test_code_and_small_text_belong_and_data_does_not(tmp_path):
    entry = make(
        tmp_path, "flights.py", "lib/clean.py", "q/late.sql", "conf.toml", "a.csv", "b.parquet"
    )
    files, name = project_files(entry)
    assert name == "flights.py"
    assert list(files) == ["conf.toml", "flights.py", "lib/clean.py", "q/late.sql"]
    assert files["lib/clean.py"].read_text() == "x"


def test_hidden_cached_and_installed_things_stay_home(tmp_path):
    entry = make(
        tmp_path, "a.py", ".env.py", ".git/x.py", ".clew/x.py", "__pycache__/x.py",
        "node_modules/x.py", "env/lib/x.py", "env/pyvenv.cfg",
    )  # fmt: skip
    assert list(project_files(entry)[0]) == ["a.py"]


def test_large_text_is_data(tmp_path):
    entry = make(tmp_path, "a.py")
    make(tmp_path, "big.json", content="x" * (1 << 20) + "x")
    assert list(project_files(entry)[0]) == ["a.py"]


def test_a_link_that_leads_out_stays_home(tmp_path):
    entry = make(tmp_path / "project", "a.py", "b.py")
    secret = make(tmp_path, "secret.txt")
    (entry.parent / "c.txt").symlink_to(secret)
    (entry.parent / "d.py").symlink_to(entry.parent / "b.py")
    (entry.parent / "loop").symlink_to(entry.parent)
    assert list(project_files(entry)[0]) == ["a.py", "b.py", "d.py"]


def test_too_many_files_name_the_directory_that_holds_them(tmp_path):
    entry = make(tmp_path, "a.py")
    many = tmp_path / "data" / "notes"
    many.mkdir(parents=True)
    for number in range(MAX_FILES + 1):
        (many / f"{number}.txt").touch()
    with pytest.raises(Invalid) as caught:
        project_files(entry)
    assert caught.value.code == "project.too_large"
    assert str(many) in caught.value.message


def test_a_missing_file_and_a_wrong_one_are_clear(tmp_path):
    with pytest.raises(NotFound) as missing:
        project_files(tmp_path / "none.py")
    assert missing.value.code == "file.unknown"
    with pytest.raises(Invalid) as wrong:
        project_files(make(tmp_path, "a.txt"))
    assert wrong.value.code == "project.not_python"


def unpacked(tmp_path, stream):
    with (tmp_path / "archive").open("w+b") as file:
        for piece in stream:
            file.write(piece)
        file.seek(0)
        files, deletes = unpack(file)
        return {name: part.read() for name, part in files.items()}, deletes


def test_an_archive_gives_back_what_it_was_given(tmp_path):
    long = "/" + "ä/" * 200 + "end"
    files = {"/a": b"1", long: b"", "/s": io.BytesIO(b"stream"), "/p": make(tmp_path, "p")}
    files["/big"] = os.urandom(1_500_000)
    got, deletes = unpacked(tmp_path, pack(files, delete=["/x", "/ü"]))
    expected = {**files, "/s": b"stream", "/p": b"x"}
    assert got == expected
    assert deletes == ["/x", "/ü"]


def test_a_part_is_a_file_that_can_be_sought(tmp_path):
    with (tmp_path / "archive").open("w+b") as file:
        file.writelines(pack({"/a": b"0123456789", "/b": b"next"}))
        file.seek(0)
        part = unpack(file)[0]["/a"]
        assert part.read(3) == b"012"
        assert part.seek(-2, os.SEEK_END) == 8
        assert part.read() == b"89"
        assert part.read() == b""
        assert part.seek(5) == part.tell() == 5


def test_a_source_that_is_no_file_is_named(tmp_path):
    with pytest.raises(NotFound):
        list(pack({"/a": tmp_path / "none"}))
    with pytest.raises(Invalid):
        list(pack({"/a": tmp_path}))


@pytest.mark.parametrize("size", [500_000, 1_500_000])
def test_a_file_that_changes_while_it_is_read_is_a_conflict(tmp_path, size):
    place = tmp_path / "p"
    place.write_bytes(bytes(1_000_000))
    stream = pack({"/a": place})
    next(stream)
    os.truncate(place, size)
    with pytest.raises(Conflict) as caught:
        list(stream)
    assert caught.value.code == "file.changed"
