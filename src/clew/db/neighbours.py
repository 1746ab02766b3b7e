"""Where rows of another application are that stand beside those of a workspace.

Knows addresses of databases; nothing of tables.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa


def beside(database_url: str, home: Path, name: str) -> tuple[sa.URL, str]:
    """The address of the neighbour ``name``, and its schema where it is in the same database.

    Beside SQLite it is a file of its own in ``home``; in PostgreSQL a schema whose name begins
    with that of the workspace's own, where it has one.
    """
    url = sa.make_url(database_url)
    if url.get_backend_name() == "sqlite":
        return url.set(database=str(home / f"{name}.db")), ""
    schema = f"{_schema_of(url)}{name}"
    return url.update_query_dict({"options": f"-csearch_path={schema}"}), schema


def _schema_of(url: sa.URL) -> str:
    options = url.query.get("options", "")
    text = options if isinstance(options, str) else " ".join(options)
    _, found, rest = text.partition("search_path=")
    name = rest.split()[0].split(",")[0].strip('"') if found and rest.split() else ""
    return f"{name}_" if name and name != "public" else ""
