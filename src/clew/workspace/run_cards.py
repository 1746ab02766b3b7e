"""The card of a run or registered version of an MLflow client, made of all that is known of it.

Knows MLflow's rows, the repo of its artifacts and the events; how a card reads is for
``run_card_text``. What is not known is said to be unknown, and not left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from clew.base.clock import from_us
from clew.base.errors import Invalid, NotFound
from clew.base.records.run_cards import LoggedDataset, LoggedModel, RegistryAct, RunCard
from clew.workspace.foreign_rows import ForeignRows, foreign_rows, plain_tags
from clew.workspace.mlmodels import logged_model
from clew.workspace.rooms import Rooms
from clew.workspace.run_card_text import markdown_of

REPO = "mlflow"
"""What MLflow's clients log as files is in this repo."""

RUNS, MODELS = "runs:/", "models:/"
_ARTIFACTS = "mlflow-artifacts:/"
_GLOBAL_ID, _VERSION_ID = "clew.global_id", "clew.model_version"
_ACTS = ("mlflow.version_created", "mlflow.alias_moved")
_MOST_ACTS = 100_000
_RUN_OF = re.compile(r"^runs:/([^/]+)(?:/(.*))?$")


def is_foreign(subject: str) -> bool:
    """Whether a name is one of MLflow's: ``runs:/ID``, ``models:/NAME/VERSION``."""
    return subject.startswith((RUNS, MODELS))


def run_card(rooms: Rooms, subject: str) -> RunCard:
    """The card of ``runs:/ID``, ``models:/NAME/VERSION``, ``models:/NAME@ALIAS``.

    Raises:
        NotFound: ``run.unknown``, ``model.unknown``.
        Invalid: ``card.subject`` where it is no such name; ``card.of_clew`` where a pipeline has
            trained that version.
    """
    if not is_foreign(subject):
        raise Invalid(
            "card.subject",
            f"{subject!r} is no name of MLflow's.",
            hint="Name a run, runs:/ID, or a version: models:/NAME/VERSION, models:/NAME@ALIAS.",
        )
    settings = rooms.settings
    with foreign_rows(settings.database_url, settings.home, subject) as rows:
        if subject.startswith(RUNS):
            found = _RUN_OF.match(subject)
            card = _of_run(
                rooms, rows, RunCard(subject=subject, title=""), found[1] if found else ""
            )
        else:
            card = _of_version(rooms, rows, subject)
    card = replace(card, unknown=tuple(_unknown(card)))
    return replace(card, markdown=markdown_of(card))


def _of_version(rooms: Rooms, rows: ForeignRows, subject: str) -> RunCard:
    name, version, alias = _parts(subject)
    model, row = rows.version(name, version, alias)
    tags = rows.version_tags(row.name, row.version)
    if _VERSION_ID in tags:
        raise Invalid(
            "card.of_clew",
            f"{subject} was trained by a pipeline, and has a card of its own.",
            hint=f"clew card {tags[_VERSION_ID]}",
        )
    card = RunCard(
        subject=f"{MODELS}{row.name}/{row.version}",
        title=f"{row.name} version {row.version}",
        description="\n\n".join(one for one in (model.description, row.description) if one),
        model=row.name,
        version=str(row.version),
        aliases=rows.aliases(row.name, row.version),
        stage="" if row.current_stage in {None, "None"} else row.current_stage,
        version_tags=plain_tags(tags),
        global_id=tags.get(_GLOBAL_ID, ""),
        started_at=_time(row.creation_time),
        user=row.user_id or "",
        history=tuple(_history(rooms, row.name)),
    )
    logged = _model_of_source(rooms, rows, row)
    run = row.run_id or _run_of_source(rows, str(row.source or ""))
    if run:
        try:
            return _of_run(rooms, rows, card, run, logged)
        except NotFound:
            return replace(card, run=run, logged=logged)  # deleted for good since
    return replace(card, logged=logged)


def _of_run(
    rooms: Rooms, rows: ForeignRows, card: RunCard, run: str, logged: LoggedModel | None = None
) -> RunCard:
    row = rows.run(run)
    tags = rows.pairs("tags", run)
    metrics = rows.metrics(run)
    return replace(
        card,
        subject=card.subject if card.model else f"{RUNS}{run}",
        title=card.title or f"run {row.name or run}",
        description=card.description or tags.get("mlflow.note.content", ""),
        run=run,
        run_name=row.name or "",
        experiment=row.experiment,
        state=str(row.status or "").lower(),
        user=row.user_id or tags.get("mlflow.user", "") or card.user,
        started_at=_time(row.start_time),
        ended_at=_time(row.end_time),
        global_id=card.global_id or tags.get(_GLOBAL_ID, ""),
        code=tags.get("mlflow.source.name", "") or row.source_name or "",
        code_version=tags.get("mlflow.source.git.commit", ""),
        params=rows.pairs("params", run),
        metrics={one.key: _number(one) for one in metrics},
        steps=max((one.step for one in metrics), default=0),
        tags=plain_tags(tags),
        datasets=tuple(_dataset(one, context) for one, context in rows.datasets(run)),
        logged=logged if card.model else _model_of_run(rooms, rows, row),
    )


# the model's files --------------------------------------------------------------------------------


