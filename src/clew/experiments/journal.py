"""The rows of one experiment while it goes on: what to write gathers here, and goes in at once.

Knows the tables, repos and lineage; decides nothing.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import Struct, field

from clew.base.clock import now, to_us
from clew.base.errors import ClewError
from clew.base.ids import new_id
from clew.base.ranks import Ranks
from clew.base.records import CodeRef, Node
from clew.base.records.trial_policy import TrialPolicy
from clew.db import Database, Tx, fact
from clew.experiments import tables, trial_tables
from clew.experiments.checkpoints import held, resumable, retire
from clew.experiments.definitions import SearchDefinition
from clew.experiments.measuring import measured
from clew.experiments.slots import exclude, excluded_by
from clew.experiments.spaces import Space
from clew.experiments.tracks import Track, measured_names, watched
from clew.lineage import Lineage
from clew.repos import Repos

_Key = TypeVar("_Key")

PRUNE_EVERY_S = 5.0
"""How often checkpoints that no policy keeps are given up while a search goes on."""


class Order(Struct, frozen=True, kw_only=True):
    """What to search, on what, and for whom.

    ``inputs``: {parameter, tree, paths} for ``load_value``; ``provenance``: the input commits;
    ``initial``: a tree that trial 0 starts warm from (``all_warm``: every trial), '' for none; with
    ``start`` steps behind it and a ``seed`` of its own where it goes on with another trial.
    ``trials``: how many there will be. Limits are of one run of a trial. ``each``: the slots that a
    trial takes, ``at_most``: so many run at once, 0 for no such limit; ``metric_optional``: a trial
    that comes to its end without ever having reported the metric is done all the same.
    """

    job: str
    pipeline: str
    step: str
    global_id: str
    definition: SearchDefinition
    space: Space
    trials: int
    function: CodeRef
    snapshot_dir: str
    inputs: tuple[Mapping[str, Any], ...]
    provenance: tuple[str, ...]
    initial: str
    all_warm: bool = False
    timeout_s: float | None
    memory_bytes: int | None
    program: tuple[str, ...] = ()
    environment: Mapping[str, str]
    resources: Mapping[str, float] = field(default_factory=dict)
    placement: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()
    heard: Callable[[Sequence[Sequence[str]]], None] = lambda _: None
    policy: TrialPolicy = field(default_factory=TrialPolicy)
    ranks: Ranks | None = None
    pool: str = ""
    feasible: Mapping[str, str] | None = None
    priority: int = 0
    start: int = 0
    seed: int | None = None
    each: int = 1
    at_most: int = 0
    metric_optional: bool = False

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.pipeline}/{self.step}"


class _Page(Struct):
    """What is to be written next."""

    points: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    since_s: float | None = None
    tracks: dict[int, Track] = field(default_factory=dict)
    checkpoints: dict[tuple[int, int], str] = field(default_factory=dict)
    rewound: list[Track] = field(default_factory=list)
    files: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    usage: list[dict[str, Any]] = field(default_factory=list)
    excluded: list[tuple[Track, dict[str, Any]]] = field(default_factory=list)
    events: list[tuple[str, Track]] = field(default_factory=list)


class Journal:
    """The experiment of one job, in rows and in memory. Belongs to one thread."""

    def __init__(self, db: Database, repos: Repos, lineage: Lineage, order: Order) -> None:
        self._db = db
        self._repos = repos
        self._lineage = lineage
        self._order = order
        self._page = _Page()
        self._facts: list[dict[str, Any]] = []
        self._excess = 0
        self._pruned_at_s = time.monotonic()
        self.id = ""
        self.state = "running"
        self.tracks: list[Track] = []
        self.prior: str | None = None
        self.front: list[str] = []
        self.ended_by = ""
        self._spent_s = 0.0
        self._opened_s = time.monotonic()

    @property
    def checkpoints_repo(self) -> str:
        """Where checkpoints are committed, a branch for each trial."""
        return f"{self._order.name}.checkpoints"

    @property
    def spent_s(self) -> float:
        """Seconds that the search has been going on, over all its processes."""
        return self._spent_s + time.monotonic() - self._opened_s

    def open(self) -> None:
        """Find the experiment of the job with its trials, or begin one."""
        self._opened_s = time.monotonic()
        with self._db.read() as tx:
            row = tx.execute(tables.OF_JOB, {"job": self._order.job}).first()
            if row is not None:
                self.id, self.state = row.id, row.state
                self.prior, self._spent_s = row.prior, row.spent_s
                self.tracks = _load_tracks(tx, row.id, self._order)
        if row is None:
            self._begin()

    def reopen(self) -> None:
        """Go on with an experiment that failed or was cancelled, as it stands."""
        with self._db.begin() as tx:
            self._set(tx, state="running", error=None, finished_us=None)
        self.state = "running"

    # gathering ------------------------------------------------------------------------------

    def start(self, track: Track) -> None:
        """A trial begins a run (its first, or after a promotion)."""
        self._note("trial.started", track)

    def promote(self, track: Track) -> None:
        """A trial goes on to another target without a pause."""
        self._page.tracks[track.number] = track

    def rewind(self, track: Track) -> None:
        """A trial begins again from its checkpoint; what it reported after that is forgotten."""
        track.begin_again()
        self._page.rewound.append(track)
        self._page.points = _until(track, self._page.points)
        self._page.files = _until(track, self._page.files)

    def report(self, track: Track, step: int, metrics: dict[str, float]) -> None:
        """A trial reported; a second report of a step adds to the first."""
        self._hurry()
        row = self._page.points.setdefault(
            (track.id, step),
            {"trial": track.id, "step": step, "metrics": {}, "at_us": to_us(now())},
        )
        row["metrics"].update(metrics)
        self._page.tracks[track.number] = track

    def checkpoint(self, track: Track, step: int, tree: str) -> None:
        """The bytes of a checkpoint are in the store; commit them.

        From now on the trial begins again from it: nothing is acted on before it is written.
        """
        self._hurry()
        track.checkpoint_step, track.tree = step, tree
        self._page.checkpoints[track.number, step] = tree
        self._page.tracks[track.number] = track

    def take(self, track: Track, message: Mapping[str, Any]) -> None:
        """A trial said something that no search decides by."""
        if message["kind"] == "checkpoint":
            self.checkpoint(track, message["step"], message["tree"])
            return
        self._hurry()
        self._page.tracks[track.number] = track
        at_us = to_us(now())
        if message["kind"] == "progress":
            track.share, track.note = message["share"], message["text"]
        elif message["kind"] == "file":
            row = {name: message[name] for name in ("path", "type", "step", "digest", "size_bytes")}
            self._page.files[track.id, message["path"]] = {
                "trial": track.id, "at_us": at_us, **row
            }  # fmt: skip
        elif message["kind"] == "usage":
            usage = {"trial": track.id, "at_us": message["at_us"], "values": message["values"]}
            self._page.usage.append(usage)

    def pause(self, track: Track) -> None:
        """A trial waits at a rung."""
        self._note("trial.paused", track)

    def finish(self, track: Track) -> None:
        """A trial is done, failed or stopped."""
        track.ended_us = to_us(now())
        self._note("trial.ended", track)

    def exclude(self, track: Track, slots: Sequence[str], pattern: str, reason: str) -> None:
        """No trial gets these slots from now on, because of what this one printed."""
        self._page.tracks[track.number] = track
        track.excluded += slots
        for slot in slots:
            row = {
                "id": new_id(), "slot": slot, "pattern": pattern, "reason": reason,
                "trial": track.id, "experiment": self.id, "global_id": self._order.global_id,
                "since_us": to_us(now()),
            }  # fmt: skip
            self._page.excluded.append((track, row))

    def wishes(self) -> dict[int, str]:
        """What people want of trials, by number: pause or cancel."""
        with self._db.read() as tx:
            rows = tx.execute(tables.WISHES, {"experiment": self.id}).all()
        return {row.number: row.wish for row in rows}

    def rest_s(self, patience_s: float) -> float:
        """How long the oldest news may still wait, at most ``patience_s``; 0 when overdue."""
        if self._page.since_s is None:
            return patience_s
        return max(0.0, self._page.since_s + patience_s - time.monotonic())

    # writing --------------------------------------------------------------------------------

    def write(self, leader: Track | None) -> None:
        """Write all that has gathered, in one transaction."""
        with self._db.begin() as tx:
            self._write(tx, self._page, leader)
        self._page = _Page()

    def end(self, state: str, leader: Track | None, error: ClewError | None = None) -> None:
        """The experiment is over: done, failed or cancelled. Trials that wait are stopped."""
        for track in self.tracks:
            if track.state in {"running", "paused"}:
                track.state = "stopped"
                self.finish(track)
        with self._db.begin() as tx:
            self._write(tx, self._page, leader)
            if state == "done":
                self._prune(tx, leader, over=True)
            wire = None if error is None else error.to_wire()
            self._set(tx, state=state, error=wire, finished_us=to_us(now()), ended_by=self.ended_by)
            told: dict[str, object] = {"state": state, "ended_by": self.ended_by}
            if leader is not None:
                told |= {"best_trial": leader.id, "best_value": leader.value}
            self._emit("experiment.ended", self.id, told)
            tx.emit_all(self._facts)
            self._facts = []
        self._page = _Page()
        self.state = state

    def _begin(self) -> None:
        order, self.id = self._order, new_id()
        row = {
            "id": self.id,
            "job": order.job,
            "pipeline": order.pipeline,
            "step": order.step,
            "global_id": order.global_id,
            "state": "running",
            "definition": msgspec.to_builtins(order.definition),
            "space": msgspec.to_builtins(dict(order.space)),
            "trials": order.trials,
            "front": [],
            "spent_s": 0.0,
            "ended_by": "",
            "keep": msgspec.to_builtins(order.policy.keep),
            "initial": order.initial,
            "created_us": to_us(now()),
        }
        definition = order.definition
        about = {
            "searcher": definition.name,
            "metric": definition.metric,
            "mode": definition.mode,
            "trials": order.trials,
        }
        with self._db.begin() as tx:
            self._repos.create(self.checkpoints_repo, kind="checkpoint", exist_ok=True, tx=tx)
            self.prior = row["prior"] = self._find_prior(tx)
            tx.execute(tables.experiments.insert(), row)
            node = self._node("experiment", self.id, f"search of {order.name}", about)
            warm = [(self.prior, "warmed")] if self.prior else []
            self._lineage.add(tx, node, [(order.job, "ran"), *warm])
            self._emit("experiment.started", self.id, {"job": order.job, **about})
            tx.emit_all(self._facts)
            self._facts = []

    def _find_prior(self, tx: Tx) -> str | None:
        """The last search of the same step for the same metric, where a warm start is wanted."""
        definition = self._order.definition
        if not definition.warm_start:
            return None
        of = {"pipeline": self._order.pipeline, "step": self._order.step}
        row = tx.execute(tables.DONE_BEFORE, of).first()
        if row is None:
            return None
        wanted = (definition.metric, definition.mode)
        return row.id if (row.definition["metric"], row.definition["mode"]) == wanted else None

    def _write(self, tx: Tx, page: _Page, leader: Track | None) -> None:
        for track in page.rewound:
            bounds = {"of_trial": track.id, "after_step": track.checkpoint_step}
            tx.execute(tables.FORGET_POINTS, bounds)
            tx.execute(trial_tables.FORGET_FILES, bounds)
        committed = [
            self._commit(tx, page.tracks[number], step, tree)
            for (number, step), tree in page.checkpoints.items()
        ]
        self._write_tracks(tx, page)
        if committed:
            tx.execute(trial_tables.checkpoints.insert(), committed)
            self._excess += len(committed)
        self._write_points(tx, page)
        trial_tables.write(tx, list(page.files.values()), page.usage)
        if page.excluded:
            exclude(tx, [row for _, row in page.excluded])
        for track, row in page.excluded:
            told = {name: row[name] for name in ("slot", "pattern", "reason")}
            self._emit("slot.excluded", row["slot"], {"trial": track.id, **told})
        for kind, track in page.events:
            self._emit(kind, track.id, _about(track))
        tx.emit_all(self._facts)
        self._facts = []
        if self._excess and time.monotonic() - self._pruned_at_s > PRUNE_EVERY_S:
            self._prune(tx, leader, over=False)
        best: dict[str, object] = {"spent_s": self.spent_s}
        if leader is not None:
            best |= {"best_trial": leader.id, "best_value": leader.value, "front": self.front}
        self._set(tx, **best)

    def _write_tracks(self, tx: Tx, page: _Page) -> None:
        rows = [_row(track, self.id, self._order.global_id) for track in page.tracks.values()]
        if rows:
            tx.upsert(tables.trials, rows, key=["id"], refresh=_CHANGING)
        noted = {track.number: track for _kind, track in page.events}
        nodes = [
            self._node(
                "trial", track.id, f"trial {track.number} of {self._order.name}", _detail(track)
            )
            for track in noted.values()
        ]
        self._lineage.add_all(tx, [(node, [(self.id, "tried")]) for node in nodes])

    def _write_points(self, tx: Tx, page: _Page) -> None:
        rows = list(page.points.values())
        if not rows:
            return
        tx.upsert(tables.points, rows, key=["trial", "step"], refresh=["metrics", "at_us"])
        latest: dict[str, dict[str, Any]] = {}
        for row in rows:
            latest[row["trial"]] = row
        for track in page.tracks.values():
            if track.id in latest:
                row = latest[track.id]
                about = {"number": track.number, "step": row["step"], "metrics": row["metrics"]}
                self._emit("trial.reported", track.id, about)

    def _commit(self, tx: Tx, track: Track, step: int, tree: str) -> dict[str, Any]:
        order = self._order
        message = f"trial {track.number} after {step} steps"
        opened = self._repos.open_commit(
            self.checkpoints_repo,
            branch=track.id,
            global_id=order.global_id,
            provenance=order.provenance,
            message=message,
            tx=tx,
        )
        commit = self._repos.finish(opened.id, tree, tx=tx)
        track.checkpoint = commit.id
        value = track.value_at(step)
        kept = {
            "commit": commit.id,
            "trial": track.id,
            "number": track.number,
            "step": step,
            "value": value if value is not None and math.isfinite(value) else None,
            "tree": tree,
            "size_bytes": commit.size_bytes,
            "at_us": to_us(now()),
        }
        # Kind and change stay as repos has told them; an empty title leaves its own.
        known = self._node("commit", commit.id, "", {})
        self._lineage.add(tx, known, [(track.id, "made")])
        return kept

    def _prune(self, tx: Tx, leader: Track | None, *, over: bool) -> None:
        """Give up checkpoints that the policy does not keep; what the job is about to take stays.

        What rooms above hold belongs to searches that are over.
        """
        keep = self._order.policy.keep
        found = held(tx, self._row(tx), keep if over else resumable(keep), {})
        own = {leader.checkpoint} if leader is not None else set()
        retire(tx, self._repos, [i.commit for i in found if not i.kept_for and i.commit not in own])
        self._excess, self._pruned_at_s = 0, time.monotonic()

    def _row(self, tx: Tx) -> Any:
        return tx.execute(tables.OF_JOB, {"job": self._order.job}).one()

    def _hurry(self) -> None:
        if self._page.since_s is None:
            self._page.since_s = time.monotonic()

    def _note(self, kind: str, track: Track) -> None:
        self._page.tracks[track.number] = track
        self._page.events.append((kind, track))

    def _set(self, tx: Tx, **columns: object) -> None:
        table = tables.experiments
        tx.execute(sa.update(table).where(table.c.id == self.id).values(columns))

    def _emit(self, kind: str, subject: str, data: dict[str, object]) -> None:
        order = self._order
        about = {"pipeline": order.pipeline, "step_name": order.step, "experiment": self.id}
        found = fact(kind, subject=subject, global_id=order.global_id, data={**about, **data})
        self._facts.append(found)

    def _node(self, kind: str, id: str, title: str, detail: dict[str, object]) -> Node:
        return Node(kind=kind, id=id, title=title, global_id=self._order.global_id, detail=detail)


_CHANGING = [
    "state", "step", "target", "value", "rungs", "breaches", "checkpoint", "checkpoint_step",
    "tree", "share", "note", "changed", "tries", "error", "log", "ended_us", "busy_s",
]  # fmt: skip


def _row(track: Track, experiment: str, global_id: str) -> dict[str, Any]:
    return {
        "id": track.id,
        "experiment": experiment,
        "number": track.number,
        "global_id": global_id,
        "bracket": track.bracket,
        "params": track.params,
        "noted": track.noted,
        "busy_s": track.busy_s,
        "seed": track.seed,
        "state": track.state,
        "step": track.step,
        "target": track.target,
        "value": track.value,
        "rungs": track.rungs,
        "breaches": track.breaches,
        "checkpoint": track.checkpoint,
        "checkpoint_step": track.checkpoint_step,
        "tree": track.tree,
        "share": track.share,
        "note": track.note,
        "wish": "",
        "changed": track.changed,
        "tries": track.tries,
        "error": track.error,
        "log": track.log,
        "started_us": track.started_us,
        "ended_us": track.ended_us,
    }


def _until(track: Track, rows: dict[_Key, dict[str, Any]]) -> dict[_Key, dict[str, Any]]:
    """Rows but for those of a trial that come after the step at which it begins again."""
    return {
        key: row
        for key, row in rows.items()
        if row["trial"] != track.id or row["step"] <= track.step
    }


def _detail(track: Track) -> dict[str, object]:
    """What lineage says of a trial."""
    found: dict[str, object] = {
        "params": track.values_now(), "state": track.state, "value": track.value
    }  # fmt: skip
    return {**found, "excluded": list(track.excluded)} if track.excluded else found


def _about(track: Track) -> dict[str, object]:
    """What an event says of a trial."""
    return {
        "number": track.number,
        "state": track.state,
        "step": track.step,
        "target": track.target,
        "rung": max(0, len(track.rungs) - 1),
        "value": track.value,
        "error": track.error.partition("\n")[0],
    }


def _load_tracks(tx: Tx, experiment: str, order: Order) -> list[Track]:
    metric, others = order.definition.metric, watched(order.definition, order.space)
    rules = measured(order.definition, order.space)
    needs = measured_names(order.definition, order.space)
    values: dict[str, dict[int, float]] = defaultdict(dict)
    latest: dict[str, dict[str, float]] = defaultdict(dict)
    for row in tx.execute(tables.POINTS_OF_EXPERIMENT, {"experiment": experiment}):
        if metric in row.metrics:
            values[row.trial][row.step] = _number(row.metrics[metric])
        for name in others:
            if name in row.metrics:
                latest[row.trial][name] = _number(row.metrics[name])
    excluded = excluded_by(tx, experiment)
    return [
        Track(
            id=row.id,
            number=row.number,
            bracket=row.bracket,
            params=row.params,
            noted=row.noted,
            busy_s=row.busy_s,
            others=latest[row.id],
            rules=rules,
            needs=needs,
            breaches=row.breaches,
            seed=row.seed,
            state=row.state,
            step=row.step,
            target=row.target,
            rungs=[_number(value) for value in row.rungs],
            values=values[row.id],
            checkpoint=row.checkpoint,
            checkpoint_step=row.checkpoint_step,
            tree=row.tree,
            share=row.share,
            note=row.note,
            changed=row.changed,
            tries=row.tries,
            error=row.error,
            log=row.log,
            excluded=excluded[row.id],
            started_us=row.started_us,
            ended_us=row.ended_us,
        )
        for row in tx.execute(tables.TRIALS, {"experiment": experiment})
    ]


def _number(value: float | None) -> float:
    """A metric of a row: JSON has no NaN and keeps null in its place."""
    return math.nan if value is None else float(value)
