"""Core API trials with the real harness (`determined==0.38.1`, in the trials' own environment).

uv makes the environment once, from an index; where that cannot be had, the tests are skipped and
say so. The scripts are ours; they use the harness as Determined's own examples do.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CLEW = [sys.executable, "-m", "clew.cli"]
RUN_S = 240
LIMIT = pytest.mark.timeout(900)

EVERYTHING = """
import logging, pathlib
import determined as det
from determined.core import EarlyExitReason

logging.basicConfig(level=logging.INFO, format=det.LOG_FORMAT)
info = det.get_cluster_info()
print("hparams", info.trial.hparams, "seed", info.trial.trial_seed, "data", info.user_data)
with det.core.init() as core:
    core.train.set_status("warming up")
    assert core.train.get_experiment_best_validation() is None
    for step in (1, 2, 3):
        core.train.report_training_metrics(step, {"loss": 1 / step}, [{"loss": 1.0}])
        core.train.report_metrics("inference", step, {"speed": 10.0 * step})
        core.train.report_progress(step / 3)
        core.train.report_validation_metrics(step, {"loss": 2 / step, "confusion": [[1], [0]]})
        with core.checkpoint.store_path({"steps_completed": step}) as (path, uuid):
            (path / "weights").mkdir()
            (path / "weights" / "layer").write_text("w" * 1000 + str(step))
        assert core.checkpoint.get_metadata(uuid)["steps_completed"] == step
        assert not core.preempt.should_preempt()
    own = pathlib.Path("mine")
    own.mkdir()
    (own / "kept").write_text("yes")
    (own / "left").write_text("no")
    metadata = {"steps_completed": 3, "note": "chosen"}
    uuid = core.checkpoint.upload(own, metadata, selector=lambda name: name != "left")
    core.checkpoint.download(uuid, "again")
    print("again", sorted(one.name for one in pathlib.Path("again").iterdir()))
    core.train.set_metadata({"team": {"name": "a"}})
    assert core.train.get_metadata() == {"team": {"name": "a"}}
    core.alert(title="look", description="at this", level="warn")
    core.profiler.on(sampling_interval=1, samples_per_report=1)
    core.profiler.off()
"""

STEPS = """
import logging, pathlib, sys
import determined as det

logging.basicConfig(level=logging.INFO, format=det.LOG_FORMAT)
info = det.get_cluster_info()
wait_at = int(info.trial.hparams.get("wait_at", 0))
die_at = int(info.trial.hparams.get("die_at", 0))
with det.core.init() as core:
    begin = 0
    if info.latest_checkpoint is not None:
        with core.checkpoint.restore_path(info.latest_checkpoint) as path:
            begin = int((path / "state").read_text())
    print("begins after", begin, flush=True)
    for step in range(begin + 1, 9):
        loss = info.trial.hparams.get("x", 1.0) + 1 / step
        core.train.report_training_metrics(step, {"loss": loss})
        core.train.report_validation_metrics(step, {"loss": loss, "batches": step})
        with core.checkpoint.store_path({"steps_completed": step}) as (path, _):
            (path / "state").write_text(str(step))
        if step == die_at and begin == 0:
            sys.exit(9)
        while core.preempt.should_preempt() or (step == wait_at and begin == 0):
            if core.preempt.should_preempt():
                print("preempted after", step, flush=True)
                sys.exit()
"""

RANKS = """
import json, os, pathlib, subprocess, sys
import determined as det

info = det.get_cluster_info()
size = len(info.slot_ids)
if len(sys.argv) == 1:
    command = [sys.executable, "-m", "determined.launch.wrap_rank"]
    ranks = [
        subprocess.Popen([*command, str(rank), "--", sys.executable, __file__, str(rank)])
        for rank in range(size)
    ]
    sys.exit(max(one.wait() for one in ranks))
rank = int(sys.argv[1])
meeting = det.core.DistributedContext(
    rank=rank, size=size, local_rank=rank, local_size=size, cross_rank=0, cross_size=1,
    chief_ip=info.container_addrs[0],
)
with det.core.init(distributed=meeting) as core:
    total = sum(core.distributed.allgather(rank + 1))
    with core.checkpoint.store_path({"steps_completed": 1}, shard=True) as (path, _):
        (path / f"part-{rank}").write_text(str(rank))
    if rank == 0:
        core.train.report_validation_metrics(1, {"loss": float(total)})
    assert not core.preempt.should_preempt()
