"""A rule over logs may exclude the slot where its pattern was seen: the trial goes on elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clew.base.errors import NotFound, Unavailable
from clew.base.ids import new_id
from clew.base.records.trial_policy import LogRule, TrialPolicy
from clew.compute import CallError, ProcessPool
from clew.experiments import single
from clew.experiments.mending import mend
from clew.experiments.shares import Shares
from clew.experiments.tracks import Track

BAD = LogRule(pattern="Xid 79", act="scale", exclude=True)
TRAINING = """
    import os

    def model(trial):
        on = os.environ["CUDA_VISIBLE_DEVICES"]
        if on in BROKEN:
            raise RuntimeError("Xid 79: GPU has fallen off the bus")
        trial.report(1, loss=float(on))
"""


@pytest.fixture
def two_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Callable[[int], ProcessPool]
) -> ProcessPool:
    mark = new_id()
    lines = "".join(f"{n}, GPU-{mark}-{n}, A, 1024, 0, 0\n" for n in range(2))
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}END\n")
    program.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return processes(2)


def search(house: Any, pool: ProcessPool, broken: str) -> Any:
    house.write(TRAINING.replace("BROKEN", repr(broken)))
    return house.search(
        pool,
        single(metric="loss", max_steps=1),
        {},
        policy=TrialPolicy(on_log=(BAD,)),
        resources={"GPU": 1.0},
    )


def test_the_trial_goes_on_elsewhere_and_the_slot_stays_out_until_it_is_given_back(
    house: Any, two_gpus: ProcessPool
) -> None:
    result = search(house, two_gpus, "0")
    experiments = house.experiments(two_gpus)
    assert result.metrics == {"loss": 1.0}
    assert "not on default/gpu:0" in experiments.log(result.trial.id)
    (out,) = experiments.excluded_slots()
    assert (out.slot, out.pattern, out.trial) == ("default/gpu:0", "Xid 79", result.trial.id)
    states = {slot.name: slot.state for slot in two_gpus.pools()[0].slots}
    assert (states["default/gpu:0"], states["default/gpu:1"]) == ("excluded", "free")
    told = house.db.events.after(0, kinds=["slot.excluded"])
    assert [one.subject for one in told] == ["default/gpu:0"]
    assert told[0].data["trial"] == result.trial.id
    node = house.lineage.get(result.trial.id)
    assert node is not None
    assert node.detail["excluded"] == ["default/gpu:0"]
    experiments.restore_slot("default/gpu:0")
    assert experiments.excluded_slots() == []
    assert "excluded" not in {slot.state for slot in two_gpus.pools()[0].slots}
    with pytest.raises(NotFound) as refused:
        experiments.restore_slot("default/gpu:0")
    assert refused.value.code == "slot.not_excluded"


def test_where_none_is_left_the_search_ends_and_says_which_and_why(
    house: Any, two_gpus: ProcessPool
) -> None:
    with pytest.raises(Unavailable) as failed:
        search(house, two_gpus, "01")
    assert failed.value.code == "pool.excluded"
    assert "default/gpu:0" in failed.value.message
    assert "default/gpu:1" in failed.value.message
    assert "Xid 79" in failed.value.message
    again = house.experiments(two_gpus)
    two_gpus.exclude({})
    again.tell_excluded()  # as the next engine does
    assert two_gpus.room("", {"GPU": 1}) == 0


def track() -> Track:
    return Track(id="t", number=0, params={"batch": 8}, seed=1)


def raised(message: str) -> CallError:
    return CallError(kind="raised", message=message)


def test_of_a_group_the_slots_of_the_rank_are_excluded_that_said_it() -> None:
    policy = TrialPolicy(on_log=(BAD,))
    slots = ("a/gpu:0", "a/gpu:1", "a/gpu:2", "a/gpu:3")

    def excluded(message: str, log: str) -> tuple[str, ...]:
        return mend(policy, track(), raised(message), log, slots=slots, ranks=2).excluded

    assert excluded("x", "[rank 0] fine\n[rank 1] Xid 79\n") == slots[2:]
    assert excluded("rank 0: Xid 79", "") == slots[:2]
    assert excluded("Xid 79", "") == slots


def test_where_there_is_no_slot_to_leave_it_is_as_if_nothing_were_left_to_change() -> None:
    mended = mend(TrialPolicy(on_log=(BAD,)), track(), raised("Xid 79"), "")
    assert (mended.again, mended.excluded) == (False, ())
    smaller = LogRule(pattern="Xid", act="scale", factors=(("batch", 0.5),), exclude=True)
    one = track()
    mended = mend(TrialPolicy(on_log=(smaller,)), one, raised("Xid 79"), "", slots=("a/cpu:0",))
    assert (mended.again, mended.excluded, one.changed) == (True, ("a/cpu:0",), {"batch": 4})


def test_searches_share_what_is_in_their_own_pool_by_slots() -> None:
    shares = Shares()
    gpu = shares.join(0, 4, of="train/gpu")
    large = shares.join(0, 2, of="train/cpu", each=2)
    small = shares.join(0, 8, of="train/cpu")
    assert gpu.ask(4, 4) == (4, False)
    assert large.ask(8, 2) == (2, False)
    assert small.ask(8, 8) == (4, False)
    higher = shares.join(5, 2, of="train/cpu", each=2)
    assert large.ask(8, 2) == (1, True)
    assert gpu.ask(4, 4) == (4, False)
    higher.leave()
