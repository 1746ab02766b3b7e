"""How well rows are ordered within their queries: NDCG, mean average precision, reciprocal rank.

Knows arrays alone. One value a query, NaN where nothing in it is relevant. Equal scores share their
places: of NDCG they get the mean discount (McSherry and Najork 2008, as scikit-learn's
``ndcg_score``); for precision and rank they count as one threshold, the worst place of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def dense(groups: Ints) -> tuple[Ints, Ints]:
    """Queries as 0, 1, 2, … and the first row of each."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return inverse.astype(np.int64), first.astype(np.int64)


def ndcg(truth: Floats, scores: Floats, groups: Ints, at: int) -> Floats:
    """Discounted cumulative gain of the first ``at`` places over the best possible one, a query.

    The gain of a row is its relevance; the discount of place i (from 1) is 1 / log2(1 + i).
    """
    best = _gain(truth, truth, groups, at)
    return _divide(_gain(truth, scores, groups, at), best)


def average_precision(truth: Floats, scores: Floats, groups: Ints) -> Floats:
    """Mean over the relevant rows (above 0) of the precision at their own score, a query."""
    order, starts, _ = _order(scores, groups)
    relevant = (truth[order] > 0).astype(np.float64)
    ends, place = _tie_ends(scores[order], groups[order], starts)
    caught = np.cumsum(relevant)
    before = np.r_[0.0, caught][starts]
    precision = (caught[ends] - before) / (place[ends] + 1)
    size = int(groups.max()) + 1
    found = _sums(groups[order], relevant, size)
    return _divide(_sums(groups[order], relevant * precision, size), found)


def reciprocal_rank(truth: Floats, scores: Floats, groups: Ints) -> Floats:
    """1 over the place of the first relevant row, a query."""
    order, starts, _ = _order(scores, groups)
    ends, place = _tie_ends(scores[order], groups[order], starts)
    inverse = np.where(truth[order] > 0, 1.0 / (place[ends] + 1), 0.0)
    best = np.zeros(int(groups.max()) + 1)
    np.maximum.at(best, groups[order], inverse)
    return np.where(best > 0, best, np.nan)


def _gain(truth: Floats, scores: Floats, groups: Ints, at: int) -> Floats:
    order, _, place = _order(scores, groups)
    discount = np.where(place < at, 1.0 / np.log2(place + 2.0), 0.0)
    tie = np.cumsum(_begins(scores[order], groups[order])) - 1
    shared = np.bincount(tie, discount) / np.bincount(tie)
    return _sums(groups[order], truth[order] * shared[tie], int(groups.max()) + 1)


def _order(scores: Floats, groups: Ints) -> tuple[Ints, Ints, Ints]:
    """Rows by query and falling score; where the query of each begins; the place within it."""
    order = np.lexsort((-scores, groups)).astype(np.int64)
    ordered = groups[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    starts = np.repeat(begins, np.diff(np.r_[begins, len(order)]))
    return order, starts.astype(np.int64), np.arange(len(order)) - starts


def _begins(scores: Floats, groups: Ints) -> npt.NDArray[np.bool_]:
    """Which ordered rows begin a new score or a new query."""
    begins = np.ones(len(scores), dtype=np.bool_)
    begins[1:] = (scores[1:] != scores[:-1]) | (groups[1:] != groups[:-1])
    return begins


def _tie_ends(scores: Floats, groups: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """The last row with the score of each ordered row, and the place of each within its query."""
    begins = np.flatnonzero(_begins(scores, groups))
    lengths = np.diff(np.r_[begins, len(scores)])
    ends = np.repeat(begins + lengths - 1, lengths)
    return ends.astype(np.int64), np.arange(len(scores)) - starts


def _sums(groups: Ints, values: Floats, size: int) -> Floats:
    return np.bincount(groups, values, size).astype(np.float64)


def _divide(upper: Floats, lower: Floats) -> Floats:
    return np.where(lower > 0, upper / np.where(lower > 0, lower, 1.0), np.nan)
