"""Rows of the prediction log as frames: answered requests, by the version that answered.

Knows the layout of the log (fixed columns, ``in.<input>`` and ``out.<output>``) and nothing of
monitors.
"""
# ruff: noqa: PLC0415 - polars is heavy and the door stays cheap

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clew.base.records import Commit
from clew.codecs import load_value
from clew.quality import ColumnDistance, drift
from clew.repos import Repos
from clew.store import Store

if TYPE_CHECKING:
    import polars as pl

IN, OUT = "in.", "out."
_ANSWERED = 200


def rows_of_commit(repos: Repos, store: Store, commit: Commit) -> dict[str, pl.DataFrame]:
    """What a commit added to the log, by model version; refused requests are left out."""
    import polars as pl

    parent = repos.commit_by_id(commit.parent) if commit.parent else None
    changes = repos.diff(parent, commit)
    paths = [one.path for one in changes if one.new is not None and one.path.endswith(".parquet")]
    found: dict[str, list[pl.DataFrame]] = {}
    for path in paths:  # one file at a time: versions may have other columns
        rows: pl.DataFrame = load_value(store, commit.tree, [path], "polars.DataFrame")
        if "status" in rows.columns:
            rows = rows.filter(pl.col("status") == _ANSWERED)
        if "arm" in rows.columns:  # copies for a shadow were asked once, of the live revision
            rows = rows.filter(~pl.col("arm").fill_null("live").is_in(["shadow", "explain"]))
        for (version,), part in rows.group_by("model_version", maintain_order=True):
            found.setdefault(str(version), []).append(part)
    return {version: join(parts) for version, parts in found.items()}


def join(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Parts below one another; a column that some lack is null there."""
    import polars as pl

    return pl.concat(parts, how="diagonal_relaxed")


def distances(reference: Mapping[str, Any], rows: pl.DataFrame) -> list[ColumnDistance]:
    """How far inputs and answers are from their profiles; answers are named ``out.<name>``."""
    found = []
    if reference.get("inputs"):
        found += drift(reference["inputs"], _inputs(rows, list(reference["inputs"]["columns"])))
    if reference.get("outputs"):
        profile = reference["outputs"]
        named = {OUT + name: column for name, column in profile["columns"].items()}
        answers = [name for name in named if name in rows.columns]
        if answers:
            kept = {name: named[name] for name in answers}
            found += drift({**profile, "columns": kept}, rows.select(answers))
    return found


def _inputs(rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Inputs by their own names; the lists of a matrix model as the columns of its reference."""
    import polars as pl

    inputs = rows.select(
        pl.col(name).alias(name.removeprefix(IN)) for name in rows.columns if name.startswith(IN)
    )
    if inputs.width == 1 and inputs.dtypes[0].is_nested() and inputs.columns != names:
        values = inputs.to_series()
        return pl.DataFrame(
            [values.list.get(at, null_on_oob=True).alias(name) for at, name in enumerate(names)]
        )
    return inputs
