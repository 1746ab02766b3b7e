"""The prediction log as a reader sees it: one prediction by its id, or the newest.

Knows nothing of how records come into it. Looks into the commits first and into the spool for what
is not committed yet.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, select

from clew.base.errors import Conflict
from clew.base.ids import ALPHABET, PREDICTION_ID_LENGTH
from clew.base.records import Prediction, Signature
from clew.db import Database
from clew.repos import Repos
from clew.serving import parquet, tables
from clew.serving.columns import Answered, of_record, prediction_of, predictions_of
from clew.serving.revisions import definition_of
from clew.serving.spool import Record, records, segments
from clew.store import Store

_MINIMUM = 4


class PredictionLog:
    """Logged predictions. Thread-safe, reads only."""

    def __init__(self, db: Database, repos: Repos, store: Store, spool_dir: Path) -> None:
        self._db, self._repos, self._store, self._spool = db, repos, store, spool_dir

    def find(self, prediction_id: str) -> Prediction | None:
        """The prediction of an id or of the unique beginning of one; None where there is none.

        Raises:
            Conflict: ``id.ambiguous``.
        """
        if not _may_be_id(prediction_id):
            return None
        low = prediction_id
        high = prediction_id.ljust(PREDICTION_ID_LENGTH, ALPHABET[-1])
        found = {each.id: each for each in islice(self._committed(low, high), 2)}
        if len(found) < 2:
            for record in self._spooled():
                if low <= record.id <= high:
                    found.setdefault(record.id, self._of_spool(record))
        if len(found) > 1:
            raise Conflict(
                "id.ambiguous",
                f"{len(found)} predictions or more begin with {prediction_id!r}.",
                hint="Give more characters of the id.",
            )
        return next(iter(found.values()), None)

    def _committed(self, low: str, high: str) -> Iterator[Prediction]:
        with self._db.read() as tx:
            rows = tx.execute(tables.HOLDING, {"low": low, "high": high}).all()
        for row in rows:
            with self._open(row) as file:
                yield from predictions_of(parquet.rows_of_ids(file, low, high))

    def answers(self, ids: Collection[str]) -> dict[str, Answered]:
        """What feedback on predictions is joined to, by whole id; also of what is not committed."""
        found: dict[str, Answered] = {}
        for row, wanted in self._segments_of(sorted(ids)):
            with self._open(row) as file:
                for each in parquet.answers_of(file, wanted):
                    found.setdefault(str(each["id"]), Answered()).add_row(each)
        if len(found) < len(set(ids)):
            for record in self._spooled():
                if record.id in ids and record.id not in found:
                    found[record.id] = of_record(record)
        return found

    def holders(self, ids: Collection[str]) -> dict[str, str]:
        """Prediction → the commit of the log that it is in, of those that are committed."""
        found: dict[str, str] = {}
        for row, wanted in self._segments_of(sorted(ids)):
            with self._open(row) as file:
                found |= dict.fromkeys(parquet.ids_in(file, wanted), row.commit)
        return found

    def _segments_of(self, ids: list[str]) -> Iterator[tuple[Any, list[str]]]:
        """Files of the log that may hold some of these (sorted) ids, each with those ids."""
        if not ids:
            return
        table = tables.prediction_segments
        query = select(table).where(table.c.min_id <= ids[-1], table.c.max_id >= ids[0])
        with self._db.read() as tx:
            rows = tx.execute(query).all()
        for row in rows:
            low, high = bisect_left(ids, row.min_id), bisect_right(ids, row.max_id)
            if low < high:
                yield row, ids[low:high]

    def newest(self, endpoint: str, limit: int, *, revision: str | None = None) -> list[Prediction]:
        """The newest predictions of an endpoint (of one of its revisions), newest first.

        Raises:
            NotFound: ``endpoint.unknown``.
        """
        with self._db.read() as tx:
            definition_of(tx, endpoint)
            table = tables.prediction_segments
            query = select(table).where(table.c.endpoint == endpoint)
            if revision is not None:
                query = query.where(table.c.revision == revision)
            rows = tx.execute(query.order_by(table.c.max_id.desc()).limit(limit)).all()
        spooled = [
            record
            for record in self._spooled()
            if record.endpoint == endpoint and revision in {None, record.revision}
        ]
        found = {record.id: self._of_spool(record) for record in spooled[-limit:]}
        for row in rows:
            if len(found) >= limit and sorted(found)[-limit] > row.max_id:
                break
            with self._open(row) as file:
                for each in predictions_of(parquet.last_rows(file, limit)):
                    found[each.id] = each
        return [found[id] for id in sorted(found, reverse=True)[:limit]]

    def count(self, *, revision: str | None = None, global_id: str | None = None) -> int:
        """Committed requests, of a revision or of a change."""
        table = tables.prediction_segments
        query = select(func.sum(table.c.requests))
        if revision is not None:
            query = query.where(table.c.revision == revision)
        if global_id is not None:
            query = query.where(table.c.global_id == global_id)
        with self._db.read() as tx:
            return int(tx.execute(query).scalar() or 0)

    def _open(self, row: Any) -> Any:
        commit = self._repos.commit_by_id(row.commit)
        return self._store.open_file(self._repos.get_file(commit, row.path).digest)

    def _spooled(self) -> list[Record]:
        """Records that are not committed, oldest first."""
        if not self._spool.is_dir():
            return []
        with self._db.read() as tx:
            rows = tx.execute(select(tables.spool_offsets))
            offsets = {row.segment: row.offset for row in rows}
        found = []
        for segment in segments(self._spool):
            data = segment.read(offsets.get(segment.name, 0), -1)
            found += [record for record, _ in records(data)]
        return sorted(found, key=lambda record: record.id)

    def _of_spool(self, record: Record) -> Prediction:
        table = tables.revisions
        with self._db.read() as tx:
            row = tx.execute(select(table).where(table.c.id == record.revision)).one()
        return prediction_of(record, msgspec.convert(row.signature, Signature))


def _may_be_id(text: str) -> bool:
    return (
        _MINIMUM <= len(text) <= PREDICTION_ID_LENGTH
        and text[0] == "p"
        and all(character in ALPHABET for character in text)
    )
