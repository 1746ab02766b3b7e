"""A workspace's rooms of rows, bytes and repos, and a source over them, with a clock of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.base import clock
from clew.db import Database
from clew.repos import Repos
from clew.sources import Feed, FeedDefinition, Sources
from clew.store import Store
from clew.testing.postgres import database_url


class Hands:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.us = clock.to_us(clock.now())

    def now_us(self) -> int:
        return self.us

    def pass_s(self, seconds: float) -> None:
        self.us += round(seconds * 1e6)


class House:
    """The rooms, and one repo, ``shop/orders``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.url = database_url(place)
        self.clock = Hands()
        self.secrets: dict[str, str] = {}
        self.db = Database.open(self.url)
        self.db.create()
        self.store = Store.open(place / "store")
        self.repos = Repos(self.db, self.store)
        self.repos.create("shop/orders", kind="source", exist_ok=True)
        self.sources = self.new_sources()

    def new_sources(self) -> Sources:
        """The room as another process has it."""
        return Sources(
            self.db,
            self.repos,
            self.place / "scratch",
            root=self.place,
            secret=lambda text: self.secrets.get(text, text),
            clock=self.clock,
        )

    def define(self, feed: Feed | None, name: str = "shop/orders") -> None:
        found = [FeedDefinition(name=name, pipeline="shop", repo="shop/orders", feed=feed)]
        with self.db.begin() as tx:
            self.sources.define(tx, "shop", found if feed else [])

    def poll(self) -> list[str]:
        """Messages of the commits that a poll makes."""
        return [one.message for one in self.sources.poll("shop/orders")]

    def files(self) -> dict[str, bytes]:
        head = self.repos.head("shop/orders")
        if head is None:
            return {}
        return {one.path: self.repos.read(head, one.path) for one in self.repos.entries(head)}

    def commits(self) -> int:
        return len(self.repos.log("shop/orders", None, 1000))

    def close(self) -> None:
        self.sources.close()
        self.db.close()


@pytest.fixture(scope="session")
def make_house() -> type[House]:
    return House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()
