"""A trial that several ranks train: who speaks, where they stop, what is kept, who may die.

The ranks are plain Python; they meet at MASTER_PORT as those of frameworks do.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from clew.base.errors import Invalid
from clew.base.ranks import workers
from clew.experiments import asha, choice, single, uniform
from clew.experiments.ranks import joined, most_ranks, part_of
from clew.store import EMPTY_TREE, Entry

MEET = """
    import json, os, signal, socket, sys, time
    from pathlib import Path
    from clew.experiments import worker

    worker.SAVE_EVERY_S = 0.0

    class Meeting:
        '''Sums a number over all ranks, as all_reduce does: nobody has it before all have come.'''

        def __init__(self, trial):
            self.peers, self.leads = [], trial.rank == 0
            if trial.world_size == 1:
                return
            place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            if self.leads:
                with socket.create_server(place) as server:
                    self.peers = [server.accept()[0] for _ in range(trial.world_size - 1)]
                return
            while not self.peers:
                try:
                    self.peers = [socket.create_connection(place)]
                except ConnectionRefusedError:
                    time.sleep(0.01)

        def sum(self, number):
            if self.leads:
                total = number + sum(self.hear(peer) for peer in self.peers)
                for peer in self.peers:
                    peer.sendall(json.dumps(total).encode() + b"\\n")
                return total
            self.peers[0].sendall(json.dumps(number).encode() + b"\\n")
            return self.hear(self.peers[0])

        def hear(self, peer):
            said = b""
            while not said.endswith(b"\\n"):
                part = peer.recv(1)
                if not part:
                    raise ConnectionError("a peer is gone")
                said += part
            return json.loads(said)

        def close(self):
            for peer in self.peers:
                peer.close()
"""

# Each rank holds its own number; what is learned depends on all of them.
SHARDED = (
    MEET
    + """
    def model(trial):
        state = trial.restore() or {"rank": trial.rank, "sum": 0.0}
        assert state["rank"] == trial.rank
        meeting = Meeting(trial)
        for step in trial.steps():
            state["sum"] += meeting.sum((trial.rank + 1) * step * trial.params.x)
            die(trial, step)
            trial.report(step, loss=1 / (1 + state["sum"]))
            trial.checkpoint(state, shard=True)
        meeting.close()
        return {"sum": state["sum"]}

    def die(trial, step):
        '''Once, at the step and in the rank that the environment names.'''
        flag = Path(os.environ["FLAG"])
        wanted = json.loads(os.environ["FATAL"])
        if wanted == [trial.rank, step] and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""
)

# A loop of one's own, in which rank 0 alone reports and every rank asks whether to stop.
OWN_LOOP = (
    MEET
    + """
    def model(trial):
        meeting = Meeting(trial)
        print("begins at", (trial.restore() or {"step": 0})["step"])
        step = 0
        while True:
            step += 1
            total = meeting.sum(1)
            if trial.rank == 0:
                trial.report(step, loss=1 / step)
                trial.log_text("who", str(trial.rank))
            else:
                trial.report(step, loss=99.0, mine=1.0)
                trial.log_text("who", "nobody")
            if trial.should_stop:
                break
        trial.checkpoint({"step": step, "rank": trial.rank})
        print("ends at", step, "of", total)
        meeting.close()
        return {"step": step, "rank": trial.rank}
"""
)


def search(house: Any, compute: Any, definition: Any, space: Any, **given: Any) -> Any:
    environment = {"FLAG": str(house.home / "died"), "FATAL": "[]", **given.pop("environment", {})}
    given.setdefault("ranks", workers(2))
    return house.search(compute, definition, space, environment=environment, **given)


def points(house: Any, compute: Any, trial: str) -> list[tuple[int, dict[str, float]]]:
    return [(p.step, p.metrics) for p in house.experiments(compute).points(trial)]


def files(house: Any, tree: str) -> list[str]:
    return [entry.path for entry in house.store.entries(tree)]


def test_rank_0_reports_and_all_stop_at_the_same_step(house: Any, processes: Any) -> None:
    house.write(OWN_LOOP)
    pool = processes(2)
    found = search(house, pool, single(metric="loss", max_steps=4), {})
    assert points(house, pool, found.trial.id) == [
        (step, {"loss": pytest.approx(1 / step)}) for step in (1, 2, 3, 4)
    ]
    log = house.experiments(pool).log(found.trial.id).splitlines()
    assert sorted(log) == [
        "[rank 0] begins at 0",
        "[rank 0] ends at 4 of 2",
        "[rank 1] begins at 0",
        "[rank 1] ends at 4 of 2",
    ]
    assert house.store.get(found.artefact, "/model.pkl") is not None


