"""The calls that training makes all the time, read: metrics, parameters and tags of a run.

Knows MLflow's rules of what is well formed, and reads only what is: everything else is left to
MLflow's own application, so that its errors are its own.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable
from typing import Any

import msgspec

GLOBAL_ID = "clew.global_id"
KEPT = "clew."
"""Tags that begin so are written by Clew; clients read them."""

_KEY = re.compile(r"[\w.\- :/]+")
_MOST_KEY = 250
_MOST_PARAM = 6000
_MOST_TAG = 8000
_MOST_METRICS, _MOST_PARAMS, _MOST_TAGS, _MOST_TOGETHER = 1000, 100, 100, 1000
_GREATEST = 1.7976931348623157e308
_INT64 = 1 << 63
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NAME = "mlflow.runName"


class Metric(msgspec.Struct, frozen=True):
    """A row of ``metrics``."""

    key: str
    timestamp: int
    step: int
    run_uuid: str
    value: float
    is_nan: bool


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """What one request logs to one run."""

    run: str
    metrics: tuple[Metric, ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()


class _Metric(msgspec.Struct):
    key: str
    value: float | str
    timestamp: int | str
    step: int | str = 0
    run_id: str = ""
    run_uuid: str = ""
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class _Pair(msgspec.Struct):
    key: str
    value: str
    run_id: str = ""
    run_uuid: str = ""


class _Batch(msgspec.Struct):
    run_id: str
    metrics: list[_Metric] = []
    params: list[_Pair] = []
    tags: list[_Pair] = []


_metric = msgspec.json.Decoder(_Metric)
_pair = msgspec.json.Decoder(_Pair)
_batch = msgspec.json.Decoder(_Batch)


class _Elsewhere(Exception):
    """MLflow's application has to say what it makes of this."""


def read_hot(call: str, body: bytes) -> Logged | None:
    """What a hot call logs; None where MLflow's application is to be asked.

    Parameters are told apart by the call: ``runs/log-metric``, ``runs/log-batch``,
    ``runs/log-parameter`` and ``runs/set-tag``.
    """
    read = _READERS.get(call)
    if read is None:
        return None
    try:
        return read(body)
    except (msgspec.MsgspecError, _Elsewhere, ValueError):
        return None


def _log_metric(body: bytes) -> Logged:
    given = _metric.decode(body)
    run = _run(given.run_id or given.run_uuid)
    return Logged(run=run, metrics=(_row(run, given),))


def _log_parameter(body: bytes) -> Logged:
    given = _pair.decode(body)
    return Logged(run=_run(given.run_id or given.run_uuid), params=(_param(given),))


def _set_tag(body: bytes) -> Logged:
    given = _pair.decode(body)
    return Logged(run=_run(given.run_id or given.run_uuid), tags=(_tag(given),))


def _log_batch(body: bytes) -> Logged:
    given = _batch.decode(body)
    run = _run(given.run_id)
    counts = len(given.metrics), len(given.params), len(given.tags)
    if (
        any(
            count > most
            for count, most in zip(counts, (_MOST_METRICS, _MOST_PARAMS, _MOST_TAGS), strict=True)
        )
        or sum(counts) > _MOST_TOGETHER
    ):
        raise _Elsewhere
    return Logged(
        run=run,
        metrics=tuple(_row(run, one) for one in given.metrics),
        params=tuple(_param(one) for one in given.params),
        tags=tuple(_tag(one) for one in given.tags),
    )


_READERS: dict[str, Callable[[bytes], Logged]] = {
    "runs/log-metric": _log_metric,
    "runs/log-parameter": _log_parameter,
    "runs/set-tag": _set_tag,
    "runs/log-batch": _log_batch,
}


def touches_kept(call: str, body: bytes) -> str:
    """The tag of Clew's that a call would write or delete; '' where it leaves them alone."""
    if call not in {"runs/set-tag", "runs/delete-tag", "runs/log-batch"} or b"clew." not in body:
        return ""
    try:
        given: Any = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return ""
    if not isinstance(given, dict):
        return ""
    named = [given, *(given.get("tags") or [])] if isinstance(given.get("tags"), list) else [given]
    keys = [str(one.get("key", "")) for one in named if isinstance(one, dict)]
    return next((key for key in keys if key.startswith(KEPT)), "")


def _run(run: str) -> str:
    if not run or len(run) > 32 or not run.isalnum():
        raise _Elsewhere
    return run


def _key(key: str) -> str:
    plain = (
        len(key) <= _MOST_KEY
        and _KEY.fullmatch(key)
        and posixpath.normpath(key) == key
        and key != "."
        and not key.startswith(("/", ".."))
    )
    if not plain:
        raise _Elsewhere
    return key


def _row(run: str, given: _Metric) -> Metric:
    if given.model_id or given.dataset_name or given.dataset_digest:
        raise _Elsewhere  # goes to the metrics of a logged model too
    if given.run_id not in {"", run}:
        raise _Elsewhere
    value = _WORDS.get(given.value, given.value) if isinstance(given.value, str) else given.value
    if isinstance(value, str):
        raise _Elsewhere
    timestamp, step = int(given.timestamp), int(given.step)
    if not 0 <= timestamp < _INT64 or not -_INT64 <= step < _INT64:
        raise _Elsewhere
    is_nan = math.isnan(value)
    stored = 0.0 if is_nan else max(-_GREATEST, min(_GREATEST, float(value)))
    return Metric(_key(given.key), timestamp, step, run, stored, is_nan)


def _param(given: _Pair) -> tuple[str, str]:
    if len(given.value) > _MOST_PARAM:
        raise _Elsewhere
    return _key(given.key), given.value


def _tag(given: _Pair) -> tuple[str, str]:
    if given.key == _NAME or given.key.startswith(KEPT) or len(given.value) > _MOST_TAG:
        raise _Elsewhere  # the name is kept with the run as well
    return _key(given.key), given.value
