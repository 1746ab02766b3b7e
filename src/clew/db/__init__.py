"""Rows: one database, its transactions, the events that they record, and lock files.

Knows no table of any room: rooms declare theirs on ``metadata`` and own them.
"""

from clew.db.database import ENGINE_LOCK, Database, Identity, Tx, fact
from clew.db.events import Events
from clew.db.locks import FileLock, Lock
from clew.db.neighbours import beside
from clew.db.schema import Json, metadata

__all__ = [
    "ENGINE_LOCK",
    "Database",
    "Events",
    "FileLock",
    "Identity",
    "Json",
    "Lock",
    "Tx",
    "beside",
    "fact",
    "metadata",
]
