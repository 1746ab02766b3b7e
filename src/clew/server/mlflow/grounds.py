"""What the MLflow door stands on, handed to it by whoever runs the server.

Plain values; knows no request.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from clew.db import Database
from clew.lineage import Lineage
from clew.models import Models
from clew.repos import Repos
from clew.store import Store


class Grounds(msgspec.Struct, frozen=True, kw_only=True):
    """Rooms of the workspace, and where MLflow keeps what is its own.

    ``database_url``: of the workspace; MLflow's rows are beside it (``mlflow.db``, or the schema
    ``mlflow`` of the same PostgreSQL database). ``home``: for logs. ``scratch``: where bodies wait.
    ``url``: of this server, once it listens. ``token``: what it asks of everybody.
    """

    db: Database
    lineage: Lineage
    repos: Repos
    store: Store
    models: Models
    database_url: str
    home: Path
    scratch: Path
    url: Callable[[], str]
    token: str
