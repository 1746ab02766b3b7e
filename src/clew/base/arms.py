"""Several arms of one deploy: their shares, checked and completed.

Plain values; knows no versions and no rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clew.base.errors import Invalid

MOST_ARMS = 8
"""Of one endpoint, the live revision among them."""
MOST_SHADOWS = 4
"""Of one endpoint: each is a model in memory, and all share what shadows may compute."""
LIVE = "live"
"""Stands for the live revision among arms."""
GRAPH = "graph:"
"""Before the name of an endpoint that is a graph, where a model version could stand."""
_KINDS = ("ab_test", "split", "bandit", "shadow")


def shares_of(arms: Mapping[str, float | None] | Sequence[str], kind: str) -> dict[str, float]:
    """Arm → percent: of requests; of a shadow, of requests that it gets copies of; of a bandit 0.

    Arms without a share have all the same as the live revision; of shadows, all requests.

    Raises:
        Invalid: ``rollout.arms`` for a kind that has one revision, too many arms or none;
            ``traffic.weights`` where shares are not above 0, leave nothing to the live revision, or
            do not add up to 100 with the share given to ``live``.
    """
    given = dict(arms) if isinstance(arms, Mapping) else dict.fromkeys(arms)
    if not isinstance(arms, Mapping) and len(given) < len(arms):
        raise _arms("one of them is given twice", "Give each version once.")
    live = given.pop(LIVE, None)
    if kind not in _KINDS:
        raise _arms(f"a {kind} has one new revision", f"Give one of {', '.join(_KINDS)}.")
    most = MOST_SHADOWS if kind == "shadow" else MOST_ARMS - 1
    if not 1 <= len(given) <= most:
        raise _arms(f"{len(given)} are given, beside the live one", f"Give 1 to {most}.")
    told = {name: share for name, share in given.items() if share is not None}
    if kind == "bandit":
        if told or live is not None:
            raise _weights("a bandit finds the shares itself", "Leave them out.")
        return dict.fromkeys(given, 0.0)
    if told and len(told) < len(given):
        lacking = next(name for name in given if name not in told)
        raise _weights(f"{lacking} has no share, and others have", "Give all of them one, or none.")
    if kind == "shadow":
        return _copied({name: 100.0 if share is None else share for name, share in given.items()})
    equal = round(100 / (len(given) + 1), 2)
    return _fitting(
        {name: equal if share is None else share for name, share in given.items()}, live
    )


def _copied(shares: dict[str, float]) -> dict[str, float]:
    for name, share in shares.items():
        if not 0 < share <= 100:
            raise _weights(f"{name} cannot get copies of {share:g} %", "Give 0 < percent <= 100.")
    return shares


def _fitting(shares: dict[str, float], live: float | None) -> dict[str, float]:
    for name, share in shares.items():
        if not 0 < share < 100:
            raise _weights(f"{name} cannot have {share:g} %", "Give 0 < percent < 100.")
    whole = sum(shares.values())
    if whole >= 100:
        raise _weights(
            f"the arms have {whole:g} % together, and the live revision is one too",
            "Give less than 100 % in all; the live revision has the rest.",
        )
    if live is not None and abs(whole + live - 100) > 1e-6:
        raise _weights(
            f"all together have {whole + live:g} %, not 100",
            "Leave out live: it has the rest.",
        )
    return shares


def _arms(why: str, hint: str) -> Invalid:
    return Invalid("rollout.arms", f"These arms cannot come together: {why}.", hint=hint)


def _weights(why: str, hint: str) -> Invalid:
    return Invalid("traffic.weights", f"The traffic cannot be shared like this: {why}.", hint=hint)