def _model_of_run(rooms: Rooms, rows: ForeignRows, row: Any) -> LoggedModel | None:
    """The newest model that a run logged: one of MLflow 3's, or files below its artifacts."""
    for one in rows.logged_models(row.run_uuid):
        found = _at(rooms, one.artifact_location, id=one.model_id, name=one.name)
        if found is not None:
            return found
    tree, place, ends = _tree(rooms), _path(row.artifact_uri), "/MLmodel"
    if not tree or not place:
        return None
    paths = [one.path for one in rooms.store.entries(tree, place) if one.path.endswith(ends)]
    return _at(rooms, f"{_ARTIFACTS}{paths[0][1 : -len(ends)]}") if paths else None


def _model_of_source(rooms: Rooms, rows: ForeignRows, row: Any) -> LoggedModel | None:
    for place in (row.storage_location, row.source):
        text = str(place or "")
        if text.startswith(MODELS):
            one = rows.logged_model(text.removeprefix(MODELS))
            found = (
                _at(rooms, one.artifact_location, id=one.model_id, name=one.name) if one else None
            )
        elif (of_run := _RUN_OF.match(text)) is not None:
            try:
                base = _path(rows.run(of_run[1]).artifact_uri)
            except NotFound:
                continue
            found = _at(rooms, f"{_ARTIFACTS}{base.strip('/')}/{of_run[2] or ''}")
        else:
            found = _at(rooms, text)
        if found is not None:
            return found
    return None


def _at(rooms: Rooms, location: str | None, **named: str) -> LoggedModel | None:
    tree, place = _tree(rooms), _path(location)
    return logged_model(rooms.store, tree, place, **named) if tree and place else None


def _tree(rooms: Rooms) -> str:
    """The newest artifacts; '' where nobody has logged any."""
    with rooms.db.read() as tx:
        head = rooms.repos.latest(REPO, tx=tx)
    return head.tree if head is not None else ""


def _path(location: str | None) -> str:
    """Where artifacts are in the repo; '' where they are somewhere else."""
    text = str(location or "")
    inner = text.removeprefix(_ARTIFACTS).strip("/")
    return f"/{inner}" if text.startswith(_ARTIFACTS) and inner else ""


# names, numbers, times ----------------------------------------------------------------------------


def _parts(subject: str) -> tuple[str, str, str]:
    """Name, version and alias of ``models:/…``."""
    rest = subject.removeprefix(MODELS)
    name, slash, version = rest.rpartition("/")
    if slash:
        return name, version, ""
    name, _, alias = rest.partition("@")
    return name, "", alias


def _run_of_source(rows: ForeignRows, source: str) -> str:
    of_run = _RUN_OF.match(source)
    if of_run is not None:
        return of_run[1]
    one = rows.logged_model(source.removeprefix(MODELS)) if source.startswith(MODELS) else None
    return str(one.source_run_id or "") if one else ""


def _number(row: Any) -> float | None:
    value = float(row.value)
    return None if row.is_nan or not math.isfinite(value) else value


def _time(at_ms: int | None) -> Any:
    return from_us(int(at_ms) * 1000) if at_ms else None


def _dataset(row: Any, context: str) -> LoggedDataset:
    schema, profile = _json(row.dataset_schema), _json(row.dataset_profile)
    source = _json(row.dataset_source)
    columns = schema.get("mlflow_colspec") or []
    told = source.get("uri") or source.get("path") or source.get("url") or source.get("tags")
    rows = profile.get("num_rows")
    return LoggedDataset(
        name=row.name,
        digest=row.digest,
        context=context,
        source_type=row.dataset_source_type or "",
        source=told if isinstance(told, str) else "",
        rows=rows if isinstance(rows, int) else None,
        columns=tuple(
            (str(one.get("name", at)), str(one.get("type", "")))
            for at, one in enumerate(columns)
            if isinstance(one, dict)
        ),
    )


def _json(text: object) -> Mapping[str, Any]:
    try:
        told = json.loads(str(text or "{}"))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _history(rooms: Rooms, name: str) -> Iterator[RegistryAct]:
    """What events tell of a model of MLflow's registry, the oldest first."""
    for event in rooms.db.events.after(0, _ACTS, limit=_MOST_ACTS):
        data = event.data
        if data.get("model") != name:
            continue
        if event.kind == "mlflow.version_created":
            yield RegistryAct(at=event.at, what=f"version {data.get('version')} was registered")
        elif data.get("to"):
            yield RegistryAct(
                at=event.at, what=f"{data.get('alias')} moved to version {data['to']}"
            )
        else:
            yield RegistryAct(at=event.at, what=f"{data.get('alias')} was taken away")


def _unknown(card: RunCard) -> Iterator[str]:
    """What nobody has said, one sentence each."""
    if card.model and not card.run:
        yield "Which run made it: it was registered without one."
    if not card.params:
        yield "Parameters: none were logged."
    if not card.metrics:
        yield "Metrics: none were logged."
    if not card.datasets:
        yield "The data that it learned from: no dataset was logged (mlflow.log_input)."
    if not card.code_version:
        yield "The version of the code: it did not run in a Git repository."
    if card.logged is None:
        yield "The model itself: its files are not among the artifacts here."
    elif not card.logged.inputs:
        yield "What it takes: it was logged without a signature."
    elif not card.logged.requirements:
        yield "What it needs: no requirements were logged with it."
    yield "How good it is on rows that it never saw: no gate of Clew has judged it."
    yield (
        "Feature distributions, importances and learned numbers: Clew keeps these of models that "
        "its own pipelines train, or that are imported (clew models import)."
    )
    if not card.description:
        yield "What it is for: it has no description."
