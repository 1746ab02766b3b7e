"""What the log keeps of a request: which ones, and which columns of them.

Knows no files. What is left out here is never written, not even to the spool.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from hashlib import blake2b
from typing import Any
from zlib import crc32

import orjson

from clew.base.iso import iso_text

UNSAID = "What was said of it is not kept: columns of this endpoint are redacted."


def is_sampled(prediction_id: str, share: float) -> bool:
    """Whether a prediction is one that a log of this share keeps: its id alone says it."""
    return share >= 1 or crc32(prediction_id.encode()) < share * 2**32


def unit_of(key: str) -> str:
    """What stands for a key in the log: its digest."""
    return blake2b(key.encode(), digest_size=8).hexdigest() if key else ""


def kept(columns: dict[str, Any], rows: int, redacted: Collection[str]) -> bytes:
    """The JSON of columns (a list or array of one value a row each) without those redacted."""
    told = {
        name: values if isinstance(values, list) else _plain(values)
        for name, values in columns.items()
        if name not in redacted
    }
    return orjson.dumps({"columns": told, "rows": rows}, default=_text)


def _text(value: object) -> str:
    return iso_text(value) if isinstance(value, timedelta) else str(value)


def _plain(values: Any) -> list[object]:
    listed = values.tolist()
    return listed if isinstance(listed, list) else [listed]
