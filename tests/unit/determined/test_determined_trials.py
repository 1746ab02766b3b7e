"""A trial of Determined: its program runs, speaks to its master, and what it says is in Clew.

The programs speak the API by HTTP; the real harness does in ``tests/services``.
"""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from clew.base.errors import Invalid, NotFound
from clew.base.ranks import Ranks
from clew.compute import ProcessPool
from clew.determined import running
from clew.experiments import search, worker

SINGLE = {"name": "single", "metric": "loss"}
HALVED = {
    "name": "async_halving", "metric": "loss", "max_trials": 4, "divisor": 2, "num_rungs": 3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What people want is looked for at once."""
    monkeypatch.setattr(worker, "PULSE_EVERY_S", 0.0)
    monkeypatch.setattr(search, "WISHES_EVERY_S", 0.0)
    monkeypatch.setattr(running, "LOOK_S", 0.02)


def points(cluster: Any, trial: str) -> dict[int, dict[str, float]]:
    return {point.step: point.metrics for point in cluster.experiments.points(trial)}


def trials(cluster: Any, found: Any) -> list[Any]:
    return list(cluster.experiments.get(found.experiment).trials)


@pytest.mark.filterwarnings("ignore:.*counts as the worst")
def test_metrics_of_every_group_are_points_of_the_trial(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        report("training", 2, {"loss": 0.5, "shape": [1, 2]}, [{"loss": 0.6}, {"loss": 0.4}])
        report("validation", 2, {"loss": 0.7, "top": {"five": 0.9}})
        report("inference", 2, {"speed": "NaN"})
        report("cpu", None, {"cpu_util_simple": 1.0})
    """)
    found = cluster.run(searcher=SINGLE)
    seen = points(cluster, found.trial.id)
    assert seen[1] == {"training/batch/loss": 0.6}
    assert seen[2] == {
        "training/batch/loss": 0.4,
        "training/loss": 0.5,
        "loss": 0.7,
        "top.five": 0.9,
    }
    assert cluster.experiments.file(found.trial.id, "metrics/training/shape/2.txt") == b"[1, 2]"
    assert found.trial.value == 0.7


def test_a_program_finds_its_hyperparameters_its_seed_and_its_configuration(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        print("hparams", json.dumps(HPARAMS, sort_keys=True))
        print("data", CONFIG["data"], os.environ["MINE"], os.environ["DET_SLOT_IDS"])
        print("files", sorted(one.name for one in pathlib.Path().iterdir() if one.is_file()))
        status, answer = call("POST", f"/api/v1/trials/{TRIAL}/progress", {"progress": 0.25})
        assert (status, answer) == (200, {})
    """)
    found = cluster.run(
        searcher=SINGLE,
        hyperparameters={"net": {"layers": {"type": "const", "val": [8, 4]}}, "lr": 0.5},
        data={"url": "here"},
        environment={"environment_variables": ["MINE=yes"]},
        resources={"slots_per_trial": 2},
    )
    detail = cluster.detail(found.trial.id)
    assert 'hparams {"lr": 0.5, "net": {"layers": [8, 4]}}' in detail.log
    assert "data {'url': 'here'} yes [0, 1]" in detail.log
    assert "files ['speaks.py', 'train.py']" in detail.log
    assert detail.trial.progress == 0.25


def test_nobody_else_is_answered_and_what_is_not_known_is_refused(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        print("token", call("GET", "/api/v1/me", token="other")[0])
        print("route", call("GET", "/api/v1/users")[0])
        print("shape", call("POST", f"/api/v1/trials/{TRIAL}/metrics", {"group": "x"})[0])
        print("none", call("GET", "/api/v1/checkpoints/none")[0])
        path = "/api/v1/experiments/1/searcher/best_searcher_validation_metric"
        print("before", call("GET", path)[0])
        report("validation", 1, {"loss": 3.0})
        report("validation", 2, {"loss": 4.0})
        print("best", call("GET", path)[1], call("GET", f"/api/v1/trials/{TRIAL}")[1]["trial"])
    """)
    log = cluster.detail(cluster.run(searcher=SINGLE).trial.id).log
    for line in ("token 401", "route 501", "shape 400", "none 404", "before 404"):
        assert line in log
    assert "best {'metric': 3.0}" in log
    assert "'latestValidation': {'totalBatches': 2}" in log
    assert "GET /api/v1/users of the Determined master is not answered by Clew" in log


