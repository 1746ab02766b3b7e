"""Rows of the prediction log as frames: answered requests, by the version that answered.

Knows the layout of the log (fixed columns, ``in.<input>`` and ``out.<output>``) and nothing of
monitors.
"""
# ruff: noqa: PLC0415 - polars is heavy and the door stays cheap

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from clew.base.records import Commit
from clew.codecs import load_value
from clew.monitoring.definitions import Around
from clew.quality import ColumnDistance, drift, profile
from clew.repos import Repos
from clew.store import Store

if TYPE_CHECKING:
    import polars as pl

IN, OUT = "in.", "out."
_ANSWERED = 200


def rows_of_commit(repos: Repos, store: Store, commit: Commit) -> dict[str, list[pl.DataFrame]]:
    """What a commit added to the log, by model version, each file by itself; refused requests are
    left out.
    """
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
    return found


def join(parts: list[pl.DataFrame]) -> tuple[pl.DataFrame, set[str]]:
    """Parts below one another, and the columns that only some have: they are null in the others."""
    import polars as pl

    names = [set(part.columns) for part in parts]
    partly = set[str]().union(*names) - names[0].intersection(*names)
    return pl.concat(parts, how="diagonal_relaxed"), partly


def distances(
    reference: Mapping[str, Any], rows: pl.DataFrame, hidden: Collection[str] = ()
) -> list[ColumnDistance]:
    """How far inputs and answers are from their profiles; answers are named ``out.<name>``.

    What is ``hidden`` (by its own name, or as the log has it) is left out: that it is not in the
    log says nothing of what was asked.
    """
    found = []
    if known := _without(reference.get("inputs"), IN, hidden):
        live = _inputs(rows, list(known["columns"]))
        if live.width or not hidden:  # else the only matrix is hidden
            found += drift(known, live)
    if known := _without(reference.get("outputs"), OUT, hidden):
        named = {OUT + name: column for name, column in known["columns"].items()}
        answers = [name for name in named if name in rows.columns]
        if answers:
            kept = {name: named[name] for name in answers}
            found += drift({**known, "columns": kept}, rows.select(answers))
    return found


def profiles_of(rows: pl.DataFrame, around: Around) -> dict[str, Any]:
    """What the log has, as profiles that later rows can be held against."""
    prefixes = {"inputs": IN, "outputs": OUT}
    found: dict[str, Any] = {"code": around.code}
    for part in around.apart:
        prefix = prefixes[part]
        names = {
            name: name.removeprefix(prefix) for name in rows.columns if name.startswith(prefix)
        }
        found[part] = profile(rows.select(list(names)).rename(names))
    return found


def _without(
    known: Mapping[str, Any] | None, prefix: str, hidden: Collection[str]
) -> dict[str, Any] | None:
    """A profile without hidden columns; None where nothing is left."""
    columns = known["columns"] if known else {}
    kept = {
        name: column
        for name, column in columns.items()
        if name not in hidden and prefix + name not in hidden
    }
    return {**known, "columns": kept} if known and kept else None


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
