"""Whether a canary goes on, waits or goes back: numbers in, a decision with its evidence out.

Knows no rows and no clock. What is asked of every step, and how (``sequential``):

- failed, refused and NaN answers: of those of both revisions, does the canary have more than its
  share of the requests? An e-process over odds.
- latency: do more than a tenth of its requests take longer than the allowed multiple of the time
  within which nine tenths of the live revision's do? An e-process over shares.
- outputs: given an answer, does it tell whose it is? An e-process over groups of answers.
- copies that were answered otherwise than by the live one: more than allowed? As latency.

It goes back once one of them is beyond chance (1 in 1,000 each, however often it is looked) and the
difference is larger than allowed. It advances once the differences are shown to be within what is
allowed, or when its patience is over and nothing is beyond chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct, field

from clew.base.records.traffic import Rollout
from clew.serving.closeness import distance, groups
from clew.serving.sequential import beyond, elsewhere, excess, more_often, together
from clew.serving.stats import Counts, above, quantile_s

QUIET_HOLDS = 5
"""Without any request for so many times ``hold_s`` a canary goes on: nobody is exposed."""
E_BACK = 6.9
"""Natural logarithm of 1,000: the e-value that is beyond chance."""
_Z_FINE = 2.326
"""99 %, one-sided: how sure it must be that a difference is within what is allowed."""
_Z_LATE = 2.576
"""99.5 %: how much a difference must stand out when the patience is over."""
_LATENCY_FLOOR_S = 0.005
"""Slower by less than this is never a reason to go back."""
_WITHIN = 0.9
_GROUPS = 8


class Look(Struct, frozen=True, kw_only=True):
    """One thing that was looked at. ``e``: its log e-value with those of earlier steps.

    ``fine``: shown to be within ``most``; ``worse``: seen beyond it, by the estimate alone;
    ``late``: so far beyond it that the end of the patience decides against it.
    """

    name: str
    said: str
    canary: float
    live: float
    most: float
    e: float
    fine: bool
    worse: bool
    late: bool = False


class Decision(Struct, frozen=True, kw_only=True):
    """``action``: hold, advance or back; ``reason``: one sentence; ``evidence``: its numbers.

    ``carry``: log e-values by name, to go into the next step.
    """

    action: str
    reason: str
    evidence: dict[str, object]
    carry: dict[str, float] = field(default_factory=dict)


def judge(
    rollout: Rollout,
    canary: Counts,
    live: Counts,
    held_s: float,
    carry: Mapping[str, float] | None = None,
    *,
    shadowed: bool = False,
) -> Decision:
    """What to do with a canary that has been on its step for ``held_s``.

    ``canary`` and ``live``: what both revisions answered since the step began. ``shadowed``: the
    canary got copies, so that both were asked the same.
    """
    looks = list(_looks(rollout, canary, live, carry or {}, shadowed=shadowed))
    action, reason = _decide(rollout, looks, canary, live, held_s)
    return Decision(
        action=action,
        reason=reason,
        evidence=_evidence(looks, canary, live, held_s),
        carry={look.name: round(look.e, 4) for look in looks},
    )


def _decide(
    rollout: Rollout, looks: list[Look], canary: Counts, live: Counts, held_s: float
) -> tuple[str, str]:
    """What to do, and why."""
    if not canary.requests and not live.requests:
        if held_s >= rollout.hold_s * QUIET_HOLDS:
            return "advance", "No request came: nobody is exposed."
        return "hold", "No request yet."
    if bad := _bad(rollout, looks, canary):
        return "back", bad
    if open_ := _open(rollout, looks, canary, held_s):
        return "hold", open_
    return (
        "advance",
        f"{canary.requests} requests, {canary.errors} errors: as good as the live one.",
    )


def _bad(rollout: Rollout, looks: list[Look], canary: Counts) -> str:
    """Why it goes back; '' where it does not."""
    seen, over = canary.requests >= rollout.min_requests, canary.requests >= rollout.patience
    for look in looks:
        if look.worse and (look.e >= E_BACK if seen else look.e >= 2 * E_BACK):
            return look.said  # what is plain needs no minimum
        if look.worse and over and look.late:
            return f"{look.said} Seen over {canary.requests} requests."
    return ""


def _open(rollout: Rollout, looks: list[Look], canary: Counts, held_s: float) -> str:
    """What is waited for; '' where nothing is."""
    if canary.requests < rollout.min_requests:
        return f"{canary.requests} of {rollout.min_requests} requests seen."
    waiting = ", ".join(look.name for look in looks if not look.fine)
    if waiting and canary.requests < rollout.patience:
        most = f"{canary.requests} of at most {rollout.patience} requests"
        return f"Not told apart yet: {waiting}; {most}."
    return "The step is not over." if held_s < rollout.hold_s else ""


def _looks(
    rollout: Rollout,
    canary: Counts,
    live: Counts,
    carry: Mapping[str, float],
    *,
    shadowed: bool,
) -> Iterator[Look]:
    most = rollout.max_error_rate
    yield _share("errors", "failed requests", canary, live, most, carry)
    yield _share("rejected", "refused requests", canary, live, most, carry)
    yield _share("nans", "answers with NaN", canary, live, rollout.max_nan_rate, carry)
    if (slow := _latency(rollout, canary, live, carry)) is not None:
        yield slow
    yield from _drift(rollout.drift_bound, canary, live, carry)
    if shadowed and rollout.max_disagreement is not None and canary.compared:
        yield _disagreement(rollout.max_disagreement, canary, carry)


def _share(
    name: str, what: str, canary: Counts, live: Counts, most: float, carry: Mapping[str, float]
) -> Look:
    here, there = getattr(canary, name), getattr(live, name)
    mine, theirs = canary.rate(here), live.rate(there)
    if live.requests:
        e = more_often(here, there, canary.requests / (canary.requests + live.requests))
    else:  # nothing to compare with: the share stands for itself
        e = beyond(here, canary.requests, max(most, 1e-3))
    low, _ = excess(here, canary.requests, there, live.requests, _Z_LATE)
    _, high = excess(here, canary.requests, there, live.requests, _Z_FINE)
    if not live.requests:
        low, high = (mine - most, 0.0) if mine > most else (-1.0, most)
    return Look(
        name=name,
        said=f"{mine:.1%} {what} against {theirs:.1%}; at most {most:.1%} more is allowed.",
        canary=mine,
        live=theirs,
        most=most,
        e=together(carry.get(name, 0.0), e),
        fine=high <= most,
        worse=mine - theirs > most,
        late=low > 0,
    )


def _latency(
    rollout: Rollout, canary: Counts, live: Counts, carry: Mapping[str, float]
) -> Look | None:
    theirs, mine = quantile_s(live.buckets, _WITHIN), quantile_s(canary.buckets, _WITHIN)
    if theirs is None or mine is None or live.requests < rollout.min_requests:
        return None
    bound_s = max(theirs * rollout.max_latency_ratio, theirs + _LATENCY_FLOOR_S)
    slow, of = above(canary.buckets, bound_s), sum(canary.buckets)
    e = beyond(slow, of, 1 - _WITHIN)
    low, _ = excess(round(slow), of, round((1 - _WITHIN) * 1e6), 1_000_000, _Z_LATE)
    return Look(
        name="latency",
        said=f"90 % within {mine * 1e3:.1f} ms against {theirs * 1e3:.1f} ms; at most "
        f"{rollout.max_latency_ratio:g} times as long is allowed.",
        canary=round(mine * 1e3, 3),
        live=round(theirs * 1e3, 3),
        most=rollout.max_latency_ratio,
        e=together(carry.get("latency", 0.0), e),
        fine=slow <= (1 - _WITHIN) * of,
        worse=slow > (1 - _WITHIN) * of,
        late=low > 0,
    )


def _drift(most: float, canary: Counts, live: Counts, carry: Mapping[str, float]) -> Iterator[Look]:
    for name in sorted(canary.outputs.keys() & live.outputs.keys()):
        mine, theirs = canary.outputs[name], live.outputs[name]
        seen, known = sum(mine.values()), sum(theirs.values())
        if not seen or not known:
            continue
        away, key = distance(mine, theirs), f"drift of {name}"
        e = elsewhere(groups(mine, theirs, _GROUPS), seen / (seen + known))
        yield Look(
            name=key,
            said=f"The answers {name!r} are distributed otherwise: {away:.2f} apart; at most "
            f"{most:.2f} is allowed.",
            canary=away,
            live=0.0,
            most=most,
            e=together(carry.get(key, 0.0), e),
            fine=True,  # a distance is never shown to be small by few answers; errors are
            worse=away > most,
            late=e >= E_BACK / 1.5,
        )


def _disagreement(most: float, canary: Counts, carry: Mapping[str, float]) -> Look:
    share = canary.disagreed / canary.compared
    e = beyond(canary.disagreed, canary.compared, max(most, 1e-3))
    _, high = excess(canary.disagreed, canary.compared, 0, 10**9, _Z_FINE)
    low, _ = excess(canary.disagreed, canary.compared, 0, 10**9, _Z_LATE)
    return Look(
        name="disagreement",
        said=f"{share:.1%} of the copies were answered otherwise; at most {most:.1%} is allowed.",
        canary=share,
        live=0.0,
        most=most,
        e=together(carry.get("disagreement", 0.0), e),
        fine=high <= most,
        worse=share > most,
        late=low > most,
    )


def _evidence(looks: list[Look], canary: Counts, live: Counts, held_s: float) -> dict[str, object]:
    return {
        "held_s": round(held_s, 3),
        "canary": _numbers(canary),
        "live": _numbers(live),
        "tests": [
            {
                "name": look.name,
                "canary": round(look.canary, 5),
                "live": round(look.live, 5),
                "allowed": look.most,
                "log_e": round(look.e, 2),
                "back_at": E_BACK,
                "within": look.fine,
                "beyond": look.worse,
            }
            for look in looks
        ],
    }


def _numbers(counts: Counts) -> dict[str, object]:
    p90 = quantile_s(counts.buckets, _WITHIN)
    found: dict[str, object] = {
        "requests": counts.requests,
        "errors": counts.errors,
        "rejected": counts.rejected,
        "nans": counts.nans,
        "p90_ms": None if p90 is None else round(p90 * 1e3, 3),
    }
    if counts.compared or counts.dropped:
        found |= {
            "compared": counts.compared,
            "disagreed": counts.disagreed,
            "dropped": counts.dropped,
        }
    return found
