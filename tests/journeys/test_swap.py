"""Models are swapped while clients keep asking: no request fails, each answer says who made it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2
import pytest

from clew.base.records import Revision
from clew.base.verbs import Verbs

if TYPE_CHECKING:
    from .conftest import Place

SHARP = "clew.canary(steps=[30], hold_s=0.1, min_requests=3)"


@dataclass(kw_only=True)
class Load:
    """Clients that ask one endpoint without a pause, each on its own connection."""

    url: str
    clients: int = 3
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)
    moved: threading.Condition = field(default_factory=threading.Condition)

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        threads = [threading.Thread(target=self._ask) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.over.set()
            for thread in threads:
                thread.join()

    def answered_by(self, version: str, timeout_s: float = 30) -> None:
        """Wait until ``version`` gives an answer that it had not given before."""
        with self.moved:
            seen = self.answers[version]
            assert self.moved.wait_for(lambda: self.answers[version] > seen, timeout_s), version

    def _ask(self) -> None:
        body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [70.0]}]}
        with httpx2.Client(timeout=60, trust_env=False) as http:
            while not self.over.is_set():
                try:
                    reply = http.post(self.url, json=body)
                except httpx2.HTTPError as error:
                    self._note("", repr(error), "")
                    continue
                right = reply.status_code == 200 and reply.json()["outputs"][0]["data"] == [1]
                version = reply.headers.get("clew-model-version", "")
                name = reply.headers.get("clew-prediction-id", "")
                self._note(version, "" if right else f"{reply.status_code} {reply.text}", name)

    def _note(self, version: str, failure: str, name: str) -> None:
        with self.moved:
            if failure:
                self.failures.append(failure)
            self.answers[version] += 1
            self.ids.add(name)
            self.moved.notify_all()


def live_after(verbs: Verbs, revision: Revision, rounds: int = 600) -> None:
    """Wait until a revision has all traffic."""
    for _ in range(rounds):
        now = next(r for r in verbs.endpoint("large").revisions if r.id == revision.id)
        assert now.state in {"loading", "canary", "live"}, now
        if (now.state, now.traffic) == ("live", 100):
            return
        threading.Event().wait(0.02)
    raise AssertionError(f"{revision.id} did not become live")


def swap(place: Place, swaps: int, canaries: int) -> None:
    # a second blessed version, by the same code anew
    place.json("run", "numbers", "model")
    server = place.server()
    with place.verbs() as verbs:
        versions = [version.id for version in verbs.models("numbers/model")]
        assert len(versions) == 2
        load = Load(url=f"{server.serving_url}/v2/models/large/infer")
        with load.running():
            for turn in range(swaps + canaries):
                if turn == swaps:
                    place.edit("numbers.py", "clew.immediate()", SHARP)
                    assert all(
                        job["done"] == 0 for job in place.json("apply", "numbers.py")["jobs"]
                    )
                served = verbs.endpoint("large").revisions[0].model_version
                wanted = next(version for version in versions if version != served)
                live_after(verbs, verbs.deploy("large", wanted))
                load.answered_by(wanted)
        assert load.failures == []
        assert set(load.answers) == set(versions)
        assert load.answers.total() == len(load.ids), "each answer has an id of its own"
        assert server.stop() == 0
    with place.verbs() as verbs:
        verbs.wait()
        logged = Counter(one.model_version for one in verbs.predictions("large", limit=1_000_000))
        assert logged == load.answers, "every answer is in the log, with the version that made it"
        assert sum(one.traffic for one in verbs.endpoint("large").revisions) == 100


def test_twenty_swaps_under_load_fail_no_request(trained: Place) -> None:
    swap(trained, swaps=12, canaries=8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_swaps_under_load_fail_no_request(trained: Place) -> None:
    swap(trained, swaps=150, canaries=50)


@pytest.mark.slow  # tests/unit/serving/test_processes.py has it each time
def test_a_rollback_under_load_fails_no_request(trained: Place) -> None:
    trained.json("run", "numbers", "model")
    server = trained.server()
    with trained.verbs() as verbs:
        second, first = (version.id for version in verbs.models("numbers/model"))
        load = Load(url=f"{server.serving_url}/v2/models/large/infer")
        with load.running():
            load.answered_by(second)
            back = verbs.rollback("large", reason="to be sure")
            assert back.model_version == first
            load.answered_by(first)
        assert load.failures == []