def test_a_rung_pauses_every_rank_and_a_promotion_goes_on_from_one_checkpoint(
    house: Any, processes: Any
) -> None:
    house.write(SHARDED)
    pool = processes(2)
    definition = asha(metric="loss", trials=3, max_steps=3, reduction=3, sampler="random", seed=5)
    found = search(house, pool, definition, {"x": uniform(0.1, 1)})
    detail = house.experiments(pool).get(found.experiment)
    assert sorted(t.state for t in detail.trials) == ["done", "stopped", "stopped"]
    best = found.trial
    assert best.params["x"] == max(t.params["x"] for t in detail.trials)
    assert [step for step, _ in points(house, pool, best.id)] == [1, 2, 3]
    total = sum(3 * step * best.params["x"] for step in (1, 2, 3))
    assert found.metrics == {"loss": pytest.approx(1 / (1 + total))}
    kept = files(house, house.experiments(pool).learned(best.id))
    assert kept == ["/checkpoint.pkl", "/meta.json", "/model.pkl", "/ranks/1/checkpoint.pkl"]


def test_a_trial_whose_rank_is_killed_ends_as_one_that_was_left_alone(
    house: Any, processes: Any
) -> None:
    house.write(SHARDED)
    pool, space = processes(2), {"x": uniform(0.1, 1)}
    definition = single(metric="loss", max_steps=6, seed=3)
    calm = search(house, pool, definition, space)
    moment = random.Random(7)
    fatal = [moment.randrange(2), moment.randrange(2, 6)]
    killed = search(house, pool, definition, space, environment={"FATAL": str(fatal)})
    assert (house.home / "died").exists()
    assert points(house, pool, killed.trial.id) == points(house, pool, calm.trial.id)
    assert killed.metrics == calm.metrics
    assert killed.artefact == calm.artefact


def test_ranks_that_keep_dying_fail_the_trial_and_say_how(house: Any, processes: Any) -> None:
    house.write("""
        import os
        def model(trial):
            print("again")
            os._exit(7 if trial.rank == 1 else 0)
    """)
    pool = processes(2)
    with pytest.raises(Invalid) as raised:
        search(house, pool, single(metric="loss", max_steps=2), {})
    assert raised.value.code == "experiment.failed"
    assert "of 2 of trial 0 of shop/model ended with exit code" in raised.value.message


def test_ranks_that_keep_parts_of_different_steps_are_told(house: Any, processes: Any) -> None:
    house.write("""
        def model(trial):
            for step in trial.steps():
                trial.report(step, loss=1.0)
                trial.checkpoint({"a": 1}, step=step + trial.rank, shard=True)
    """)
    with pytest.raises(Invalid) as raised:
        search(house, processes(2), single(metric="loss", max_steps=1), {})
    assert raised.value.code == "checkpoint.shards"


def test_the_same_function_trains_alone(house: Any, inline: Any) -> None:
    house.write(SHARDED)
    found = search(
        house, inline, single(metric="loss", max_steps=2), {"x": uniform(1, 2)}, ranks=None
    )
    assert files(house, house.experiments(inline).learned(found.trial.id)) == [
        "/checkpoint.pkl",
        "/meta.json",
        "/model.pkl",
    ]


def test_each_trial_may_have_its_own_number_of_ranks(house: Any, processes: Any) -> None:
    house.write("""
        def model(trial):
            trial.report(1, loss=1.0 / trial.world_size)
            return trial.world_size
    """)
    space = {"team": choice([1, 3])}
    assert most_ranks(workers("team"), space) == 3
    pool = processes(3)
    found = search(
        house,
        pool,
        asha(metric="loss", trials=4, max_steps=1, sampler="random", seed=1),
        space,
        ranks=workers("team"),
    )
    detail = house.experiments(pool).get(found.experiment)
    assert {t.params["team"]: t.value for t in detail.trials} == {
        1: 1.0,
        3: pytest.approx(1 / 3),
    }


def test_a_checkpoint_in_parts_goes_on_with_as_many_ranks(house: Any) -> None:
    with house.store.writer() as writer:
        trees = []
        for rank in range(3):
            digest, size = writer.put(f"part {rank}".encode())
            entry = Entry(path="/checkpoint.pkl", digest=digest, size_bytes=size)
            trees.append(writer.tree(EMPTY_TREE, [entry]))
    whole = joined(house.store, trees)
    assert files(house, whole) == [
        "/checkpoint.pkl",
        "/ranks/1/checkpoint.pkl",
        "/ranks/2/checkpoint.pkl",
    ]
    for rank in range(3):
        part = part_of(house.store, whole, rank, 3)
        entry = house.store.get(part, "/checkpoint.pkl")
        assert house.store.read(entry.digest) == f"part {rank}".encode()
    assert part_of(house.store, trees[0], 5, 8) == trees[0]
    with pytest.raises(Invalid) as raised:
        part_of(house.store, whole, 0, 2)
    assert raised.value.code == "checkpoint.ranks"
