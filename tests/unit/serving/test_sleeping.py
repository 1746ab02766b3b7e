"""Models that nobody asks for are not in memory, and come when they are asked for."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request

import pytest

from clew.serving import accounts, immediate
from clew.serving.parking import Parked
from clew.serving.rollouts import Rollouts
from clew.serving.sleeping import Holding, sleepers
from clew.serving.watcher import Watcher

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}
).encode()


class One:
    def __init__(self, asked_us, waiting=0):
        self.asked_us, self.waiting = asked_us, waiting


@pytest.mark.parametrize(
    ("held", "holding", "others", "going"),
    [
        ({"a": One(3), "b": One(1), "c": One(2)}, Holding(most=2), 0, ["b"]),
        ({"a": One(3), "b": One(1), "c": One(2)}, Holding(most=2), 1, ["b", "c"]),
        ({"a": One(3), "b": One(1, waiting=1), "c": One(2)}, Holding(most=2), 0, ["c"]),
        ({"a": One(3), "b": One(1)}, Holding(most=2), 0, []),
        ({"a": One(5_000_000), "b": One(1_000_000)}, Holding(idle_s=6), 0, ["b"]),
        ({"a": One(5_000_000), "b": One(1_000_000)}, Holding(idle_s=6, most=1), 0, ["b"]),
        ({"a": One(9_000_000), "b": One(8_000_000)}, Holding(idle_s=6, most=1), 5, ["b", "a"]),
    ],
)
def test_who_was_asked_longest_ago_sleeps_first_and_who_answers_stays(held, holding, others, going):
    assert sleepers(held, holding, 8_000_000, others) == going


class Served:
    """A serving process with endpoints ``m0``, ``m1``… whose answers are told by their number."""

    def __init__(self, workspace, laws, count, **more):
        self.workspace = workspace
        self.laws = [laws.matrix(scale=float(at), **more) for at in range(count)]
        for at, law in enumerate(self.laws):
            workspace.endpoint(f"m{at}")
            workspace.deploy(law, f"m{at}", version="1")

    def start(self, **more):
        self.url = self.workspace.serve(**more).url

    def call(self, path, body=None):
        asked = urllib.request.Request(self.url + path, body)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    def infer(self, at):
        status, body = self.call(f"/v2/models/m{at}/infer", BODY)
        assert status == 200, body
        assert body["outputs"][0]["data"] == [6.0 * at]

    def states(self):
        _, index = self.call("/v2/repository/index", b"{}")
        return {each["name"]: (each["state"], each["reason"][:6]) for each in index}

    def held(self):
        return {name for name, (state, _) in self.states().items() if state == "READY"}


def test_with_room_for_two_the_third_takes_the_place_of_the_first_and_all_are_answered(
    workspace, laws
):
    served = Served(workspace, laws, 4)
    served.start(max_models=2)
    assert served.held() == set()
    assert set(served.states().values()) == {("UNAVAILABLE", "asleep")}
    assert served.call("/v2/health/ready")[0] == 200
    assert served.call("/v2/models/m3/ready") == (
        200,
        {"name": "m3", "live": True, "ready": True},
    )
    for at in (1, 2):
        served.infer(at)
    assert served.held() == {"m1", "m2"}
    served.infer(3)
    workspace.wait(lambda: served.held() == {"m2", "m3"})
    served.infer(1)
    workspace.wait(lambda: served.held() == {"m1", "m3"})
    status, told = served.call("/v2/models/m0")  # what a model takes is known of one in memory
    assert (status, told["inputs"][0]["shape"], told["versions"]) == (200, [-1, 3], ["1"])
    states = served.call("/v1/models/m2")[1]["model_version_status"]
    assert [each["state"] for each in states] == ["START"]
    assert served.call("/v2/models/m0/versions/9/infer", BODY)[0] == 404
    with workspace.db.read() as tx:
        assert sum(accounts.held(tx).values()) <= 2


def test_everybody_who_asks_for_one_that_sleeps_is_answered(workspace, laws):
    served = Served(workspace, laws, 3, load_s=0.05)
    served.start(max_models=1)
    failed = []

    def ask(first):
        try:
            for at in range(9):
                served.infer((first + at) % 3)
        except AssertionError as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_one_that_nobody_asks_for_goes_and_what_it_answered_is_counted(workspace, laws):
    served = Served(workspace, laws, 2)
    served.start(model_idle_s=0.3)
    served.infer(1)
    workspace.wait(lambda: served.held() == set())
    served.infer(1)
    workspace.wait(lambda: workspace.serving.endpoint("m1").requests == 2)


def test_one_that_cannot_be_loaded_is_told_and_asked_for_again(workspace, laws, tmp_path):
    broken = tmp_path / "broken"
    served = Served(workspace, laws, 2, unloadable_if=str(broken))
    served.start(max_models=1)
    served.infer(1)  # it was live before anything went wrong
    served.infer(0)
    broken.touch()
    status, said = served.call("/v2/models/m1/infer", BODY)
    assert (status, "no such weights" in said["error"]) == (503, True)
    assert served.call("/v2/models/m1/ready")[0] == 503
    assert served.call("/v2/repository/models/m1/load", b"")[0] == 400
    broken.unlink()
    served.infer(1)


def test_one_request_costs_one_attempt_however_often_routes_are_published(workspace, laws):
    served = Served(workspace, laws, 1)
    served.start()
    workspace.processes.pop().stop()  # it is live, and of another process now
    parked, answers, began, may = Parked(), [], threading.Event(), threading.Event()
    attempts = []

    def opened(wanted):
        attempts.append(wanted.identity.endpoint)
        began.set()
        may.wait()
        raise MemoryError("no room")

    watcher = Watcher(
        workspace.db,
        Rollouts(workspace.db, workspace.lineage),
        None,
        process="p" * 26,
        publish=parked.follow,
        holding=Holding(most=1),
        opened=opened,
    )
    parked.wake = watcher.wake
    watcher.start()
    try:
        parked.take("m0", "", lambda: answers.append("on"), answers.append, 9)
        began.wait()
        for _ in range(5):
            watcher.refresh()
        may.set()
        # waits for all that was asked for before it, and is an attempt itself
        assert watcher.wake_now("m0") == "MemoryError: no room"
    finally:
        may.set()
        watcher.close()
    assert answers == ["MemoryError: no room"]
    assert attempts == ["m0"] * 2


def test_a_client_loads_and_unloads_what_sleeps(workspace, laws):
    served = Served(workspace, laws, 3)
    served.start(max_models=2)
    assert served.call("/v2/repository/models/m1/load", b"")[0] == 200
    assert served.held() == {"m1"}
    assert served.call("/v2/repository/models/m1/unload", b"")[0] == 200
    assert served.call("/v2/models/m1/infer", BODY)[0] == 404
    assert served.call("/v2/repository/models/m1/load", b"")[0] == 200
    served.infer(1)


def test_a_new_version_of_one_that_sleeps_is_loaded_beside_it_and_takes_over(workspace, laws):
    served = Served(workspace, laws, 3)
    served.start(max_models=1)
    served.infer(1)
    second = workspace.deploy(laws.matrix(scale=2.0), "m2", version="2", rollout=immediate())
    workspace.wait(lambda: workspace.state(second) == "live")
    served.infer(2)
    served.infer(0)
    workspace.serving.rollback("m2", "a test")
    answers = iter(lambda: served.call("/v2/models/m2/infer", BODY), None)
    workspace.wait(lambda: next(answers)[1]["model_version"] == "1")
