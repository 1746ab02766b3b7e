"""clew:// for whatever speaks fsspec: on files and through a server, read by chunks, written as
commits."""

import importlib.util
import io
import multiprocessing
import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import fsspec
import pandas as pd
import polars as pl
import pyarrow.dataset
import pytest

from clew.base.settings import Settings
from clew.sdk.filesystem import ClewFileSystem
from clew.workspace import open_workspace

_spec = importlib.util.spec_from_file_location(
    "clew_tests_serving_files", Path(__file__).parents[1] / "server" / "conftest.py"
)
_served = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_served)

FRAME = pd.DataFrame({"n": range(100), "t": [f"row {n}" for n in range(100)]})


@pytest.fixture
def home(tmp_path):
    workspace = open_workspace(Settings(home=tmp_path / ".clew", workers=2), create=True)
    for name in ("air/flights", "air/planes", "single"):
        workspace.create_repo(name)
    frame = io.BytesIO()
    FRAME.to_parquet(frame)
    workspace.put(
        "air/flights", {"a.parquet": frame.getvalue(), "d/one.txt": b"old", "d/x@y": b"@"}
    )
    workspace.put("air/flights", {"d/one.txt": b"new", "d/e/two.txt": b"2"})
    workspace.put("single", {"x.txt": b"x"})
    yield workspace
    workspace.close()


@pytest.fixture(params=["embedded", "remote"])
def fs(request, home, tmp_path):
    if request.param == "embedded":
        made = ClewFileSystem(home=str(tmp_path / ".clew"), skip_instance_cache=True)
        yield made
        made.verbs.close()
        return
    with _served.served(home, scratch=tmp_path) as url:
        made = ClewFileSystem(url=url, skip_instance_cache=True)
        yield made
        made.verbs.close()


def test_fsspec_finds_it_by_its_entry_point():
    assert fsspec.get_filesystem_class("clew") is ClewFileSystem


def test_a_path_names_repo_ref_and_file(fs):
    assert fs.ls("", detail=False) == ["air", "single"]
    assert fs.ls("clew://air", detail=False) == ["air/flights", "air/planes"]
    assert fs.ls("air/flights", detail=False) == ["air/flights/a.parquet", "air/flights/d"]
    assert fs.ls("air/flights@main/d/", detail=False) == [
        "air/flights@main/d/e", "air/flights@main/d/one.txt", "air/flights@main/d/x@y",
    ]  # fmt: skip
    assert fs.cat("clew://air/flights/d/one.txt") == b"new"
    assert fs.cat("clew://air/flights@main^1/d/one.txt") == b"old"
    assert fs.cat("air/flights@main^:/d/one.txt") == b"old"
    assert fs.cat("air/flights/d/x@y") == b"@"
    assert fs.cat("single/x.txt") == fs.cat("single@main/x.txt") == b"x"
    assert fs.ls("air/planes") == []


def test_what_is_there_is_told_as_of_any_files(fs):
    assert fs.isdir("air")
    assert fs.isdir("air/flights")
    assert fs.isdir("air/flights/d/e")
    assert fs.isfile("air/flights/d/one.txt")
    assert not fs.exists("air/flights/none")
    assert not fs.exists("nothing/at/all")
    assert not fs.exists("air/flights@nobranch/a.parquet")
    assert fs.find("air/flights/d") == [
        "air/flights/d/e/two.txt", "air/flights/d/one.txt", "air/flights/d/x@y",
    ]  # fmt: skip
    assert fs.glob("clew://air/flights/**/*.txt") == [
        "air/flights/d/e/two.txt", "air/flights/d/one.txt",
    ]  # fmt: skip
    assert fs.du("air/flights/d") == 5
    info = fs.info("air/flights/d/one.txt")
    assert (info["size"], info["type"]) == (3, "file")
    assert fs.ukey("air/flights/d/one.txt") == info["digest"]
    assert fs.checksum("air/flights@main^1/d/one.txt") != fs.checksum("air/flights/d/one.txt")
    with pytest.raises(FileNotFoundError):
        fs.open("air/flights/none")
    with pytest.raises(IsADirectoryError):
        fs.open("air/flights/d")
    with pytest.raises(ValueError, match="mode"):
        fs.open("air/flights/d/one.txt", "ab")


def test_an_open_file_stays_at_its_commit(fs, home):
    with fs.open("air/flights/d/one.txt") as file:
        home.put("air/flights", {"d/one.txt": b"newer"})
        again = pickle.loads(pickle.dumps(file))
        assert (file.read(), again.read()) == (b"new", b"new")
        again.close()
    assert fs.cat("air/flights/d/one.txt") == b"newer"


def test_libraries_read_and_write_tables(fs, home):
    path = "air/flights/a.parquet"
    with fs.open(path) as file:
        assert pd.read_parquet(file).equals(FRAME)
    with fs.open(path) as file:
        assert pl.read_parquet(file).height == 100
    with fs.open(path) as file:
        assert pl.scan_parquet(file).filter(pl.col("n") > 97).collect().height == 2
    dataset = pyarrow.dataset.dataset("air/flights@main/a.parquet", filesystem=fs)
    assert dataset.to_table(columns=["n"]).num_rows == 100
    with duckdb.connect() as connection:
        connection.register_filesystem(fs)
        found = connection.sql(
            "select max(n) from read_parquet('clew://air/flights@main/*.parquet')"
        )
        assert found.fetchall() == [(99,)]
        connection.unregister_filesystem("clew")
    with fs.open("air/planes/p.csv", "w") as file:
        FRAME.to_csv(file, index=False)
    with fs.open("air/planes/p.csv", "r") as file:
        assert pd.read_csv(file).equals(FRAME)
    assert len(home.log("air/planes")) == 1


