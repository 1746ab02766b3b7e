"""The workspace over HTTP: the API with its OpenAPI, and the pages people look at."""

from clew.server.app import create_app
from clew.server.call import ServedVerbs
from clew.server.run import serve
from clew.server.whole import run_server

__all__ = ["ServedVerbs", "create_app", "run_server", "serve"]
