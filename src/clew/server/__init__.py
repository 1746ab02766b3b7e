"""The workspace over HTTP: the API with its OpenAPI, and the pages people look at."""

from clew.server.app import create_app
from clew.server.call import ServedVerbs
from clew.server.run import serve

__all__ = ["ServedVerbs", "create_app", "serve"]
