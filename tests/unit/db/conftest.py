"""A database of SQLite in the test's directory, whatever the other tests run on."""

from __future__ import annotations

import pytest

from clew.db import Database


@pytest.fixture
def db(tmp_path):
    database = Database.open(f"sqlite:///{tmp_path / 'clew.db'}")
    database.create()
    yield database
    database.close()