def test_a_trial_that_fails_goes_on_from_its_latest_checkpoint(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        steps = int((PLACE / LATEST / "state").read_text()) if LATEST else 0
        print("begins", steps, LATEST)
        assert int(os.environ["DET_STEPS_COMPLETED"]) == steps
        for step in range(steps + 1, 5):
            report("validation", step, {"loss": 1 / step})
            if step == 2:
                save("first", 2, "2")
            if step == 3 and not LATEST:
                sys.exit(7)
    """)
    found = cluster.run(searcher=SINGLE, max_restarts=1)
    detail = cluster.detail(found.trial.id)
    assert "begins 0 None" in detail.log
    assert "begins 2 first" in detail.log
    assert [point.step for point in detail.points] == [1, 2, 3, 4]
    assert detail.trial.restarts == 1
    (kept,) = cluster.experiments.checkpoints(found.experiment)
    commit = cluster.repos.commit_by_id(kept.commit)
    assert cluster.repos.read(commit, "/checkpoint/state") == b"2"


def test_a_trial_without_restarts_has_failed_with_its_status(cluster: Any) -> None:
    cluster.write("import sys; print('as it was'); sys.exit(3)")
    with pytest.raises(Invalid, match="ended with status 3"):
        cluster.run(searcher=SINGLE, max_restarts=0)


def test_invalid_hyperparameters_are_not_tried_again(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        print("once")
        if HPARAMS["x"] == 1:
            body = {"reason": "EXITED_REASON_INVALID_HP"}
            assert call("POST", f"/api/v1/trials/{TRIAL}/early_exit", body)[0] == 200
        else:
            report("validation", 1, {"loss": 1.0})
    """)
    found = cluster.run(
        searcher={"name": "grid", "metric": "loss"},
        hyperparameters={"x": {"type": "categorical", "vals": [1, 2]}},
    )
    first, second = trials(cluster, found)
    assert (first.state, second.state) == ("failed", "done")
    assert cluster.detail(first.id).log.count("once") == 1


def test_a_paused_trial_ends_and_goes_on_from_its_checkpoint_when_it_is_resumed(
    cluster: Any,
) -> None:
    cluster.write("""
        from speaks import *
        if LATEST:
            assert (PLACE / LATEST / "state").read_text() == "begun"
            report("validation", 2, {"loss": 1.0})
            sys.exit()
        report("validation", 1, {"loss": 2.0})
        save("half", 1, "begun")
        while not preempted(1):
            pass
        acknowledge()
    """)
    paused = threading.Event()
    seen: list[str] = []

    def act() -> None:
        while not (running_now := of_state(cluster, "running")) or not running_now[0].checkpoint:
            cluster.db.events.wait(cluster.db.events.last(), 0.02)
        cluster.experiments.pause_trial(running_now[0].id)
        while not (waiting := of_state(cluster, "paused")):
            cluster.db.events.wait(cluster.db.events.last(), 0.02)
        seen.append(waiting[0].state)
        cluster.experiments.resume_trial(waiting[0].id)
        paused.set()

    other = threading.Thread(target=act)
    other.start()
    found = cluster.run(searcher=SINGLE)
    other.join()
    assert paused.is_set()
    assert seen == ["paused"]
    assert found.trial.state == "done"
    assert points(cluster, found.trial.id) == {1: {"loss": 2.0}, 2: {"loss": 1.0}}


def of_state(cluster: Any, state: str) -> list[Any]:
    details = [cluster.experiments.get(one.id) for one in cluster.experiments.list()]
    return [trial for one in details for trial in one.trials if trial.state == state]


