"""How the answers of a revision are distributed: counts by class, or by logarithmic bins.

Knows nothing of requests or decisions. Sketches of several processes add up. Numbers fall into bins
whose bounds are 1 % apart (as in DDSketch: Masson, Rim and Lee, VLDB 2019), so that two revisions
can be compared without a common range being known before. The first row of each request counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clew.serving.stats import Bins, added

Answers = list[tuple[Mapping[str, Any], list[int]]]
"""Outputs of batches, each with the rows of its requests."""
MOST_BATCHES = 4096
"""Batches that may wait to be counted in one process; more are left out of the sketch."""
MOST_CLASSES = 100
"""Different texts of one output that are told apart; others count as one."""
OTHER = "=…"
_WIDTH = 8
_STEP = math.log(1.01)
_TINY = 1e-9


def sketch(answers: Answers, known: Bins) -> Bins:
    """``known`` with these answers."""
    firsts: dict[str, list[Any]] = {}
    for arrays, rows in answers:
        starts = np.cumsum([0, *rows[:-1]])
        for name, array in arrays.items():
            firsts.setdefault(name, []).append(np.asarray(array)[starts])
    found: Bins = {}
    for name, parts in firsts.items():
        for column, values in _columns(name, parts):
            found[column] = _bins(values, known.get(column, {}))
    return added(known, found)


def _columns(name: str, parts: Sequence[Any]) -> list[tuple[str, Any]]:
    """The output, or its first columns where it is wider."""
    try:
        values = np.concatenate(parts)
    except ValueError:  # another width from one answer to the next: nothing to compare
        return []
    values = values.reshape(len(values), -1)
    if values.shape[1] == 1:
        return [(name, values[:, 0])]
    return [(f"{name}[{at}]", values[:, at]) for at in range(min(values.shape[1], _WIDTH))]


def _bins(values: Any, known: Mapping[str, int]) -> dict[str, int]:
    if values.dtype.kind not in "fiu":
        return _classes(values, known)
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    size = np.abs(finite)
    places = np.where(size < _TINY, 0, np.sign(finite) * (_place(np.maximum(size, _TINY)) + 1))
    found, counts = np.unique(places.astype(np.int64), return_counts=True)
    bins = {f"#{place}": int(n) for place, n in zip(found.tolist(), counts.tolist(), strict=True)}
    if strange := len(numbers) - len(finite):
        bins["nan"] = strange
    return bins


def _place(size: Any) -> Any:
    """Which bin a positive number is in, counted from ``_TINY``."""
    return np.floor(np.log(size / _TINY) / _STEP)


def _classes(values: Any, known: Mapping[str, int]) -> dict[str, int]:
    bins: dict[str, int] = {}
    for value, count in zip(*_unique(values), strict=True):
        bin = f"={value}"
        if bin not in known and len(known) + len(bins) >= MOST_CLASSES:
            bin = OTHER
        bins[bin] = bins.get(bin, 0) + count
    return bins


def _unique(values: Any) -> tuple[list[str], list[int]]:
    texts = np.array([str(value)[:100] for value in values.tolist()], dtype=object)
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    return list(counts), list(counts.values())
