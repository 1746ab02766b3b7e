"""Predictions for whole files: the function of a batch step, and the model that it asks.

Runs in workers. Knows files of a model version's tree; nothing of jobs, repos or endpoints. A model
is asked in the form that serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct

from clew.base.errors import Invalid, NotReady
from clew.models.forms import load_model
from clew.models.loading import LoadedModel, Outputs, check_outputs
from clew.repos import File

PIECE_ROWS = 200_000
"""So many rows are asked at a time: what a model makes besides its answers stays small."""


class _Entry(Struct, frozen=True):
    """A file, as loading asks for it."""

    digest: str


class Files:
    """Files of a tree, in place of a store: what loading reads."""

    def __init__(self, files: Sequence[File]) -> None:
        self._files = {one.path: one for one in files}
        self._contents = {one.digest: one for one in files}

    def get(self, tree: str, path: str) -> _Entry | None:  # noqa: ARG002 - there is one tree
        """The entry of a file, or None."""
        found = self._files.get(path)
        return None if found is None else _Entry(found.digest)

    def read(self, digest: str) -> bytes:
        """The bytes of a file."""
        return self._contents[digest].read()


def predict(
    rows: pl.DataFrame, model: list[File], *, keep: Any = None, prefix: str = ""
) -> pl.DataFrame:
    """Rows with what the model says of them behind.

    ``keep``: the columns to keep of the rows; all without it. Columns of answers are ``prefix`` and
    the name of the output: ``label``, ``probability``, ``prediction``, and for each of several
    classes ``probability_CLASS``.

    Raises:
        NotReady: ``batch.no_model`` where no version is there yet.
        Invalid: ``batch.columns`` where rows have such columns already, or not those to keep;
            ``input.columns``, ``input.type``; whatever the model raises.
    """
    if not model:
        raise NotReady(
            "batch.no_model",
            "There is no version of the model yet to predict with.",
            hint="It comes with the first that its gate blesses.",
        )
    loaded = _loaded(tuple(_Key(one) for one in model))
    answers = pl.DataFrame(
        {f"{prefix}{name}": values for name, values in answers_of(loaded, rows).items()}
    )
    kept = rows if keep is None else _kept(rows, keep)
    twice = sorted(set(kept.columns) & set(answers.columns))
    if twice:
        raise Invalid(
            "batch.columns",
            f"The rows have a column {', '.join(twice)} already.",
            hint='Name answers otherwise, p.batch(..., prefix="predicted_"), or keep= others.',
        )
    return kept.hstack(answers)


def answers_of(model: LoadedModel, rows: pl.DataFrame) -> Outputs:
    """One value a row by the name of its column, asked piece by piece."""
    pieces = [
        check_outputs(model.predict(piece), piece.height)
        for piece in rows.iter_slices(PIECE_ROWS)
        if piece.height
    ]
    names = pieces[0] if pieces else {}
    whole = {name: np.concatenate([one[name] for one in pieces]) for name in names}
    found: Outputs = {}
    for name, values in whole.items():
        if values.ndim == 1:
            found[name] = values
            continue
        classes = model.signature.classes
        stem = "probability" if name == "probabilities" else name
        for at in range(values.shape[1]):
            named = classes[at] if values.shape[1] == len(classes) else str(at)
            found[f"{stem}_{named}"] = values[:, at]
    return found


class _Key:
    """A file that is the same as another with its path and digest: what a model is kept by."""

    def __init__(self, file: File) -> None:
        self.file = file

    def __hash__(self) -> int:
        return hash((self.file.path, self.file.digest))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Key):
            return NotImplemented
        return (self.file.path, self.file.digest) == (other.file.path, other.file.digest)


@lru_cache(maxsize=2)
def _loaded(files: tuple[_Key, ...]) -> LoadedModel:
    """The model of these files, loaded once a process."""
    return load_model(Files([one.file for one in files]), "", served=True)


def _kept(rows: pl.DataFrame, keep: Sequence[str]) -> pl.DataFrame:
    missing = [name for name in keep if name not in rows.columns]
    if missing:
        raise Invalid(
            "batch.columns",
            f"The rows have no column {', '.join(missing)} to keep.",
            hint=f"They have {', '.join(rows.columns)}.",
        )
    return rows.select(list(keep))
