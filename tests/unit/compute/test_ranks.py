"""Several processes that carry out one call: where they meet, how they are heard, how they end."""

from __future__ import annotations

import json
import os
import signal
import socket
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from clew.base.errors import Invalid
from clew.base.ranks import Ranks, as_ranks, workers
from clew.compute import Call, Outcome, ProcessPool
from clew.compute.family import MARK
from clew.compute.ports import Reservation

# What each rank runs, and the conductor that hears it: a user's module, without any framework.
TEAM = """
    import json, os, signal, socket, subprocess, sys, time
    from pathlib import Path
    from clew.base.errors import Invalid

    NAMES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE",
             "GROUP_RANK", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TF_CONFIG",
             "CUDA_VISIBLE_DEVICES")

    class Conductor:
        def __init__(self, payload, context):
            self.payload, self.context, self.said = payload, context, []
            self.waiting = {}

        def payload_of(self, rank):
            return {**self.payload, "rank": rank}

        def heard(self, rank, message):
            self.said.append([rank, message["text"]])
            self.context.send({"rank": rank, **message})

        def asked(self, rank, message, reply):
            if message.get("refuse"):
                raise Invalid("team.no", "Not you.")
            self.waiting[rank] = reply
            if len(self.waiting) == self.payload["size"]:
                for one in self.waiting.values():
                    one({"all": sorted(self.waiting)})
                self.waiting = {}

        def ended(self, rank):
            self.said.append([rank, "ended"])

        def end(self, values):
            return {"values": values, "said": self.said}

    def environment(payload, context):
        return {name: os.environ[name] for name in NAMES}

    def total(payload, context):
        '''All send their number to rank 0 at MASTER_PORT, which adds them and tells all.'''
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        if rank == 0:
            with socket.create_server(place) as server:
                peers = [server.accept()[0] for _ in range(size - 1)]
                found = sum(int(peer.recv(100)) for peer in peers)
                for peer in peers:
                    peer.sendall(str(found).encode())
                    peer.close()
            return found
        while True:
            try:
                with socket.create_connection(place) as peer:
                    peer.sendall(str(rank).encode())
                    return int(peer.recv(100))
            except ConnectionRefusedError:
                time.sleep(0.01)

    def together(payload, context):
        context.send({"text": "here"})
        found = context.ask({})
        print("rank", payload["rank"], "prints")
        print("and to stderr", file=sys.stderr)
        return found["all"]

    def refused(payload, context):
        context.ask({"refuse": True})

    def all_but_one(payload, context):
        '''The others wait for ever for one that does what it should not.'''
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
        context.ask({})
        if payload["rank"] == 1:
            print("the last words")
            act = payload["act"]
            if act == "raise":
                raise ValueError("it went wrong")
            if act == "exit":
                os._exit(3)
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    def blames_another(payload, context):
        '''Rank 0 raises because rank 1 is gone, as frameworks do.'''
        if payload["rank"] == 1:
            context.send({"text": str(os.getpid())})
            signal.pause()
        while not Path(payload["file"]).exists():
            time.sleep(0.01)
        raise ConnectionError("the peer is gone")

    def hold(payload, context):
        context.send({"text": str(os.getpid())})
        signal.pause()

    def greedy(payload, context):
        context.ask({})
        kept = b"x" * (150 << 20)
        signal.pause()
"""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[ProcessPool]:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "team.py").write_text(textwrap.dedent(TEAM))
    with ProcessPool(2, tmp_path / "scratch", tmp_path / "logs") as pool:
        yield pool


def call(tmp_path: Path, entry: str, size: int = 2, **given: Any) -> Call:
    limits = {name: given.pop(name) for name in ("timeout_s", "memory_bytes") if name in given}
    payload = {
        "ranks": {"count": size, **given.pop("ranks", {})},
        "size": size,
        "label": "the team",
        "entry": f"team:{entry}",
        "conductor": "team:Conductor",
        "snapshot_dir": str(tmp_path / "project"),
        "grace_s": given.pop("grace_s", 30.0),
        "payload": {"size": size, **given},
    }
    return Call(
        entry="clew.compute.ranks:run_group",
        payload=payload,
        label="the team",
        snapshot_dir=str(tmp_path / "project"),
        **limits,
    )


