"""The loop from a data commit to an explained prediction: on files and over HTTP, the same."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import clew
from clew.base.errors import Denied, Invalid
from clew.base.verbs import Verbs

if TYPE_CHECKING:
    from .conftest import Place

ROWS = '[{"x": 70}, {"x": 10}]'
Csv = Callable[..., str]

BAD_ROWS = "id,x\nn1,5\n,7\nn3,5000\n"

# That every verb says the same both ways is a rule of tests/conformance/test_verbs.py. Here some
# journeys go both ways each time, and the others one way; the other way is for the long suite.
here = pytest.mark.parametrize(
    "world", ["embedded", pytest.param("remote", marks=pytest.mark.slow)], indirect=True
)
there = pytest.mark.parametrize(
    "world", [pytest.param("embedded", marks=pytest.mark.slow), "remote"], indirect=True
)


def states(jobs: list[dict[str, Any]]) -> dict[str, str]:
    return {job["step"]: job["state"] for job in jobs}


def until(clew_: Verbs, holds: Callable[[], bool]) -> None:
    """Wait for what the engine does on its own account, with no job to wait for."""
    clew_.wait(timeout_s=60)
    for _ in range(600):
        if holds():
            return
        pause()
    raise AssertionError("it never came true")


def pause() -> None:
    threading.Event().wait(0.05)


# data and work ----------------------------------------------------------------------------------


def test_a_new_project_goes_from_nothing_to_a_live_model(place: Place) -> None:
    made = place.json("init")
    assert {Path(file).name for file in made["files"]} >= {"pipeline.py", "first.csv"}
    applied = place.json("apply", "pipeline.py")["applied"][0]
    assert (applied["pipeline"], applied["version"], applied["changed"]) == ("tumours", 1, True)
    put = place.json("put", "tumours/measurements", "data/first.csv")
    assert states(put["jobs"]) == {"clean": "done", "model": "done", "model.gate": "done"}
    endpoint = place.json("endpoints")[0]
    assert (endpoint["name"], endpoint["revisions"][0]["state"]) == ("tumours", "live")
    assert place.refused("init", exits=4)["code"] == "workspace.exists"


def test_only_what_is_new_runs_and_the_rest_says_why_not(world: Place, numbers: Csv) -> None:
    world.write("data/c.csv", numbers(2001))
    put = world.json("put", "numbers/raw", "data")
    clean = next(job for job in put["jobs"] if job["step"] == "clean")
    assert (clean["done"], clean["skipped"], clean["state"]) == (1, 2, "done")
    shown = world.json("job", clean["id"])
    by_file = {datum["inputs"][0][0]: datum for datum in shown["datums"]}
    assert by_file["numbers/raw:/c.csv"]["state"] == "done"
    assert by_file["numbers/raw:/c.csv"]["reason"]
    assert by_file["numbers/raw:/a.csv"]["state"] == "skipped"
    assert by_file["numbers/raw:/a.csv"]["reason"].startswith("unchanged since job")
    assert by_file["numbers/raw:/a.csv"]["made_by"] != clean["id"]


@here
def test_putting_the_same_again_runs_nothing(world: Place) -> None:
    put = world.json("put", "numbers/raw", "data/a.csv")
    assert all(job["done"] == 0 for job in put["jobs"])
    assert len(world.json("models")) == 1


@there
def test_a_comment_runs_nothing_and_a_constant_says_that_it_was_the_cause(world: Place) -> None:
    world.edit("numbers.py", "LIMIT = 50.0", "# half of them\nLIMIT = 50.0")
    assert {d["action"] for p in world.json("plan", "numbers.py") for d in p["datums"]} == {"skip"}
    assert all(job["done"] == 0 for job in world.json("apply", "numbers.py")["jobs"])
    world.edit("numbers.py", "LIMIT = 50.0", "LIMIT = 40.0")
    planned = [d for p in world.json("plan", "numbers.py") for d in p["datums"]]
    assert {d["action"] for d in planned if d["step"] == "clean"} == {"run"}
    assert all("LIMIT" in d["reason"] for d in planned if d["step"] == "clean")
    before = len(world.json("jobs"))
    assert len(world.json("jobs")) == before, "a plan changes nothing"
    jobs = world.json("apply", "numbers.py")["jobs"]
    clean = next(job for job in jobs if job["step"] == "clean")
    assert clean["done"] == 2
    datums = world.json("job", clean["id"])["datums"]
    assert all("LIMIT" in datum["reason"] for datum in datums)


@there
def test_data_can_be_listed_compared_and_taken_out_again(
    world: Place, numbers: Csv, tmp_path: Path
) -> None:
    world.write("data/a.csv", numbers(1, 20))
    put = world.json("put", "numbers/raw", "data/a.csv", "-m", "fewer")["commit"]
    log = world.json("log", "numbers/raw")
    assert [commit["message"] for commit in log] == ["fewer", ""]
    assert [f["path"] for f in world.json("ls", "numbers/raw")] == ["/a.csv", "/b.csv"]
    assert [f["path"] for f in world.json("ls", f"numbers/raw@{log[1]['id']}")] == [
        "/a.csv",
        "/b.csv",
    ]
    (changed,) = world.json("diff", "numbers/raw@main^1", "numbers/raw@main")
    assert (changed["path"], changed["kind"]) == ("/a.csv", "changed")
    assert world.json("diff", "numbers/raw@main") == [changed]
    shown = world.json("show", put["id"][:8])
    assert shown["commit"]["id"] == put["id"]
    assert [(c["path"], c["kind"]) for c in shown["changes"]] == [("/a.csv", "changed")]
    world.clew("get", "numbers/raw@main", tmp_path / "out")
    assert (tmp_path / "out" / "a.csv").read_text() == numbers(1, 20)
    assert world.clew("get", "numbers/raw@main^1:/a.csv", "-").out == numbers(1)
    gone = world.json("put", "numbers/raw", "--delete", "/b.csv")["commit"]
    assert gone["files"] == 1


# the thread -------------------------------------------------------------------------------------


def test_a_prediction_is_explained_back_to_the_raw_file_and_its_code(world: Place) -> None:
    answer = world.json("predict", "large", ROWS)
    assert answer["outputs"]["label"] == [1, 0]
    version = world.json("model", "numbers/model@champion")
    assert answer["model_version"] == version["model_version"]["id"]
    why = world.json("why", answer["prediction_id"])
    assert why["subject"]["kind"] == "prediction"
    kinds = {node["kind"] for node in why["nodes"]}
    assert kinds >= {"revision", "model_version", "verdict", "trial", "experiment", "job"}
    assert kinds >= {"commit", "datum", "file", "code"}
    titles = {node["title"] for node in why["nodes"]}
    assert titles >= {"numbers/raw:/a.csv", "numbers/raw:/b.csv", "numbers.py:clean"}
    ids = {node["id"] for node in why["nodes"]} | {why["subject"]["id"]}
    assert all(edge["source"] in ids and edge["target"] in ids for edge in why["edges"])
    assert reaches(why["edges"], answer["prediction_id"], ids) == ids
    code = next(node for node in why["nodes"] if node["title"] == "numbers.py:clean")
    assert "numbers.py:LIMIT" in code["detail"]["parts"]
    file = next(node for node in why["nodes"] if node["title"] == "numbers/raw:/a.csv")
    assert file["id"] in world.json("ls", "numbers/raw")[0]["digest"]


def reaches(edges: list[dict[str, str]], start: str, known: set[str]) -> set[str]:
    """What is above ``start``."""
    above: dict[str, set[str]] = {}
    for edge in edges:
        above.setdefault(edge["target"], set()).add(edge["source"])
    seen, new = {start}, [start]
    while new:
        found = above.get(new.pop(), set()) & known - seen
        seen |= found
        new += found
    return seen


@here
def test_a_raw_file_is_followed_to_the_prediction_that_it_touched(world: Place) -> None:
    answer = world.json("predict", "large", ROWS)
    with world.verbs() as verbs:
        until(verbs, lambda: verbs.change(answer["global_id"]).predictions > 0)
    why = world.json("why", "numbers/raw@main:/a.csv", "--down")
    nodes = {node["id"]: node["kind"] for node in why["nodes"]}
    assert nodes[answer["prediction_id"]] == "prediction"
    assert nodes[answer["model_version"]] == "model_version"
    assert nodes[answer["revision"]] == "revision"


@here
def test_every_id_that_a_change_made_can_be_asked_why(world: Place) -> None:
    change = world.json("log", "numbers/raw")[0]["global_id"]
    status = world.json("status", change[:8])
    for kind in ("jobs", "experiments", "trials", "model_versions", "verdicts", "revisions"):
        for one in status[kind][:1]:
            why = world.json("why", one["id"][:10])
            assert why["subject"]["id"] == one["id"]
            assert any(node["title"] == "numbers/raw:/a.csv" for node in why["nodes"]), kind
    job = next(job for job in status["jobs"] if job["step"] == "clean")
    datum = world.json("job", job["id"])["datums"][0]
    assert world.json("why", datum["id"][:10])["subject"]["kind"] == "datum"
    assert world.json("why", change)["subject"]["kind"] == "change"


def test_one_id_is_on_all_that_one_change_caused(world: Place) -> None:
    answer = world.json("predict", "large", ROWS)
    change = world.json("log", "numbers/raw")[0]["global_id"]
    assert answer["global_id"] == change
    with world.verbs() as verbs:
        until(verbs, lambda: verbs.change(change).predictions > 0)
    status = world.json("status", change[:6])
    assert status["global_id"] == change
    kinds = ("commits", "jobs", "experiments", "trials", "model_versions", "verdicts", "revisions")
    for kind in kinds:
        assert status[kind], kind
        assert {one["global_id"] for one in status[kind]} == {change}
    assert status["predictions"] == 1
    assert {commit["repo"] for commit in status["commits"]} >= {
        "numbers/raw",
        "numbers/clean",
        "numbers/model",
        "numbers/model.gate",
        "numbers/model.checkpoints",
    }


# models and endpoints ---------------------------------------------------------------------------


@there
def test_a_worse_model_is_refused_and_only_a_name_and_a_reason_deploy_it(world: Place) -> None:
    live = world.json("endpoints")[0]["revisions"][0]
    world.edit("numbers.py", "FLIP = False", "FLIP = True")
    jobs = world.json("apply", "numbers.py", exits=1)["jobs"]
    assert states(jobs)["model.gate"] == "refused"
    shown = world.json("model", "numbers/model@2")
    assert shown["model_version"]["state"] == "refused"
    (check,) = shown["verdict"]["checks"]
    assert not check["passed"]
    assert "0.8" in check["reason"]
    assert world.json("endpoints")[0]["revisions"] == [live]
    assert world.json("model", "numbers/model@champion")["model_version"]["version"] == 1

    error = world.refused("deploy", "large", "numbers/model@2", exits=5)
    assert error["code"] == "model.not_blessed"
    half = world.refused("deploy", "large", "numbers/model@2", "--by", "ada", exits=2)
    assert half["code"] == "override.incomplete"
    forced = ("deploy", "large", "numbers/model@2", "--by", "ada", "--reason", "to see it")
    revision = world.json(*forced)
    assert revision["number"] == 2
    overridden = world.json("model", "numbers/model@2")
    assert overridden["model_version"]["state"] == "overridden"
    assert overridden["verdict"]["overridden_by"] == "ada"
    with world.verbs() as verbs:
        until(verbs, lambda: verbs.endpoint("large").revisions[0].number == 2)
    assert world.json("predict", "large", ROWS)["outputs"]["label"] == [0, 1]

    back = world.json("rollback", "large", "--reason", "it was worse")
    assert (back["number"], back["state"], back["traffic"]) == (1, "live", 100)
    with world.verbs() as verbs:
        until(verbs, lambda: verbs.predict("large", [{"x": 70}]).outputs["label"] == [1])


@here
def test_refused_data_keeps_its_evidence_and_the_endpoint_is_untouched(world: Place) -> None:
    before = world.json("endpoints")[0]["revisions"]
    world.write("bad.csv", BAD_ROWS)
    put = world.json("put", "numbers/raw", "bad.csv", exits=1)
    assert put["commit"]["state"] == "finished", "the raw data is kept"
    assert states(put["jobs"])["clean"] == "refused"
    assert states(put["jobs"])["model"] in {"blocked", "cancelled"}
    job = next(job for job in put["jobs"] if job["step"] == "clean")
    refused = [d for d in world.json("job", job["id"])["datums"] if d["state"] == "refused"]
    (datum,) = refused
    text = str(datum["evidence"]) + datum["error"]
    assert "5000" in text
    assert "x" in text
    aborted = world.json("log", "numbers/clean")[0]
    assert aborted["state"] == "aborted"
    assert [f["path"] for f in world.json("ls", "numbers/clean")] == ["/a.parquet", "/b.parquet"]
    assert world.json("endpoints")[0]["revisions"] == before
    assert world.json("predict", "large", ROWS)["outputs"]["label"] == [1, 0]
    mended = world.json("put", "numbers/raw", "--delete", "/bad.csv")
    assert set(states(mended["jobs"]).values()) == {"done"}


@here
def test_data_on_another_branch_starts_nothing(world: Place, numbers: Csv) -> None:
    world.write("c.csv", numbers(2001))
    put = world.json("put", "numbers/raw", "c.csv", "--branch", "staging")
    assert put["jobs"] == []
    assert len(world.json("ls", "numbers/raw@staging")) == 3
    assert len(world.json("ls", "numbers/raw")) == 2


# for people -------------------------------------------------------------------------------------


def test_every_command_says_something_to_people(trained: Place) -> None:
    world = trained
    world.server()
    answer = world.json("predict", "large", ROWS)
    change = answer["global_id"]
    job = world.json("jobs")[0]["id"]
    experiment = world.json("experiments")[0]["id"]
    for arguments, expected in (
        (("status",), "large"),
        (("status", change), "revision"),
        (("repos",), "numbers/raw"),
        (("ls", "numbers/raw"), "a.csv"),
        (("log", "numbers/raw"), change[:8]),
        (("show", "numbers/raw@main"), change),
        (("jobs",), "model.gate"),
        (("job", job), "done"),
        (("experiments",), "accuracy"),
        (("experiment", experiment), "trial"),
        (("models",), "champion"),
        (("model", "numbers/model@1"), "at_least"),
        (("endpoints",), "large"),
        (("predict", "large", ROWS), "clew why"),
        (("why", answer["prediction_id"]), "numbers/raw:/a.csv"),
        (("why", "numbers/raw@main:/a.csv", "--down"), "model version"),
        (("plan", "numbers.py"), "numbers"),
        (("apply", "numbers.py"), "unchanged"),
        (("wait",), ""),
        (("drift",), ""),
        (("predictions", "large"), ""),
    ):
        said = world.clew(*arguments)
        assert expected in said.out, (arguments, said.out)
        assert said.err == ""


# the same, on an object -------------------------------------------------------------------------


@there
def test_the_sdk_has_the_same_verbs(
    world: Place, numbers: Csv, monkeypatch: pytest.MonkeyPatch
) -> None:
    if url := world.environ.get("CLEW_URL"):
        monkeypatch.setenv("CLEW_URL", url)
    with world.verbs() as verbs:
        commit = verbs.put("numbers/raw", {"/c.csv": numbers(2001).encode()}, message="more")
        seen: list[str] = []
        verbs.wait(commit.global_id, watch=lambda event: seen.append(event.kind))
        assert {"commit.finished", "job.ended"} <= set(seen)
        status = verbs.change(commit.global_id)
        assert {job.state for job in status.jobs} == {"done"}
        clean = next(job for job in status.jobs if job.step == "clean")
        assert (clean.done, clean.skipped) == (1, 2)
        assert verbs.read("numbers/raw@main:/c.csv") == numbers(2001).encode()
        assert verbs.commit(commit.id[:8]).id == commit.id
        version = status.model_versions[0]
        assert version.state == "blessed"
        until(verbs, lambda: verbs.endpoint("large").revisions[0].model_version == version.id)
        answer = verbs.predict("large", [{"x": 99.0}])
        assert answer.model_version == version.id
        assert verbs.why(answer.prediction_id).subject.id == answer.prediction_id
        assert verbs.predictions("large")[0].id == answer.prediction_id
        with clew.load("large", directory=world.directory) as model:
            assert model.model_version == version.id
            assert model.predict([{"x": 99.0}]).outputs == answer.outputs
        again = verbs.run("numbers", "clean", reason="to be sure")
        verbs.wait(again)
        assert {job.global_id for job in verbs.change(again).jobs} == {again}
        with pytest.raises(Denied, match="written by Clew"):
            verbs.put("numbers/clean", {"/x": b""})
        with pytest.raises(Invalid) as caught:
            verbs.predict("large", [{"y": 1}])
        assert caught.value.code == "predict.rows"


def test_a_workspace_is_found_from_below_and_decorated_functions_stay_callable(
    trained: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = trained.directory / "notebooks" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    with closing(clew.connect()) as verbs:
        assert verbs.status().workspace == str(trained.home)
        table = pl.read_parquet(verbs.read("numbers/clean:/a.parquet"))
    assert table.columns == ["id", "x", "large"]

    p = clew.Pipeline("p")

    @p.step(p.source("raw"))
    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    assert double(4) == 8
    assert double.__doc__ == "Twice."


def test_commands_go_through_the_server_of_their_directory(trained: Place, numbers: Csv) -> None:
    server = trained.server()
    trained.write("data/c.csv", numbers(2001))
    put = trained.json("put", "numbers/raw", "data/c.csv")
    assert set(states(put["jobs"]).values()) == {"done"}
    endpoint = trained.json("endpoints")[0]
    assert endpoint["url"].startswith(server.serving_url)
    assert server.stop() == 0
    assert not (trained.home / "server.json").exists()
    assert trained.json("predict", "large", ROWS)["outputs"]["label"] == [1, 0]
    shutil.rmtree(trained.home / "code")  # it can be laid out again
    assert set(states(trained.json("run", "numbers", "clean")["jobs"]).values()) == {"done"}
