"""Tests that may be looked at after every request: e-processes and sequences of intervals.

Numbers in, numbers out; knows nothing of revisions. An e-process is a betting gain whose mean never
grows while the null hypothesis holds, so that it is ever above 1/alpha with a chance of at most
alpha, whenever one looks and whenever one stops (Ville's inequality; Ramdas, Grünwald, Vovk and
Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 2023).
All e-values are natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

_MORE = (1.5, 2.0, 3.0, 6.0, 15.0, 60.0)
_EITHER = (1 / 8, 1 / 4, 1 / 2, 2 / 3, 1.0, 1.5, 2.0, 4.0, 8.0)
_CONCENTRATION = 1000.0
"""Of the prior of the sample-ratio test: it looks for ratios that are a few percent off."""


def more_often(here: float, there: float, share: float) -> float:
    """Log e-value against "what happened is no more often ours than by our share of requests".

    Of the events (failures, say) of two arms ``here`` fell on ours, which has ``share`` of all
    requests. Under the null each is ours with a chance of at most ``share``: a mixture of
    likelihood ratios over greater odds is an e-process.
    """
    return _odds(here, there, share, _MORE)


def elsewhere(groups: Iterable[tuple[float, float]], share: float) -> float:
    """Log e-value against "both arms answer alike": counts of ours and theirs by group of answers.

    Given the answer, whose it is is a coin with our share: a product over groups of mixtures of
    likelihood ratios, towards more and towards less.
    """
    return sum(_odds(here, there, share, _EITHER) for here, there in groups)


def _odds(here: float, there: float, share: float, ratios: Sequence[float]) -> float:
    if not 0 < share < 1:
        return 0.0
    logs = []
    for ratio in ratios:
        base = 1 - share + ratio * share
        logs.append(here * math.log(ratio / base) - there * math.log(base))
    return _mean(logs)


def beyond(here: float, of: float, most: float) -> float:
    """Log e-value against "at most a share ``most`` of ours do so"; ``here`` of ``of`` did."""
    if not 0 < most < 1:
        return 0.0
    shares = [most + (1 - most) * part for part in (0.02, 0.05, 0.1, 0.25, 0.5, 0.8, 0.98)]
    logs = [
        here * math.log(share / most) + (of - here) * math.log((1 - share) / (1 - most))
        for share in shares
    ]
    return _mean(logs)


def _mean(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(one - top) for one in logs) / len(logs))


def together(before: float, now: float) -> float:
    """Log e-value of two spans of time: the mean of going on from before and of starting anew."""
    low, high = sorted((before, 0.0))
    return now - math.log(2) + high + math.log1p(math.exp(low - high))


def excess(here: int, of_here: int, there: int, of_there: int, z: float) -> tuple[float, float]:
    """The interval of the difference of two shares, ours minus theirs.

    Newcombe's hybrid score interval (Statistics in Medicine 1998, method 10).
    """
    mine, low, high = _wilson(here, of_here, z)
    theirs, least, most = _wilson(there, of_there, z)
    gap = mine - theirs
    return (
        gap - math.hypot(mine - low, most - theirs),
        gap + math.hypot(high - mine, theirs - least),
    )


def _wilson(count: int, of: int, z: float) -> tuple[float, float, float]:
    if not of:
        return 0.0, 0.0, 1.0
    share, square = count / of, z * z / of
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / of + square / (4 * of))
    return share, max(0.0, middle - half), min(1.0, middle + half)


class Sums(Struct, frozen=True, kw_only=True):
    """Outcomes of one arm. A unit is a prediction, or all predictions of one key: its outcome is
    their mean, so that a key counts once however often it asks.

    ``outcomes``: single ones; ``total`` and ``squares``: of the units' outcomes, which lie from
    ``low`` to ``high``.
    """

    units: int = 0
    outcomes: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @property
    def mean(self) -> float:
        """The mean outcome of a unit."""
        return self.total / self.units if self.units else 0.0

    @property
    def binary(self) -> bool:
        """Whether the outcomes of all units are from 0 to 1."""
        return self.low >= 0 and self.high <= 1

    @property
    def variance(self) -> float:
        """Of the mean; infinite before there are two units."""
        if self.units < 2:
            return math.inf
        spread = max(self.squares - self.total**2 / self.units, 0.0)
        return spread / (self.units - 1) / self.units


class Difference(Struct, frozen=True, kw_only=True):
    """A mean against the control's: ``low`` to ``high`` holds at all times with 1 - alpha.

    ``e``: log e-value against equality.
    """

    gap: float
    low: float
    high: float
    e: float


def difference(
    arm: Sums, control: Sums, *, alpha: float, least: int, tuned: float = 0.0
) -> Difference:
    """The difference of two means, valid whenever one looks.

    The mixture sequential probability ratio test with a normal mixture (Robbins 1970; Johari,
    Koomen, Pekelis and Walsh, "Always valid inference", Operations Research 2022), with variances
    from the data, which is valid in the limit (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
    "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics
    2024); ``least`` units of each arm come before the first look. The mixture is narrowest at the
    precision of ten times as many, for ``tuned`` (alpha where it is 0): while alpha changes with
    what was seen, as in step-down tests, that must stay.
    """
    gap, noise = arm.mean - control.mean, _noise(arm, control)
    if min(arm.units, control.units) < least or not math.isfinite(noise) or noise <= 0:
        return Difference(gap=gap, low=-math.inf, high=math.inf, e=0.0)
    units = arm.units + control.units
    mixture = noise * units / (20 * least) * _tuned(tuned or alpha)
    whole = noise + mixture
    e = 0.5 * math.log(noise / whole) + gap * gap * mixture / (2 * noise * whole)
    radius = math.sqrt(noise * whole / mixture * (math.log(whole / noise) - 2 * math.log(alpha)))
    return Difference(gap=gap, low=gap - radius, high=gap + radius, e=e)


def _noise(arm: Sums, control: Sums) -> float:
    """The variance of a difference of means: of each by itself, or of both together where that is
    larger. A small arm that has not seen a rare outcome yet knows nothing of its variance.
    """
    apart = arm.variance + control.variance
    if not math.isfinite(apart):
        return math.inf
    within = sum(one.variance * one.units * (one.units - 1) for one in (arm, control))
    pooled = within / (arm.units + control.units - 2) * (1 / arm.units + 1 / control.units)
    return max(apart, pooled)


def _tuned(alpha: float) -> float:
    """The variance of a mixture, in that of a mean, with the narrowest interval at that mean.

    Waudby-Smith et al. 2024, equation 8: -2 log(alpha) + log(1 - 2 log(alpha)).
    """
    return -2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))


def rejected(e: Mapping[str, float], alpha: float, hypotheses: int) -> tuple[str, ...]:
    """Names whose log e-values speak against them, of so many hypotheses tested together.

    Holm's step-down procedure ("A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 1979) on 1/e, which is an always-valid p-value whenever one
    looks (Johari et al. 2022, as for :func:`difference`); it needs no independence. The chance
    that any true hypothesis is ever rejected is at most alpha. ``hypotheses``: those not rejected
    before.
    """
    found: list[str] = []
    for name in sorted(e, key=lambda each: -e[each]):
        if e[name] < -math.log(alpha / (hypotheses - len(found))):
            break
        found.append(name)
    return tuple(found)


class Ratio(Struct, frozen=True, kw_only=True):
    """Whether arms were asked as their weights say. ``p``: of chi-square, for a single look.

    ``e``: log e-value, for any number of looks.
    """

    chi_square: float
    p: float
    e: float


def sample_ratio(counts: Mapping[str, int], weights: Mapping[str, float]) -> Ratio:
    """The sample-ratio check: counts of arms against their weights.

    The Bayes factor of a Dirichlet mixture around the weights is an e-process (Lindon and Malek,
    "Anytime-valid inference for multinomial count data", NeurIPS 2022); Pearson's chi-square stands
    beside it, since people know it.
    """
    total, whole = sum(counts.get(name, 0) for name in weights), sum(weights.values())
    if not total or len(weights) < 2:
        return Ratio(chi_square=0.0, p=1.0, e=0.0)
    shares = {name: weight / whole for name, weight in weights.items()}
    chi_square, e = 0.0, math.lgamma(_CONCENTRATION) - math.lgamma(_CONCENTRATION + total)
    for name, share in shares.items():
        count, prior = counts.get(name, 0), _CONCENTRATION * share
        chi_square += (count - total * share) ** 2 / (total * share)
        e += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return Ratio(chi_square=chi_square, p=_beyond_chi(chi_square, len(weights) - 1), e=e)


def _beyond_chi(value: float, freedom: int) -> float:
    """The upper tail of chi-square, by the series of the incomplete gamma function."""
    half, shape = value / 2, freedom / 2
    if half <= 0:
        return 1.0
    if half > shape + 200:
        return 0.0
    term = total = 1 / shape
    step = shape
    while term > total * 1e-15:
        step += 1
        term *= half / step
        total += term
    return max(0.0, 1 - total * math.exp(-half + shape * math.log(half) - math.lgamma(shape)))
