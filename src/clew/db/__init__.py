"""Rows: one database, its transactions, the events that they record, and lock files.

Knows no table of any room: rooms declare theirs on ``metadata`` and own them.
"""

from clew.db.database import Database, Tx
from clew.db.events import Events
from clew.db.locks import FileLock
from clew.db.schema import Json, metadata

__all__ = ["Database", "Events", "FileLock", "Json", "Tx", "metadata"]
