"""MLflow's own database as Clew sees it: beside the workspace's, written together with MLflow.

Knows where it is and what Clew asks of it; its tables are made by MLflow's application.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import sqlalchemy as sa

from clew.db import Database, beside
from clew.server.mlflow import tables
from clew.server.mlflow.grounds import Grounds
from clew.server.mlflow.hot import GLOBAL_ID

_REMEMBERED = 10_000


class Own:
    """The rows of MLflow. Thread-safe. Ask nothing of it before MLflow's application has run."""

    def __init__(self, grounds: Grounds) -> None:
        url, self._schema = beside(grounds.database_url, grounds.home, "mlflow")
        self.kind = "postgresql" if self._schema else "sqlite"
        self.url = url.render_as_string(hide_password=False)
        driven = url.set(drivername="postgresql+psycopg") if self._schema else url
        self.mlflow_url = driven.render_as_string(hide_password=False)
        self.db = Database.open(self.url)
        self._grounds = grounds
        self._known = OrderedDict[str, str]()
        self._lock = Lock()

    def make(self) -> None:
        """Make the place of MLflow's tables, before MLflow's application makes these."""
        if self._schema:
            with self._grounds.db.begin() as tx:
                tx.execute(sa.text(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"'))
        else:
            with self.db.read():  # makes the file, in the mode in which several may write
                pass

    def global_id(self, run: str) -> str:
        """The global id of a run; '' where there is no such run, or it has none."""
        with self._lock:
            if run in self._known:
                self._known.move_to_end(run)
                return self._known[run]
        with self.db.read() as tx:
            found: dict[str, str] = {
                row.key: row.value for row in tx.execute(tables.TAGS, {"ids": [run]})
            }
        if GLOBAL_ID in found:
            with self._lock:
                self._known[run] = found[GLOBAL_ID]
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return found.get(GLOBAL_ID, "")

    def run_of(self, thing: str) -> str:
        """The run that a logged model (``m-…``) came from, or the run of this id; '' for none."""
        if not thing.startswith("m-"):
            return thing if len(thing) == 32 else ""
        with self.db.read() as tx:
            found = tx.execute(tables.SOURCE_RUN, {"id": thing}).scalar()
        return str(found or "")

    def experiment(self, name: str) -> str:
        """The id of the experiment of a name; '' where there is none, or it is deleted."""
        with self.db.read() as tx:
            found = tx.execute(tables.EXPERIMENT, {"name": name}).scalar()
        return "" if found is None else str(found)

    def close(self) -> None:
        """Let go of the connections."""
        self.db.close()
