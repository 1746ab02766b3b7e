"""Verbs that few processes ask for, loaded when somebody does: they bring Arrow and DuckDB.

Knows names only.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand

if TYPE_CHECKING:
    from clew.workspace.comparing import compare, compared
    from clew.workspace.querying import into, table, to_file

__all__ = ["compare", "compared", "into", "table", "to_file"]

__getattr__ = on_demand(
    __name__,
    {
        "compare": "comparing",
        "compared": "comparing",
        "into": "querying",
        "table": "querying",
        "to_file": "querying",
    },
    package="clew.workspace",
)
