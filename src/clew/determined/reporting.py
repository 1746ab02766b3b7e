"""What a trial's program says to the master, as what a trial of Clew says to its search.

Knows the API's words and :class:`clew.Trial`; nothing of HTTP and of processes. Steps of Clew are
the steps completed, but in a search that halves by another time metric (``epochs``): there they are
that time, and what is reported between two validations counts at the later one.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from msgspec import Struct

from clew.base.errors import Invalid
from clew.determined.definitions import Task
from clew.experiments import Trial

VALIDATION = "validation"
UUID = "uuid"
STEPS = "steps_completed"
METADATA = "metadata.json"
"""A file of every checkpoint: the harness keeps there what was given with it."""

_STEPS = frozenset({"", "batch", "batches", "step", "steps", "steps_completed"})
"""Time metrics that count what ``steps_completed`` counts."""


class _Checkpoint(Struct, frozen=True):
    uuid: str
    steps: int
    metadata: dict[str, Any]


class Reports:
    """Hears the program of one trial; see :class:`clew.determined.master.Hears`. Thread-safe."""

    def __init__(self, trial: Trial, task: Task, checkpoints: Path) -> None:
        self._trial = trial
        self._task = task
        self._checkpoints = self._saved = checkpoints
        self._lock = threading.RLock()  # a trial is spoken to by one thread at a time
        self._preempt = threading.Event()
        self._held: list[tuple[int, dict[str, float]]] = []
        self._waiting: _Checkpoint | None = None
        self._times: list[tuple[int, int]] = []
        self._same = not task.halves or task.time_metric in _STEPS
        self._best: float | None = None
        self._validated: int | None = None
        self._told: set[str] = set()
        self.wants_on = False
        """Whether the program said that it ends because it was preempted."""
        self.completed = 0
        """Steps behind the checkpoint that the run begins with."""
        self.reason = ""
        """Why it said that it ends early."""

    # what the program says ------------------------------------------------------------------

    def metrics(
        self,
        group: str,
        steps: int | None,
        values: Mapping[str, Any],
        batches: list[Mapping[str, Any]],
    ) -> None:
        """Report them: those of validations under their own names, others as ``group/name``."""
        with self._lock:
            if steps is None:
                self._once("Clew samples what a trial uses of the machine by itself.")
                return
            if steps < 1:
                self.say(f"clew: {group} metrics after {steps} steps: {json.dumps(dict(values))}")
                return
            numbers = self._numbers(group, steps, values)
            if group == VALIDATION:
                self._take_validation(steps, numbers)
            else:
                self._take_batches(group, steps, batches)
                self._take(steps, numbers)

    def storage(self, config: Mapping[str, Any]) -> None:
        """A program may give ``core.init()`` a place of its own: a directory is read there; what is
        in a bucket stays there, and Clew keeps that it is.
        """
        if config.get("type") == "directory":
            self._saved = Path(str(config["container_path"]))
        elif config.get("type") == "shared_fs":
            self._saved = Path(str(config["host_path"]), str(config.get("storage_path") or ""))
        elif config:
            self._once(f"checkpoints stay in {config.get('type')}: their files are not kept here.")

    def checkpoint(self, uuid: str, metadata: Mapping[str, Any]) -> None:
        """Keep it; where its step follows from a validation that is yet to come, then."""
        with self._lock:
            self._keep_waiting()
            found = _Checkpoint(uuid, int(metadata["steps_completed"]), dict(metadata))
            at = self._time_of(found.steps)
            if at is None:
                self._waiting = found
            else:
                self._keep(found, at)

    def metadata_of(self, uuid: str) -> Mapping[str, Any] | None:
        """As the harness has written it."""
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self._saved / uuid / METADATA).read_text())
            return found
        return None

    def progress(self, share: float) -> None:
        """Pass it on."""
        with self._lock:
            self._trial.progress(share)

    def status(self, text: str) -> None:
        """Log it."""
        self.say(f"status: {text}")

    def early_exit(self, reason: str) -> None:
        """Remember it for the end."""
        self.reason = reason

    def preempted(self, wait_s: float) -> bool:
        """Whether to end."""
        return self._preempt.wait(wait_s)

    def acknowledged(self) -> None:
        """Remember it for the end."""
        self.wants_on = True

    def validated(self) -> tuple[float | None, int | None]:
        """Of this trial alone: a trial does not see the others."""
        return self._best, self._validated

    def say(self, text: str) -> None:
        """Add to the log of the trial."""
        self._trial.log(text)

    # what the search says -------------------------------------------------------------------

    def look(self) -> bool:
        """Ask whether the trial should end; from then on the program is told. Call it often."""
        with self._lock:
            if self._trial.wants_pause():
                self._preempt.set()
        return self._preempt.is_set()

    def end(self) -> None:
        """Its program has ended, or nobody waits for it any more: nothing is held back."""
        with self._lock:
            for steps, numbers in self._held:
                self._trial.report(self._now(steps), **numbers)
            self._held.clear()
            self._keep_waiting()
            self._preempt.set()  # whoever still waits for it

    def restore(self) -> str:
        """Lay out the checkpoint that this run begins with; its id, '' where there is none."""
        folder = self._trial.restore()
        if folder is None:
            return ""
        meta = self._trial.restored_meta
        if self._trial.step:  # else it is that of another trial, and this one begins
            self.completed = int(str(meta.get(STEPS, 0)))
        uuid = str(meta.get(UUID) or uuid4())
        Path(folder).replace(self._checkpoints / uuid)
        return uuid

    # within ---------------------------------------------------------------------------------

    def _take(self, steps: int, numbers: dict[str, float]) -> None:
        """Training and other metrics: those of a search that halves wait for the validation."""
        if not numbers:
            return
        if self._task.halves:
            self._held.append((steps, numbers))
        else:
            self._trial.report(steps, **numbers)

    def _take_validation(self, steps: int, numbers: dict[str, float]) -> None:
        value = numbers.get(self._task.metric)
        self._validated = steps
        if value is not None:
            mode = min if self._task.config["searcher"].get("smaller_is_better", True) else max
            self._best = value if self._best is None else mode(self._best, value)
        if not self._task.halves:
            if numbers:
                self._trial.report(steps, **numbers)
            return
        at = self._time(steps, numbers)
        self._times.append((steps, at))
        self._same = self._same or at == steps
        self._keep_waiting()
        if value is not None:
            self._pass_rungs(at, value)
        for held, others in self._held:
            self._trial.report(held if self._same else at, **others)
        self._held.clear()
        self._trial.report(at, **numbers)
        if self._trial.should_stop:
            self._preempt.set()

    def _pass_rungs(self, at: int, value: float) -> None:
        """A validation counts at every rung since the last: each decides, in order."""
        while not self._preempt.is_set() and self._trial.target < at:
            self._trial.report(self._trial.target, **{self._task.metric: value})
            if self._trial.should_stop:
                self._preempt.set()

    def _time(self, steps: int, numbers: Mapping[str, float]) -> int:
        """When a validation was, in what the search counts: 1 at least."""
        name = self._task.time_metric
        if not name:
            return steps
        if name not in numbers:
            if name in _STEPS:
                return steps
            raise Invalid(
                "determined.time_metric",
                f"A validation has no {name!r}, which the search goes by.",
                hint=f"Report it with the others: metrics={{..., {name!r}: number}}",
            )
        return max(1, math.floor(numbers[name]))

    def _time_of(self, steps: int) -> int | None:
        """When a checkpoint after so many steps was; None where that is not known yet."""
        if self._same:
            return steps
        if not self._times or self._times[-1][0] < steps:
            return None
        return self._now(steps)

    def _now(self, steps: int) -> int:
        """The time of the last validation that is not after so many steps."""
        if self._same:
            return steps
        found = [at for then, at in self._times if then <= steps]
        return found[-1] if found else max(1, self._trial.step)

    def _keep_waiting(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            found = [at for then, at in self._times if then <= waiting.steps]
            self._keep(waiting, waiting.steps if self._same else (found or [self._trial.step])[-1])

    def _keep(self, one: _Checkpoint, step: int) -> None:
        source = self._saved / one.uuid
        uuid, completed = one.uuid, one.steps
        with self._trial.checkpoint(step=step, uuid=uuid, steps_completed=completed) as folder:
            if source.is_dir():
                shutil.copytree(source, folder, copy_function=_link, dirs_exist_ok=True)
            else:
                (folder / METADATA).write_text(json.dumps(one.metadata))
        self._trial.keep_checkpoint()

    def _take_batches(self, group: str, steps: int, batches: list[Mapping[str, Any]]) -> None:
        """Metrics of single batches stand at the steps of those."""
        for number, one in enumerate(batches):
            at = steps - len(batches) + 1 + number
            if at >= 1:
                self._take(at, self._numbers(f"{group}/batch", at, one))

    def _numbers(self, group: str, steps: int, values: Mapping[str, Any]) -> dict[str, float]:
        """Those that are numbers, flat and by their full names; others become files."""
        found: dict[str, float] = {}
        before = "" if group == VALIDATION else f"{group}/"
        for name, value in _flat(values):
            number = _number(value)
            if number is not None:
                found[f"{before}{name}"] = number
            else:
                self._trial.log_text(f"metrics/{before}{name}", json.dumps(value), step=steps)
        return found

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.say(f"clew: {text}")


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{name}.")
        else:
            found.append((f"{before}{name}", value))
    return found


def _number(value: object) -> float | None:
    """JSON has no word for what is not finite: Determined writes those as texts."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, str) and value in {"NaN", "Infinity", "-Infinity"}:
        return float(value)
    return None


def _link(source: str, target: str) -> None:
    """What a program has saved it does not write to again, so that no copy is needed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
