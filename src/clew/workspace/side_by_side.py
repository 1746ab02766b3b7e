"""Runs side by side: which run a name means, and how its data, code and settings differ.

Knows which room to ask for what; changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from clew.base.errors import ClewError, Conflict, Invalid, NotFound
from clew.base.ids import short
from clew.base.records import Commit, ModelVersion, Trial
from clew.base.records.cards import Metrics
from clew.base.records.comparing import (
    ComparedCode,
    ComparedData,
    ComparedRow,
    ComparedRun,
    Comparison,
    DataPair,
)
from clew.pipelines import StepDefinition
from clew.workspace.comparing import compare
from clew.workspace.foreign_runs import foreign_run
from clew.workspace.rooms import Rooms
from clew.workspace.run_cards import is_foreign, run_card

MOST_RUNS = 20
FILES = 10
"""So many files that differ are looked into, of each pair of commits."""

ROWS = 3
"""So many rows of each are shown."""

ON_TEST = "test "
_CODE = frozenset({"code", "version", "accepted", "depends", "expectation", "input"})
_SOURCES = 500


class _Run(Struct, frozen=True, kw_only=True):
    """A run with all that it is held by."""

    told: ComparedRun
    params: Mapping[str, Any]
    breaches: tuple[str, ...] = ()
    """Rules that it breaks."""
    version: ModelVersion | None = None
    configuration: Mapping[str, object]
    features: str = ""
    """The commit that its training rows were cut from."""
    foreign: str | None = None
    """Of a run of an MLflow client the version of its code, '' where that is unknown."""
    metrics: Mapping[str, float]
    environment: Mapping[str, str]


def compare_runs(rooms: Rooms, subjects: Sequence[str]) -> Comparison:
    """Two runs or more; the first is what the others are held against.

    Raises:
        Invalid: ``compare.few``, ``compare.many``, ``compare.kind``.
        Conflict: ``id.ambiguous``.
        NotFound: ``why.unknown``, ``model.unknown``.
    """
    asked = list(dict.fromkeys(subjects))
    if len(asked) < 2:
        raise Invalid(
            "compare.few",
            f"There is nothing to compare {asked[0] if asked else 'here'} with.",
            hint="Name two or more: trials, model versions, experiments or jobs.",
        )
    if len(asked) > MOST_RUNS:
        raise Invalid(
            "compare.many",
            f"{len(asked)} runs are more than can be read side by side.",
            hint=f"Name at most {MOST_RUNS}; `clew experiment` lists all trials of a search.",
        )
    runs = [_run(rooms, one) for one in asked]
    return Comparison(
        runs=tuple(one.told for one in runs),
        parameters=_rows([one.params for one in runs]),
        metrics=_rows([one.metrics for one in runs]),
        configuration=_rows([one.configuration for one in runs]),
        environment=_rows([one.environment for one in runs]),
        data=tuple(_data(rooms, runs)),
        code=tuple(_code(rooms, runs)),
        notes=tuple(_notes(runs)),
    )


# which run is meant -----------------------------------------------------------------------------


def _run(rooms: Rooms, subject: str) -> _Run:
    if is_foreign(subject):
        return _of_mlflow(rooms, subject)
    kind, trial, version = _meant(rooms, subject)
    detail = rooms.experiments.points(trial.id)
    job = version.job if version else _job_of(rooms, trial)
    made = rooms.pipelines.knowing.made_by(job)
    step, inputs = made if made is not None else (None, {})
    features = next(iter(inputs.values()), "")
    metrics = dict(detail[-1].metrics) if detail else {}
    environment: Mapping[str, str] = step.packages if step else {}
    if version is not None:
        things = rooms.models.things(version.id)
        metrics |= _on_test(things.metrics, version)
        environment = {**environment, **things.configuration.environment}
        features = features or things.lineage.features
    return _Run(
        told=_told(subject, kind, trial, version, job),
        params=trial.params,
        breaches=tuple(trial.breaches),
        version=version,
        configuration=_configuration(step),
        features=features,
        metrics=metrics,
        environment=environment,
    )


def _of_mlflow(rooms: Rooms, subject: str) -> _Run:
    found = foreign_run(run_card(rooms, subject), subject)
    return _Run(
        told=found.told,
        params=found.params,
        configuration=found.configuration,
        metrics=found.metrics,
        environment=found.environment,
        foreign=found.code,
    )


def _meant(rooms: Rooms, subject: str) -> tuple[str, Trial, ModelVersion | None]:
    """The kind of what is named, its trial, and the model version that was made of it."""
    if "@" in subject or "/" in subject:
        return _of_version(rooms, "model_version", rooms.models.get(subject))
    nodes = rooms.lineage.find(subject)
    exact = [node for node in nodes if node.id == subject]
    found = exact or nodes
    if len(found) > 1:
        raise Conflict(
            "id.ambiguous",
            f"{subject!r} is the beginning of several ids.",
            hint="Give more characters.",
        )
    if not found:
        raise NotFound(
            "why.unknown",
            f"Nothing is known of {subject!r}.",
            hint="Give a trial, a model version, an experiment, or the job of a training.",
        )
    return _of_node(rooms, found[0].kind, found[0].id)


def _of_node(rooms: Rooms, kind: str, id: str) -> tuple[str, Trial, ModelVersion | None]:
    if kind == "model_version":
        return _of_version(rooms, kind, rooms.models.get(id))
    if kind == "trial":
        trial = rooms.experiments.trial(id)
        return kind, trial, _version_of(rooms, trial)
    if kind == "commit":
        return _of_version(rooms, "model_version", rooms.models.of_commit(id))
    experiments = rooms.experiments.get(id) if kind == "experiment" else None
    if kind == "job":
        job = rooms.pipelines.job(id)
        mine = [one for one in rooms.experiments.of_change(job.global_id)[0] if one.job == id]
        experiments = rooms.experiments.get(mine[0].id) if mine else None
    best = experiments.experiment.best_trial if experiments else None
    if best is None:
        what = "has no best trial (yet)" if experiments else "is no run of a training"
        raise Invalid(
            "compare.kind",
            f"The {kind} {id} {what}.",
            hint="Give a trial, a model version, an experiment, or the job of a training.",
        )
    trial = rooms.experiments.trial(best)
    return kind, trial, _version_of(rooms, trial)


def _of_version(
    rooms: Rooms, kind: str, version: ModelVersion
) -> tuple[str, Trial, ModelVersion | None]:
    if version.trial is None:
        raise Invalid(
            "compare.kind",
            f"{version.model} version {version.version} was not trained by a trial.",
            hint="Compare versions that a training step made.",
        )
    return kind, rooms.experiments.trial(version.trial), version


def _version_of(rooms: Rooms, trial: Trial) -> ModelVersion | None:
    found = rooms.models.versions(global_id=trial.global_id)
    return next((one for one in found if one.trial == trial.id), None)


def _job_of(rooms: Rooms, trial: Trial) -> str:
    found = rooms.experiments.of_change(trial.global_id)[0]
    return next((one.job for one in found if one.id == trial.experiment), "")


def _told(
    subject: str, kind: str, trial: Trial, version: ModelVersion | None, job: str
) -> ComparedRun:
    title = f"trial {trial.number} ({short(trial.id)})"
    if version is not None:
        title = f"{version.model}@{version.version}"
        title += f", trial {trial.number}" if kind != "model_version" else ""
    return ComparedRun(
        subject=subject,
        kind=kind,
        id=version.id if version is not None and kind == "model_version" else trial.id,
        title=title,
        trial=trial.id,
        experiment=trial.experiment,
        job=job,
        model_version=version.id if version else None,
        global_id=trial.global_id,
        state=version.state if version else trial.state,
        seed=trial.seed,
        steps=trial.step,
        busy_s=trial.busy_s,
        feasible=not trial.breaches,
    )


def _on_test(kept: Metrics, version: ModelVersion) -> dict[str, float]:
    """On the frozen test rows: as the gate found them, else as they were when it was packaged."""
    return {f"{ON_TEST}{name}": value for name, value in {**kept.test, **version.metrics}.items()}


# rows -------------------------------------------------------------------------------------------


def _rows(columns: Sequence[Mapping[str, Any]]) -> tuple[ComparedRow, ...]:
    names = dict.fromkeys(name for one in columns for name in one)
    found = [(name, tuple(one.get(name) for one in columns)) for name in sorted(names)]
    return tuple(
        ComparedRow(name=name, values=values, differs=any(one != values[0] for one in values[1:]))
        for name, values in found
    )


def _configuration(step: StepDefinition | None) -> dict[str, object]:
    """What a step was told, by dotted names."""
    if step is None:
        return {}
    options = dict(step.options)
    if rule := options.pop("feasible", None):
        options["feasible"] = f"{rule['file']}:{rule['name']}"
    limits = {"timeout_s": step.timeout_s, "memory_bytes": step.memory_bytes}
    given = {**options, "parameters": step.parameters, **limits}
    return {name: value for name, value in _flat(given, "") if value not in (None, "", [], {})}


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# data and code ----------------------------------------------------------------------------------


def _data(rooms: Rooms, runs: Sequence[_Run]) -> Iterator[ComparedData]:
    features = [one.features for one in runs]
    test = [(one.version.test_commit or "") if one.version else "" for one in runs]
    yield from _same_repo(rooms, "features", features)
    yield from _same_repo(rooms, "test", test)
    kinds = {repo.name: repo.kind for repo in rooms.repos.list()}
    raw = [_raw(rooms, kinds, commit) for commit in features]
    known = {one for one in features if one}
    for repo in sorted({name for one in raw for name in one}):
        commits = [one.get(repo, "") for one in raw]
        if not set(commits) & known:  # else it has just been told as the features
            yield _compared(rooms, "source", repo, commits)


def _same_repo(rooms: Rooms, role: str, commits: Sequence[str]) -> Iterator[ComparedData]:
    repos = [_commit(rooms, one) for one in commits]
    names = dict.fromkeys(one.repo for one in repos if one is not None)
    for name in names:
        mine = [one.id if one is not None and one.repo == name else "" for one in repos]
        yield _compared(rooms, role, name, mine)


def _compared(rooms: Rooms, role: str, repo: str, commits: Sequence[str]) -> ComparedData:
    pairs = [
        _pair(rooms, at, commits[0], one)
        for at, one in enumerate(commits)
        if at and one != commits[0]
    ]
    return ComparedData(
        role=role,
        repo=repo,
        commits=tuple(commits),
        pairs=tuple(one for one in pairs if one is not None),
    )


def _pair(rooms: Rooms, at: int, first: str, other: str) -> DataPair | None:
    """How the data of a run differ from the first's; None where only the commit is another."""
    if not first or not other:
        which = "this run" if not other else "the first run"
        return DataPair(run=at, note=f"Of {which} it is not known, or it has no such data.")
    sides = _commit(rooms, first), _commit(rooms, other)
    if sides[0] is None or sides[1] is None:
        return DataPair(run=at, note="One of the commits was squashed or dropped since.")
    if sides[0].tree == sides[1].tree:
        return None
    counts = {"added": 0, "deleted": 0, "changed": 0}
    for change in rooms.repos.diff(sides[0], sides[1]):
        counts[change.kind] = counts.get(change.kind, 0) + 1
    note = ""
    try:
        files = compare(rooms, first, other, paths=(), key=(), limit=ROWS, files=FILES)
    except ClewError as error:
        files, note = [], error.message
    return DataPair(
        run=at,
        added=counts["added"],
        removed=counts["deleted"],
        changed=counts["changed"],
        files=tuple(files[:FILES]),
        note=note,
    )


