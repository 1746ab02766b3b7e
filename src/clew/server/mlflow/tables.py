"""Those tables of MLflow's own database that Clew writes to or reads, as MLflow 3.17 makes them.

Knows MLflow's schema and nothing of its application, which makes and upgrades the tables. They are
not on Clew's own metadata: they are in another database.
"""

from __future__ import annotations

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

_mlflow = MetaData()

runs = Table(
    "runs",
    _mlflow,
    Column("run_uuid", String, primary_key=True),
    Column("name", String),
    Column("lifecycle_stage", String),
    Column("artifact_uri", String),
    Column("experiment_id", Integer),
)
experiments = Table(
    "experiments",
    _mlflow,
    Column("experiment_id", Integer, primary_key=True),
    Column("name", String),
    Column("lifecycle_stage", String),
)
metrics = Table(
    "metrics",
    _mlflow,
    Column("key", String, primary_key=True),
    Column("timestamp", BigInteger, primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("run_uuid", String, primary_key=True),
    Column("value", Float, primary_key=True),
    Column("is_nan", Boolean, primary_key=True),
)
latest_metrics = Table(
    "latest_metrics",
    _mlflow,
    Column("key", String, primary_key=True),
    Column("run_uuid", String, primary_key=True),
    Column("value", Float),
    Column("timestamp", BigInteger),
    Column("step", BigInteger),
    Column("is_nan", Boolean),
)
params = Table(
    "params",
    _mlflow,
    Column("key", String, primary_key=True),
    Column("run_uuid", String, primary_key=True),
    Column("value", String),
)
tags = Table(
    "tags",
    _mlflow,
    Column("key", String, primary_key=True),
    Column("run_uuid", String, primary_key=True),
    Column("value", String),
)
logged_models = Table(
    "logged_models",
    _mlflow,
    Column("model_id", String, primary_key=True),
    Column("source_run_id", String),
    Column("name", String),
)
registered_models = Table(
    "registered_models",
    _mlflow,
    Column("workspace", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("creation_time", BigInteger),
    Column("last_updated_time", BigInteger),
    Column("description", String),
)
model_versions = Table(
    "model_versions",
    _mlflow,
    Column("workspace", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("creation_time", BigInteger),
    Column("last_updated_time", BigInteger),
    Column("description", String),
    Column("user_id", String),
    Column("current_stage", String),
    Column("source", String),
    Column("storage_location", String),
    Column("run_id", String),
    Column("status", String),
)
model_version_tags = Table(
    "model_version_tags",
    _mlflow,
    Column("workspace", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String),
)
registered_model_tags = Table(
    "registered_model_tags",
    _mlflow,
    Column("workspace", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String),
)
aliases = Table(
    "registered_model_aliases",
    _mlflow,
    Column("workspace", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("alias", String, primary_key=True),
    Column("version", Integer),
)

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
