"""Files of commits as tables: SQL over them, and how two versions of a file differ.

Knows files, not repos: which version a name means, it is told.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand

if TYPE_CHECKING:
    from clew.tables.asking import Query
    from clew.tables.comparing import compare_tables
    from clew.tables.tabular import TABULAR
    from clew.tables.texts import LARGEST_TEXT, compare_texts

__all__ = ["LARGEST_TEXT", "TABULAR", "Query", "compare_tables", "compare_texts"]

__getattr__ = on_demand(
    __name__,
    {
        "LARGEST_TEXT": "texts",
        "Query": "asking",
        "TABULAR": "tabular",
        "compare_tables": "comparing",
        "compare_texts": "texts",
    },
)
