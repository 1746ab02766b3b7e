"""Nodes and edges: add them, find them, walk them.

Knows no kind of thing: an id is an id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

from clew.base import clock
from clew.base.errors import Invalid, NotFound
from clew.base.records import Edge, Node
from clew.db import Database, Tx
from clew.lineage import tables

Direction = Literal["up", "down"]
MINIMUM_PREFIX = 4
_AT_ONCE = 500


class Lineage:
    """What came from what. Thread-safe. ``up`` is towards the sources, ``down`` what was made."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, tx: Tx, node: Node, sources: Iterable[tuple[str, str]] = ()) -> None:
        """Tell of a node and of the (id, label) of each thing it came from.

        Idempotent. Where the id is known, kind and change stay as first told, title and detail
        are renewed unless empty, and edges are joined to those that exist. A source need not be
        known yet.
        """
        self.add_all(tx, [(node, sources)])

    def add_all(self, tx: Tx, nodes: Iterable[tuple[Node, Iterable[tuple[str, str]]]]) -> None:
        """Tell of several nodes with their sources, each as :meth:`add` does."""
        rows: dict[tuple[str, ...], list[dict[str, object]]] = defaultdict(list)
        edges: list[dict[str, object]] = []
        for node, sources in nodes:
            row = _row(node)
            rows[tuple(name for name in ("title", "detail") if row[name])].append(row)
            edges += _edges(node.id, sources)
        for refresh, found in rows.items():
            tx.upsert(tables.nodes, found, key=["id"], refresh=refresh)
        tx.upsert(tables.edges, edges, key=["target", "source", "label"])

    def link(self, tx: Tx, target: str, sources: Iterable[tuple[str, str]]) -> None:
        """Join edges to a node that is told of already: (id, label) of what it came from."""
        tx.upsert(tables.edges, _edges(target, sources), key=["target", "source", "label"])

    def get(self, id: str) -> Node | None:
        """The node of a full id."""
        with self._db.read() as tx:
            return next(iter(_nodes(tx, [id])), None)

    def find(self, prefix: str) -> list[Node]:
        """Nodes of any kind whose id begins with ``prefix``, by id, at most 100.

        Raises:
            Invalid: ``id.short`` for less than 4 characters.
        """
        bounds = _bounds(prefix)
        with self._db.read() as tx:
            return [_node(row) for row in tx.execute(tables.BY_PREFIX, bounds)]

    def of_change(self, global_id: str) -> list[Node]:
        """All nodes of one change, oldest first."""
        with self._db.read() as tx:
            rows = tx.execute(tables.OF_CHANGE, {"global_id": global_id})
            return [_node(row) for row in rows]

    def change(self, prefix: str) -> str:
        """The full global id that begins with ``prefix``.

        Raises:
            NotFound: ``change.unknown``.
            Invalid: ``id.short``, ``id.ambiguous``.
        """
        bounds = _bounds(prefix)
        with self._db.read() as tx:
            found = [str(row.global_id) for row in tx.execute(tables.CHANGES, bounds)]
        if not found:
            raise NotFound(
                "change.unknown",
                f"There is no change {prefix!r}.",
                hint="`clew status` and `clew log REPO` show the latest ones.",
            )
        if len(found) > 1:
            raise Invalid(
                "id.ambiguous",
                f"{prefix!r} is the beginning of more than one change: {', '.join(found)}.",
                hint="Give more characters.",
            )
        return found[0]

    def latest_changes(self, limit: int = 20) -> list[str]:
        """Global ids, the one that was told of last first."""
        with self._db.read() as tx:
            rows = tx.execute(tables.LATEST_CHANGES, {"limit": limit})
            return [str(row.global_id) for row in rows]

    def below(self, tx: Tx, ids: Sequence[str]) -> list[Edge]:
        """Edges to what came from some things, one step down; by target and source."""
        return _step(tx, ids, "down")

    def walk(
        self, id: str, direction: Direction, limit: int = 1000
    ) -> tuple[list[Node], list[Edge]]:
        """What ``id`` came from (``up``) or what came from it (``down``), nearest first.

        At most ``limit`` nodes, each once, without ``id`` itself; the edges are all those that
        were followed between the nodes returned and ``id``. Nodes equally near are oldest first.

        Raises:
            NotFound: ``lineage.unknown``.
        """
        with self._db.read() as tx:
            if not _nodes(tx, [id]):
                raise NotFound(
                    "lineage.unknown",
                    f"Nothing is known of {id!r}.",
                    hint="Give the full id of a commit, job, model version, prediction, ...",
                )
            return _walk(tx, id, direction, limit)


def _row(node: Node) -> dict[str, object]:
    return {
        "id": node.id,
        "kind": node.kind,
        "title": node.title,
        "global_id": node.global_id,
        "detail": node.detail,
        "added_us": clock.to_us(clock.now()),
    }


def _edges(target: str, sources: Iterable[tuple[str, str]]) -> list[dict[str, object]]:
    return [{"target": target, "source": id, "label": label} for id, label in sources]


def _walk(tx: Tx, id: str, direction: Direction, limit: int) -> tuple[list[Node], list[Edge]]:
    seen, found, edges = {id}, list[Node](), list[Edge]()
    frontier = [id]
    while frontier and len(found) < limit:
        step = _step(tx, frontier, direction)
        edges += step
        ahead = {edge.source if direction == "up" else edge.target for edge in step} - seen
        nodes = _nodes(tx, sorted(ahead))[: limit - len(found)]
        found += nodes
        frontier = [node.id for node in nodes]
        seen.update(frontier)
    return found, [edge for edge in edges if edge.source in seen and edge.target in seen]


def _step(tx: Tx, ids: Sequence[str], direction: Direction) -> list[Edge]:
    query = tables.ABOVE if direction == "up" else tables.BELOW
    rows = [row for some in _chunks(ids) for row in tx.execute(query, {"ids": some})]
    edges = [Edge(source=row.source, target=row.target, label=row.label) for row in rows]
    return sorted(edges, key=lambda edge: (edge.target, edge.source, edge.label))


def _nodes(tx: Tx, ids: Sequence[str]) -> list[Node]:
    rows = [row for some in _chunks(ids) for row in tx.execute(tables.BY_IDS, {"ids": some})]
    return [_node(row) for row in sorted(rows, key=lambda row: (row.added_us, row.id))]


def _node(row: Any) -> Node:
    return Node(
        kind=row.kind,
        id=row.id,
        title=row.title,
        global_id=row.global_id,
        detail=row.detail,
    )


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while chunk := list(islice(rest, _AT_ONCE)):
        yield chunk


def _bounds(prefix: str) -> dict[str, object]:
    if len(prefix) < MINIMUM_PREFIX:
        raise Invalid(
            "id.short",
            f"{prefix!r} is too short to find anything by.",
            hint=f"Give at least {MINIMUM_PREFIX} characters of an id.",
        )
    return {"prefix": prefix, "end": prefix + "\U0010ffff"}
