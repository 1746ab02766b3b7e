"""From the spool into commits: each prediction exactly once, whatever happens in between."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from clew.base.errors import Conflict
from clew.base.ids import PredictionIds
from clew.codecs import load_value
from clew.serving.collector import Collector
from clew.serving.spool import Record, Spool, frame, segments

IDS = PredictionIds()
DAY_US = 86_400_000_000


@pytest.fixture
def revision(workspace, laws):
    workspace.endpoint()
    return workspace.deploy(laws.columns())


def request(rows=1, **columns):
    values = {"distance": 1.5, "delay": None, "stops": 2, "carrier": "UA"} | columns
    kinds = {"distance": "FP64", "delay": "FP64", "stops": "INT32", "carrier": "BYTES"}
    inputs = [
        {"name": name, "datatype": kinds[name], "shape": [rows], "data": [value] * rows}
        for name, value in values.items()
    ]
    return json.dumps({"inputs": inputs}).encode()


def answer(*values):
    tensor = {"name": "prediction", "datatype": "FP64", "shape": [len(values)], "data": values}
    return json.dumps({"outputs": [tensor]}).encode()


def record(revision, *, at_us=1_700_000_000_000_000, **changes) -> Record:
    values = {
        "id": IDS.next(), "endpoint": "e", "revision": revision.id,
        "model_version": revision.model_version, "global_id": revision.global_id,
        "at_us": at_us, "latency_us": 1500, "status": 200, "kind": "v2", "request_head": -1,
        "request": request(), "answer_head": -1, "answer": answer(3.5),
    }  # fmt: skip
    return Record(**(values | changes))


def write(workspace, made, *, close=True) -> Spool:
    spool = Spool(workspace.spool)
    for one in made:
        spool.append([frame(one)])
    if close:
        spool.close()
    return spool


def collector(workspace) -> Collector:
    return Collector(workspace.db, workspace.repos, workspace.store, workspace.spool)


def logged(workspace) -> list[str]:
    head = workspace.repos.head("p/e.predictions")
    paths = [file.path for file in workspace.repos.entries(head)] if head else []
    if not paths:
        return []
    frame = load_value(workspace.store, head.tree, paths, "polars.DataFrame")
    return frame["id"].to_list()


def test_the_log_is_one_row_for_each_row_of_a_request(workspace, revision):
    made = record(revision, request=request(rows=2), answer=answer(1.0, 2.0))
    write(workspace, [made])
    assert workspace.serving.collect(force=True) == 1
    head = workspace.repos.head("p/e.predictions")
    (file,) = workspace.repos.entries(head)
    assert file.path == f"/2023-11-14/{made.id}.parquet"
    rows = load_value(workspace.store, head.tree, [file.path], "polars.DataFrame")
    assert rows.select(pl.exclude("at")).to_dicts() == [
        {
            "id": made.id, "row": at, "endpoint": "e", "revision": revision.id,
            "model_version": revision.model_version, "global_id": revision.global_id,
            "status": 200, "latency_ms": 1.5, "error": None, "arm": "live",
            "propensity": 1.0, "unit": None, "copy_of": None, "part_of": None,
            "parts": None, "in.distance": 1.5,
            "in.delay": None,
            "in.stops": 2, "in.carrier": "UA", "out.prediction": value,
        }
        for at, value in enumerate([1.0, 2.0])
    ]  # fmt: skip
    assert rows.schema["in.stops"] == pl.Int32
    assert rows.schema["in.delay"] == pl.Float64


def test_the_commit_comes_from_the_models_commits(workspace, revision):
    write(workspace, [record(revision)])
    workspace.serving.collect(force=True)
    head = workspace.repos.head("p/e.predictions")
    assert head.provenance == (workspace.repos.head("p/model").id,)
    assert workspace.repos.get("p/e.predictions").kind == "log"


def test_nothing_new_makes_no_commit(workspace, revision):
    assert workspace.serving.collect(force=True) == 0
    write(workspace, [record(revision)])
    workspace.serving.collect(force=True)
    assert workspace.serving.collect(force=True) == 0
    assert len(workspace.repos.log("p/e.predictions")) == 1


def test_committed_files_are_removed_and_live_ones_go_on_where_they_were(workspace, revision):
    made = [record(revision) for _ in range(3)]
    spool = write(workspace, made[:2], close=False)
    assert workspace.serving.collect(force=True) == 2
    assert len(segments(workspace.spool)) == 1
    spool.append([frame(made[2])])
    assert workspace.serving.collect(force=True) == 1
    spool.close()
    assert workspace.serving.collect(force=True) == 0
    assert segments(workspace.spool) == []
    assert collector(workspace).offsets() == {}
    assert sorted(logged(workspace)) == sorted(one.id for one in made)


def test_a_torn_tail_waits_until_it_is_whole(workspace, revision):
    spool = write(workspace, [record(revision)], close=False)
    second = frame(record(revision))
    spool.append([second[:20]])
    assert workspace.serving.collect(force=True) == 1
    spool.append([second[20:]])
    assert workspace.serving.collect(force=True) == 1
    spool.close()


def test_a_torn_tail_of_a_dead_process_is_told_and_dropped(workspace, revision, caplog):
    spool = write(workspace, [record(revision)], close=False)
    spool.append([frame(record(revision))[:20]])
    spool.close()
    assert workspace.serving.collect(force=True) == 1
    assert "the last 20 bytes are no whole record" in caplog.text
    assert segments(workspace.spool) == []


def test_days_and_revisions_have_files_of_their_own(workspace, revision, laws):
    other = workspace.deploy(laws.matrix())
    matrix = {"request": b'{"instances": [[1, 2, 3]]}', "answer": b'{"predictions": [6.0]}'}
    write(
        workspace,
        [
            record(revision),
            record(revision, at_us=1_700_000_000_000_000 + DAY_US),
            record(other, kind="v1", **matrix),
        ],
    )
    workspace.serving.collect(force=True)
    files = list(workspace.repos.entries(workspace.repos.head("p/e.predictions")))
    days = [file.path.split("/")[1] for file in files]
    assert days == ["2023-11-14", "2023-11-14", "2023-11-15"]
    assert workspace.serving.count_of_revision(revision.id) == 2
    assert workspace.serving.count_of_change(other.global_id) == 1


@pytest.mark.parametrize("step", ["_read", "_known", "_record", "_tidy"])
def test_a_collector_that_dies_at_any_step_loses_and_repeats_nothing(
    workspace, revision, monkeypatch, step
):
    made = [record(revision) for _ in range(5)]
    write(workspace, made)

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Collector, step, dies)
        with pytest.raises(KeyboardInterrupt):
            workspace.serving.collect(force=True)
    workspace.serving.collect(force=True)
    assert sorted(logged(workspace)) == sorted(one.id for one in made)
    assert segments(workspace.spool) == []


def test_a_collector_that_dies_inside_its_transaction_leaves_nothing(
    workspace, revision, monkeypatch
):
    write(workspace, [record(revision)])
    real = workspace.repos.finish

    def dies(*args, **more):
        real(*args, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workspace.repos, "finish", dies)
        with pytest.raises(KeyboardInterrupt):
            workspace.serving.collect(force=True)
    assert workspace.repos.log("p/e.predictions", None) == []
    assert workspace.serving.collect(force=True) == 1


def test_collectors_at_the_same_time_take_each_record_once(workspace, revision):
    spool = write(workspace, [], close=False)
    made = [record(revision) for _ in range(200)]

    def collect(_):
        return sum(collector(workspace).collect(force=True) for _ in range(5))

    with ThreadPoolExecutor(4) as threads:
        running = threads.map(collect, range(3))
        for one in made:
            spool.append([frame(one)])
        sum(running)
    spool.close()
    workspace.serving.collect(force=True)
    assert sorted(logged(workspace)) == sorted(one.id for one in made)


def test_a_large_spool_is_committed_in_several_rounds(workspace, revision, monkeypatch):
    monkeypatch.setattr("clew.serving.collector.ROUND_BYTES", 100_000)
    made = [record(revision) for _ in range(300)]
    big = record(revision, request=request(rows=30_000), answer=answer(*[1.0] * 30_000))
    write(workspace, [*made[:150], big, *made[150:]])
    assert workspace.serving.collect(force=True) == 301
    assert len(workspace.repos.log("p/e.predictions")) > 1
    assert set(logged(workspace)) == {one.id for one in [*made, big]}


def test_a_refused_request_is_logged_with_its_error(workspace, revision):
    refused = record(revision, status=400, request=b"{", answer=b"", error="not JSON")
    write(workspace, [refused, record(revision)])
    for _ in range(2):
        found = workspace.serving.find_prediction(refused.id)
        assert found.outputs == {"error": ["not JSON"]}
        workspace.serving.collect(force=True)
    assert len(workspace.serving.predictions("e")) == 2


def test_outputs_of_changing_types_are_kept_as_text(workspace, revision):
    strange = b'{"outputs":[{"name":"prediction","datatype":"BYTES","shape":[1],"data":["x"]}]}'
    made = [record(revision), record(revision, answer=strange)]
    write(workspace, made)
    workspace.serving.collect(force=True)
    assert workspace.serving.find_prediction(made[1].id).outputs == {"prediction": ["x"]}


def test_a_prediction_is_found_by_the_beginning_of_its_id(workspace, revision):
    made = [record(revision) for _ in range(3)]
    write(workspace, made)
    for _ in range(2):
        assert workspace.serving.find_prediction(made[1].id).id == made[1].id
        assert workspace.serving.find_prediction(made[1].id[:-2]).id == made[1].id
        with pytest.raises(Conflict, match="begin with"):
            workspace.serving.find_prediction(made[0].id[:5])
        assert workspace.serving.find_prediction("p0000") is None
        assert workspace.serving.find_prediction("nonsense!") is None
        workspace.serving.collect(force=True)


def test_the_newest_predictions_come_first_spooled_or_committed(workspace, revision):
    made = [record(revision) for _ in range(6)]
    write(workspace, made[:2])
    workspace.serving.collect(force=True)
    write(workspace, made[2:4])
    workspace.serving.collect(force=True)
    write(workspace, made[4:])
    ids = [one.id for one in reversed(made)]
    for limit in (1, 3, 5, 20):
        found = [each.id for each in workspace.serving.predictions("e", limit)]
        assert found == ids[:limit]
    assert len(workspace.serving.predictions_of_revision(revision.id, 2)) == 2


def test_a_collector_killed_at_random_leaves_each_prediction_once(workspace, revision):
    made = [record(revision) for _ in range(400)]
    script = f"""
        import sys
        from pathlib import Path
        from clew.db import Database
        from clew.testing.postgres import database_url
        from clew.repos import Repos
        from clew.store import Store
        from clew.serving.collector import Collector
        home = Path({str(workspace.home)!r})
        db, store = Database.open(database_url(home)), Store.open(home / "store")
        collector = Collector(db, Repos(db, store), store, home / "spool")
        while True:
            collector.collect(force=True)
            print("turn", flush=True)
    """
    spool = write(workspace, made[:1], close=False)
    at = 1
    for kill in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE
        )
        child.stdout.readline()
        for _ in range(80 + kill * 7):  # killed in the middle of whatever it does by then
            spool.append([frame(made[at])])
            at += 1
        child.kill()
        child.wait()
        child.stdout.close()
    for one in made[at:]:
        spool.append([frame(one)])
    spool.close()
    workspace.serving.collect(force=True)
    assert sorted(logged(workspace)) == sorted(one.id for one in made)
