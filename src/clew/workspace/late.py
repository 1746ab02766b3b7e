"""Verbs that few processes ask for, loaded when somebody does: they bring Arrow and DuckDB.

Knows names only.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand

if TYPE_CHECKING:
    from clew.workspace.card_making import card_of
    from clew.workspace.comparing import compare, compared
    from clew.workspace.importing import import_model
    from clew.workspace.querying import into, table, to_file
    from clew.workspace.run_cards import run_card
    from clew.workspace.side_by_side import compare_runs

__all__ = [
    "card_of",
    "compare",
    "compare_runs",
    "compared",
    "import_model",
    "into",
    "run_card",
    "table",
    "to_file",
]

__getattr__ = on_demand(
    __name__,
    {
        "card_of": "card_making",
        "compare": "comparing",
        "compare_runs": "side_by_side",
        "compared": "comparing",
        "import_model": "importing",
        "into": "querying",
        "run_card": "run_cards",
        "table": "querying",
        "to_file": "querying",
    },
    package="clew.workspace",
)
