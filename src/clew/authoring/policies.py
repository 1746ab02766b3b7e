"""How a step is run, as a user writes it: tries, handlers of errors, order, limits.

Knows values only; every refusal is Invalid ``pipeline.definition``.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypedDict

from msgspec import Struct, field

from clew.authoring.checks import invalid
from clew.base.pools import DEFAULT
from clew.base.records.policy import Backoff, PipelinePolicy, Policy, Rate
from clew.base.records.trial_policy import TrialPolicy
from clew.codecs import Spark

_UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_RATE = re.compile(r"(\d+)/(s|min|h|d)")
Retried = type[BaseException] | str


class StepPolicy(TypedDict, total=False):
    """Options of a step that change how it is run, and never what comes out.

    - ``backoff``: pauses between tries: ``clew.backoff(first_s=1, factor=2, max_s=60)``, or seconds
      before the second.
    - ``retry_on``: exceptions (with their subclasses) and codes (``step.timeout``, ``step.memory``,
      ``step.died``) that are worth another try; all of them without it.
    - ``on_error``: a function that is given a datum that has failed for good: any of its inputs by
      name, and ``error`` (``code``, ``message``, ``traceback``). Where it returns, the datum has
      recovered: the job goes on without it, and the next job runs it again.
    - ``job_timeout_s``: seconds after which a job of the step is stopped.
    - ``priority``: jobs of a higher one start first, and their datums run first.
    - ``parallel``: how many datums run at once.
    - ``rate``: how many jobs may start, ``"10/h"`` (per ``s``, ``min``, ``h`` or ``d``).
    - ``every_commit``: whether each of several changes that wait runs, or only the newest.
    - ``resources``: the slots that a datum or a trial takes of its pool: ``{"CPU": 2, "GPU": 1}``;
      a process where it does not say. With GPUs it sees those alone. On a Ray cluster it is what
      the node must have, which may be more (``{"TPU": 1}``).
    - ``pool``: the resource pool (``CLEW_POOLS``) that these slots are of, the default one without.
    - ``spark``: where the session is that Spark frames live in: ``local[2]``, ``spark://HOST:7077``,
      ``sc://HOST``; all cores of the worker's machine where it does not say.
    - ``trials``: how the trials of a training step are run and kept: ``clew.trials(...)``.
    - ``placement``: labels that the node must have: ``{"zone": "eu"}``, ``"in(a, b)"``, ``"!a"``.
    """

    backoff: Backoff | float
    retry_on: Retried | Sequence[Retried]
    on_error: Callable[..., Any]
    job_timeout_s: float
    priority: int
    parallel: int
    rate: str
    every_commit: bool
    resources: Mapping[str, float]
    placement: Mapping[str, str]
    pool: str
    spark: str
    trials: TrialPolicy


class Written(Struct, frozen=True, kw_only=True):
    """A policy as it was written, with the function that handles errors, where there is one."""

    policy: Policy = field(default_factory=Policy)
    on_error: Callable[..., Any] | None = None


def backoff(
    first_s: float = 0.2, *, factor: float = 2.0, max_s: float = 30.0, jitter: float = 0.25
) -> Backoff:
    """Pauses between the tries of a datum that fails.

    ``first_s`` seconds before the second try, then each ``factor`` times as long, never longer than
    ``max_s``; each is shortened at random by up to the part ``jitter``, so that datums that failed
    together do not come back together.
    """
    if first_s < 0 or factor < 1 or max_s < first_s or not 0 <= jitter <= 1:
        raise invalid(
            f"backoff({first_s}, factor={factor}, max_s={max_s}, jitter={jitter}) is no backoff",
            "first_s is 0 or more, factor 1 or more, max_s not below first_s, jitter from 0 to 1.",
        )
    return Backoff(first_s=first_s, factor=factor, max_s=max_s, jitter=jitter)


def policy_of(
    name: str, how: Mapping[str, Any], defaults: Mapping[str, Any], inputs: Sequence[str] = ()
) -> Written:
    """The policy of a step, from what was written for it and for its pipeline."""
    unknown = [word for word in how if word not in StepPolicy.__annotations__]
    if unknown:
        near = get_close_matches(unknown[0], list(StepPolicy.__annotations__), 1)
        hint = f"Did you mean {near[0]}?" if near else "See the options in docs/reference.md."
        if unknown[0] in ("cmd", "command"):
            hint = "A program is a step by itself: p.cmd(name, command, *inputs)."
        raise invalid(f"{name} has no option {unknown[0]!r}", hint)
    given = {**defaults, **how}
    check_positive(name, {key: given.get(key) for key in ("job_timeout_s", "parallel")})
    pauses = given.get("backoff", Backoff())
    handler = given.get("on_error")
    if handler is not None:
        _check_handler(name, handler, inputs)
    policy = Policy(
        priority=given.get("priority", 0),
        backoff=pauses if isinstance(pauses, Backoff) else backoff(pauses, max_s=max(30.0, pauses)),
        retry_on=_names(name, given.get("retry_on", ())),
        job_timeout_s=given.get("job_timeout_s"),
        parallel=given.get("parallel"),
        rate=rate_of(name, given.get("rate", "")),
        every_commit=given.get("every_commit", True),
        resources=_resources(name, given.get("resources") or {}),
        placement=_placement(name, given.get("placement") or {}),
        pool=_pool(name, given.get("pool", "")),
        spark=_spark(name, given.get("spark", "")),
        trials=given.get("trials"),
    )
    return Written(policy=policy, on_error=handler)


def pipeline_policy(
    name: str, *, max_jobs: int | None, parallel: int | None, rate: str
) -> PipelinePolicy:
    """What holds for all steps of a pipeline together."""
    check_positive(name, {"max_jobs": max_jobs, "parallel": parallel})
    return PipelinePolicy(max_jobs=max_jobs, parallel=parallel, rate=rate_of(name, rate))


def rate_of(name: str, text: str) -> Rate | None:
    """The rate that ``10/min`` stands for; None for ''."""
    if not text:
        return None
    match = _RATE.fullmatch(text)
    if match is None or int(match[1]) < 1:
        raise invalid(
            f"rate={text!r} of {name} is no rate",
            'Write starts and a unit: "1/s", "10/min", "6/h".',
        )
    return Rate(starts=int(match[1]), per_s=float(_UNITS_S[match[2]]))


def check_positive(name: str, values: Mapping[str, float | None]) -> None:
    """Each is above 0, where it is there."""
    for key, value in values.items():
        if value is not None and value <= 0:
            raise invalid(f"{key}={value} of {name}", "Give a number above 0, or leave it out.")


def _resources(name: str, given: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    for word, amount in given.items():
        number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not isinstance(word, str) or not word or not number or not 0 <= amount < math.inf:
            raise invalid(
                f"resources= of {name} has {word!r}: {amount!r}",
                'Give names and amounts: {"CPU": 2, "GPU": 1}.',
            )
    return tuple(sorted((word, float(amount)) for word, amount in given.items()))


def _spark(name: str, address: str) -> str:
    if address and not Spark.is_address(address):
        raise invalid(
            f"spark={address!r} of {name}", "Write local[2], spark://HOST:7077 or sc://HOST:15002."
        )
    return address


def _pool(name: str, pool: Any) -> str:
    if not isinstance(pool, str):
        raise invalid(f"pool={pool!r} of {name}", 'Give the name of a pool: pool="gpu".')
    return "" if pool == DEFAULT else pool


def _placement(name: str, given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    for label, value in given.items():
        if not isinstance(label, str) or not label or not isinstance(value, str):
            raise invalid(
                f"placement= of {name} has {label!r}: {value!r}",
                'Give labels of nodes and their values: {"zone": "eu"}.',
            )
    return tuple(sorted(given.items()))


def _names(name: str, wanted: Any) -> tuple[str, ...]:
    found = [wanted] if isinstance(wanted, str | type) else list(wanted)
    for one in found:
        of_errors = isinstance(one, type) and issubclass(one, BaseException)
        if not of_errors and not (isinstance(one, str) and "." in one):
            raise invalid(
                f"retry_on of {name} has {one!r}",
                "Give exceptions, or codes such as step.timeout, step.memory, step.died.",
            )
    return tuple(one if isinstance(one, str) else one.__name__ for one in found)


def _check_handler(name: str, handler: Any, inputs: Sequence[str]) -> None:
    if not inspect.isfunction(handler):
        raise invalid(f"on_error of {name} is {handler!r}", "Give a function at module level.")
    wanted = list(inspect.signature(handler).parameters)
    if "error" not in wanted:
        raise invalid(
            f"on_error={handler.__name__} of {name} has no parameter named error",
            f"Write def {handler.__name__}({', '.join([*inputs, 'error'])}).",
        )
    strange = [one for one in wanted if one != "error" and inputs and one not in inputs]
    if strange:
        raise invalid(
            f"on_error={handler.__name__} of {name} has a parameter {strange[0]!r}",
            f"It may have error and {', '.join(inputs)}.",
        )
