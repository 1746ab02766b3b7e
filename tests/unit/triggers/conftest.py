"""A database with a clock of its own, a room of triggers on it, and hands that write down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clew.base import clock
from clew.db import Database
from clew.testing.postgres import database_url
from clew.triggers import Action, Condition, Firing, Hands, Trigger, Triggers

START = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Bench:
    """Triggers of the pipeline ``shop``; their action ``run`` writes down the firing."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = database_url(place)
        self.db = Database.open(self.url)
        self.db.create()
        self.now = START
        monkeypatch.setattr(clock, "now", lambda: self.now)
        self.room = self.another()
        self.seen: list[Firing] = []
        self.amounts: dict[str, dict[str, int]] = {}
        self.answers: list[tuple[object, ...]] = []
        self.hands = self.doing(lambda firing: None)

    def another(self) -> Triggers:
        """The room as another process, or this one after a restart, has it."""
        return Triggers(self.db, retry_s=0.0, now=lambda: self.now)

    def doing(self, act: Callable[[Firing], None]) -> Hands:
        """Hands whose actions do this, and then are done."""

        def run(firing: Firing, action: Action, finish) -> None:
            act(firing)
            with self.db.begin() as tx:
                finish(tx, f"did {action.kind}", "")
                tx.after_commit(lambda: self.seen.append(firing))

        return Hands(
            actions=dict.fromkeys(("run", "retrain", "rollback", "notify"), run),
            measure=lambda commit, names: self.amounts.get(commit, {"commits": 1}),
            ask=lambda _leaf, _since: self.answers,
        )

    def define(self, *triggers: Trigger) -> None:
        with self.db.begin() as tx:
            self.room.define(tx, "shop", triggers)

    def when(self, condition: Condition, **options) -> None:
        """One trigger, ``t``, with this condition."""
        do = (Action(kind="run", options={"pipeline": "shop", "step": "clean"}),)
        self.define(Trigger(name="t", when=condition, do=do, **options))

    def emit(self, kind: str = "thing.happened", subject: str = "s", **data) -> int:
        with self.db.begin() as tx:
            tx.emit(kind, subject=subject, global_id=data.pop("gid", "g1"), data=data)
        return self.db.events.last()

    def commit(self, id: str, repo: str = "shop/orders", **amounts: int) -> None:
        self.amounts[id] = amounts or {"commits": 1}
        self.emit("commit.finished", id, repo=repo, branch="main")

    def tick(self) -> list[str]:
        """Reasons of the firings that this turn has done."""
        self.seen.clear()
        self.room.tick(self.hands)
        return [firing.reason for firing in self.seen]

    def poll(self, *answers: object) -> list[str]:
        """A turn after the queries that are due were answered with these rows."""
        self.answers = [(one,) for one in answers]
        self.room.poll(self.hands.ask)
        return self.tick()

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def close(self) -> None:
        self.db.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture(scope="session")
def make_bench() -> type[Bench]:
    return Bench
