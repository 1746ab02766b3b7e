"""One search from its first trial to its last: what to run next, and when it is over.

Knows neither rows nor workers; the journal writes, the crew runs.

The search goes in turns, on one thread: take what the trials said, decide, write all of it in one
transaction, and only then answer and launch. So what is acted on is always on disk, and a kill at
any line leaves rows from which the same turn can be made again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from clew.base.clock import now, to_us
from clew.base.errors import ClewError, Invalid
from clew.base.ids import new_id
from clew.base.tracking import TRIAL
from clew.compute import Call, CallError, Outcome
from clew.experiments.controlling import CANCEL, PAUSE
from clew.experiments.crew import Asked, Crew, Ended, News
from clew.experiments.definitions import SearchDefinition
from clew.experiments.journal import Journal, Order
from clew.experiments.limits import is_flat, spent
from clew.experiments.measuring import measured
from clew.experiments.mending import mend
from clew.experiments.outcomes import best_loss, cancelled, failed_search, infeasible
from clew.experiments.pareto import front
from clew.experiments.ranks import Holds, in_ranks
from clew.experiments.samplers import Sampler
from clew.experiments.searchers import (
    WAIT,
    Action,
    Progress,
    best,
    expected_steps,
    goes_on,
    nearest,
    next_action,
    rules_of,
)
from clew.experiments.shares import Seat
from clew.experiments.spaces import trial_seed
from clew.experiments.tracks import Track, measured_names, watched

PATIENCE_S = 0.1
"""How long a reported point may wait to be written, and a cancel to be noticed."""

AHEAD_S = 0.25
MOST_AHEAD = 64
"""Trials that take no time are sent ahead for about so long, and at most so many."""

MOST_LINGER_S = 0.05
"""While some wait, what the others say is gathered for at most so long."""

LOG_CHARACTERS = 64 * 1024
"""How much of what a trial printed over all its runs is kept: its end."""

WISHES_EVERY_S = 0.5
"""How often people's wishes are looked for."""

ENTRY = "clew.experiments.worker:run_trial"


