"""What an experiment of Determined does when its turn comes: a search over trials of its program.

Knows the doors of experiments and places; how a trial is started and heard is for ``determined``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from clew.base.gpus import gpus
from clew.base.ranks import Ranks
from clew.base.tracking import TRIAL, Tracking
from clew.determined import OPEN_END, Task
from clew.experiments import Distribution, Experiments, SearchDefinition
from clew.pipelines import RunResult, StepRun
from clew.places import Environments
from clew.store import EMPTY_TREE, Entry, Store

ABOUT = "/clew/experiment.json"
"""What the output says of itself: the experiment, the trial, its hyperparameters and metrics."""


class DeterminedRunner:
    """Environment → search; the files of the best trial's checkpoint are the output.

    Keeps ``clew.pipelines.Runner``.
    """

    def __init__(
        self,
        experiments: Experiments,
        environments: Environments,
        store: Store,
        tracking: Tracking | None = None,
    ) -> None:
        self._experiments = experiments
        self._environments = environments
        self._store = store
        self._tracking = tracking or Tracking()

    def run(self, run: StepRun) -> RunResult:
        """Search for one job; takes up the experiment of the same job after a crash."""
        step, job = run.definition, run.job
        task = msgspec.convert(step.options["task"], Task)
        fork = self._experiments.fork_of(job.id)
        if fork is not None:
            task = lasting(task, fork.definition.max_steps)
        programs = self._environments.programs(step.runtime.lock, step.runtime.python)

        def progress(total: int, done: int) -> None:
            if total < OPEN_END:  # else nobody knows
                run.progress(done, total)

        found = self._experiments.search(
            job=job.id,
            pipeline=job.pipeline.partition("@")[0],
            step=job.step,
            global_id=job.global_id,
            definition=msgspec.convert(step.options["search"], SearchDefinition),
            space=msgspec.convert(step.options["space"], dict[str, Distribution]),
            function=step.function,
            snapshot_dir=str(run.snapshot_dir),
            inputs=(),
            initial=self._experiments.learned(task.source) if task.source else "",
            all_warm=bool(task.source) and fork is None,
            environment=self._tracking.variables(f"{TRIAL}.{job.id}", f"{job.pipeline}.{job.step}"),
            resources={"CPU": float(max(1, task.slots))},
            policy=step.policy.trials,
            fork=fork,
            priority=job.priority,
            cancelled=run.cancelled,
            progress=progress,
            parameters={
                "task": msgspec.to_builtins(task),
                "project": str(run.snapshot_dir),
                "programs": str(programs),
                "experiment": job.id,
            },
            allow=step.allow,
            ranks=seat_of(task, len(gpus())),
            each=max(1, task.slots),
            at_most=task.at_most,
            metric_optional=not task.halves,
        )
        best = found.trial
        about = {
            "experiment": found.experiment,
            "trial": best.id,
            "number": best.number,
            "hyperparameters": best.params,
            "metrics": found.metrics,
        }
        return RunResult(
            tree=self._kept(best.id, about),
            reason=f"Trial {best.number} is the best of its search.",
            extra={"experiment": found.experiment, "trial": best.id},
        )

    def _kept(self, trial: str, about: Mapping[str, Any]) -> str:
        """The tree of the output: the files of the trial's checkpoint, if it has one."""
        files = self._experiments.checkpoint_files(self._experiments.learned(trial))
        with self._store.writer() as writer:
            digest, size = writer.put(msgspec.json.encode(about, order="sorted"))
            own = Entry(path=ABOUT, digest=digest, size_bytes=size)
            return writer.tree(EMPTY_TREE, [*files, own])


def seat_of(task: Task, there: int) -> Ranks | None:
    """Where there are GPUs, a slot is one: the run of a trial holds so many, and sees no others.

    Its program starts the processes: here it is a group of one.

    Raises:
        Unavailable: ``gpus.too_few``, when it starts, where there are fewer.
    """
    return Ranks(count=1, gpus=task.slots) if there and task.slots else None


def lasting(task: Task, steps: int) -> Task:
    """The task of trials that go on for so many steps: what the program reads as its length."""
    searcher = dict(task.config["searcher"])
    length = searcher.get("max_length")
    if steps == OPEN_END or length is None:
        return task
    unit = next(iter(length), "") if isinstance(length, Mapping) else ""
    searcher["max_length"] = {unit: steps} if unit else steps
    return msgspec.structs.replace(task, config={**task.config, "searcher": searcher})
