"""Searches, run by real workers on a real workspace."""

from __future__ import annotations

import math
import pickle
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from clew.base.errors import ClewError, Conflict, Invalid, NotFound
from clew.base.ids import new_id
from clew.base.records import Node
from clew.experiments import asha, choice, grid, randint, random, single, uniform, worker

COUNTING = """
    class Model:
        def __init__(self, x):
            self.x, self.trained = x, []

    def model(trial):
        model = trial.restore() or Model(trial.params.x)
        for step in trial.steps():
            model.trained.append(step)
            print("trained", step)
            trial.report(step, loss=(model.x - 0.3) ** 2 + 1 / step)
        return model
"""
SPACE = {"x": uniform(0, 1)}


def artefact(house: Any, result: Any) -> Any:
    entry = house.store.get(result.artefact, "/model.pkl")
    return pickle.loads(house.store.read(entry.digest))


def trained_steps(house: Any, experiments: Any, trial: Any) -> list[int]:
    """Steps that a trial really executed, over all its runs."""
    lines = experiments.log(trial.id).splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("trained")]


def test_a_promoted_trial_continues_from_its_checkpoint_and_repeats_no_step(
    house: Any, inline: Any
) -> None:
    house.write(COUNTING.replace("(model.x - 0.3) ** 2", "trial.number"))
    definition = asha(metric="loss", trials=12, max_steps=9, sampler="random")
    result = house.search(inline, definition, SPACE)
    experiments = house.experiments(inline)
    detail = experiments.get(result.experiment)
    assert len(detail.trials) == 12
    for trial in detail.trials:
        assert trained_steps(house, experiments, trial) == list(range(1, trial.step + 1))
        assert trial.step in {1, 3, 9}
        assert [p.step for p in experiments.points(trial.id)] == list(range(1, trial.step + 1))
    # The lower the number, the better: nobody is promoted before others have been at its rung.
    commits = [len(house.repos.log("shop/model.checkpoints", trial.id)) for trial in detail.trials]
    assert commits == [1] * 12  # of each the latest, which is its best too
    assert [trial.step for trial in detail.trials] == [9, 3, 3, 3] + [1] * 8
    assert artefact(house, result).trained == list(range(1, 10))


def test_a_search_stops_trials_outside_the_top_and_completes_the_best(
    house: Any, inline: Any
) -> None:
    house.write(COUNTING)
    definition = asha(metric="loss", trials=4, max_steps=27, sampler="random")
    result = house.search(inline, definition, SPACE)
    detail = house.experiments(inline).get(result.experiment)
    assert detail.experiment.state == "done"
    assert Counter(trial.state for trial in detail.trials) == {"done": 1, "stopped": 3}
    best = min(detail.trials, key=lambda trial: abs(float(str(trial.params["x"])) - 0.3))
    assert result.trial == best
    assert (best.step, best.rung, best.state) == (27, 3, "done")
    assert detail.experiment.best_trial == best.id
    assert detail.experiment.best_value == best.value == result.metrics["loss"]


def test_the_sampler_random_gives_the_same_search_inline_and_in_processes(
    house: Any, inline: Any, processes: Any
) -> None:
    house.write(COUNTING)
    definition = random(metric="loss", trials=8, max_steps=3, seed=4)
    seen = []
    for compute in (inline, processes(2)):
        result = house.search(compute, definition, SPACE)
        detail = house.experiments(compute).get(result.experiment)
        trials = [(t.number, t.params, t.seed, t.state, t.value, t.step) for t in detail.trials]
        points = sorted((p.step, p.metrics["loss"]) for p in detail.points)
        seen.append((trials, points, result.trial.number, result.metrics))
    assert seen[0] == seen[1]


def test_halving_with_one_process_is_halving_inline(
    house: Any, inline: Any, processes: Any
) -> None:
    house.write(COUNTING)
    definition = asha(metric="loss", trials=14, max_steps=9, seed=2)
    seen = []
    for compute in (inline, processes(1)):
        result = house.search(compute, definition, SPACE)
        trials = house.experiments(compute).get(result.experiment).trials
        seen.append([(t.number, t.params, t.state, t.value, t.step, t.rung) for t in trials])
    assert seen[0] == seen[1]


