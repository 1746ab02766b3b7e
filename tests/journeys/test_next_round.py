"""Drift starts the next round: a model of another world is trained anew and takes over, live.

Real handwriting. The office buys a scanner that gives white on black where the old one gave black
on white, and its first labelled sheets wait on ``staging``.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import pytest
from sklearn.datasets import load_digits

from .test_loop import until

if TYPE_CHECKING:
    from clew.base.verbs import Verbs

    from .conftest import Place

PROJECT = """
import polars as pl
from sklearn.ensemble import RandomForestClassifier

import clew

post = clew.Pipeline("post")
sheets = post.source("sheets")


@post.train(sheets.glob("/*.parquet"), target="digit", test=clew.holdout(0.3, by="id", grow=True))
def reader(data: pl.DataFrame) -> object:
    forest = RandomForestClassifier(80, random_state=7)
    return forest.fit(data.drop("id", "digit"), data["digit"])


@post.gate(reader)
def reads(candidate: clew.Candidate) -> None:
    candidate.at_least("accuracy", 0.85)
    candidate.beats_champion("accuracy", margin=0.0)


post.endpoint("post", reader, rollout=clew.canary(steps=[20, 60, 100], max_requests=40))
post.monitor("post", drift=clew.drift(threshold=0.2), retrain=True)
"""
TOP = 16.0


def sheets() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """What the old scanner read, the new one's labelled sheets, and what the new one reads next."""
    found = load_digits()
    digits = pl.DataFrame(found.data, schema=[f"p{i:02}" for i in range(found.data.shape[1])])
    digits = digits.with_columns(
        digit=pl.Series(found.target), id=pl.int_range(pl.len()).cast(pl.String)
    ).sample(fraction=1, shuffle=True, seed=1)
    inverted = digits.with_columns(
        (TOP - pl.col(f"p{i:02}")).alias(f"p{i:02}") for i in range(found.data.shape[1])
    )
    return digits[:700], inverted[700:1300], inverted[1300:]


class Answer(NamedTuple):
    """What was answered, and whether it was the digit."""

    version: str
    prediction: str
    right: bool


class Client:
    """Asks for one sheet after the other until it is closed."""

    def __init__(self, url: str, rows: pl.DataFrame) -> None:
        self._url, self._rows = url, rows
        self._closed = threading.Event()
        self.answers: list[Answer] = []
        self.failed: list[str] = []
        self._thread = threading.Thread(target=self._ask_all)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def right(self, version: str) -> float:
        """The share of what this version read rightly."""
        of_it = [one.right for one in self.answers if one.version == version]
        return sum(of_it) / len(of_it)

    def _ask_all(self) -> None:
        pixels = self._rows.drop("id", "digit")
        while True:
            for row, digit in zip(pixels.iter_rows(), self._rows["digit"], strict=True):
                if self._closed.is_set():
                    return
                try:
                    self._ask(dict(zip(pixels.columns, row, strict=True)), digit)
                except OSError as error:
                    self.failed.append(str(error))

    def _ask(self, row: dict[str, float], digit: int) -> None:
        inputs = [
            {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
            for name, value in row.items()
        ]
        asked = urllib.request.Request(self._url, json.dumps({"inputs": inputs}).encode())
        with urllib.request.urlopen(asked, timeout=30) as response:
            said: dict[str, Any] = json.load(response)
        label = next(one["data"] for one in said["outputs"] if one["name"] == "label")
        self.answers.append(
            Answer(said["parameters"]["clew-model-version"], said["id"], label == [digit])
        )


def number_live(verbs: Verbs) -> int:
    return next(
        one.number for one in verbs.endpoint("post").revisions if one.state in {"live", "loading"}
    )


@pytest.fixture
def office(place: Place) -> Place:
    """A workspace whose model has learned from the old scanner and is live; the rest is waiting."""
    old, labelled, coming = sheets()
    place.clew("init", "--bare")
    place.write("post.py", PROJECT)
    old.write_parquet(place.directory / "old.parquet")
    labelled.write_parquet(place.directory / "new.parquet")
    coming.write_parquet(place.directory / "coming.parquet")
    place.clew("apply", "post.py")
    place.clew("put", "post/sheets", "old.parquet")
    place.clew("put", "post/sheets", "new.parquet", "--branch", "staging")
    return place


def test_drift_trains_anew_and_the_better_model_takes_over_under_load(office: Place) -> None:
    server = office.server()
    coming = pl.read_parquet(office.directory / "coming.parquet")
    url = f"{server.serving_url}/v2/models/post/infer"
    with office.verbs() as verbs, Client(url, coming) as client:
        until(verbs, lambda: number_live(verbs) > 1)
        seen = len(client.answers)
        until(verbs, lambda: len(client.answers) > seen + 200)
        client.close()
        assert not client.failed
        first, second, *_ = sorted(verbs.endpoint("post").revisions, key=lambda one: one.number)
        assert client.right(first.model_version) < 0.5 < 0.8 < client.right(second.model_version)
        told = [one for one in verbs.drift("post", limit=100) if one.action == "retrain"]
        assert told[-1].model_version == first.model_version
        assert told[-1].global_id == second.global_id, "one change from the drift to its answer"
        shares = [each.split.get(second.id) for each in verbs.traffic("post").changes]
        assert [share for share in shares if share][-3:] == [100, 60, 20]
        why = verbs.why(second.id)
        assert {"drift_report", "firing", "verdict"} <= {node.kind for node in why.nodes}
        assert [one.name for one in why.causes] == ["post/sheets:/new.parquet"]
        tests = [commit.files for commit in verbs.log("post/reader.test")]
        assert len(tests) == 2, "the champion was judged anew on rows of the new scanner too"


@pytest.mark.slow
def test_a_limit_that_is_set_holds_though_the_live_one_has_drifted(office: Place) -> None:
    office.edit("post.py", "max_requests=40", "max_requests=40, max_drift=0.25")
    office.clew("apply", "post.py")
    server = office.server()
    coming = pl.read_parquet(office.directory / "coming.parquet")
    url = f"{server.serving_url}/v2/models/post/infer"
    with office.verbs() as verbs, Client(url, coming) as client:
        until(verbs, lambda: states(verbs).get(2) == "rolled_back")
        client.close()
        assert not client.failed
        assert number_live(verbs) == 1
        reason = next(one.reason for one in verbs.endpoint("post").revisions if one.number == 2)
        assert "distributed otherwise" in reason


def states(verbs: Verbs) -> dict[int, str]:
    return {one.number: one.state for one in verbs.endpoint("post").revisions}