def _raw(rooms: Rooms, kinds: Mapping[str, str], commit_id: str) -> dict[str, str]:
    """Commits of source repos that a commit goes back to, by repo; the nearest of each."""
    found: dict[str, str] = {}
    queue, seen = [commit_id], {commit_id}
    while queue and len(seen) <= _SOURCES:
        commit = _commit(rooms, queue.pop(0))
        if commit is None:
            continue
        if kinds.get(commit.repo) == "source":
            found.setdefault(commit.repo, commit.id)
        for one in commit.provenance:
            if one not in seen:
                seen.add(one)
                queue.append(one)
    return found


def _commit(rooms: Rooms, id: str) -> Commit | None:
    try:
        return rooms.repos.commit_by_id(id) if id else None
    except NotFound:
        return None


def _code(rooms: Rooms, runs: Sequence[_Run]) -> Iterator[ComparedCode]:
    first = runs[0].told.job
    for at, one in enumerate(runs):
        if not at:
            continue
        if runs[0].foreign is not None or one.foreign is not None:
            yield ComparedCode(run=at, causes=(), note=_code_of_mlflow(runs[0], one))
            continue
        if one.told.job == first:
            yield ComparedCode(run=at, causes=())
            continue
        found = rooms.pipelines.knowing.between(first, one.told.job)
        if found is None:
            note = "What one of the jobs ran is not known any more."
            yield ComparedCode(run=at, causes=(), note=note)
            continue
        yield ComparedCode(run=at, causes=tuple(cause for cause in found if cause.kind in _CODE))


def _code_of_mlflow(first: _Run, other: _Run) -> str:
    """What is known where one of two runs is of an MLflow client: no more than versions."""
    if first.foreign and first.foreign == other.foreign:
        return f"Both ran at the Git commit {first.foreign}."
    told = [
        f"{one.told.title} at {f'Git commit {one.foreign}' if one.foreign else 'no known version'}"
        for one in (first, other)
        if one.foreign is not None
    ]
    return f"The code cannot be held side by side: an MLflow client ran {', and '.join(told)}."


def _notes(runs: Iterable[_Run]) -> Iterator[str]:
    for one in runs:
        if one.foreign is not None:
            yield f"{one.told.title} is of an MLflow client: what is known is what it has logged."
        elif one.version is None:
            yield f"{one.told.title} has no model version: what is known of it is what it reported."
        if one.breaches:
            broken = ", ".join(one.breaches)
            yield f"{one.told.title} is infeasible: it breaks {broken}."