def test_a_grid_tries_every_point_and_equal_values_go_to_the_lower_number(
    house: Any, inline: Any
) -> None:
    house.write("""
        def model(trial):
            for step in trial.steps():
                trial.report(step, score=1.0)
            return dict(**trial.params)
    """)
    space = {"a": choice("x", "y"), "b": randint(1, 3)}
    result = house.search(inline, grid(metric="score", mode="max", max_steps=2), space)
    detail = house.experiments(inline).get(result.experiment)
    assert [tuple(t.params.values()) for t in detail.trials] == [
        ("x", 1), ("x", 2), ("x", 3), ("y", 1), ("y", 2), ("y", 3),
    ]  # fmt: skip
    assert result.trial.number == 0
    assert artefact(house, result) == {"a": "x", "b": 1}


def test_a_plain_fit_needs_no_steps_and_no_report(house: Any, inline: Any) -> None:
    house.write("def model():\n    return {'fitted': True}\n")
    result = house.search(inline, single(), {})
    assert artefact(house, result) == {"fitted": True}
    assert result.trial.state == "done"
    assert result.trial.value is None
    assert result.metrics == {}


def test_a_function_that_never_reports_the_metric_is_told_so(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            for step in trial.steps():
                trial.report(step, accuracy=1.0)
    """)
    with pytest.raises(Invalid) as refused:
        house.search(inline, asha(metric="loss", trials=3), {})
    assert refused.value.code == "trial.metric_missing"
    assert "'loss'" in refused.value.message
    [experiment] = house.experiments(inline).list()
    assert experiment.state == "failed"


def test_a_function_that_ignores_the_pause_counts_at_every_rung(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            for epoch in range(1, 10):
                trial.report(epoch, loss=trial.params.x / epoch)
            return epoch
    """)
    result = house.search(inline, asha(metric="loss", trials=4, max_steps=9), SPACE)
    trials = house.experiments(inline).get(result.experiment).trials
    assert [(t.state, t.step, t.rung) for t in trials] == [("done", 9, 2)] * 4
    assert result.trial == min(trials, key=lambda trial: trial.value)


def test_should_stop_pauses_a_loop_of_the_users_own(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            epoch = trial.restore() or 0
            while not trial.should_stop:
                epoch += 1
                trial.report(epoch, loss=trial.params.x / epoch)
                print("trained", epoch)
            return epoch
    """)
    definition = asha(metric="loss", trials=9, max_steps=9, sampler="random")
    result = house.search(inline, definition, SPACE)
    experiments = house.experiments(inline)
    trials = experiments.get(result.experiment).trials
    assert {t.state for t in trials} == {"done", "stopped"}
    for trial in trials:
        assert trained_steps(house, experiments, trial) == list(range(1, trial.step + 1))


def test_a_function_that_does_not_restore_starts_over_and_says_so(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            for step in trial.steps():
                print("trained", step)
                trial.report(step, loss=trial.params.x)
            return {"steps": step}
    """)
    definition = asha(metric="loss", trials=3, max_steps=3, sampler="random")
    result = house.search(inline, definition, SPACE)
    experiments = house.experiments(inline)
    best = result.trial
    # Trial 2 may be promoted without a pause; any other comes back and starts over.
    again = [1] if best.number != 2 else []
    assert trained_steps(house, experiments, best) == [*again, 1, 2, 3]
    assert [p.step for p in experiments.points(best.id)] == [1, 2, 3]
    assert ("was not called" in experiments.log(best.id)) == bool(again)


def test_a_users_checkpoint_is_what_restore_gives_and_the_returned_model_the_artefact(
    house: Any, inline: Any
) -> None:
    house.write("""
        def model(trial):
            state = trial.restore() or {"steps": []}
            for step in trial.steps():
                state["steps"].append(step)
                trial.checkpoint(state, note="kept")
                trial.report(step, loss=trial.params.x)
                state_at = len(state["steps"])
            return f"model after {state_at}"
    """)
    definition = asha(metric="loss", trials=6, max_steps=9, sampler="random")
    result = house.search(inline, definition, SPACE)
    assert artefact(house, result) == "model after 9"
    commit = house.repos.commit_by_id(result.trial.checkpoint)
    kept = pickle.loads(house.repos.read(commit, "/checkpoint.pkl"))
    assert kept == {"steps": list(range(1, 10))}
    assert b'"note": "kept"' in house.repos.read(commit, "/meta.json")