"""


class Place:
    """A workspace in a directory, and what is said to it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        known = ("CLEW_", "PYTHONDONT")
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(known)}
        self.environ |= {"CLEW_WORKERS": "2", "CLEW_AUTOLOG": "off"}

    def clew(self, *words: str, fails: bool = False):
        done = subprocess.run(
            [*CLEW, *words, "--json"],
            cwd=self.home,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        if "environment.offline" in done.stderr:
            pytest.skip(f"the harness cannot be had here: {done.stderr.strip()[-300:]}")
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return json.loads(done.stderr if fails and not done.stdout else done.stdout)

    def write(self, script: str, **config) -> str:
        """The script and its configuration; the name of that."""
        (self.home / "code").mkdir(exist_ok=True)
        (self.home / "code" / "train.py").write_text(script)
        found = {
            "name": "digits",
            "entrypoint": "python3 train.py",
            "searcher": {"name": "single", "metric": "loss"},
            **config,
        }
        (self.home / "experiment.yaml").write_text(json.dumps(found))  # JSON is YAML
        return "experiment.yaml"

    def run(self, script: str, *words: str, **config):
        told = self.clew("det", "run", self.write(script, **config), "code", *words)
        return told, self.clew("experiment", told["experiment"]["id"]) if told["experiment"] else {}

    def trial(self, trial: str):
        return self.clew("trial", trial)

    def serve(self) -> subprocess.Popen[str]:
        """A server of this workspace, ready."""
        process = subprocess.Popen(
            [*CLEW, "server", "--port", "0", "--serving-port", "0"],
            cwd=self.home,
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        return process

    def until(self, trial: str, wanted) -> dict:
        """The trial, when it is as wanted; each look is a call of the command line."""
        for _ in range(400):
            found = self.trial(trial)
            if wanted(found):
                return found
        raise AssertionError(f"It never came to that: {found['trial']}\n{found['log']}")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = Place(tmp_path_factory.mktemp("determined"))
    subprocess.run([*CLEW, "init", "--bare", "."], cwd=found.home, env=found.environ, check=True)
    return found


def end(process: subprocess.Popen[str], how: signal.Signals = signal.SIGINT) -> None:
    process.send_signal(how)
    process.stdout.read()
    process.wait(60)
    process.stdout.close()


@LIMIT
def test_all_that_a_core_api_trial_calls_is_answered_and_kept(place):
    told, found = place.run(
        EVERYTHING,
        name="everything",
        hyperparameters={"net": {"width": {"type": "const", "val": [8, 4]}}},
        data={"url": "here"},
        checkpoint_storage={"type": "shared_fs", "host_path": "/tmp", "save_trial_latest": 2},
        bind_mounts=[],
    )
    assert [job["state"] for job in told["jobs"]] == ["done"]
    assert told["notes"] == [
        "checkpoint_storage.type shared_fs: checkpoints are kept in Clew's own store."
    ]
    (trial,) = found["trials"]
    seen = place.trial(trial["id"])
    assert "is not answered by Clew" not in seen["log"], seen["log"]
    assert "hparams {'net': {'width': [8, 4]}}" in seen["log"]
    assert "data {'url': 'here'}" in seen["log"]
    assert "alert: look: at this" in seen["log"]
    assert "again ['kept', 'metadata.json']" in seen["log"]
    by_step = {point["step"]: point["metrics"] for point in seen["points"]}
    assert by_step[2]["loss"] == 1.0
    assert by_step[2]["training/loss"] == 0.5
    assert by_step[2]["inference/speed"] == 20.0
    assert seen["trial"]["progress"] == 1.0
    assert {file["path"] for file in seen["files"]} >= {"metrics/confusion/3.txt"}
    kept = place.clew("checkpoints", told["experiment"]["id"])
    assert len(kept) == 2
    output = {file["path"] for file in place.clew("ls", "everything/trials", "--recursive")}
    assert output == {"/kept", "/metadata.json", "/clew/experiment.json"}


@LIMIT
def test_a_search_promotes_or_stops_real_trials_by_preemption(place):
    told, found = place.run(
        STEPS,
        name="halved",
        hyperparameters={"x": {"type": "double", "minval": 1, "maxval": 2}},
        searcher={
            "name": "adaptive_asha", "metric": "loss", "max_trials": 4, "mode": "aggressive",
            "divisor": 2, "max_rungs": 2, "max_length": {"batches": 8},
        },
    )  # fmt: skip
    assert told["experiment"]["searcher"] == "hyperband"
    states = [one["state"] for one in found["trials"]]
    assert len(states) == 4
    assert "done" in states
    assert "stopped" in states
    for one in found["trials"]:
        log = place.trial(one["id"])["log"]
        begun = [int(step) for step in re.findall(r"begins after (\d+)", log)]
        assert begun == sorted(begun)  # a promoted one goes on where it stood
        assert one["step"] == 8 or "preempted after" in log


@LIMIT
def test_several_slots_meet_and_save_one_checkpoint_of_their_parts(place):
    _, found = place.run(RANKS, name="ranks", resources={"slots_per_trial": 2})
    (trial,) = found["trials"]
    assert trial["value"] == 3.0
    output = {file["path"] for file in place.clew("ls", "ranks/trials", "--recursive")}
    assert {"/part-0", "/part-1"} <= output


@LIMIT
def test_a_trial_that_fails_goes_on_from_its_checkpoint_as_often_as_it_may(place):
    config = {"name": "restarted", "hyperparameters": {"die_at": 3}}
    _, found = place.run(STEPS, max_restarts=1, **config)
    (trial,) = found["trials"]
    seen = place.trial(trial["id"])
    assert "begins after 3" in seen["log"]
    assert [point["step"] for point in seen["points"]] == list(range(1, 9))
    assert seen["trial"]["restarts"] == 1
    place.write(STEPS, max_restarts=0, **config)
    place.clew("det", "run", "experiment.yaml", "code", fails=True)


@LIMIT
def test_pause_kill_and_resume_lose_and_double_nothing(place):
    server = place.serve()
    try:
        told, _ = place.run(STEPS, "--no-wait", name="paused", hyperparameters={"wait_at": 4})
        change = told["global_id"]
        experiment = first(place, change)
        (trial,) = trials_of(place, experiment)
        place.until(trial, lambda one: one["trial"]["checkpoint_step"] == 4)
        place.clew("pause", trial)
        seen = place.until(trial, lambda one: one["trial"]["state"] == "paused")
        assert "preempted after 4" in seen["log"]
        end(server, signal.SIGKILL)
        server = place.serve()
        place.clew("resume", trial)
        place.clew("wait", change)
        seen = place.trial(trial)
        assert seen["trial"]["state"] == "done"
        assert [point["step"] for point in seen["points"]] == list(range(1, 9))
    finally:
        end(server)


@LIMIT
def test_a_server_that_is_killed_takes_its_trials_up_again(place):
    server = place.serve()
    try:
        told, _ = place.run(STEPS, "--no-wait", name="killed", hyperparameters={"wait_at": 5})
        experiment = first(place, told["global_id"])
        (trial,) = trials_of(place, experiment)
        place.until(trial, lambda one: one["trial"]["checkpoint_step"] == 5)
        end(server, signal.SIGKILL)
        server = place.serve()
        place.clew("wait", told["global_id"])
        seen = place.trial(trial)
        assert seen["trial"]["state"] == "done"
        assert "begins after 5" in seen["log"]
        assert [point["step"] for point in seen["points"]] == list(range(1, 9))
        lineage = place.clew("why", trial)
        assert told["global_id"] in json.dumps(lineage)
    finally:
        end(server)


def first(place: Place, change: str) -> str:
    """The experiment of a change, as soon as it has begun."""
    for _ in range(400):
        found = [one for one in place.clew("experiments") if one["global_id"] == change]
        if found and trials_of(place, found[0]["id"]):
            return found[0]["id"]
    raise AssertionError("No experiment began.")


def trials_of(place: Place, experiment: str) -> list[str]:
    return [one["id"] for one in place.clew("experiment", experiment)["trials"]]
