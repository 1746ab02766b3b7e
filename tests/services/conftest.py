"""Real servers for the tests in this directory: `make test-services` starts them by itself.

A test that lacks one is skipped, and says which.
"""

import pytest

from clew.testing.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server with a database."""
    try:
        server = PostgresServer.make()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    yield server
    server.remove()
