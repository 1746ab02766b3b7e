"""What the tests of several rooms share: a database, a store and repos in the test's directory."""

from __future__ import annotations

import pytest

from clew.db import Database
from clew.repos import Repos
from clew.store import Store
from clew.testing.postgres import database_url


@pytest.fixture
def db(tmp_path):
    database = Database.open(database_url(tmp_path))
    database.create()
    yield database
    database.close()


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


@pytest.fixture
def repos(db, store):
    repos = Repos(db, store)
    repos.create("raw")
    return repos
