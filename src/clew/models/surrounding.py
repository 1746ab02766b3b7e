"""What surrounds a judgement: sizes, what endpoints serve, recorded requests, queries of rows.

Knows the payload of a judgement and the store; no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import msgspec
import numpy as np
import polars as pl

from clew.base.errors import Invalid
from clew.base.records import Signature
from clew.base.records.processing import Processing
from clew.base.records.reports import Importances
from clew.models.evaluation import Recorded, Surroundings
from clew.models.isolated import load_original
from clew.models.layout import IMPORTANCES, TRAINING
from clew.models.loading import LoadedModel
from clew.models.metrics import Ints
from clew.models.processing import with_functions
from clew.models.reading import kept
from clew.store import Store

_OURS = "/clew/"


def surroundings(store: Store, payload: Mapping[str, Any]) -> Surroundings:
    """What a gate may ask of besides answers.

    The payload: ``candidate`` and ``champion`` (trees), ``endpoints`` (name → signature),
    ``recorded`` (requests of the champion), ``functions`` (endpoint → what stands around its
    model), ``serving`` (``module:function``, see :class:`clew.models.Models`).
    """
    champion = payload["champion"]
    return Surroundings(
        size_bytes=size_of(store, payload["candidate"]),
        champion_bytes=size_of(store, champion) if champion else None,
        endpoints=msgspec.convert(payload.get("endpoints") or {}, dict[str, Signature]),
        recorded=msgspec.convert(payload.get("recorded") or (), tuple[Recorded, ...]),
        functions={
            endpoint: partial(with_functions, store, about.tree, about)
            for endpoint, about in msgspec.convert(
                payload.get("functions") or {}, dict[str, Processing]
            ).items()
        },
        trained=partial(load_original, store, payload["candidate"], as_trained=True),
        champion_trained=partial(load_original, store, champion, as_trained=True)
        if champion
        else None,
        answer=_named(payload.get("serving") or ""),
    )


def size_of(store: Store, tree: str) -> int:
    """Bytes of a packaged model, without what Clew keeps beside it."""
    return sum(one.size_bytes for one in store.entries(tree) if not one.path.startswith(_OURS))


def known_importances(store: Store, payload: Mapping[str, Any]) -> Importances | None:
    """The importances that were kept with the model, where they are of the same test rows."""
    training = kept(store, payload["candidate"], TRAINING, dict[str, Any], {})
    if not payload.get("test_commit") or training.get("test_commit") != payload["test_commit"]:
        return None
    found: Importances = kept(store, payload["candidate"], IMPORTANCES, Importances, Importances())
    return found if found.permuted else None


def queries(rows: pl.DataFrame, column: str) -> Ints | None:
    """The query of each row as a number; None where rows are not ranked.

    Raises:
        Invalid: ``gate.column``.
    """
    if not column:
        return None
    if column not in rows.columns:
        raise Invalid(
            "gate.column",
            f"The test rows have no column {column!r} that could name their queries.",
            hint=f"Use one of {', '.join(rows.columns)}.",
        )
    return rows[column].rank("dense").fill_null(0).cast(pl.Int64).to_numpy().astype(np.int64)


def _named(place: str) -> Callable[[LoadedModel, bytes], Mapping[str, Any]] | None:
    """What an endpoint makes of a request: named by who stands above both rooms."""
    if not place:
        return None
    module, _, name = place.partition(":")
    found: Callable[[LoadedModel, bytes], Mapping[str, Any]] = getattr(import_module(module), name)
    return found