def test_a_search_stops_trials_at_its_rungs_by_preemption(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        for step in range(1, 9):
            report("validation", step, {"loss": HPARAMS["x"] + 1 / step, "batches": step})
            save(f"at-{step}", step, str(step))
            if preempted():
                acknowledge()
                break
        print("ended after", step)
    """)
    found = cluster.run(
        searcher={**HALVED, "time_metric": "batches", "max_time": 8},
        hyperparameters={"x": {"type": "double", "minval": 1, "maxval": 2}},
    )
    seen = trials(cluster, found)
    assert [one.number for one in seen] == [0, 1, 2, 3]
    best_yet = [
        all(one.params["x"] <= other.params["x"] for other in seen[: one.number]) for one in seen
    ]
    for one, leads in zip(seen, best_yet, strict=True):
        assert one.state == ("done" if leads else "stopped"), one.number
        assert leads or one.step < 8, one.number
        assert f"ended after {one.step}" in cluster.detail(one.id).log
    assert found.trial.value == min(one.value for one in seen if one.state == "done")


def test_a_validation_counts_at_every_rung_that_it_passed(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        for step in (100, 200):
            report("training", step - 50, {"loss": 9.0})
            report("training", step, {"loss": 8.0})
            report("validation", step, {"loss": float(step), "epochs": step / 40})
            if preempted():
                break
    """)
    found = cluster.run(
        searcher={**HALVED, "max_trials": 1, "time_metric": "epochs", "max_time": 4},
        hyperparameters={},
    )
    # Rungs at 1, 2 and 4: the first validation is at 2.5 epochs, the second at 5.
    assert points(cluster, found.trial.id) == {
        1: {"loss": 100.0},
        2: {"training/loss": 8.0, "loss": 100.0, "epochs": 2.5},
        4: {"loss": 200.0},
        5: {"training/loss": 8.0, "loss": 200.0, "epochs": 5.0},
    }
    assert found.trial.state == "done"


def test_a_checkpoint_waits_for_the_validation_that_says_when_it_was(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        save("early", 50, "a")
        report("validation", 100, {"loss": 1.0, "epochs": 1})
        save("later", 100, "b")
        report("validation", 200, {"loss": 2.0, "epochs": 2})
        save("last", 300, "c")
    """)
    found = cluster.run(
        searcher={**HALVED, "max_trials": 1, "max_length": {"epochs": 4}},
        hyperparameters={},
        checkpoint_storage={"save_trial_latest": 9, "save_trial_best": 9},
    )
    kept = {one.step for one in cluster.experiments.checkpoints(found.experiment)}
    assert {1, 2} <= kept
    assert found.trial.checkpoint_step == 2


def test_a_search_that_halves_fails_where_its_time_is_not_reported(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        report("validation", 1, {"loss": 1.0})
    """)
    with pytest.raises(Invalid) as caught:
        cluster.run(searcher={**HALVED, "time_metric": "epochs", "max_time": 4})
    assert caught.value.code == "determined.time_metric"


