"""Rollouts in 1,000 seeded trials each: the real decisions over made-up traffic; and who is asked.

The worst share over kinds of worse stands in the row, against its bar.
"""

import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

from measure import Row

from clew.serving.definitions import ab_test, canary
from clew.serving.router import Arm, Router
from clew.testing.rollout_trials import (
    LABELS,
    LIVE,
    RATES,
    WORSE,
    WORSE_LABELS,
    run_canary,
    run_test,
)

TRIALS = 1000
ROUNDS = 5
KINDS = {name: (worse, LIVE) for name, worse in WORSE.items()} | {"labels": (WORSE_LABELS, LABELS)}
OUTCOMES = {
    "half": lambda draw, count: draw.binomial(1, 0.5, count),
    "rare": lambda draw, count: draw.binomial(1, 0.03, count),
    "skewed": lambda draw, count: draw.exponential(1.0, count),
    "heavy": lambda draw, count: draw.standard_t(3, count),
    "long": lambda draw, count: draw.lognormal(0.0, 1.5, count),
}
"""Outcomes of an A/B test whose arms are equal."""


def measure_rows() -> list[Row]:
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = []
        for size, rate in RATES.items():
            gone = [_share(pool, _back, kind, rate) for kind in KINDS]
            stays = [_share(pool, _live, kind, rate) for kind in ("errors", "labels")]
            rows.append(_row(f"canary_worse_{size}", min(gone), "rolled back", 0.99))
            rows.append(_row(f"canary_equal_{size}", min(stays), "gone live", 0.95))
        right = [_share(pool, _no_winner, kind, 20_000) for kind in OUTCOMES]
        rows.append(_row("ab_test_equal", min(right), "without a winner", 0.95))
    return [*rows, _choice()]


def _row(name: str, ours: float, unit: str, bar: float) -> Row:
    return Row(
        name=name, ours=ours, unit=unit, against="the bar", theirs=bar, ratio=ours / bar,
        rounds=TRIALS, bar=f"at least {bar:.0%} of {TRIALS:,}", holds=ours >= bar,
    )  # fmt: skip


def _share(pool: ProcessPoolExecutor, trial: object, kind: str, size: float) -> float:
    jobs = [(kind, size, seed) for seed in range(TRIALS)]
    return statistics.mean(pool.map(trial, jobs, chunksize=20))


def _back(job: tuple[str, float, int]) -> bool:
    kind, rate, seed = job
    return run_canary(canary(), *KINDS[kind], rate=rate, seed=seed)[0] == "rolled_back"


def _live(job: tuple[str, float, int]) -> bool:
    kind, rate, seed = job
    live = KINDS[kind][1]
    return run_canary(canary(), live, live, rate=rate, seed=seed)[0] == "live"


def _no_winner(job: tuple[str, float, int]) -> bool:
    kind, most, seed = job
    drawn = OUTCOMES[kind]

    def outcome(draw, arm, count):  # noqa: ARG001 - drawn alike for both
        return drawn(draw, count)

    return run_test(ab_test(), outcome, batch=25, most=int(most), seed=seed)[0] == "go on"


def _choice() -> Row:
    """The cost of choosing between two arms by key, in CPU time: the dearest way."""
    arms = [Arm("a", "k3j2h4g5f6d7s8a9", 80), Arm("b", "z3j2h4g5f6d7s8a9", 20)]
    choose, count = Router(arms).choose, 100_000
    took_us = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for at in range(count):
            choose(f"customer {at}")
        took_us.append((time.process_time() - begun) / count * 1e6)
    ours = statistics.median(took_us)
    return Row(
        name="choose_arm_by_key", ours=ours, unit="µs", against="the bar", theirs=2.0,
        ratio=2.0 / ours, rounds=ROUNDS, bar="under 2 µs", holds=ours < 2,
    )  # fmt: skip
