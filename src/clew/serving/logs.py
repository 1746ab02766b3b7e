"""What a serving process says of itself on its error stream: lines of text, or of JSON.

Knows nothing of requests: those are in the prediction log.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime

import orjson

_TEXT = "%(asctime)s %(name)s %(levelname)s %(message)s"
_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """A record as one line of JSON: ``at`` (UTC), ``level``, ``logger``, ``message``, ``pid``, what
    the record was given as ``extra``, and ``error`` with its traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        said: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": os.getpid(),
        }
        said |= {name: value for name, value in vars(record).items() if name not in _FIELDS}
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return orjson.dumps(said, default=str).decode()


def configure(*, json: bool) -> None:
    """Say what is worth saying on the error stream, as lines of JSON or of text."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if json else logging.Formatter(_TEXT))
    logging.basicConfig(handlers=[handler], force=True)
