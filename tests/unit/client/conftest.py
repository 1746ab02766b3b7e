"""The server's fixtures, for the client that speaks to it."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "clew_tests_server_fixtures", Path(__file__).parents[1] / "server" / "conftest.py"
)
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
fake, verbs, url, serving = _fixtures.fake, _fixtures.verbs, _fixtures.url, _fixtures.serving
