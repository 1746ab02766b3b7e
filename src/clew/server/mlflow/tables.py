"""Those tables of MLflow's own database that Clew writes to or reads, as MLflow 3.17 makes them.

Knows MLflow's schema and nothing of its application, which makes and upgrades the tables. They are
not on Clew's own metadata: they are in another database.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Executable,
    Float,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    bindparam,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

_mlflow = MetaData()
_Kinds = Mapping[str, type[TypeEngine[Any]]]


def _table(name: str, key: _Kinds, rest: _Kinds) -> Table:
    """A table by the types of its columns: those of its primary key, and those beside it."""
    of_key = [Column(column, kind, primary_key=True) for column, kind in key.items()]
    return Table(name, _mlflow, *of_key, *(Column(column, kind) for column, kind in rest.items()))


_TEXT: _Kinds = {"value": String}
_OF_RUN: _Kinds = {"key": String, "run_uuid": String}
_OF_MODEL: _Kinds = {"workspace": String, "name": String}
_OF_VERSION: _Kinds = {**_OF_MODEL, "version": Integer}
_MEASURED: _Kinds = {"value": Float, "timestamp": BigInteger, "step": BigInteger, "is_nan": Boolean}
_TOLD: _Kinds = {
    "creation_time": BigInteger,
    "last_updated_time": BigInteger,
    "description": String,
}

runs = _table(
    "runs",
    {"run_uuid": String},
    {"name": String, "lifecycle_stage": String, "artifact_uri": String, "experiment_id": Integer},
)
experiments = _table(
    "experiments", {"experiment_id": Integer}, {"name": String, "lifecycle_stage": String}
)
metrics = _table("metrics", {**_OF_RUN, **_MEASURED}, {})
latest_metrics = _table("latest_metrics", _OF_RUN, _MEASURED)
params = _table("params", _OF_RUN, _TEXT)
tags = _table("tags", _OF_RUN, _TEXT)
logged_models = _table(
    "logged_models", {"model_id": String}, {"source_run_id": String, "name": String}
)
registered_models = _table("registered_models", _OF_MODEL, _TOLD)
model_versions = _table(
    "model_versions",
    _OF_VERSION,
    {
        **_TOLD,
        "user_id": String,
        "current_stage": String,
        "source": String,
        "storage_location": String,
        "run_id": String,
        "status": String,
    },
)
model_version_tags = _table("model_version_tags", {**_OF_VERSION, "key": String}, _TEXT)
aliases = _table("registered_model_aliases", {**_OF_MODEL, "alias": String}, {"version": Integer})

# Which of some runs are there and not deleted: only those take what is logged.
ACTIVE: Select[*tuple[Any, ...]] = select(runs.c.run_uuid).where(
    runs.c.run_uuid.in_(bindparam("ids", expanding=True)), runs.c.lifecycle_stage == "active"
)

# What parameters of a run are already: they never change.
PARAMS: Select[*tuple[Any, ...]] = select(params.c.key, params.c.value).where(
    params.c.run_uuid == bindparam("run"), params.c.key.in_(bindparam("keys", expanding=True))
)

# The tags of a run by name: what Clew has written with it.
TAGS: Select[*tuple[Any, ...]] = select(tags.c.run_uuid, tags.c.key, tags.c.value).where(
    tags.c.run_uuid.in_(bindparam("ids", expanding=True)), tags.c.key.like("clew.%")
)

# The experiment of a name, if it is not deleted.
EXPERIMENT: Select[*tuple[Any, ...]] = select(experiments.c.experiment_id).where(
    experiments.c.name == bindparam("name"), experiments.c.lifecycle_stage == "active"
)

# The run that made a logged model.
SOURCE_RUN: Select[*tuple[Any, ...]] = select(logged_models.c.source_run_id).where(
    logged_models.c.model_id == bindparam("id")
)

# Which of some names a registered model has, and which of them Clew has put there.
NAMED: Select[*tuple[Any, ...]] = select(registered_models.c.name).where(
    registered_models.c.name.in_(bindparam("names", expanding=True))
)
SHOWN: Select[*tuple[Any, ...]] = (
    select(model_version_tags.c.name)
    .where(
        model_version_tags.c.name.in_(bindparam("names", expanding=True)),
        model_version_tags.c.key == "clew.model_version",
    )
    .distinct()
)

# Runs with their global ids, a page at a time in the order of their ids.
RUNS: Select[*tuple[Any, ...]] = (
    select(runs.c.run_uuid, runs.c.name, runs.c.experiment_id, tags.c.value)
    .join(tags, tags.c.run_uuid == runs.c.run_uuid)
    .where(tags.c.key == "clew.global_id", runs.c.run_uuid > bindparam("after"))
    .order_by(runs.c.run_uuid)
    .limit(bindparam("limit"))
)


@cache
def latest(kind: str) -> Executable:
    """The upsert of a latest value: only a later one (step, then time, then value) takes over.

    As ``_update_latest_metrics_if_necessary`` of MLflow's SqlAlchemyStore. ``kind``: ``sqlite`` or
    ``postgresql``.
    """
    insert = sqlite.insert if kind == "sqlite" else postgresql.insert
    statement = insert(latest_metrics)
    new, old = statement.excluded, latest_metrics.c
    names = ("value", "timestamp", "step", "is_nan")
    return statement.on_conflict_do_update(
        index_elements=["key", "run_uuid"],
        set_={name: new[name] for name in names},
        where=tuple_(new.step, new.timestamp, new.value)
        > tuple_(old.step, old.timestamp, old.value),
    )
