"""A training repeated: the trial that won, from the start, with its parameters and its seed.

Knows how experiments call a trial; keeps nothing of what it gives.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from clew.base.errors import Conflict
from clew.base.records import Commit, MetricPoint
from clew.base.records.knowing import MetricCheck, Reproduction
from clew.compute import Call
from clew.experiments import SearchDefinition
from clew.models import EvaluationDefinition
from clew.workspace.rooms import Rooms

ENTRY = "clew.experiments.worker:run_trial"
CLOSE = 1e-9
"""Metrics that differ by less, relatively, are equal."""


def train_again(rooms: Rooms, row: Any, commit: Commit) -> Reproduction:
    """Train the model of a job once more and compare what it reports.

    Raises:
        Conflict: ``reproduce.gone`` where the trial or its data are not there any more.
    """
    step = rooms.pipelines.knowing.definition(row)
    trial = _trial(rooms, row)
    with rooms.store.lease():
        call = Call(
            entry=ENTRY,
            payload=_payload(rooms, row, step, trial),
            label=f"trial {trial.number} of {row.step}, once more",
            timeout_s=step.timeout_s,
            memory_bytes=step.memory_bytes,
            snapshot_dir=str(rooms.snapshots.directory(step.function.snapshot)),
        )
        told: dict[int, dict[str, float]] = {}

        def listen(message: dict[str, Any]) -> dict[str, object] | None:
            if message.get("kind") == "report":
                told[int(message["step"])] = dict(message["metrics"])
            return {"target": 0} if message.get("kind") == "rung" else None

        outcome = rooms.compute.submit(call, listen).result()
    metrics = _compared(rooms.experiments.points(trial.id), told)
    error = outcome.error.message if outcome.error is not None else ""
    equal = bool(metrics) and all(_close(one.old, one.new) for one in metrics)
    packages = rooms.pipelines.knowing.packages(row)
    verdict = "failed" if error else "equal" if equal else "different"
    return Reproduction(
        job=row.id,
        commit=commit.id,
        pipeline=row.pipeline,
        step=row.step,
        kind=row.kind,
        verdict=verdict,
        expected=commit.tree,
        found=str(outcome.value.get("tree", "")) if isinstance(outcome.value, dict) else "",
        datums=1,
        packages=packages,
        reasons=() if equal else tuple(_reasons(trial, packages, step.clocks)),
        metrics=metrics,
        error=error,
    )


def _trial(rooms: Rooms, row: Any) -> Any:
    wanted = row.extra.get("trial")
    found = rooms.experiments.get(row.extra["experiment"]) if wanted else None
    trial = next((one for one in found.trials if one.id == wanted), None) if found else None
    if trial is None:
        raise Conflict(
            "reproduce.gone",
            f"The trial that made the model of job {row.id} is not known any more.",
            hint="Reproduce a newer job: clew jobs",
        )
    return trial


def _payload(rooms: Rooms, row: Any, step: Any, trial: Any) -> dict[str, object]:
    """What the winning trial was called with."""
    parameter, commit_id = next(iter(row.inputs.items()))
    features = rooms.repos.commit_by_id(commit_id)
    split = rooms.models.split(
        step.output_repo,
        features,
        msgspec.convert(step.options["evaluation"], EvaluationDefinition),
        global_id=row.global_id,
        paths=rooms.pipelines.knowing.paths(row, parameter, features),
    )
    search = msgspec.convert(step.options["search"], SearchDefinition)
    return {
        "store": rooms.store.address,
        "snapshot_dir": str(rooms.snapshots.directory(step.function.snapshot)),
        "file": step.function.file,
        "name": step.function.name,
        "inputs": [{"parameter": parameter, "tree": split.train_tree, "paths": list(split.paths)}],
        "trial": {
            "id": trial.id,
            "number": trial.number,
            "params": trial.params,
            "seed": trial.seed,
            "start": 0,
            "target": max(trial.step, 1),
            "max_steps": search.max_steps,
        },
        "restore": "",
    }


def _compared(
    points: tuple[MetricPoint, ...], told: dict[int, dict[str, float]]
) -> tuple[MetricCheck, ...]:
    """The metrics of the last step that was reported then, beside those of now."""
    if not points:
        return ()
    last = max(points, key=lambda point: point.step)
    again = told.get(last.step, {})
    return tuple(
        MetricCheck(name=name, old=old, new=again.get(name))
        for name, old in sorted(last.metrics.items())
    )


def _close(old: float, new: float | None) -> bool:
    return new is not None and (math.isclose(old, new, rel_tol=CLOSE) or old == new)


def _reasons(trial: Any, packages: tuple[str, ...], clocks: tuple[str, ...]) -> list[str]:
    found = [f"another version: {one}" for one in packages]
    found += [f"it asks what time it is: {one}" for one in clocks]
    if trial.rung:
        found.append("it was paused then and went on from checkpoints; now it ran through")
    return found or [
        "it draws numbers that do not come from trial.seed, or runs on several threads"
    ]