def test_a_program_that_does_not_heed_its_preemption_is_ended_after_its_time(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        if LATEST:
            sys.exit()
        report("validation", 1, {"loss": 1.0})
        save("half", 1, "x")
        while True:
            preempted(1)
    """)

    def act() -> None:
        while not (found := of_state(cluster, "running")) or not found[0].checkpoint:
            cluster.db.events.wait(cluster.db.events.last(), 0.02)
        cluster.experiments.pause_trial(found[0].id)
        while not (waiting := of_state(cluster, "paused")):
            cluster.db.events.wait(cluster.db.events.last(), 0.02)
        cluster.experiments.resume_trial(waiting[0].id)

    other = threading.Thread(target=act)
    other.start()
    found = cluster.run(searcher=SINGLE, grace_s=0.1)
    other.join()
    assert found.trial.state == "done"
    assert "did not end in time" in cluster.detail(found.trial.id).log


def test_a_startup_hook_goes_first_and_cannot_change_the_environment(cluster: Any) -> None:
    (cluster.project / "startup-hook.sh").write_text("export FROM_HOOK=there\npip install x\n")
    cluster.write("import os; print('hook', os.environ['FROM_HOOK'])")
    log = cluster.detail(
        cluster.run(searcher=SINGLE, entrypoint=["python3", "train.py"]).trial.id
    ).log
    assert "hook there" in log
    assert "would change an environment that other trials share" in log


def test_a_trial_that_holds_gpus_is_a_group_of_one(cluster: Any, tmp_path: Path) -> None:
    cluster.write("""
        from speaks import *
        print("devices", repr(os.environ.get("CUDA_VISIBLE_DEVICES")))
        first = int((PLACE / LATEST / "state").read_text()) if LATEST else 0
        for step in range(first + 1, 4):
            report("validation", step, {"loss": 1 / step})
            save(f"at-{step}", step, str(step))
            if step == 2 and not LATEST:
                sys.exit(1)
        assert not preempted()
    """)
    with closing(ProcessPool(1, tmp_path / "pool", tmp_path / "logs")) as pool:
        found = cluster.on(pool).run(searcher=SINGLE, ranks=Ranks(count=1, gpus=0))
    assert points(cluster, found.trial.id) == {n: {"loss": 1 / n} for n in (1, 2, 3)}
    assert found.trial.restarts == 1
    assert cluster.detail(found.trial.id).log.count("devices ''") == 2


def test_checkpoints_of_a_place_that_the_program_chose_are_kept_too(
    cluster: Any, tmp_path: Path
) -> None:
    (tmp_path / "own" / "one").mkdir(parents=True)
    (tmp_path / "own" / "one" / "state").write_text("saved")
    cluster.write(f"""
        from speaks import *
        place = {{"type": "shared_fs", "host_path": {str(tmp_path / "own")!r}}}
        for storage, uuid in ((place, "one"), ({{"type": "s3", "bucket": "b"}}, "two")):
            assert call("POST", "/api/v1/runs/start", {{"checkpointStorage": storage}})[0] == 200
            body = {{"uuid": uuid, "metadata": {{"steps_completed": len(uuid + storage["type"])}}}}
            assert call("POST", "/api/v1/checkpoints", body)[0] == 200
    """)
    storage = {"save_trial_latest": 2}
    found = cluster.run(searcher=SINGLE, checkpoint_storage=storage)
    kept = [one.commit for one in cluster.experiments.checkpoints(found.experiment)]
    held = [
        {entry.path for entry in cluster.repos.entries(cluster.repos.commit_by_id(one))}
        for one in kept
    ]
    assert {"/checkpoint/state"} in [one & {"/checkpoint/state"} for one in held]
    assert {"/checkpoint/metadata.json", "/meta.json"} in held
    assert "checkpoints stay in s3" in cluster.detail(found.trial.id).log


def test_all_trials_begin_with_the_latest_checkpoint_of_another_and_at_step_0(cluster: Any) -> None:
    cluster.write("""
        from speaks import *
        state = (PLACE / LATEST / "state").read_text() if LATEST else "nothing"
        print("begins with", state, "after", os.environ["DET_STEPS_COMPLETED"])
        report("validation", 3, {"loss": 0.5})
        save("22222222-2222-2222-2222-222222222222" if LATEST else
             "11111111-1111-1111-1111-111111111111", 3, "weights")
    """)
    source = cluster.run(searcher=SINGLE).trial
    assert "begins with nothing after 0" in cluster.detail(source.id).log
    searcher = {"name": "random", "metric": "loss", "max_trials": 2, "source_trial_id": source.id}
    found = trials(cluster, cluster.run(searcher=searcher))
    for trial in found:
        assert "begins with weights after 0" in cluster.detail(trial.id).log
    assert [trial.step for trial in found] == [3, 3]


def test_a_source_that_is_no_trial_is_told(cluster: Any) -> None:
    cluster.write("pass")
    with pytest.raises(Invalid, match="source_trial_id"):
        cluster.run(searcher={**SINGLE, "source_trial_id": 41})
    with pytest.raises(NotFound, match="zzzzzzzz"):
        cluster.run(searcher={**SINGLE, "source_trial_id": "zzzzzzzz"})