def failed(outcome: Outcome) -> Any:
    assert outcome.error is not None, outcome
    return outcome.error


def gone(pids: list[int]) -> None:
    """Wait until processes have ended; the test's own limit of time says when they have not."""
    for pid in pids:
        while psutil.pid_exists(pid):
            try:
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    break
            except psutil.NoSuchProcess:
                break
            time.sleep(0.01)


def of_this_pool(tmp_path: Path) -> list[int]:
    """Processes that the pool or its ranks have started, in whatever session."""
    [name] = [path.name for path in (tmp_path / "scratch").glob("pool-*")] or ["none"]
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(MARK, "")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if mark.startswith(f"{name}.") and ".ranks-" in mark:
            found.append(process.pid)
    return found


def test_each_rank_is_told_where_the_group_meets_and_which_it_is(
    pool: ProcessPool, tmp_path: Path
) -> None:
    value: Any = pool.submit(call(tmp_path, "environment", 3)).result().unwrap()
    ranks = value["values"]
    assert [one["RANK"] for one in ranks] == [one["LOCAL_RANK"] for one in ranks] == ["0", "1", "2"]
    assert {(one["WORLD_SIZE"], one["LOCAL_WORLD_SIZE"], one["GROUP_RANK"]) for one in ranks} == {
        ("3", "3", "0")
    }
    assert len({(one["MASTER_ADDR"], one["MASTER_PORT"]) for one in ranks}) == 1
    assert len({one["TORCHELASTIC_RUN_ID"] for one in ranks}) == 1
    assert {one["CUDA_VISIBLE_DEVICES"] for one in ranks} <= {"", "0,1,2"}
    for rank, told in enumerate(json.loads(one["TF_CONFIG"]) for one in ranks):
        assert told["task"] == {"type": "worker", "index": rank}
        assert len(set(told["cluster"]["worker"])) == 3
        assert told["cluster"] == json.loads(ranks[0]["TF_CONFIG"])["cluster"]


def test_ranks_meet_at_the_port_that_they_are_told(pool: ProcessPool, tmp_path: Path) -> None:
    value: Any = pool.submit(call(tmp_path, "total", 3)).result().unwrap()
    assert value["values"] == [3, 3, 3]


def test_a_reserved_port_can_be_listened_to_and_is_given_to_nobody_who_asks_for_any() -> None:
    held = Reservation()
    others = []
    try:
        for _ in range(200):
            others.append(socket.socket())
            others[-1].bind(("127.0.0.1", 0))
        assert held.port not in {one.getsockname()[1] for one in others}
        place = ("127.0.0.1", held.port)
        with socket.create_server(place) as server, socket.create_connection(place) as client:
            accepted, _ = server.accept()
            accepted.close()
            assert client.getpeername()[1] == held.port
    finally:
        held.close()
        for one in others:
            one.close()


def test_what_ranks_say_print_and_give_back_is_kept_by_rank(
    pool: ProcessPool, tmp_path: Path
) -> None:
    heard: list[Any] = []
    outcome = pool.submit(call(tmp_path, "together", 2), heard.append).result()
    value: Any = outcome.unwrap()
    assert value["values"] == [[0, 1], [0, 1]]
    assert sorted(message["rank"] for message in heard) == [0, 1]
    assert sorted(outcome.log.splitlines()) == [
        "[rank 0] and to stderr",
        "[rank 0] rank 0 prints",
        "[rank 1] and to stderr",
        "[rank 1] rank 1 prints",
    ]
    assert sorted(rank for rank, text in value["said"] if text == "ended") == [0, 1]


