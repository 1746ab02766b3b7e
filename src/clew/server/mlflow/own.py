"""MLflow's own database as Clew sees it: beside the workspace's, written together with MLflow.

Knows where it is and what Clew asks of it; its tables are made by MLflow's application.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import sqlalchemy as sa

from clew.db import Database
from clew.server.mlflow import tables
from clew.server.mlflow.grounds import Grounds
from clew.server.mlflow.hot import GLOBAL_ID

_REMEMBERED = 10_000


class Own:
    """The rows of MLflow. Thread-safe. Ask nothing of it before MLflow's application has run."""

    def __init__(self, grounds: Grounds) -> None:
        url = sa.make_url(grounds.database_url)
        self.kind = "sqlite" if url.get_backend_name() == "sqlite" else "postgresql"
        self._schema = ""
        if self.kind == "sqlite":
            url = url.set(database=str(grounds.home / "mlflow.db"))
            self.url = url.render_as_string(hide_password=False)
            self.mlflow_url = self.url
        else:
            self._schema = f"{_schema_of(url)}mlflow"
            url = url.update_query_dict({"options": f"-csearch_path={self._schema}"})
            self.url = url.render_as_string(hide_password=False)
            driven = url.set(drivername="postgresql+psycopg")
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


def _schema_of(url: sa.URL) -> str:
    """What comes before the name of MLflow's schema: that of the workspace's own, if it has one."""
    options = url.query.get("options", "")
    text = options if isinstance(options, str) else " ".join(options)
    _, found, rest = text.partition("search_path=")
    name = rest.split()[0].split(",")[0].strip('"') if found and rest.split() else ""
    return f"{name}_" if name and name != "public" else ""
