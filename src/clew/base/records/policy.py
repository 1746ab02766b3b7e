"""How jobs and datums of a step are run: tries, limits, order. Never what comes out of them.

Plain values that travel with a definition; they know no storage, and no key counts them.
"""

from __future__ import annotations

from msgspec import Struct, field

from clew.base.records.card_words import CardText
from clew.base.records.data import CodeRef
from clew.base.records.trial_policy import TrialPolicy


class Backoff(Struct, frozen=True, kw_only=True):
    """Pauses between the tries of a datum: ``first_s``, then ``factor`` times as long each time.

    No pause is longer than ``max_s``; each is shortened at random by up to the part ``jitter``
    (0 to 1), so that datums that failed together are not tried together.
    """

    first_s: float = 0.2
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.25


class Failure(Struct, frozen=True, kw_only=True):
    """What an ``on_error`` handler is told: a stable code, one line, and the user's traceback."""

    code: str
    message: str
    traceback: str = ""


class Rate(Struct, frozen=True, kw_only=True):
    """At most ``starts`` jobs in any ``per_s`` seconds."""

    starts: int
    per_s: float


class Policy(Struct, frozen=True, kw_only=True):
    """How a step is run. ``retries`` and the limits of one datum stand in its definition.

    ``retry_on`` are names of exceptions (a base class means its subclasses too) and stable codes
    (``step.timeout``); empty: all. ``on_error`` is called with a datum that has failed for good.
    ``parallel`` is how many datums run at once. Without ``every_commit`` the changes that wait
    together run once, as the newest. ``resources`` and ``placement`` (labels) are what a machine of
    a cluster must have for a datum: pairs, sorted. ``spark`` is where its Spark session is.
    ``pool`` names the resource pool that it takes slots of, '' the default one. ``trials`` is how
    those of a training step are run and kept, ``card`` what its model card says.
    """

    priority: int = 0
    backoff: Backoff = field(default_factory=Backoff)
    retry_on: tuple[str, ...] = ()
    on_error: CodeRef | None = None
    job_timeout_s: float | None = None
    parallel: int | None = None
    rate: Rate | None = None
    every_commit: bool = True
    resources: tuple[tuple[str, float], ...] = ()
    placement: tuple[tuple[str, str], ...] = ()
    spark: str = ""
    pool: str = ""
    trials: TrialPolicy | None = None
    card: CardText | None = None


class PipelinePolicy(Struct, frozen=True, kw_only=True):
    """What holds for all steps of a pipeline together: jobs at once, datums at once, starts."""

    max_jobs: int | None = None
    parallel: int | None = None
    rate: Rate | None = None
