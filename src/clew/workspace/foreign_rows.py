"""What MLflow's own database says of runs and registered models, read and never written.

Knows MLflow's schema (3.x) as far as a card asks for it; who writes it is the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from clew.base.errors import NotFound
from clew.db import Database, Tx, beside

_RUN = text(
    "SELECT r.run_uuid, r.name, r.status, r.user_id, r.start_time, r.end_time, r.artifact_uri,"
    " r.source_name, e.name AS experiment FROM runs r"
    " JOIN experiments e ON e.experiment_id = r.experiment_id WHERE r.run_uuid = :run"
)
_PARAMS = text("SELECT key, value FROM params WHERE run_uuid = :run ORDER BY key")
_TAGS = text("SELECT key, value FROM tags WHERE run_uuid = :run ORDER BY key")
_METRICS = text(
    "SELECT key, value, is_nan, step FROM latest_metrics WHERE run_uuid = :run ORDER BY key"
)
_DATASETS = text(
    "SELECT i.input_uuid, d.name, d.digest, d.dataset_source_type, d.dataset_source,"
    " d.dataset_schema, d.dataset_profile FROM inputs i"
    " JOIN datasets d ON d.dataset_uuid = i.source_id"
    " WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id = :run"
    " ORDER BY d.name, d.digest, i.input_uuid"
)
_CONTEXTS = text(
    "SELECT t.input_uuid, t.value FROM input_tags t JOIN inputs i ON i.input_uuid = t.input_uuid"
    " WHERE i.destination_id = :run AND t.name = 'mlflow.data.context'"
)
_LOGGED_OF = text(
    "SELECT model_id, name, artifact_location, source_run_id FROM logged_models"
    " WHERE source_run_id = :run ORDER BY creation_timestamp_ms DESC, model_id"
)
_LOGGED = text(
    "SELECT model_id, name, artifact_location, source_run_id FROM logged_models"
    " WHERE model_id = :model"
)
_MODEL = text("SELECT name, description FROM registered_models WHERE name = :name")
_VERSION = text(
    "SELECT name, version, description, source, storage_location, run_id, current_stage,"
    " creation_time, user_id FROM model_versions WHERE name = :name AND version = :version"
)
_NEWEST = text("SELECT max(version) FROM model_versions WHERE name = :name")
_VERSION_TAGS = text(
    "SELECT key, value FROM model_version_tags WHERE name = :name AND version = :version"
    " ORDER BY key"
)
_ALIAS = text("SELECT version FROM registered_model_aliases WHERE name = :name AND alias = :alias")
_ALIASES = text(
    "SELECT alias FROM registered_model_aliases WHERE name = :name AND version = :version"
    " ORDER BY alias"
)


class ForeignRows:
    """One look at the rows: everything that it gives is of the same moment."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    def run(self, run: str) -> Any:
        """The row of a run. Raises NotFound ``run.unknown``."""
        found = self._tx.execute(_RUN, {"run": run}).first()
        if found is None:
            raise unknown_run(run)
        return found

    def pairs(self, what: str, run: str) -> dict[str, str]:
        """``params`` or ``tags`` of a run."""
        rows = self._tx.execute(_PARAMS if what == "params" else _TAGS, {"run": run})
        return {row.key: row.value or "" for row in rows}

    def metrics(self, run: str) -> list[Any]:
        """The latest of each: key, value, is_nan, step."""
        return list(self._tx.execute(_METRICS, {"run": run}))

    def datasets(self, run: str) -> list[tuple[Any, str]]:
        """Each with what it was for."""
        contexts = {row.input_uuid: row.value for row in self._tx.execute(_CONTEXTS, {"run": run})}
        rows = self._tx.execute(_DATASETS, {"run": run})
        return [(row, contexts.get(row.input_uuid, "")) for row in rows]

    def logged_models(self, run: str) -> list[Any]:
        """The models that a run has logged, the newest first."""
        return list(self._tx.execute(_LOGGED_OF, {"run": run}))

    def logged_model(self, model: str) -> Any:
        """The row of ``m-…``, None where there is none."""
        return self._tx.execute(_LOGGED, {"model": model}).first()

    def version(self, name: str, version: str, alias: str) -> tuple[Any, Any]:
        """The rows of a registered model and of one version, by number, alias, or the newest.

        Raises NotFound ``model.unknown``.
        """
        model = self._tx.execute(_MODEL, {"name": name}).first()
        number: Any = version
        if alias:
            of = {"name": name, "alias": alias}
            number = self._tx.execute(_ALIAS, of).scalar()
        elif version in {"", "latest"}:
            number = self._tx.execute(_NEWEST, {"name": name}).scalar()
        found = None
        if str(number or "").isdecimal():
            found = self._tx.execute(_VERSION, {"name": name, "version": int(number)}).first()
        if model is None or found is None:
            raise unknown_model(name, version or (f"@{alias}" if alias else ""))
        return model, found

    def version_tags(self, name: str, version: int) -> dict[str, str]:
        """Tags of a version."""
        rows = self._tx.execute(_VERSION_TAGS, {"name": name, "version": version})
        return {row.key: row.value or "" for row in rows}

    def aliases(self, name: str, version: int) -> tuple[str, ...]:
        """Aliases that stand on a version."""
        rows = self._tx.execute(_ALIASES, {"name": name, "version": version})
        return tuple(row.alias for row in rows)


@contextmanager
def foreign_rows(database_url: str, home: Path, subject: str) -> Iterator[ForeignRows]:
    """A look at MLflow's rows beside a workspace.

    Raises:
        NotFound: ``run.unknown``, ``model.unknown`` where no MLflow client ever logged here.
    """
    url, _ = beside(database_url, home, "mlflow")
    name = subject.partition(":/")[2].strip("/")
    missing = unknown_run(name) if subject.startswith("runs:/") else unknown_model(name, "")
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        raise missing
    rows = Database.open(url.render_as_string(hide_password=False))
    try:
        with rows.read() as tx:
            yield ForeignRows(tx)
    except DBAPIError as error:
        if "no such table" in str(error) or "does not exist" in str(error):
            raise missing from None
        raise
    finally:
        rows.close()


def unknown_run(run: str) -> NotFound:
    """Nobody has logged such a run."""
    return NotFound(
        "run.unknown",
        f"No MLflow client has logged a run {run!r} here.",
        hint="See the runs: mlflow runs list --experiment-id ID, or the page /mlflow.",
    )


def unknown_model(name: str, version: str) -> NotFound:
    """MLflow's registry has no such version."""
    return NotFound(
        "model.unknown",
        f"MLflow's registry here has no model {name!r}" + (f" {version}" if version else "") + ".",
        hint="Name it as models:/NAME/VERSION or models:/NAME@ALIAS; those that Clew trained are "
        "listed by clew models.",
    )


def plain_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that people set: those of MLflow and Clew themselves are told in their places."""
    return {k: v for k, v in tags.items() if not k.startswith(("mlflow.", "clew."))}
