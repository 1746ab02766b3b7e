"""How far the answers of two revisions are apart: sketches in (``sketches``), numbers out.

Knows nothing of requests or decisions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


def groups(mine: Mapping[str, int], theirs: Mapping[str, int], most: int) -> list[tuple[int, int]]:
    """Counts of both side by side, in at most ``most`` groups of about equal size.

    Classes: the most frequent, and all others together. Numbers: neighbours together, in order.
    """
    total = {bin: mine.get(bin, 0) + theirs.get(bin, 0) for bin in {*mine, *theirs}}
    if any(bin.startswith("=") for bin in total):
        common = sorted(total, key=lambda bin: (-total[bin], bin))
        cut = [[bin] for bin in common[: most - 1]] + [common[most - 1 :]]
    else:
        cut = _neighbours(total, most)
    return [
        (sum(mine.get(bin, 0) for bin in group), sum(theirs.get(bin, 0) for bin in group))
        for group in cut
        if group
    ]


def _neighbours(total: Mapping[str, int], most: int) -> list[list[str]]:
    order = sorted((bin for bin in total if bin != "nan"), key=lambda bin: int(bin[1:]))
    share = sum(total[bin] for bin in order) / most
    cut: list[list[str]] = [[]]
    below = 0
    for bin in order:
        if cut[-1] and below >= share * len(cut):
            cut.append([])
        cut[-1].append(bin)
        below += total[bin]
    return [*cut, ["nan"]] if "nan" in total else cut


def distance(mine: Mapping[str, int], theirs: Mapping[str, int]) -> float:
    """How far two distributions are apart, from 0 to 1.

    Classes: total variation. Numbers: Kolmogorov-Smirnov, over the bounds of the bins.
    """
    all_mine, all_theirs = sum(mine.values()), sum(theirs.values())
    if not all_mine or not all_theirs:
        return 0.0
    bins = {*mine, *theirs}
    gaps = {bin: mine.get(bin, 0) / all_mine - theirs.get(bin, 0) / all_theirs for bin in bins}
    if any(bin.startswith("=") for bin in bins):
        return sum(map(abs, gaps.values())) / 2
    worst = below = 0.0
    for bin in sorted(bins, key=lambda bin: math.inf if bin == "nan" else int(bin[1:])):
        below += gaps[bin]
        worst = max(worst, abs(below))
    return max(worst, abs(gaps.get("nan", 0.0)))