class Search:
    """A search that is going on. One thread calls :meth:`run`, once."""

    def __init__(
        self,
        order: Order,
        journal: Journal,
        crew: Crew,
        sampler: Sampler,
        seat: Seat,
        *,
        store: str,
        holds: Holds,
        spreads: bool,
        off: Callable[[], Mapping[str, str]],
        excluded: Callable[[], None],
        cancelled: Callable[[], bool],
        progress: Callable[[int, int], None],
    ) -> None:
        self._order = order
        self._journal = journal
        self._crew = crew
        self._seat = seat
        self._share = crew.size
        """How many trials may run now; the rest of the slots belongs to other searches."""
        self._could_use = True
        """Whether it had something to do with more slots, when it decided last."""
        self._store = store
        self._holds = holds
        self._spreads, self._off = spreads, off
        self._tell_excluded = excluded
        self._excludes = False
        self._cancelled = cancelled
        self._tell = progress
        self._definition = order.definition
        self._sampler = sampler
        self._rules = rules_of(order.definition, order.trials)
        self._watched = watched(order.definition, order.space)
        self._measured = measured(order.definition, order.space)
        self._tracks = journal.tracks
        definition = order.definition
        limits = (definition.max_time_s, definition.max_cost_s, definition.patience)
        self._is_plain = not any(limits) and all(len(b.rungs) == 1 for b in self._rules.brackets)
        self._begun_s = time.monotonic()
        self._ended = 0
        self._failures = 0
        self._seen: list[Progress] = []
        self._touched = set(range(len(journal.tracks)))
        self._running: dict[int, float] = {}
        """Trials that run, with the time up to which their cost is counted."""
        self._answers: list[tuple[Asked, int]] = []
        self._launches: list[Track] = []
        self._unwanted: set[int] = set()
        self._asked_at_s = -math.inf

    def run(self) -> Track:
        """Go on until nothing is left to do; the best trial.

        Raises:
            Conflict: ``experiment.cancelled``.
            Invalid: ``experiment.failed`` where too many trials failed, or none has a value.
            ClewError: where a trial met what no parameters mend (data, disk, no report).
        """
        try:
            with self._crew:
                self._resume()
                while self._goes_on() and not self._is_cut_short():
                    rest_s = self._journal.rest_s(PATIENCE_S)
                    self._turn(self._crew.news(rest_s, self._linger_s()))
            self._call_back()
            winner = self._winner()
        except ClewError as error:
            cancelled = error.code == "experiment.cancelled"
            self._journal.end("cancelled" if cancelled else "failed", self._leader(), error)
            raise
        self._journal.end("done", winner)
        return winner

    def _turn(self, news: Sequence[News]) -> None:
        """Take in, decide, write, act."""
        if self._cancelled():
            raise cancelled(self._order.name)
        for one in news:
            self._hear(one)
        asking = [one for one in news if isinstance(one, Asked)]
        obeyed = self._obey()
        if obeyed or asking or any(isinstance(one, Ended) for one in news):
            self._decide(asking)
            self._write()
        elif self._journal.rest_s(PATIENCE_S) <= 0:
            self._write()
        self._act()

    # taking in ------------------------------------------------------------------------------

    def _hear(self, news: News) -> None:
        track = self._tracks[news.number]
        if isinstance(news, Ended):
            self._count_cost(track.number)
            del self._running[track.number]
            self._ended += 1
            self._touched.add(track.number)
            self._end_run(track, news.outcome)
        elif isinstance(news, Asked):
            track.step = max(track.step, news.step)
            self._touched.add(track.number)
            track.reach(self._definition, self._rules.rungs(track.number), end=False)
        elif news.message["kind"] == "report":
            step, metrics = news.message["step"], news.message["metrics"]
            others = {name: metrics[name] for name in self._watched if name in metrics}
            track.report(step, metrics.get(self._definition.metric), others)
            self._journal.report(track, step, metrics)
        elif news.message["kind"] == "seats":
            track.seats = tuple(news.message["slots"])
        elif news.message["kind"] == "undeclared":
            self._order.heard(news.message["reads"])
        else:
            self._journal.take(track, news.message)

    def _end_run(self, track: Track, outcome: Outcome | ClewError) -> None:
        if isinstance(outcome, ClewError):
            raise outcome
        track.log = (track.log + outcome.log)[-LOG_CHARACTERS:]
        if track.number in self._unwanted:
            self._drop(track)
            return
        if outcome.error is not None:
            self._mend_or_fail(track, outcome.error, outcome)
            return
        value: Any = outcome.value
        track.step = max(track.step, value["step"])
        if value["tree"]:
            self._journal.checkpoint(track, value["checkpoint_step"], value["tree"])
        rules = self._judged_by(track)
        track.reach(rules, self._rules.rungs(track.number), end=not value["paused"])
        if value["paused"]:
            track.state = "paused"
            if self._is_short(track):
                track.held = track.held or "due"  # told to pause, and to go on before it had
            elif track.held == "preempted":
                track.held = ""  # it waits at its rung as any other
            self._journal.pause(track)
        else:
            track.state = "done"
            self._journal.finish(track)

    def _judged_by(self, track: Track) -> SearchDefinition:
        """The definition; without its metric for a trial that need not have reported it."""
        if self._order.metric_optional and not track.values:
            return replace(self._definition, metric="")
        return self._definition

    def _mend_or_fail(self, track: Track, error: CallError, outcome: Outcome) -> None:
        """Another run from the latest checkpoint where that may help; else it has failed."""
        ranks = self._order.ranks
        size = 1 if ranks is None else ranks.of(track.values_now())
        policy, log, slots = self._order.policy, outcome.log, track.seats or outcome.slots
        track.seats = ()
        mended = mend(policy, track, error, log, slots=slots, ranks=size)
        if mended.excluded:
            self._journal.exclude(track, mended.excluded, mended.pattern, error.message)
            self._excludes = True
        if not mended.again:
            self._fail(track, error)
            return
        told = f"\n[{error.message}; {mended.why}; on after step {track.checkpoint_step}]\n"
        track.log = (track.log + told)[-LOG_CHARACTERS:]
        self._send(track, track.target)

    def _fail(self, track: Track, error: CallError) -> None:
        track.error = f"{error.message}\n{error.traceback}".strip()
        if error.kind == "clew":  # other parameters would meet the same
            raise error.to_error()
        if error.kind == "cancelled":
            raise cancelled(self._order.name)
        self._failures += 1
        track.fail(self._rules.rungs(track.number))
        self._journal.finish(track)
        failed = [one for one in self._tracks if one.state == "failed"]
        if len(failed) > self._definition.max_failures * self._rules.trials:
            raise failed_search(self._order.name, failed, self._rules.trials)

    # wishes ---------------------------------------------------------------------------------

    def _obey(self) -> bool:
        """Look now and then what people want of trials; whether that changes anything."""
        if time.monotonic() - self._asked_at_s < WISHES_EVERY_S:
            return False
        self._asked_at_s = time.monotonic()
        wishes = self._journal.wishes()
        before = [(track.state, track.held) for track in self._tracks]
        for track in self._tracks:
            wish = wishes.get(track.number, "")
            if wish == CANCEL and track.state in {"running", "paused"}:
                self._cancel(track)
            elif wish == PAUSE and track.held != "asked" and track.state in {"running", "paused"}:
                track.held = "asked"
                self._crew.pause(track.number, True)
            elif not wish and track.held == "asked":
                self._crew.pause(track.number, False)
                waits = track.state == "paused" and self._is_short(track)
                track.held = "due" if waits else ""
        more = self._take_share()
        after = [(track.state, track.held) for track in self._tracks]
        self._touched |= {n for n, one in enumerate(after) if one != before[n]}
        return more or before != after

    def _take_share(self) -> bool:
        """Ask which part of the slots it has; give up what a higher priority needs.

        Whether it has more than before.
        """
        before, size = self._share, self._crew.size
        wants = size if self._could_use else len(self._running)
        share, outranked = self._seat.ask(self._crew.berth.slots, wants)
        self._share = min(share, size)
        going = [self._tracks[number] for number in sorted(self._running)]
        staying = [track for track in going if not track.held]
        for track in staying[self._share :] if outranked else ():
            track.held = "preempted"
            self._crew.pause(track.number, True)
        free = self._share - len(staying)
        for track in [track for track in self._tracks if track.held == "preempted"][: max(0, free)]:
            self._crew.pause(track.number, False)
            track.held = "due" if track.state == "paused" else ""
        return self._share > before

    def _goes_on(self) -> bool:
        starved = self._could_use and self._share == 0
        return bool(self._running) or self._held() or starved

    def _cancel(self, track: Track) -> None:
        self._unwanted.add(track.number)
        if track.number in self._running:
            self._crew.stop(track.number)
        else:
            self._drop(track)

    def _drop(self, track: Track) -> None:
        track.cancel(self._rules.rungs(track.number))
        self._touched.add(track.number)
        self._journal.finish(track)

    def _held(self) -> bool:
        return any(track.held for track in self._tracks)

    # deciding -------------------------------------------------------------------------------

    def _resume(self) -> None:
        """The first turn: trials that were on their way when the search broke off, then others."""
        if self._cancelled():
            raise cancelled(self._order.name)
        for track in self._tracks:
            if track.state == "running" or (track.state == "stopped" and self._is_short(track)):
                self._send(track, track.target)
            elif track.state == "paused" and self._is_short(track):
                track.held = "due"
        self._obey()
        self._decide([])
        self._write()
        self._act()

    def _decide(self, asking: Sequence[Asked]) -> None:
        for asked in asking:
            self._answers.append((asked, self._next_target(asked)))
        for track in self._tracks:
            if track.held == "due" and len(self._running) < self._share:
                track.held = ""
                self._send(track, track.target)
        while len(self._running) < self._share + self._ahead():
            action = self._next_action()
            if action.kind == "start":
                self._tracks.append(self._draw(action.number))
            elif action.kind != "promote":
                self._could_use = False
                return
            self._send(self._tracks[action.number], self._rules.rungs(action.number)[action.rung])
        self._could_use = True

    def _ahead(self) -> int:
        """How many trials may wait behind those that run, so that short ones need no turn each.

        None where a decision could depend on how those before them end.
        """
        if self._sampler.learns or not self._is_plain or self._failures or not self._ended:
            return 0
        return min(MOST_AHEAD, int(AHEAD_S / self._brief_s()))

    def _brief_s(self) -> float:
        """Seconds from one trial's end to the next."""
        return (time.monotonic() - self._begun_s) / max(1, self._ended)

    def _linger_s(self) -> float:
        """How long trials that wait behind others leave time to gather what those say."""
        behind = len(self._running) - self._crew.size
        return min(MOST_LINGER_S, behind * self._brief_s() / 2) if behind > 0 else 0.0

    def _next_action(self) -> Action:
        if self._tracks and self._spent():  # one trial there must be
            return WAIT
        seen = self._progress()
        action = next_action(self._rules, seen)
        if action.kind == "start" and self._is_flat():
            self._journal.ended_by = "flat"
            return next_action(replace(self._rules, trials=len(seen)), seen)
        return action

    def _next_target(self, asked: Asked) -> int:
        """Where a trial at its rung goes on to without a pause; its own step if it should pause.

        By the stopping rule it goes on if it is good enough; where trials are promoted, if its
        worker, were it free, would get this very trial.
        """
        if self._spent():
            return asked.step
        seen = list(self._progress())
        rung = len(seen[asked.number].losses)
        if not self._rules.promotes:
            if not goes_on(self._rules, seen, asked.number):
                return asked.step
        else:
            seen[asked.number] = replace(seen[asked.number], state="paused")
            action = next_action(self._rules, seen)
            if action.kind != "promote" or action.number != asked.number:
                return asked.step
            rung = action.rung
        track = self._tracks[asked.number]
        track.target = self._rules.rungs(track.number)[rung]
        self._journal.promote(track)
        return track.target

    def _draw(self, number: int) -> Track:
        told = [
            track.told(self._definition, self._rules.rungs(track.number))
            for track in (self._tracks if self._sampler.learns else ())
        ]
        chosen = self._sampler.suggest(number, told)
        order = self._order
        goes_on = number == 0 and order.start > 0
        drawn = trial_seed(self._definition.seed, number)
        return Track(
            id=new_id(),
            number=number,
            bracket=self._rules.bracket_number(number),
            params=chosen.params,
            noted=chosen.noted,
            rules=self._measured,
            needs=measured_names(self._definition, order.space),
            seed=order.seed if goes_on and order.seed is not None else drawn,
            step=order.start if goes_on else 0,
            checkpoint_step=order.start if goes_on else 0,
            tree=order.initial if goes_on else "",
            started_us=to_us(now()),
        )

    def _send(self, track: Track, target: int) -> None:
        if track.step > track.checkpoint_step:
            self._journal.rewind(track)
        self._crew.pause(track.number, track.held == "asked")
        track.state, track.target = "running", target
        track.ended_us, track.error = None, ""
        self._journal.start(track)
        self._running[track.number] = time.monotonic()
        self._touched.add(track.number)
        self._launches.append(track)

    def _is_short(self, track: Track) -> bool:
        rungs = self._rules.rungs(track.number)
        return not track.rungs or rungs[len(track.rungs) - 1] < track.target

    # ending early ---------------------------------------------------------------------------

    def _spent(self) -> str:
        definition = self._definition
        if not (definition.max_time_s or definition.max_cost_s):
            return ""
        for number in self._running:
            self._count_cost(number)
        cost_s = sum(track.busy_s for track in self._tracks)
        return spent(definition, self._journal.spent_s, cost_s)

    def _count_cost(self, number: int) -> None:
        until_s = time.monotonic()
        self._tracks[number].busy_s += until_s - self._running[number]
        self._running[number] = until_s

    def _is_flat(self) -> bool:
        return is_flat(self._definition, [best_loss(one) for one in self._progress()])

    def _is_cut_short(self) -> bool:
        """Whether a budget is used up and there is a model to show for it."""
        limit = self._spent()
        leader = self._leader() if limit else None
        if leader is None:
            return False
        rung = self._rules.rungs(leader.number)[len(leader.rungs) - 1]
        if leader.state == "running" and leader.checkpoint_step < rung:
            return False  # what made it the best is in its process alone
        self._journal.ended_by = limit
        return True

    def _call_back(self) -> None:
        """Trials that a budget ended stand where their checkpoints do."""
        for number in self._running:
            track = self._tracks[number]
            if track.step > track.checkpoint_step:
                self._journal.rewind(track)
        self._running.clear()

    # writing and acting ---------------------------------------------------------------------

    def _write(self) -> None:
        self._journal.front = self._front()
        self._journal.write(self._leader())
        done = sum(track.step for track in self._tracks)
        self._tell(max(expected_steps(self._rules), done), done)

    def _act(self) -> None:
        if self._excludes:
            self._tell_excluded()
            self._excludes = False
        for asked, target in self._answers:
            asked.reply.set_result({"target": target})
        self._answers.clear()
        for track in self._launches:
            self._crew.send_off(track.number, self._call(track), self._order.name)
        self._launches.clear()

    def _call(self, track: Track) -> Call:
        order = self._order
        trial = {
            "id": track.id,
            "number": track.number,
            "params": track.values_now(),
            "seed": track.seed,
            "start": track.checkpoint_step,
            "target": track.target,
            "max_steps": self._rules.rungs(track.number)[-1],
        }
        payload: dict[str, object] = {
            "store": self._store,
            "snapshot_dir": order.snapshot_dir,
            "file": order.function.file,
            "name": order.function.name,
            "inputs": [dict(one) for one in order.inputs],
            "trial": trial,
            "parameters": dict(order.parameters),
            "allow": list(order.allow),
            "declared": list(order.declared),
            "feasible": dict(order.feasible) if order.feasible else None,
            "restore": track.tree or (order.initial if order.all_warm or not track.number else ""),
        }
        call = Call(
            entry=ENTRY,
            payload=payload,
            label=f"trial {track.number} of {order.name}",
            timeout_s=order.timeout_s,
            memory_bytes=order.memory_bytes,
            snapshot_dir=order.snapshot_dir,
            program=order.program,
            environment={
                name: value.replace(TRIAL, track.id) for name, value in order.environment.items()
            },
            resources=dict(order.resources),
            placement=dict(order.placement),
            pool=order.pool,
            priority=order.priority,
        )
        return in_ranks(
            call,
            order.ranks,
            track.values_now(),
            attempt=track.deaths,
            holds=self._holds,
            spreads=self._spreads,
            off=self._off(),
        )

    # looking --------------------------------------------------------------------------------

    def _progress(self) -> list[Progress]:
        """What the searcher sees; only what was touched is looked at again."""
        for number in sorted(self._touched):
            seen = self._tracks[number].progress(self._definition)
            self._seen[number : number + 1] = [seen]
        self._touched.clear()
        return self._seen

    def _leader(self) -> Track | None:
        leader = best(self._progress(), self._rules)
        return None if leader is None else self._tracks[leader.number]

    def _front(self) -> list[str]:
        if not self._definition.objectives:
            return []
        whole = [
            one for one in self._progress()
            if one.state == "done" and one.is_feasible and math.isfinite(one.losses[-1])
        ]  # fmt: skip
        found = front([(one.losses[-1], *one.others) for one in whole])
        return [self._tracks[whole[index].number].id for index in found]

    def _winner(self) -> Track:
        leader = self._leader()
        if leader is not None:
            return leader
        if all(track.state == "cancelled" for track in self._tracks):
            raise cancelled(self._order.name)
        near = nearest(self._progress(), self._rules)
        if near is not None:
            raise infeasible(self._order.name, self._measured, self._tracks, near.number)
        failed = [track for track in self._tracks if track.state == "failed"]
        if failed:
            raise failed_search(self._order.name, failed, self._rules.trials)
        raise Invalid(
            "experiment.failed",
            f"No trial of {self._order.name} reported a finite {self._definition.metric!r}.",
            hint="Narrow the space, or report another metric.",
        )