def test_an_error_of_the_conductor_is_raised_in_the_rank_that_asked(
    pool: ProcessPool, tmp_path: Path
) -> None:
    error = failed(pool.submit(call(tmp_path, "refused")).result())
    assert (error.kind, error.code) == ("clew", "team.no")
    assert error.message.startswith("rank ")


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        ("kill", "died", "Rank 1 of 2 of the team was killed by SIGKILL"),
        ("exit", "died", "Rank 1 of 2 of the team ended with exit code 3"),
    ],
)
def test_where_a_rank_dies_all_end_and_nothing_that_they_started_stays(
    pool: ProcessPool, tmp_path: Path, act: str, kind: str, words: str
) -> None:
    outcome = pool.submit(call(tmp_path, "all_but_one", act=act)).result()
    error = failed(outcome)
    assert error.kind == kind
    assert words in error.message
    assert "the last words" in error.hint
    assert "[rank 1] the last words" in outcome.log
    assert of_this_pool(tmp_path) == []
    value: Any = pool.submit(call(tmp_path, "together", 2)).result().unwrap()
    assert value["values"] == [[0, 1], [0, 1]]


def test_what_a_rank_raises_the_call_raises(pool: ProcessPool, tmp_path: Path) -> None:
    asked = call(tmp_path, "all_but_one", act="raise", grace_s=0.1)
    error = failed(pool.submit(asked).result())
    assert (error.kind, error.type) == ("raised", "ValueError")
    assert error.message == "rank 1: ValueError: it went wrong"
    assert "team.py" in error.traceback
    assert of_this_pool(tmp_path) == []


def test_a_rank_that_raises_because_another_died_is_not_to_blame(
    pool: ProcessPool, tmp_path: Path
) -> None:
    flag = tmp_path / "gone"

    def kill(message: Any) -> None:
        flag.touch()  # rank 0 raises now, and rank 1 dies a moment later
        time.sleep(0.2)
        os.kill(int(message["text"]), signal.SIGKILL)

    error = failed(pool.submit(call(tmp_path, "blames_another", file=str(flag)), kill).result())
    assert error.kind == "died"
    assert "Rank 1 of 2" in error.message


def test_limits_hold_for_the_group_together(pool: ProcessPool, tmp_path: Path) -> None:
    over = pool.submit(call(tmp_path, "greedy", memory_bytes=300 << 20)).result()
    assert failed(over).kind == "memory"
    late = pool.submit(call(tmp_path, "hold", timeout_s=0.5)).result()
    assert failed(late).kind == "timeout"
    assert of_this_pool(tmp_path) == []


def test_cancelling_ends_every_rank(pool: ProcessPool, tmp_path: Path) -> None:
    heard: list[int] = []

    def cancel(message: Any) -> None:
        heard.append(int(message["text"]))
        if len(heard) == 2:
            handle.cancel()

    handle = pool.submit(call(tmp_path, "hold"), cancel)
    assert failed(handle.result()).kind == "cancelled"
    gone(heard)
    assert of_this_pool(tmp_path) == []


def test_ranks_end_with_a_launcher_that_is_killed(pool: ProcessPool, tmp_path: Path) -> None:
    heard: list[int] = []

    def kill(message: Any) -> None:
        heard.append(int(message["text"]))
        if len(heard) == 2:
            psutil.Process(heard[0]).parent().kill()

    error = failed(pool.submit(call(tmp_path, "hold"), kill).result())
    assert error.kind == "died"
    gone(heard)


def test_a_group_that_cannot_be_is_refused_when_it_is_written() -> None:
    for wrong in (0, -1, True, "", 100_000):
        with pytest.raises(Invalid) as raised:
            workers(wrong)
        assert raised.value.code == "ranks.invalid"
    with pytest.raises(Invalid):
        workers(2, launcher="slurm")


def test_the_number_of_ranks_may_be_a_parameter_of_the_trial() -> None:
    ranks = workers("team")
    assert ranks.of({"team": 3}) == 3
    with pytest.raises(Invalid) as raised:
        ranks.of({"team": 1.5})
    assert raised.value.code == "ranks.invalid"
    assert Ranks(count=2).of({}) == 2
    assert as_ranks("team", {"team": None}) == ranks
    with pytest.raises(Invalid):
        as_ranks("team", {"x": None})