def test_pandas_takes_an_address(home, tmp_path):
    options = {"home": str(tmp_path / ".clew")}
    FRAME.to_parquet("clew://air/planes/p.parquet", storage_options=options)
    assert pd.read_parquet("clew://air/planes/p.parquet", storage_options=options).equals(FRAME)
    FRAME.to_csv("clew://air/planes/p.csv", storage_options=options, index=False)
    assert pd.read_csv("clew://air/planes/p.csv", storage_options=options).equals(FRAME)
    assert [commit.files for commit in home.log("air/planes")] == [2, 1]
    fsspec.filesystem("clew", **options).verbs.close()
    ClewFileSystem.clear_instance_cache()


def test_a_file_that_is_closed_is_a_commit_and_one_that_fails_is_none(fs, home):
    with fs.open("single/new.txt", "wb") as file:
        file.write(b"one")
        assert not fs.exists("single/new.txt")
    assert fs.cat("single/new.txt") == b"one"

    def fails():
        with fs.open("single/half.txt", "wb") as file:
            file.write(b"half")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fails()
    assert not fs.exists("single/half.txt")
    with pytest.raises(FileExistsError):
        fs.open("single/new.txt", "xb")
    with pytest.raises(ValueError, match="branch"):
        fs.open("single@main^1/new.txt", "wb")
    assert len(home.log("single")) == 2


def test_a_transaction_is_one_commit_or_none(fs, home):
    with fs.transaction:
        for number in range(3):
            fs.pipe_file(f"single/t/{number}.txt", b"%d" % number)
        fs.rm("single/x.txt")
        fs.pipe_file("air/planes/also.txt", b"both")
        assert fs.exists("single/x.txt")
    assert fs.find("single") == ["single/t/0.txt", "single/t/1.txt", "single/t/2.txt"]
    [first, _] = home.log("single")
    assert home.log("air/planes")[0].global_id == first.global_id  # two repos, one change

    def fails():
        with fs.transaction:
            fs.pipe_file("single/never.txt", b"")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fails()
    assert len(home.log("single")) == 2
    fs.pipe_file("single/after.txt", b"")  # the next one commits by itself again
    assert len(home.log("single")) == 3


def test_files_are_copied_moved_and_removed_by_commits(fs, home):
    fs.cp("air/flights/d/one.txt", "single/copy.txt")
    assert fs.cat("single/copy.txt") == b"new"
    fs.mv("single/copy.txt", "single/moved.txt")
    assert [c.files for c in home.log("single")] == [2, 2, 1]
    fs.cp("air/flights/d", "single/d", recursive=True)
    assert fs.cat("single/d/e/two.txt") == b"2"
    with pytest.raises(IsADirectoryError):
        fs.rm("single/d")
    fs.rm("single/d", recursive=True)
    fs.rm(["single/moved.txt", "single/x.txt"])
    assert fs.find("single") == []
    fs.makedirs("single/a/b", exist_ok=True)
    fs.touch("single@other/t")
    assert home.repos()[-1].branches.keys() == {"main", "other"}


def test_parts_of_files_come_in_the_order_in_which_they_were_asked(fs):
    path = "air/flights/d/one.txt"
    assert fs.cat_ranges([path, path, "single/x.txt"], [1, -2, 0], [2, None, 1]) == [
        b"e",
        b"ew",
        b"x",
    ]
    assert fs.cat_file(path, start=1) == b"ew"
    [error, data] = fs.cat_ranges(["single/none", path], 0, 1)
    assert isinstance(error, FileNotFoundError)
    assert data == b"n"


def test_a_random_read_fetches_at_most_three_chunks(home, tmp_path, monkeypatch):
    """1 MB reads from a file of 64 MB, as a loader of samples makes them."""
    draw = random.Random(5)
    content = draw.randbytes(64_000_000)
    home.put("single", {"big.bin": content})
    fs = ClewFileSystem(home=str(tmp_path / ".clew"), skip_instance_cache=True)
    catalog = fs.verbs.rooms.store._catalog
    fetched, fetch = [], catalog.fetch

    def counted(tag, key):
        fetched.append(tag)
        return fetch(tag, key)

    monkeypatch.setattr(catalog, "fetch", counted)
    with fs.open("single/big.bin") as file:
        for _ in range(40):
            at = draw.randrange(len(content) - 1_000_000)
            fetched.clear()
            file.seek(at)
            assert file.read(1_000_000) == content[at : at + 1_000_000]
            assert fetched.count("chunk") <= 3
    fs.verbs.close()


def test_many_threads_read_at_once(fs):
    def read(number):
        with fs.open("air/flights/a.parquet") as file:
            return len(file.read()) + number * 0

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(read, range(40)))) == 1


def _load(fs, path, at):
    with fs.open(path) as file:
        file.seek(at)
        sample = file.read(3)
    fs.verbs.close()
    return os.getpid(), sample


def test_other_processes_read_with_what_they_are_handed(home, tmp_path):
    """As the workers of a loader do: the file system travels, and opens the workspace there."""
    fs = ClewFileSystem(home=str(tmp_path / ".clew"), skip_instance_cache=True)
    assert fs.cat("air/flights/d/one.txt") == b"new"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(_load, [(fs, "air/flights/d/one.txt", 0)] * 2, chunksize=1)
        pool.close()
        pool.join()
    assert {sample for _, sample in found} == {b"new"}
    assert os.getpid() not in {pid for pid, _ in found}
    fs.verbs.close()
