"""One trial of a Determined experiment: its program, started as the master would, and its end.

Runs in a worker, as the training function of a trial. Knows the task and :class:`clew.Trial`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from clew.base.gpus import VISIBLE, gpus
from clew.determined.definitions import CONFIG, ENTRY, INVALID_HP, Task
from clew.determined.hyperparameters import values_of
from clew.determined.master import Master
from clew.determined.reporting import Reports
from clew.experiments import Trial
from clew.places import surroundings

LOOK_S = 0.25
"""How often the search is asked whether the trial should end (which asks once a second)."""

_BOOT = Path(__file__).with_name("boot")
_HOOK = "startup-hook.sh"
_LOOPBACK = "127.0.0.1"
_REFUSES = """#!/bin/sh
echo "clew: $0 would change an environment that other trials share." >&2
echo "Put packages into requirements.txt of the context directory." >&2
exit 1
"""


class TrialExited(RuntimeError):
    """The program of a trial ended with an error; a restart may go better."""


def run_task(
    trial: Trial, task: Mapping[str, Any], project: str, programs: str, experiment: str
) -> None:
    """Run the program of a trial to its end.

    Args:
        trial: What it is a trial of: its checkpoint is restored, and it is told of all that the
            program says to the master.
        task: A :class:`Task`, as builtins.
        project: The directory with the files of the context directory.
        programs: The directory with the Python of the trial's environment.
        experiment: Id of the experiment, or of its job.

    Raises:
        TrialExited: Where it ended with an error.
        ClewError: What kept Clew from answering it.
    """
    One(trial, msgspec.convert(task, Task), Path(project), Path(programs), experiment).run()


def number_of(id: str) -> int:
    """A whole number of 31 bits for an id of Clew: those of Determined are numbers."""
    return int.from_bytes(sha256(id.encode()).digest()[:4], "big") >> 1 or 1


class One:
    """One run of one trial, in the current directory. Belongs to one thread."""

    def __init__(
        self, trial: Trial, task: Task, project: Path, programs: Path, experiment: str
    ) -> None:
        self._trial = trial
        self._task = task
        self._project = project
        self._programs = programs
        self._experiment = experiment
        root = Path.cwd()
        self._work, self._info = root / "work", root / "info"
        self._checkpoints, self._shims = root / "checkpoints", root / "shims"
        self._reports = Reports(trial, task, self._checkpoints)

    def run(self) -> None:
        """From the files on disk to the end of the program."""
        self._lay_out()
        latest = self._reports.restore()
        with ExitStack() as open_:
            master = Master(self._reports, _meeting(self._task.slots))
            open_.callback(master.close)
            open_.callback(self._reports.end)
            ports = open_.enter_context(_ports(4))
            variables = self._variables(master, latest, ports)
            open_.callback(self._forget_events, variables["DET_ALLOCATION_ID"])
            self._write_info(variables)
            status, hurried = self._wait(variables)
        if master.failure is not None:
            raise master.failure
        self._judge(status, hurried)

    def _judge(self, status: int, hurried: bool) -> None:
        """What an end means: done, paused, or failed."""
        if self._reports.reason.endswith("INVALID_HP"):
            raise TrialExited(INVALID_HP)
        if hurried:
            return
        if status:
            how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            raise TrialExited(f"The program of the trial ended {how}: see its log.")
        if not self._reports.wants_on:
            self._trial.finish()

    def _wait(self, variables: Mapping[str, str]) -> tuple[int, bool]:
        """Status of the program, and whether it was ended because it took too long to pause."""
        process = subprocess.Popen(
            self._command(), cwd=self._work, env=surroundings(variables), process_group=0,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        until_s: float | None = None
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(LOOK_S), False
                if not self._reports.look():
                    continue
                until_s = until_s or time.monotonic() + self._task.grace_s
                if time.monotonic() >= until_s:
                    self._reports.say("clew: the trial did not end in time, and is ended.")
                    return 0, True
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _command(self) -> Sequence[str]:
        """The entrypoint; after the startup hook of the context directory, where it has one."""
        words = self._task.entrypoint
        if (self._work / _HOOK).is_file():
            then = words[0] if self._task.shell else 'exec "$@"'
            return ["/bin/sh", "-c", f". ./{_HOOK}\n{then}", "sh", *words]
        return ["/bin/sh", "-c", words[0]] if self._task.shell else list(words)

    # what it finds --------------------------------------------------------------------------

    def _lay_out(self) -> None:
        for place in (self._info, self._checkpoints, self._shims):
            place.mkdir()
        shutil.copytree(self._project, self._work, ignore=shutil.ignore_patterns("__pycache__"))
        for name in (ENTRY, CONFIG):
            (self._work / name).unlink(missing_ok=True)
        for name in ("pip", "pip3"):
            (self._shims / name).write_text(_REFUSES)
            (self._shims / name).chmod(0o755)

    def _config(self) -> dict[str, Any]:
        """The configuration as the harness reads it: checkpoints go into a directory of ours."""
        storage = {"type": "directory", "container_path": str(self._checkpoints)}
        return {**self._task.config, "checkpoint_storage": storage}

    def _variables(self, master: Master, latest: str, ports: Sequence[int]) -> dict[str, str]:
        """The environment of the program."""
        trial, slots = self._trial, self._task.slots
        number, experiment = number_of(trial.id), number_of(self._experiment)
        params = values_of(trial.params, self._task.fixed, self._task.labels)
        task = f"{experiment}.{trial.number}"
        device = self._task.variables.get("cuda" if slots and gpus() else "cpu", {})
        here = surroundings({})
        path = [str(self._shims), str(self._programs), here.get("PATH", "")]
        found = {
            "DET_MASTER": master.url,
            "DET_CLUSTER_ID": "clew",
            "DET_AGENT_ID": socket.gethostname(),
            "DET_CONTAINER_ID": task,
            "DET_RESOURCES_ID": task,
            "DET_SLOT_IDS": json.dumps(list(range(slots))),
            "DET_TASK_ID": task,
            "DET_ALLOCATION_ID": f"{task}.{os.getpid()}",
            "DET_SESSION_TOKEN": master.token,
            "DET_TASK_TYPE": "TRIAL",
            "DET_USER": "clew",
            "DET_TRIAL_ID": str(number),
            "DET_EXPERIMENT_ID": str(experiment),
            "DET_TRIAL_SEED": str(trial.seed),
            "DET_TRIAL_RUN_ID": "1",
            "DET_STEPS_COMPLETED": str(self._reports.completed),
            "DET_HPARAMS": json.dumps(params),
            "DET_EXPERIMENT_CONFIG": json.dumps(self._config()),
            "DET_UNIQUE_PORT_OFFSET": "0",
            "INTER_TRAIN_PROCESS_COMM_PORT_1": str(ports[0]),
            "INTER_TRAIN_PROCESS_COMM_PORT_2": str(ports[1]),
            "C10D_PORT": str(ports[2]),
            "DTRAIN_SSH_PORT": str(ports[3]),
            "PYTHONUNBUFFERED": "1",
            **device,
            "CLEW_DET_INFO": str(self._info),
            "CLEW_DET_CODE": str(self._project),
            "PATH": os.pathsep.join(path),
            "VIRTUAL_ENV": str(self._programs.parent),
        }
        if latest:
            found["DET_LATEST_CHECKPOINT"] = latest
        if not slots:
            found[VISIBLE] = ""
        before = device.get("PYTHONPATH", "")
        found["PYTHONPATH"] = f"{_BOOT}{os.pathsep}{before}" if before else str(_BOOT)
        for name in ("NO_PROXY", "no_proxy"):  # the master is here
            found[name] = ",".join(filter(None, [here.get(name, ""), _LOOPBACK]))
        return found

    def _write_info(self, variables: Mapping[str, str]) -> None:
        """What ``det.get_cluster_info()`` reads; the boot file tells it where."""
        cluster = {
            "master_url": variables["DET_MASTER"],
            "cluster_id": variables["DET_CLUSTER_ID"],
            "agent_id": variables["DET_AGENT_ID"],
            "slot_ids": list(range(self._task.slots)),
            "task_id": variables["DET_TASK_ID"],
            "allocation_id": variables["DET_ALLOCATION_ID"],
            "session_token": variables["DET_SESSION_TOKEN"],
            "task_type": variables["DET_TASK_TYPE"],
            "latest_checkpoint": variables.get("DET_LATEST_CHECKPOINT"),
        }
        trial = {
            "trial_id": int(variables["DET_TRIAL_ID"]),
            "experiment_id": int(variables["DET_EXPERIMENT_ID"]),
            "trial_seed": self._trial.seed,
            "hparams": json.loads(variables["DET_HPARAMS"]),
            "config": self._config(),
            "steps_completed": self._reports.completed,
            "trial_run_id": 1,
            "debug": bool(self._task.config.get("debug")),
            "inter_node_network_interface": None,
        }
        meeting = _meeting(self._task.slots)
        rendezvous = {
            "container_addrs": meeting["addresses"],
            "container_rank": meeting["rank"],
            "container_slot_counts": meeting["slots"],
        }
        files: dict[str, Any] = {
            "cluster": cluster,
            "trial": trial,
            "rendezvous": rendezvous,
            "resources": {"gpu_uuids": [one.uuid for one in gpus()][: self._task.slots]},
        }
        for name, content in files.items():
            (self._info / f"{name}.json").write_text(json.dumps(content))

    @staticmethod
    def _forget_events(allocation: str) -> None:
        """The harness writes event files to /tmp before they go beside the checkpoints."""
        for place in Path("/tmp").glob(f"tensorboard-{allocation}-*"):  # noqa: S108 - its place
            shutil.rmtree(place, ignore_errors=True)


def _meeting(slots: int) -> dict[str, Any]:
    """Where the one container of a trial is."""
    return {"addresses": [_LOOPBACK], "rank": 0, "slots": [slots]}


@contextmanager
def _ports(count: int) -> Iterator[list[int]]:
    """Ports that nobody else is given while this is open: bound, and not listened to."""
    with ExitStack() as held:
        found = []
        for _ in range(count):
            one = held.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("", 0))
            found.append(one.getsockname()[1])
        yield found