def test_checkpoints_of_a_running_trial_are_kept_when_their_step_is_reported(
    house: Any, inline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SAVE_EVERY_S", 0.0)
    house.write("""
        def model(trial):
            for step in trial.steps():
                trial.checkpoint({"step": step})
                trial.report(step, loss=1.0)
            raise RuntimeError("after the last step")
    """)
    with pytest.raises(Invalid):
        house.search(inline, single(metric="loss", max_steps=3), {})
    [experiment] = house.experiments(inline).list()
    [trial] = house.experiments(inline).get(experiment.id).trials
    commit = house.repos.commit_by_id(trial.checkpoint)
    assert commit.message == "trial 0 after 3 steps"
    assert pickle.loads(house.repos.read(commit, "/checkpoint.pkl")) == {"step": 3}


def test_a_failing_trial_is_marked_with_its_error_and_the_search_goes_on(
    house: Any, inline: Any
) -> None:
    house.write("""
        def model(trial):
            for step in trial.steps():
                if trial.number == 1:
                    raise ValueError("no such kernel")
                trial.report(step, loss=trial.params.x)
            return trial.number
    """)
    result = house.search(inline, random(metric="loss", trials=4, max_steps=2), SPACE)
    trials = house.experiments(inline).get(result.experiment).trials
    assert [t.state for t in trials] == ["done", "failed", "done", "done"]
    assert trials[1].error.startswith("ValueError: no such kernel")
    assert "train.py" in trials[1].error


def test_a_search_whose_trials_mostly_fail_gives_up_with_the_first_error(
    house: Any, inline: Any
) -> None:
    house.write("""
        def model(trial):
            print("attempt")
            raise ValueError("no such kernel")
    """)
    with pytest.raises(Invalid) as failed:
        house.search(inline, random(metric="loss", trials=8), SPACE)
    assert failed.value.code == "experiment.failed"
    assert "Trial 0: ValueError: no such kernel" in failed.value.message
    assert "train.py" in failed.value.hint
    [experiment] = house.experiments(inline).list()
    assert experiment.state == "failed"
    assert experiment.error.splitlines()[0] == failed.value.message
    assert "train.py" in experiment.error
    trials = house.experiments(inline).get(experiment.id).trials
    assert len(trials) == 5  # more than half of 8


def test_a_trial_whose_process_was_killed_once_goes_on(
    house: Any, processes: Any, tmp_path: Path
) -> None:
    house.write(f"""
        import os, signal
        from pathlib import Path
        killed = Path({str(tmp_path / "killed")!r})
        def model(trial):
            for step in trial.steps():
                if step == 2 and not killed.exists():
                    killed.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                trial.report(step, loss=1.0)
            return 1
    """)
    result = house.search(processes(1), random(metric="loss", trials=1, max_steps=3), SPACE)
    detail = house.experiments(processes(1)).get(result.experiment)
    assert [trial.state for trial in detail.trials] == ["done"]
    assert [point.step for point in detail.points] == [1, 2, 3]


def test_a_trial_whose_process_dies_each_time_has_failed(house: Any, processes: Any) -> None:
    house.write("""
        import os, signal
        def model(trial):
            if trial.number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            for step in trial.steps():
                trial.report(step, loss=1.0)
            return 1
    """)
    result = house.search(processes(1), random(metric="loss", trials=2, max_steps=1), SPACE)
    assert result.trial.number == 1


@pytest.mark.filterwarnings("ignore:loss is nan")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_metric_that_is_not_finite_counts_as_the_worst(
    house: Any, inline: Any, mode: str
) -> None:
    house.write("""
        import math
        def model(trial):
            model = trial.restore() or [trial.number]
            for step in trial.steps():
                trial.report(step, loss=math.nan if trial.number in (0, 2) else 5.0, other=1)
            return model
    """)
    definition = asha(metric="loss", mode=mode, trials=4, max_steps=3, sampler="random")
    result = house.search(inline, definition, SPACE)
    assert result.trial.number == 1
    detail = house.experiments(inline).get(result.experiment)
    assert detail.trials[0].value is None
    assert detail.trials[0].step == 1
    assert detail.points[0].metrics == {"other": 1.0}


def test_a_metric_that_is_not_finite_is_warned_of(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            trial.report(1, loss=float("inf"))
    """)
    with (
        pytest.warns(RuntimeWarning, match="counts as the worst"),
        pytest.raises(Invalid, match="finite"),
    ):
        house.search(inline, single(metric="loss"), {})


@pytest.mark.parametrize(
    ("report", "why"),
    [
        ("trial.report(0, loss=1)", "from 1 on"),
        ("trial.report(step + 1, loss=1)", "ahead"),
        ("trial.report(step)", "no metric"),
        ("trial.report(step, loss='low')", "not a number"),
    ],
)
def test_a_wrong_report_is_refused(house: Any, inline: Any, report: str, why: str) -> None:
    house.write(f"""
        def model(trial):
            for step in trial.steps():
                {report}
    """)
    with pytest.raises(Invalid, match=why) as refused:
        house.search(inline, single(metric="loss"), {})
    assert refused.value.code == "trial.report"


def test_trial_0_of_a_warm_start_restores_the_initial_model(house: Any, inline: Any) -> None:
    house.write(COUNTING)
    first = house.search(inline, single(metric="loss", max_steps=2), SPACE)
    definition = random(metric="loss", trials=2, max_steps=3)
    second = house.search(inline, definition, SPACE, initial=first.artefact)
    trials = house.experiments(inline).get(second.experiment).trials
    commits = [house.repos.commit_by_id(trial.checkpoint) for trial in trials]
    models = [pickle.loads(house.repos.read(commit, "/model.pkl")) for commit in commits]
    assert [model.trained for model in models] == [[1, 2, 1, 2, 3], [1, 2, 3]]


def test_inputs_arrive_as_annotated_and_wrong_ones_are_named(house: Any, inline: Any) -> None:
    house.write("""
        from __future__ import annotations
        import clew.experiments as clew

        def model(numbers: list[str], weights: dict, chosen: clew.Trial):
            return sum(map(int, numbers)) * weights["w"]
    """)
    house.repos.create("shop/data")
    commit = house.repos.commit(
        "shop/data", {"/a.txt": b"1", "/b.txt": b"2", "/w.json": b'{"w": 10}'}
    )
    inputs = [
        {"parameter": "numbers", "tree": commit.tree, "paths": ["/a.txt", "/b.txt"]},
        {"parameter": "weights", "tree": commit.tree, "paths": ["/w.json"]},
    ]
    result = house.search(inline, single(), {}, inputs=inputs, provenance=[commit.id])
    assert artefact(house, result) == 30
    checkpoint = house.repos.commit_by_id(result.trial.checkpoint)
    assert checkpoint.provenance == (commit.id,)
    with pytest.raises(Invalid) as refused:
        house.search(inline, single(), {}, inputs=inputs[:1])
    assert refused.value.code == "trial.arguments"
    assert "weights" in refused.value.message


def test_a_cancelled_search_stops_its_trials_and_can_go_on_later(
    house: Any, processes: Any
) -> None:
    go = house.home / "go"
    house.write(f"""
        import pathlib, signal

        def model(trial):
            done = trial.restore() or []
            for step in trial.steps():
                done.append(step)
                trial.report(step, loss=trial.params.x)
                if step == 3 and not pathlib.Path({str(go)!r}).exists():
                    signal.pause()
            return done
    """)
    pool, job = processes(2), new_id()
    stop = threading.Event()

    def told(_total: int, done: int) -> None:
        if done >= 3:
            stop.set()

    definition = asha(metric="loss", trials=4, max_steps=4, min_steps=2, reduction=2)
    with pytest.raises(Conflict) as cancelled:
        house.search(pool, definition, SPACE, job=job, cancelled=stop.is_set, progress=told)
    assert cancelled.value.code == "experiment.cancelled"
    [experiment] = house.experiments(pool).list()
    assert experiment.state == "cancelled"
    states = {t.state for t in house.experiments(pool).get(experiment.id).trials}
    assert states == {"stopped"}
    go.touch()
    result = house.search(pool, definition, SPACE, job=job)
    assert result.experiment == experiment.id
    assert artefact(house, result) == [1, 2, 3, 4]
    assert house.experiments(pool).get(experiment.id).experiment.state == "done"


def test_a_finished_search_answers_again_without_running(house: Any, inline: Any) -> None:
    house.write(COUNTING)
    job = new_id()
    definition = random(metric="loss", trials=3, max_steps=2)
    first = house.search(inline, definition, SPACE, job=job)
    house.write("raise RuntimeError('must not be read')")
    assert house.search(inline, definition, SPACE, job=job) == first


def test_lineage_leads_from_a_checkpoint_over_trial_and_experiment_to_the_job(
    house: Any, inline: Any
) -> None:
    house.write(COUNTING)
    job = new_id()
    with house.db.begin() as tx:
        house.lineage.add(tx, Node(kind="job", id=job, title="shop/model", global_id="g"))
    result = house.search(inline, single(metric="loss", max_steps=2), SPACE, job=job)
    nodes, edges = house.lineage.walk(result.trial.checkpoint, "up")
    assert [node.kind for node in nodes] == ["trial", "experiment", "job"]
    assert {(edge.source, edge.target) for edge in edges} == {
        (result.trial.id, result.trial.checkpoint),
        (result.experiment, result.trial.id),
        (job, result.experiment),
    }
    assert house.lineage.get(result.trial.id).detail["state"] == "done"


def test_events_tell_a_terminal_all_that_happened_in_order(house: Any, inline: Any) -> None:
    house.write(COUNTING)
    gid = new_id()
    heard: list[tuple[int, int]] = []
    definition = asha(metric="loss", trials=3, max_steps=3, sampler="random")
    result = house.search(
        inline, definition, SPACE, global_id=gid, progress=lambda *told: heard.append(told)
    )
    events = [e for e in house.db.events.after(0, global_id=gid) if "commit" not in e.kind]
    kinds = [event.kind for event in events]
    assert kinds[0] == "experiment.started"
    assert kinds[-1] == "experiment.ended"
    assert Counter(kinds)["trial.ended"] == 3
    assert events[-1].data["best_trial"] == result.trial.id
    started = [e.data["number"] for e in events if e.kind == "trial.started"]
    assert started[:3] == [0, 1, 2]
    assert heard[-1] == (5, 5)  # 3 trials at rung 1, one of them for 2 steps more
    assert all(done <= total for total, done in heard)
    experiments, trials = house.experiments(inline).of_change(gid)
    assert [e.id for e in experiments] == [result.experiment]
    assert len(trials) == 3


def test_experiments_and_trials_are_found_by_prefix(house: Any, inline: Any) -> None:
    house.write(COUNTING)
    result = house.search(inline, single(metric="loss", max_steps=1), SPACE)
    door = house.experiments(inline)
    assert door.get(result.experiment[:8]).experiment.id == result.experiment
    assert door.trial(result.trial.id[:8]) == result.trial
    with pytest.raises(NotFound):
        door.get("zzzzzzzz")
    with pytest.raises(ClewError):
        door.trial("")


def test_two_reports_of_a_step_make_one_point(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            for step in trial.steps():
                trial.report(step, loss=1.0)
                trial.report(step, accuracy=0.5)
                trial.report(step, loss=2.0)
    """)
    result = house.search(inline, single(metric="loss", max_steps=2), {})
    points = house.experiments(inline).points(result.trial.id)
    assert [(p.step, p.metrics) for p in points] == [
        (1, {"loss": 2.0, "accuracy": 0.5}),
        (2, {"loss": 2.0, "accuracy": 0.5}),
    ]
    assert math.isclose(result.trial.value, 2.0)
    assert result.artefact == ""
