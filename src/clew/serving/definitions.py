"""What a user says about an endpoint: its name, its model, and how a new version takes over.

Knows nothing of rows, processes or requests: these are values that travel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from clew.base.arms import MOST_SHADOWS
from clew.base.errors import Invalid
from clew.base.records.graphs import Graph
from clew.base.records.processing import Processing
from clew.base.records.traffic import Rollout

KINDS = ("immediate", "canary", "shadow", "split", "ab_test", "bandit")
METRICS = ("reward", "correct", "error", "errors")
"""``reward``: of the feedback; ``correct``, ``error``: its label against the answer; ``errors``:
requests that the model failed at."""
_FEW = ("error", "errors")
ANSWERS = ("label", "prediction", "predictions")
"""Outputs that a label is compared with, the first that there is."""


def canary(
    steps: Sequence[int] = (10, 50, 100),
    *,
    hold_s: float = 2.0,
    min_requests: int = 20,
    max_requests: int = 0,
    max_error_rate: float = 0.02,
    max_nan_rate: float = 0.02,
    max_latency_ratio: float = 5.0,
    max_drift: float | None = None,
    max_disagreement: float | None = None,
    shadow: bool = False,
) -> Rollout:
    """A rollout by steps of traffic with an analysis before each next step.

    Args:
        steps: Percentages, rising; a last step of 100 is added where it is missing.
        hold_s: A step lasts at least so long, in seconds.
        min_requests: A step needs at least so many requests to the new revision.
        max_requests: With so many it is decided by what there is; 0: 20 times ``min_requests``.
            Between the two a step goes on once it is shown that no allowance is exceeded.
        max_error_rate: How much larger the share of failed (or refused) requests may be.
        max_nan_rate: How much larger the share of answers with NaN may be.
        max_latency_ratio: How many times longer 90 % of the requests may take.
        max_drift: How far the distribution of an output may be from that of the live revision's
            (total variation of classes, Kolmogorov-Smirnov of numbers; 1: any). None: 0.25, and
            any where the live revision's inputs have drifted when the new one comes.
        max_disagreement: Share of copies that may be answered otherwise, in a shadow; None: any.
        shadow: A step before the first: copies of all requests, whose answers nobody gets.

    Raises:
        Invalid: ``rollout.steps`` where the percentages do not rise from above 0 to 100;
            ``rollout.definition`` where a bound is impossible.
    """
    return checked(
        Rollout(
            kind="canary",
            steps=tuple(steps),
            hold_s=hold_s,
            min_requests=min_requests,
            max_requests=max_requests,
            max_error_rate=max_error_rate,
            max_nan_rate=max_nan_rate,
            max_latency_ratio=max_latency_ratio,
            max_drift=max_drift,
            max_disagreement=max_disagreement,
            shadow=shadow,
        )
    )


def immediate() -> Rollout:
    """A rollout in one step, as soon as every serving process has loaded the new revision."""
    return Rollout()


def shadow(
    share: float = 100.0, *, max_disagreement: float | None = None, most: int = 1
) -> Rollout:
    """A new revision gets copies of ``share`` percent of the requests, and no say.

    Its answers are logged and compared with those that were given; they are never returned. It
    stays a shadow until it is given traffic or taken off (``clew traffic``), or until there are
    more than ``most`` (1 to 4): then the oldest leaves.

    Raises:
        Invalid: ``rollout.definition``.
    """
    return checked(
        Rollout(kind="shadow", weight=share, max_disagreement=max_disagreement, most=most)
    )


def split(weight: float) -> Rollout:
    """A new revision gets ``weight`` percent of the requests until somebody says otherwise.

    Raises:
        Invalid: ``rollout.definition``.
    """
    return checked(Rollout(kind="split", weight=weight))


def ab_test(
    weight: float = 50.0,
    *,
    metric: str = "reward",
    goal: str = "max",
    alpha: float = 0.05,
    min_samples: int = 100,
    max_samples: int = 0,
    promote: bool = True,
) -> Rollout:
    """A new revision is tested against the live one with fixed weights until one has won.

    Several at once: ``clew.deploy_arms(endpoint, {version: percent, …})``. Each is compared with
    the live one, at ``alpha`` for all of them together (Holm); one that loses leaves, and its share
    goes to the others.

    Args:
        weight: Percent of the requests that the new revision gets.
        metric: ``reward`` (of feedback), ``correct`` or ``error`` (feedback's label against the
            answer), or ``errors`` (requests that the model failed at).
        goal: ``max`` or ``min``; of ``error`` and ``errors`` it is always ``min``.
        alpha: The chance that equal revisions are ever called different, however often one looks.
        min_samples: Outcomes of each revision before anything is decided.
        max_samples: Outcomes of all after which the test ends without a winner; 0: never.
        promote: The winner gets all traffic; else it is told and the weights stay.

    Raises:
        Invalid: ``rollout.definition``.
    """
    return checked(
        Rollout(
            kind="ab_test",
            weight=weight,
            metric=metric,
            goal=goal,
            alpha=alpha,
            min_samples=min_samples,
            max_samples=max_samples,
            promote=promote,
        )
    )


def bandit(
    *,
    metric: str = "reward",
    reward: str = "binary",
    goal: str = "max",
    floor: float = 0.05,
    every_s: float = 2.0,
) -> Rollout:
    """Thompson sampling: each revision gets requests by the chance that it is the best one.

    Args:
        metric: As in :func:`ab_test`, of feedback: ``reward``, ``correct`` or ``error``.
        reward: ``binary`` (from 0 to 1; Beta posterior) or ``gaussian`` (any number).
        goal: ``max`` or ``min``.
        floor: Each arm keeps at least this share of the requests, from 0 to 1.
        every_s: How often the posterior is looked at, in seconds.

    Raises:
        Invalid: ``rollout.definition``.
    """
    return checked(
        Rollout(
            kind="bandit",
            metric=metric,
            reward=reward,
            goal=goal,
            floor=floor,
            every_s=every_s,
        )
    )


def rollout_from(value: Mapping[str, object]) -> Rollout:
    """A rollout from its JSON object: ``kind`` and the arguments of the function of that name.

    Raises:
        Invalid: ``rollout.steps``, ``rollout.definition``.
    """
    kind = value.get("kind")
    maker = _MAKERS.get(str(kind))
    if maker is None:
        raise _wrong(f"There is no rollout {kind!r}", f"Give kind: {', '.join(KINDS)}.")
    given = {name: each for name, each in value.items() if name != "kind"}
    allowed = {"share"} if kind == "shadow" else set()
    unknown = given.keys() - set(Rollout.__struct_fields__) - allowed
    if unknown:
        raise _wrong(f"A rollout has no {', '.join(sorted(unknown))}", "See the reference.")
    try:
        if "share" in given:
            given["weight"] = given.pop("share")
        base = msgspec.to_builtins(maker)
        return checked(msgspec.convert({**base, **given}, Rollout))
    except msgspec.ValidationError as error:
        raise _wrong(f"The rollout is not as it should be: {error}", "See the reference.") from None


def checked(rollout: Rollout) -> Rollout:
    """The rollout, if it makes sense: errors are to be few, and a canary ends with all requests.

    Raises:
        Invalid: ``rollout.steps``, ``rollout.definition``.
    """
    rollout = _whole(rollout)
    rising = all(low < high for low, high in pairwise(rollout.steps))
    if not rollout.steps or not rising or not 0 < rollout.steps[0] <= rollout.steps[-1] == 100:
        raise Invalid(
            "rollout.steps",
            f"The steps of a canary must rise from above 0 to 100, not {list(rollout.steps)}.",
            hint="Write clew.canary(steps=[10, 50, 100]).",
        )
    for name, holds, must in _RULES:
        if not holds(rollout):
            raise _wrong(f"{name}={getattr(rollout, name)!r} of a {rollout.kind}", must)
    return rollout


def check_outcomes(endpoint: str, rollout: Rollout, *, log: float, redact: Collection[str]) -> None:
    """That feedback can be joined to what an endpoint keeps, where a rollout decides by feedback.

    Raises:
        Invalid: ``rollout.definition``.
    """
    if rollout.kind not in ("ab_test", "bandit") or rollout.metric == "errors":
        return
    hidden = [name for name in ANSWERS if name in redact]
    why, then = "", 'Log a share of them, or decide by metric="errors" (an A/B test).'
    if not log:
        why = "the endpoint logs no prediction that feedback could be joined to"
    elif hidden and rollout.metric != "reward":
        why = f"the endpoint never writes down {hidden[0]!r}, which a label is compared with"
        then = 'Give rewards (metric="reward"), or take it out of redact=.'
    if why:
        raise _wrong(f"{endpoint} cannot decide by {rollout.metric}: {why}", then)


def _whole(rollout: Rollout) -> Rollout:
    """What holds for a kind and a metric, however the rollout was said."""
    if rollout.metric in _FEW:
        rollout = replace(rollout, goal="min")
    if rollout.kind == "canary" and rollout.steps[-1:] != (100,):
        rollout = replace(rollout, steps=(*rollout.steps, 100))
    return rollout


def _wrong(message: str, hint: str) -> Invalid:
    return Invalid("rollout.definition", f"{message}.", hint=hint)


_WEIGHED = ("split", "ab_test")
_RULES: tuple[tuple[str, Callable[[Rollout], bool], str], ...] = (
    ("kind", lambda r: r.kind in KINDS, f"It must be one of {', '.join(KINDS)}."),
    ("hold_s", lambda r: r.hold_s >= 0, "Give seconds, 0 or more."),
    ("min_requests", lambda r: r.min_requests >= 1, "Give a number of requests, 1 or more."),
    ("max_requests", lambda r: r.max_requests >= 0, "Give a number of requests, or 0."),
    ("max_error_rate", lambda r: 0 <= r.max_error_rate <= 1, "Give a share from 0 to 1."),
    ("max_nan_rate", lambda r: 0 <= r.max_nan_rate <= 1, "Give a share from 0 to 1."),
    ("max_latency_ratio", lambda r: r.max_latency_ratio >= 1, "Give a ratio, 1 or more."),
    ("max_drift", lambda r: 0 < r.drift_bound <= 1, "Give a distance above 0, at most 1."),
    (
        "max_disagreement",
        lambda r: r.max_disagreement is None or 0 <= r.max_disagreement <= 1,
        "Give a share from 0 to 1.",
    ),
    ("weight", lambda r: r.kind not in _WEIGHED or 0 < r.weight < 100, "Give 0 < percent < 100."),
    ("weight", lambda r: r.kind != "shadow" or 0 < r.weight <= 100, "Give 0 < percent <= 100."),
    ("most", lambda r: 1 <= r.most <= MOST_SHADOWS, f"Give 1 to {MOST_SHADOWS} shadows."),
    ("metric", lambda r: r.metric in METRICS, f"It must be one of {', '.join(METRICS)}."),
    ("metric", lambda r: r.kind != "bandit" or r.metric != "errors", "A bandit needs feedback."),
    ("goal", lambda r: r.goal in {"max", "min"}, "It must be max or min."),
    ("alpha", lambda r: 0 < r.alpha < 0.5, "Give a chance above 0, below 0.5."),
    ("min_samples", lambda r: r.min_samples >= 2, "Give a number of outcomes, 2 or more."),
    ("max_samples", lambda r: r.max_samples >= 0, "Give a number of outcomes, or 0."),
    ("floor", lambda r: 0 <= r.floor <= 0.5, "Give a share from 0 to 0.5."),
    ("reward", lambda r: r.reward in {"binary", "gaussian"}, "It must be binary or gaussian."),
    ("every_s", lambda r: r.every_s > 0, "Give seconds, above 0."),
)
_MAKERS: dict[str, Rollout] = {
    "immediate": immediate(),
    "canary": canary(),
    "shadow": shadow(),
    "split": Rollout(kind="split"),
    "ab_test": ab_test(),
    "bandit": bandit(),
}


class EndpointDefinition(Struct, frozen=True, kw_only=True):
    """A name that predictions are asked from, and the model (the name of its repo) behind it.

    ``log``: the share of predictions that is kept in the repo ``{pipeline}/{endpoint}.predictions``
    (chosen by prediction id; false: none). ``redact``: inputs and outputs that are never written.
    ``max_queue``: requests that may wait in one serving process; more are answered with 429.
    ``isolate``: the model has a process of its own beside each serving process; None: where it is
    large, or slow. ``processing``: functions around the model. ``graph``: it asks other endpoints,
    and has no model (``model`` is ''). ``alias``: it serves what this alias of the model stands on,
    as a node of a graph; '': what is deployed.
    """

    name: str
    pipeline: str
    model: str
    rollout: Rollout = field(default_factory=Rollout)
    log: float = 1.0
    redact: tuple[str, ...] = ()
    max_queue: int = 1024
    isolate: bool | None = None
    processing: Processing | None = None
    graph: Graph | None = None
    alias: str = ""

    @property
    def code(self) -> str:
        """Digest of what of the user's code stands in it; a change is a new revision."""
        found = self.graph or self.processing
        return found.code if found else ""
