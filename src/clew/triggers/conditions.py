"""When a trigger fires, as values: one grammar over commits, amounts, times, queries and metrics.

Knows what may be written; what becomes of it over time is in ``folding``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from clew.base.address import parse_address
from clew.base.durations import said, seconds
from clew.base.errors import Invalid
from clew.schedules import schedule as schedule_of

Span: TypeAlias = str | float | timedelta
Kind = Literal["all", "any", "event", "amount", "schedule", "query", "reading"]
AMOUNTS = ("rows", "bytes", "files", "commits")
READINGS = ("requests", "errors", "error_rate", "overloads", "p50_ms", "p99_ms")
_NAMES = {"source.committed": "subject", "hook.received": "source"}
"""Which value of an event is the name of a source."""


class Condition(Struct, frozen=True, kw_only=True):
    """A condition: a part that is met by what happens, or ``all`` or ``any`` of several.

    Written with ``&`` and ``|``. ``options`` belong to the kind. Of ``all`` with ``within_s`` the
    parts must be met within so many seconds of each other.
    """

    kind: Kind
    options: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Condition, ...] = ()
    within_s: float = 0.0

    def __and__(self, other: Condition) -> Condition:
        return _joined("all", self, other)

    def __or__(self, other: Condition) -> Condition:
        return _joined("any", self, other)

    def within(self, span: Span) -> Condition:
        """All parts must be met within ``span`` of each other. Amounts count while they are met."""
        if self.kind != "all":
            raise _wrong("within() says something of several conditions alone", "Join with &.")
        return replace(self, within_s=seconds(span, "within()"))

    def leaves(self) -> Iterator[Condition]:
        """The parts that are met by what happens, in the order in which they are written."""
        if self.kind in ("all", "any"):
            for part in self.parts:
                yield from part.leaves()
        else:
            yield self

    def placed(self, pipeline: str) -> Condition:
        """The same, where a name of a source without a pipeline is of this one."""
        match = dict(self.options.get("match", {}))
        named = _NAMES.get(str(self.options.get("event", "")), "")
        if named in match and "/" not in str(match[named]):
            match[named] = f"{pipeline}/{match[named]}"
            return replace(self, options={**self.options, "match": match})
        return replace(self, parts=tuple(part.placed(pipeline) for part in self.parts))

    def words(self) -> str:
        """The condition for people."""
        if self.kind in ("all", "any"):
            between = " and " if self.kind == "all" else " or "
            inner = between.join(
                f"({part.words()})" if part.parts else part.words() for part in self.parts
            )
            return inner + (f" within {said(self.within_s)}" if self.within_s else "")
        return _WORDS[self.kind](self.options)


def on_commit(repo: object, branch: str = "") -> Condition:
    """A commit on a branch of a repo (``"project/repo"``, ``"project/repo@branch"``), or a node.

    Raises Invalid ``trigger.condition``, ``address.invalid``.
    """
    name, at = _place(repo, branch)
    return on_event("commit.finished", repo=name, branch=at)


def on_event(kind: str, **match: object) -> Condition:
    """An event of a kind whose data has these values; ``subject`` is what it is about.

    The kinds are in the reference. Raises Invalid ``trigger.condition``.
    """
    if not isinstance(kind, str) or "." not in kind:
        raise _wrong(f"{kind!r} is no kind of event", "Such as job.ended; see the reference.")
    if kind.startswith("trigger."):
        raise _wrong("A trigger cannot wait for triggers", "It would set off itself.")
    return Condition(kind="event", options={"event": kind, "match": match})


def on_source(source: object) -> Condition:
    """A source that commits by itself has committed: a queue, say.

    The source, or its name: ``pipeline/source``, or ``source`` of the trigger's own pipeline.

    Raises Invalid ``trigger.condition``.
    """
    return on_event("source.committed", subject=_fed(source))


def on_webhook(webhook: object, **match: object) -> Condition:
    """A webhook was posted to; ``match`` is of the top of its JSON.

    The source, or its name, as in :func:`on_source`.

    Raises Invalid ``trigger.condition``.
    """
    if "source" in match:
        raise _wrong("The webhook says what its source is", "Match other fields of the JSON.")
    return on_event("hook.received", source=_fed(webhook), **match)


def on_drift(endpoint: str, *, above: float | None = None) -> Condition:
    """An endpoint has drifted, the first time since it had not.

    With ``above`` every report whose greatest distance is greater, whatever the monitor thinks.
    """
    if above is None:
        return on_event("drift.seen", endpoint=endpoint)
    return _bounded("drift.reported", {"endpoint": endpoint}, "value", above, None)


def on_metric(
    name: str,
    *,
    model: object = None,
    endpoint: str = "",
    above: float | None = None,
    below: float | None = None,
    every: Span = "30s",
) -> Condition:
    """A metric beyond a bound: of each new version of a ``model``, or live at an ``endpoint``.

    Of a model the metrics of its evaluation, when its verdict is given. Of an endpoint one of
    ``requests``, ``errors``, ``error_rate`` (0 to 1), ``overloads`` (requests refused with 429),
    ``p50_ms``, ``p99_ms``, of what it was asked since the last look, ``every`` so often; met
    whenever it passes the bound. Requests that expire (504) are errors. A rate or a latency is told
    of 20 requests or more: fewer wait for the next look.

    Raises Invalid ``trigger.condition``, ``duration.invalid``.
    """
    if (model is None) == (not endpoint):
        raise _wrong("A metric is of a model or of an endpoint", "Give model= or endpoint=.")
    if above is None and below is None:
        raise _wrong(f"{name} has no bound", "Give above= or below=.")
    if endpoint:
        if name not in READINGS:
            raise _wrong(f"{name} is not a metric of endpoints", f"One of {', '.join(READINGS)}.")
        options = {"endpoint": endpoint, "name": name, "above": above, "below": below}
        return Condition(kind="reading", options={**options, "every_s": _every(every)})
    match: dict[str, object] = {"model": _repo(model)}
    return _bounded("verdict.given", match, f"metrics.{name}", above, below)


def amount(
    repo: object,
    *,
    rows: int = 0,
    bytes: int = 0,
    files: int = 0,
    commits: int = 0,
    branch: str = "",
) -> Condition:
    """So much new data on a branch since the trigger last fired; of several bounds any.

    Counted are the files that commits add and change: their rows (of tabular files), their bytes,
    themselves. Met until the trigger fires.

    Raises Invalid ``trigger.condition``, ``address.invalid``.
    """
    bounds = {"rows": rows, "bytes": bytes, "files": files, "commits": commits}
    wanted = {name: bound for name, bound in bounds.items() if bound}
    if not wanted or any(not isinstance(one, int) or one < 0 for one in wanted.values()):
        raise _wrong("An amount needs a bound above 0", f"Give one of {', '.join(AMOUNTS)}.")
    name, at = _place(repo, branch)
    return Condition(kind="amount", options={"repo": name, "branch": at, "bounds": wanted})


def schedule(text: str, *, tz: str = "UTC") -> Condition:
    """The instants of a schedule: ``"0 5 * * *"``, ``"@daily"``, ``"@every 15m"``.

    Instants that were missed (nothing ran, or the trigger was paused) are one, the last of them.

    Raises Invalid ``schedule.invalid``, ``schedule.zone``.
    """
    found = schedule_of(text, tz)
    return Condition(kind="schedule", options={"text": found.text, "zone": found.zone})


def on_query(
    sql: str,
    *,
    url: str = "",
    every: Span = "1m",
    above: float | None = None,
    below: float | None = None,
    changes: bool = False,
) -> Condition:
    """A query, asked ``every`` so often: its value passes a bound, changes, or has a new row.

    Without ``url`` it is asked over commits, as ``clew sql`` does; with one (``env:NAME``,
    ``postgresql://…``) of that database. The value is the first column of the first row. With
    neither bound nor ``changes`` it is met when the answer holds a row that the last one had not.

    Raises Invalid ``trigger.condition``, ``duration.invalid``.
    """
    if not isinstance(sql, str) or not sql.strip():
        raise _wrong("A query is empty", "Write a SELECT.")
    bounds = {"above": above, "below": below, "changes": changes}
    options = {"sql": sql, "url": url, "every_s": _every(every), **bounds}
    return Condition(kind="query", options=options)


def _bounded(
    kind: str, match: dict[str, object], path: str, above: float | None, below: float | None
) -> Condition:
    found = on_event(kind, **match)
    return replace(found, options={**found.options, "path": path, "above": above, "below": below})


def _joined(kind: Literal["all", "any"], first: Condition, second: Condition) -> Condition:
    if not isinstance(second, Condition):
        raise _wrong(f"{second!r} is no condition", "Join clew.on_commit(...) and its like.")
    mine = first.parts if first.kind == kind and not first.within_s else (first,)
    theirs = second.parts if second.kind == kind and not second.within_s else (second,)
    return Condition(kind=kind, parts=(*mine, *theirs))


def _place(repo: object, branch: str) -> tuple[str, str]:
    """Repo and branch of a node of a pipeline, or of an address."""
    if not isinstance(repo, str):
        return _repo(repo), branch or str(getattr(repo, "branch", "main"))
    address = parse_address(repo)
    return address.repo, branch or address.ref


def _repo(node: object) -> str:
    found = node if isinstance(node, str) else getattr(node, "repo", None)
    if not isinstance(found, str) or not found:
        raise _wrong(f"{node!r} names no repo", 'Give a source, a step, or "project/repo".')
    return found


def _fed(source: object) -> str:
    """The name of a source, by itself or as a node of a pipeline."""
    if isinstance(source, str) and source:
        return source
    pipeline = getattr(getattr(source, "pipeline", None), "name", "")
    name = getattr(source, "name", "")
    if not isinstance(pipeline, str) or not isinstance(name, str) or not pipeline or not name:
        raise _wrong(f"{source!r} is no source", 'Give it, or its name: "pipeline/source".')
    return f"{pipeline}/{name}"


def _every(span: Span) -> float:
    found = seconds(span, "every=")
    if found < 0.1:
        raise _wrong(f"every={span!r} is too often", 'Write such as "30s".')
    return found


def _event_words(options: dict[str, Any]) -> str:
    match = options["match"]
    if options["event"] == "commit.finished" and "repo" in match:
        return f"commit on {match['repo']}@{match.get('branch', 'main')}"
    shown = ", ".join(f"{name}={value}" for name, value in match.items())
    text = f"{options['event']}{f' ({shown})' if shown else ''}"
    return f"{options['path']} {_bounds(options)} at {text}" if options.get("path") else text


def _bounds(options: dict[str, Any]) -> str:
    above, below = options.get("above"), options.get("below")
    told = [f"above {above:g}"] if above is not None else []
    told += [f"below {below:g}"] if below is not None else []
    return " or ".join(told) or ("changes" if options.get("changes") else "has a new row")


def _amount_words(options: dict[str, Any]) -> str:
    bounds = " or ".join(f"{bound:,} {name}" for name, bound in options["bounds"].items())
    return f"{bounds} new in {options['repo']}@{options['branch']}"


def _schedule_words(options: dict[str, Any]) -> str:
    zone = f" {options['zone']}" if options["zone"] != "UTC" else ""
    return f"at {options['text']}{zone}"


def _query_words(options: dict[str, Any]) -> str:
    return f"query {' '.join(options['sql'].split())[:60]!r} {_bounds(options)}"


def _reading_words(options: dict[str, Any]) -> str:
    return f"{options['name']} of {options['endpoint']} {_bounds(options)}"


_WORDS = {
    "event": _event_words,
    "amount": _amount_words,
    "schedule": _schedule_words,
    "query": _query_words,
    "reading": _reading_words,
}


def _wrong(what: str, hint: str) -> Invalid:
    return Invalid("trigger.condition", f"{what}.", hint=hint)
