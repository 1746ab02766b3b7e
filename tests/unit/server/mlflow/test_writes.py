"""Hot writes: many requests in few transactions, each row once, each answer after its commit."""

import asyncio

import pytest
import sqlalchemy as sa

from clew.db import Database
from clew.server.mlflow import tables
from clew.server.mlflow.hot import Logged, Metric
from clew.server.mlflow.writing import Writing


@pytest.fixture
def db(tmp_path):
    db = Database.open(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with db.begin() as tx:
        for table in (tables.runs, tables.metrics, tables.latest_metrics, tables.params):
            tx.execute(sa.schema.CreateTable(table))
        tx.execute(sa.schema.CreateTable(tables.tags))
        tx.execute(tables.runs.insert(), [{"run_uuid": "a", "lifecycle_stage": "active"}])
        tx.execute(tables.runs.insert(), [{"run_uuid": "gone", "lifecycle_stage": "deleted"}])
    yield db
    db.close()


@pytest.fixture
def log(db):
    writing = Writing(db, "sqlite")

    def log(*logged):
        async def all_at_once():
            return await asyncio.gather(*(writing.log(one) for one in logged))

        return asyncio.run(all_at_once())

    yield log
    writing.close()


def loss(step, value, run="a", at=1):
    return Logged(run=run, metrics=(Metric("loss", at, step, run, value, False),))


def rows(db, table):
    with db.read() as tx:
        return [dict(row._mapping) for row in tx.execute(sa.select(table))]


def test_what_is_logged_twice_is_there_once(db, log):
    assert log(*[loss(step, 0.5) for step in range(50)], loss(7, 0.5)) == [True] * 51
    assert log(loss(7, 0.5)) == [True]
    assert sorted(row["step"] for row in rows(db, tables.metrics)) == list(range(50))


def test_the_latest_value_is_that_of_the_greatest_step_then_time_then_value(db, log):
    log(loss(5, 0.1), loss(3, 0.9))
    log(loss(4, 0.8))
    log(loss(5, 0.3, at=0))
    (latest,) = rows(db, tables.latest_metrics)
    assert (latest["step"], latest["value"]) == (5, 0.1)
    log(loss(5, 0.2))
    assert rows(db, tables.latest_metrics)[0]["value"] == 0.2


def test_a_run_that_is_deleted_or_unknown_takes_nothing_and_hinders_nobody(db, log):
    found = log(loss(1, 1.0, run="gone"), loss(1, 1.0), loss(1, 1.0, run="never"))
    assert found == [False, True, False]
    assert {row["run_uuid"] for row in rows(db, tables.metrics)} == {"a"}


def test_a_parameter_never_changes(db, log):
    one = Logged(run="a", params=(("lr", "0.1"),))
    assert log(one) == [True]
    assert log(one) == [True]
    other = Logged(run="a", params=(("lr", "0.2"), ("depth", "3")), tags=(("t", "x"),))
    assert log(other) == [False]
    assert [(row["key"], row["value"]) for row in rows(db, tables.params)] == [("lr", "0.1")]
    assert rows(db, tables.tags) == []


def test_the_last_value_of_a_tag_counts(db, log):
    log(Logged(run="a", tags=(("t", "1"),)))
    log(Logged(run="a", tags=(("t", "2"), ("u", "3"))))
    assert {row["key"]: row["value"] for row in rows(db, tables.tags)} == {"t": "2", "u": "3"}
