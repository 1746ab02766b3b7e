"""SQL over commits, embedded and through a server: names, versions, provenance, and the fence."""

import importlib.util
from pathlib import Path

import polars as pl
import pytest

from clew.base.errors import ClewError, Denied, Invalid, NotFound
from clew.base.settings import Settings
from clew.client import RemoteWorkspace
from clew.workspace import open_workspace

_spec = importlib.util.spec_from_file_location(
    "clew_tests_serving", Path(__file__).parents[1] / "server" / "conftest.py"
)
_served = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_served)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    home = tmp_path_factory.mktemp("w")
    files = home / "files"
    files.mkdir()
    for month in (1, 2, 3):
        frame = pl.DataFrame(
            {"month": [month] * 10, "delay": range(10), "carrier": ["UA", "AA"] * 5}
        )
        frame.write_parquet(files / f"2013-0{month}.parquet")
    workspace = open_workspace(Settings(home=home / ".clew", workers=2), create=True)
    for name in ("air/flights", "air/carriers", "sea/carriers", "results"):
        workspace.create_repo(name)
    workspace.put("air/flights", {p.name: p for p in sorted(files.iterdir())[:2]})
    workspace.put("air/flights", {p.name: p for p in sorted(files.iterdir())[2:]})
    workspace.put("air/carriers", {"c.csv": b"carrier,name\nUA,United\nAA,American\n"})
    workspace.put("results", {"notes.txt": b"one\n", "x.parquet": (files / "2013-01.parquet")})
    workspace.put("results", {"notes.txt": b"two\n", "x.parquet": (files / "2013-02.parquet")})
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def remote(embedded):
    embedded.serves = True
    with _served.served(embedded, scratch=embedded.rooms.settings.home) as url:
        far = RemoteWorkspace(url)
        yield far
        far.close()
    embedded.serves = False


@pytest.fixture(params=["embedded", "remote"])
def workspace(request, embedded):
    if request.param == "remote":
        return request.getfixturevalue("remote")
    embedded.serves = False
    return embedded


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("flights", 30),
        ("air.flights", 30),
        ('"air/flights"', 30),
        ('"air/flights@main^1"', 20),
        ("'air/flights@main^'", 20),
        ('"flights@main^1"', 20),
        ("flights at (version => 'main^1')", 20),
        ("air.flights at (version => 'main^1')", 20),
        ("clew('air/flights:/2013-01.parquet')", 10),
        ("clew('air/flights@main:/2013-0{1,3}.*')", 20),
    ],
)
def test_a_name_means_a_commit(workspace, table, rows):
    assert workspace.sql(f"select count(*) as n from {table}").to_pydict() == {"n": [rows]}


def test_versions_and_repos_join(workspace):
    found = workspace.sql(
        """select c.name, count(*) n from air.flights f
           anti join flights o at (version => 'main^1') using (month)
           join "air/carriers" c using (carrier) group by 1 order by 1"""
    )
    assert found.to_pydict() == {"name": ["American", "United"], "n": [5, 5]}


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("select * from fligths", NotFound, "sql.table_unknown"),
        ("select * from a.b.c", NotFound, "sql.table_unknown"),
        ("select * from information_schema.tables", NotFound, "sql.table_unknown"),
        ("select * from carriers", Invalid, "sql.ambiguous"),
        ("select * from 'air/flights@none'", NotFound, "ref.unknown"),
        ("select * from clew('air/flights:/2014.parquet')", NotFound, "file.unknown"),
        ("select * from clew('results:/notes.txt')", Invalid, "sql.no_table"),
        ("select nope from flights", Invalid, "sql.failed"),
        ("select from where", Invalid, "sql.syntax"),
        ("select * from read_csv('/etc/passwd')", Denied, "sql.function"),
        ("copy flights to '/tmp/stolen.csv'", Invalid, "sql.not_select"),
        ("select * from '/etc/passwd'", ClewError, None),
        ("select * from 'https://example.org/x.parquet'", ClewError, None),
    ],
)
def test_what_is_wrong_has_the_same_code_near_and_far(workspace, text, kind, code):
    with pytest.raises(kind) as raised:
        workspace.sql(text)
    assert code is None or raised.value.code == code
    assert "root:" not in str(raised.value)


def test_a_name_that_is_nearly_right_is_proposed(workspace):
    with pytest.raises(NotFound) as raised:
        workspace.sql("select * from fligths")
    assert "air/flights" in raised.value.hint


def test_a_server_reads_nothing_but_commits(remote, embedded, tmp_path):
    (tmp_path / "x.csv").write_text("a\n1\n")
    source = {"x": str(tmp_path / "x.csv")}
    with pytest.raises(Denied):
        remote.sql("select * from x", attach=source)
    embedded.serves = False
    assert embedded.sql("select * from x", attach=source).to_pydict() == {"a": [1]}
    embedded.serves = True


def test_a_query_of_a_server_runs_in_a_process_of_its_own(remote, embedded):
    remote.sql("select 1")
    workers = embedded.rooms.queries._dispatcher._workers
    assert 1 <= len(workers) <= 2
    assert all(worker.snapshot == "" for worker in workers)  # and no user's code was in it


def test_an_answer_is_committed_with_the_commits_that_it_came_from(workspace):
    read = [workspace.commit("air/flights@main^1").id, workspace.commit("air/carriers@main").id]
    commit = workspace.sql_into(
        """select name, sum(delay) as d from "air/flights@main^1" join air.carriers using (carrier)
           group by 1 order by 1""",
        "results@by-carrier:/sums.parquet",
    )
    assert sorted(commit.provenance) == sorted(read)
    assert commit.message.startswith("select name, sum(delay)")
    assert (commit.repo, commit.branch) == ("results", "by-carrier")
    address = "results@by-carrier:/sums.parquet"
    assert workspace.sql(f"""select name from clew('{address}')""").num_rows == 2
    assert read[0] in {node.id for node in workspace.why(commit.id).nodes}
    for bad, code in (("results:/x.xlsx", "sql.format"), ("results", "sql.into"),
                      ("none:/x.csv", "repo.unknown")):  # fmt: skip
        with pytest.raises(ClewError) as raised:
            workspace.sql_into("select 1 as a", bad)
        assert raised.value.code == code


def test_two_commits_are_compared_file_by_file(workspace):
    found = workspace.compare("results@main^1", "results@main", key=["delay"])
    text, table = found
    assert (text.path, text.kind, text.text.added) == ("/notes.txt", "changed", 1)
    assert "-one\n+two\n" in text.text.text
    assert (table.table.changed, table.table.cells) == (10, {"month": 10})
    [only] = workspace.compare("results@main^1", "results@main", paths=["/notes.txt"])
    assert only.path == "/notes.txt"
    [first, second] = workspace.compare("results@main^1", "results@main", files=1)
    assert (first.text is None, second.table, bool(second.note)) == (False, None, True)
    with pytest.raises(Invalid) as raised:
        workspace.compare("results@main^1", "results@main", key=["month"])
    assert raised.value.code == "diff.key_twice"


def test_nothing_is_left_on_the_disk(workspace, embedded):
    workspace.sql("select * from flights")
    workspace.compare("results@main^1", "results@main")
    home = embedded.rooms.settings.home
    assert not [*home.glob("scratch/sql-*"), *home.glob("diff-*"), *home.glob("clew-sql-*")]
