"""One search from its first trial to its last: what to run next, and when it is over.

Knows neither rows nor workers; the journal writes, the crew runs.

The search goes in turns, on one thread: take what the trials said, decide, write all of it in one
transaction, and only then answer and launch. So what is acted on is always on disk, and a kill at
any line leaves rows from which the same turn can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from clew.base.clock import now, to_us
from clew.base.errors import ClewError, Conflict, Invalid
from clew.base.ids import new_id
from clew.compute import Call, CallError, Outcome
from clew.experiments.crew import Asked, Crew, Ended, News
from clew.experiments.journal import Journal, Order
from clew.experiments.samplers import suggest
from clew.experiments.searchers import (
    Progress,
    best,
    expected_steps,
    next_action,
    rules_of,
)
from clew.experiments.spaces import trial_seed
from clew.experiments.tracks import Track

PATIENCE_S = 0.1
"""How long a reported point may wait to be written, and a cancel to be noticed."""

LOG_CHARACTERS = 64 * 1024
"""How much of what a trial printed over all its runs is kept: its end."""

DEATHS_ALLOWED = 2
LOSSES_ALLOWED = 20
"""A trial in whose runs the worker process ends that often is to blame for it."""

ENTRY = "clew.experiments.worker:run_trial"


class Search:
    """A search that is going on. One thread calls :meth:`run`, once."""

    def __init__(
        self,
        order: Order,
        journal: Journal,
        crew: Crew,
        *,
        store: str,
        cancelled: Callable[[], bool],
        progress: Callable[[int, int], None],
    ) -> None:
        self._order = order
        self._journal = journal
        self._crew = crew
        self._store = store
        self._cancelled = cancelled
        self._tell = progress
        self._definition = order.definition
        self._rules = rules_of(order.definition, order.trials)
        self._tracks = journal.tracks
        self._running: set[int] = set()
        self._answers: list[tuple[Asked, int]] = []
        self._launches: list[Track] = []

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
                while self._running:
                    self._turn(self._crew.news(self._journal.rest_s(PATIENCE_S)))
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
            raise _cancelled(self._order.name)
        for one in news:
            self._hear(one)
        asking = [one for one in news if isinstance(one, Asked)]
        if asking or any(isinstance(one, Ended) for one in news):
            self._decide(asking)
            self._write()
        elif self._journal.rest_s(PATIENCE_S) <= 0:
            self._write()
        self._act()

    # taking in ------------------------------------------------------------------------------

    def _hear(self, news: News) -> None:
        track = self._tracks[news.number]
        if isinstance(news, Ended):
            self._running.discard(track.number)
            self._end_run(track, news.outcome)
        elif isinstance(news, Asked):
            track.step = max(track.step, news.step)
            track.reach(self._definition, self._rules.rungs, end=False)
        elif news.message["kind"] == "report":
            step, metrics = news.message["step"], news.message["metrics"]
            track.report(step, metrics.get(self._definition.metric))
            self._journal.report(track, step, metrics)
        else:
            self._journal.take(track, news.message)

    def _end_run(self, track: Track, outcome: Outcome | ClewError) -> None:
        if isinstance(outcome, ClewError):
            raise outcome
        track.log = (track.log + outcome.log)[-LOG_CHARACTERS:]
        if outcome.error is not None:
            self._mend_or_fail(track, outcome.error)
            return
        value: Any = outcome.value
        track.step = max(track.step, value["step"])
        if value["tree"]:
            self._journal.checkpoint(track, value["checkpoint_step"], value["tree"])
        track.reach(self._definition, self._rules.rungs, end=not value["paused"])
        if value["paused"]:
            track.state = "paused"
            self._journal.pause(track)
        else:
            track.state = "done"
            self._journal.finish(track)

    def _mend_or_fail(self, track: Track, error: CallError) -> None:
        """A worker that was killed once is no fault of the trial: on from its checkpoint."""
        track.deaths += error.kind == "died"
        track.losses += error.kind == "lost"
        allowed = {"died": track.deaths < DEATHS_ALLOWED, "lost": track.losses < LOSSES_ALLOWED}
        if allowed.get(error.kind):
            self._send(track, track.target)
        else:
            self._fail(track, error)

    def _fail(self, track: Track, error: CallError) -> None:
        track.error = f"{error.message}\n{error.traceback}".strip()
        if error.kind == "clew":  # other parameters would meet the same
            raise error.to_error()
        if error.kind == "cancelled":
            raise _cancelled(self._order.name)
        track.fail(self._rules.rungs)
        self._journal.finish(track)
        failed = [one for one in self._tracks if one.state == "failed"]
        if len(failed) > self._definition.max_failures * self._rules.trials:
            raise _failed(self._order.name, failed, self._rules.trials)

    # deciding -------------------------------------------------------------------------------

    def _resume(self) -> None:
        """The first turn: trials that were on their way when the search broke off, then others."""
        if self._cancelled():
            raise _cancelled(self._order.name)
        for track in self._tracks:
            if track.state == "running" or (track.state == "stopped" and self._is_short(track)):
                self._send(track, track.target)
        self._decide([])
        self._write()
        self._act()

    def _decide(self, asking: Sequence[Asked]) -> None:
        for asked in asking:
            self._answers.append((asked, self._next_target(asked)))
        while len(self._running) < self._crew.size:
            action = next_action(self._rules, self._progress())
            if action.kind == "start":
                self._tracks.append(self._draw(action.number))
            elif action.kind != "promote":
                return
            self._send(self._tracks[action.number], self._rules.rungs[action.rung])

    def _next_target(self, asked: Asked) -> int:
        """Where a trial at its rung goes on to without a pause; its own step if it should pause.

        It goes on if its worker, were it free, would get this very trial to promote.
        """
        seen = self._progress()
        seen[asked.number] = replace(seen[asked.number], state="paused")
        action = next_action(self._rules, seen)
        if action.kind != "promote" or action.number != asked.number:
            return asked.step
        track = self._tracks[asked.number]
        track.target = self._rules.rungs[action.rung]
        self._journal.promote(track)
        return track.target

    def _draw(self, number: int) -> Track:
        told = [track.told(self._definition, self._rules.rungs) for track in self._tracks]
        return Track(
            id=new_id(),
            number=number,
            params=suggest(self._definition, self._order.space, number, told),
            seed=trial_seed(self._definition.seed, number),
            started_us=to_us(now()),
        )

    def _send(self, track: Track, target: int) -> None:
        if track.step > track.checkpoint_step:
            self._journal.rewind(track)
        track.state, track.target = "running", target
        track.ended_us, track.error = None, ""
        self._journal.start(track)
        self._running.add(track.number)
        self._launches.append(track)

    def _is_short(self, track: Track) -> bool:
        return not track.rungs or self._rules.rungs[len(track.rungs) - 1] < track.target

    # writing and acting ---------------------------------------------------------------------

    def _write(self) -> None:
        self._journal.write(self._leader())
        done = sum(track.step for track in self._tracks)
        self._tell(max(expected_steps(self._rules), done), done)

    def _act(self) -> None:
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
            "params": track.params,
            "seed": track.seed,
            "start": track.checkpoint_step,
            "target": track.target,
            "max_steps": self._rules.rungs[-1],
        }
        payload: dict[str, object] = {
            "store": self._store,
            "snapshot_dir": order.snapshot_dir,
            "file": order.function.file,
            "name": order.function.name,
            "inputs": [dict(one) for one in order.inputs],
            "trial": trial,
            "restore": track.tree or (order.initial if track.number == 0 else ""),
        }
        return Call(
            entry=ENTRY,
            payload=payload,
            label=f"trial {track.number} of {order.name}",
            timeout_s=order.timeout_s,
            memory_bytes=order.memory_bytes,
            snapshot_dir=order.snapshot_dir,
            environment=dict(order.environment),
            resources=dict(order.resources),
            placement=dict(order.placement),
        )

    # looking --------------------------------------------------------------------------------

    def _progress(self) -> list[Progress]:
        return [track.progress(self._definition) for track in self._tracks]

    def _leader(self) -> Track | None:
        leader = best(self._progress())
        return None if leader is None else self._tracks[leader.number]

    def _winner(self) -> Track:
        leader = self._leader()
        if leader is not None:
            return leader
        failed = [track for track in self._tracks if track.state == "failed"]
        if failed:
            raise _failed(self._order.name, failed, self._rules.trials)
        raise Invalid(
            "experiment.failed",
            f"No trial of {self._order.name} reported a finite {self._definition.metric!r}.",
            hint="Narrow the space, or report another metric.",
        )


def _cancelled(name: str) -> Conflict:
    return Conflict(
        "experiment.cancelled",
        f"The search of {name} was cancelled.",
        hint="Run the step again when you want its model.",
    )


def _failed(name: str, failed: Sequence[Track], trials: int) -> Invalid:
    first = failed[0]
    summary, _, traceback = first.error.partition("\n")
    return Invalid(
        "experiment.failed",
        f"{len(failed)} of {trials} trials of {name} failed. Trial {first.number}: {summary}",
        hint=traceback or "Look at the log of that trial.",
    )
