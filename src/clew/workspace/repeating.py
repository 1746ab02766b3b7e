"""A training repeated: the trial that won, from the start, with its parameters and its seed.

Knows how experiments call a trial; keeps nothing of what it gives, and freezes nothing: the test
rows are those that were kept out then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from clew.base.errors import ClewError, Conflict
from clew.base.ranks import ranks_of
from clew.base.records import Commit, MetricPoint, ModelVersion
from clew.base.records.knowing import MetricCheck, Reproduction
from clew.compute import Call
from clew.experiments import SearchDefinition
from clew.models import EvaluationDefinition, Split, TrainingRun
from clew.pipelines import StepDefinition
from clew.workspace.file_checks import differences
from clew.workspace.own_environments import own_environment_of
from clew.workspace.rooms import Rooms

ENTRY = "clew.experiments.worker:run_trial"
CLOSE = 1e-9
"""Metrics that differ by less, relatively, are equal."""

ON_TEST = "test "
"""How metrics on the frozen test rows are called beside those that the trial reported."""

Told = dict[int, dict[str, float]]


def train_again(rooms: Rooms, row: Any, commit: Commit) -> Reproduction:
    """Train the model of a job once more; by its hash, and where that differs, what differs.

    Raises:
        Conflict: ``reproduce.gone`` where the trial, its data or its test set are not there any
            more.
    """
    made = rooms.pipelines.knowing.origin(row)
    step = rooms.pipelines.knowing.definition(made)
    trial, version = trial_of(rooms, made), _version(rooms, made, step)
    told: Told = {}
    with rooms.store.lease():
        split = split_of(rooms, made, step, version)
        outcome = _run(rooms, step, trial, split, told)
        error = outcome.error.message if outcome.error is not None else ""
        value = outcome.value if isinstance(outcome.value, dict) else {}
        then = rooms.experiments.artefact(rooms.experiments.learned(trial.id))
        now = rooms.experiments.artefact(str(value.get("tree", "")))
        same = bool(now) and then == now
        points = rooms.experiments.points(trial.id)
        metrics = _compared(points, told)
        if not same and not error:
            metrics += _on_test(rooms, made, step, trial, version, split, now)
        files = () if same or error else tuple(differences(rooms, then, now))
    equal = same or (bool(metrics) and all(_close(one.old, one.new) for one in metrics))
    packages = rooms.pipelines.knowing.packages(made)
    verdict = "failed" if error else "identical" if same else "equal" if equal else "different"
    reasons = () if equal else (*_parted(points, told), *_reasons(trial, packages, step.clocks))
    return Reproduction(
        job=row.id,
        commit=commit.id,
        pipeline=row.pipeline,
        step=row.step,
        kind=row.kind,
        verdict=verdict,
        expected=then,
        found=now,
        datums=1,
        files=files,
        packages=packages,
        reasons=reasons,
        metrics=metrics,
        error=error,
        test_commit=version.test_commit or "",
        trial=trial.id,
    )


def _run(rooms: Rooms, step: StepDefinition, trial: Any, split: Split, told: Told) -> Any:
    """The trial, on its own; what it reports is put into ``told``."""
    call = Call(
        entry=ENTRY,
        payload=payload_of(rooms, step, trial, split),
        label=f"trial {trial.number} of {step.name}, once more",
        timeout_s=step.timeout_s,
        memory_bytes=step.memory_bytes,
        snapshot_dir=str(rooms.snapshots.directory(step.function.snapshot)),
        program=rooms.models.program_in(own_environment_of(step)),
        resources=step.demand(),
        placement=dict(step.policy.placement),
        pool=step.policy.pool,
    )
    call = rooms.experiments.together(call, ranks_of(step.options), trial.params)

    def listen(message: dict[str, Any]) -> dict[str, object] | None:
        if message.get("kind") == "report":
            told[int(message["step"])] = dict(message["metrics"])
        if message.get("kind") == "pulse":  # of a step that takes over a second; nobody pauses it
            return {"pause": False}
        return {"target": 0} if message.get("kind") == "rung" else None

    return rooms.compute.submit(call, listen).result()


def _version(rooms: Rooms, row: Any, step: StepDefinition) -> ModelVersion:
    found = next((v for v in rooms.models.versions(step.output_repo) if v.job == row.id), None)
    if found is None or not found.test_commit:
        raise _gone(f"The model version that job {row.id} made is not known any more.")
    return found


def split_of(rooms: Rooms, row: Any, step: StepDefinition, version: ModelVersion) -> Split:
    """The rows that the training had: all but those of the test set that was frozen then."""
    parameter, commit_id = next(iter(row.inputs.items()))
    features = rooms.repos.commit_by_id(commit_id)
    try:
        return rooms.models.split(
            step.output_repo,
            features,
            msgspec.convert(step.options["evaluation"], EvaluationDefinition),
            global_id=row.global_id,
            paths=rooms.pipelines.knowing.paths(row, parameter, features),
            test_commit=version.test_commit or "",
        )
    except ClewError as error:
        if error.code in {"commit.gone", "commit.unknown"}:
            raise _gone(f"What job {row.id} learned from was squashed or dropped.") from error
        raise


def _on_test(
    rooms: Rooms,
    row: Any,
    step: StepDefinition,
    trial: Any,
    version: ModelVersion,
    split: Split,
    artefact: str,
) -> tuple[MetricCheck, ...]:
    """How the two models do on the frozen test rows."""
    evaluation = msgspec.convert(step.options["evaluation"], EvaluationDefinition)
    run = TrainingRun(
        model=step.output_repo,
        job=version.job,
        global_id=version.global_id,
        features=next(iter(row.inputs.values())),
        experiment=trial.experiment,
        trial=trial.id,
        params=trial.params,
        seed=trial.seed,
        function=step.function,
        fingerprint=step.fingerprint,
        metrics={},
    )
    package = rooms.models.package(
        artefact,
        split=split,
        evaluation=evaluation,
        run=run,
        snapshot_dir=rooms.snapshots.directory(step.function.snapshot),
        own=own_environment_of(step),
    )
    trees = rooms.repos.commit_by_id(version.commit).tree, package.tree
    old, new = rooms.models.measure(version.model, trees, split.test_commit, evaluation.target)
    return tuple(
        MetricCheck(name=f"{ON_TEST}{name}", old=value, new=new.get(name))
        for name, value in sorted(old.items())
    )


def trial_of(rooms: Rooms, row: Any) -> Any:
    """The trial that made the model of a job."""
    wanted = row.extra.get("trial")
    found = rooms.experiments.get(row.extra["experiment"]) if wanted else None
    trial = next((one for one in found.trials if one.id == wanted), None) if found else None
    if trial is None:
        raise _gone(f"The trial that made the model of job {row.id} is not known any more.")
    return trial


def _gone(what: str) -> Conflict:
    return Conflict("reproduce.gone", what, hint="Reproduce a newer job: clew jobs")


def payload_of(rooms: Rooms, step: StepDefinition, trial: Any, split: Split) -> dict[str, object]:
    """What the winning trial was called with."""
    parameter = step.inputs[0].parameter
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
        "parameters": step.parameters,
        "allow": list(step.allow),
        "declared": list(step.depends),
        "feasible": step.options.get("feasible"),
    }


def _parted(points: tuple[MetricPoint, ...], told: Told) -> Iterator[str]:
    """From where on the trial reported something else."""
    for point in sorted(points, key=lambda one: one.step):
        again = told.get(point.step)
        if again is None:
            yield f"it did not report at step {point.step:,}, as it did then"
            return
        for name, old in sorted(point.metrics.items()):
            if not _close(old, again.get(name)):
                yield f"it went another way from step {point.step:,} on ({name})"
                return


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
