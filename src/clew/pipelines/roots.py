"""What of the store pipelines need besides commits: code of their versions, outputs of datums.

Knows rows; knows nothing of how garbage is collected.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from clew.db import Tx
from clew.pipelines import tables


def roots(tx: Tx) -> Iterator[str]:
    """Snapshots of all versions, and the files that datums have made and need not make again."""
    versions = tables.pipeline_versions
    for definition in tx.execute(select(versions.c.definition)).scalars():
        yield from _snapshots(definition)
    datums = tables.datums
    done = select(datums.c.outputs, datums.c.aside).where(datums.c.state == "done")
    for row in tx.execute(done):
        for _path, digest, _size in (*row.outputs, *row.aside):
            yield digest


def _snapshots(value: object) -> Iterator[str]:
    """Every ``snapshot`` in a definition, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "snapshot" and isinstance(inner, str) and inner:
                yield inner
            else:
                yield from _snapshots(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _snapshots(inner)
