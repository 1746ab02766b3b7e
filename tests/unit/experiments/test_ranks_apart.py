"""Groups of ranks over several machines: where they may go, and what of a step goes with them."""

from __future__ import annotations

import pytest

from clew.base.errors import Invalid
from clew.base.ranks import Ranks
from clew.compute import Call
from clew.experiments.ranks import in_ranks

TWO = Ranks(count=2)
OFF = {"ray.io/node-id": "!in(abc)"}


def trial(**more) -> Call:
    payload = {"store": "s", "restore": ""}
    return Call(entry="m:f", payload=payload, label="trial 0", placement={"zone": "eu"}, **more)


def test_a_group_on_a_cluster_keeps_off_machines_that_are_excluded():
    found = in_ranks(trial(), TWO, {}, spreads=True, off=OFF)
    assert found.payload["placement"] == {"zone": "eu", **OFF}
    assert found.placement == {"zone": "eu"}, "its launcher may be anywhere"
    assert in_ranks(trial(), TWO, {}, off=OFF).payload["placement"] == {}, "all on one machine"


def test_ranks_of_one_machine_start_as_the_workers_of_their_step_do():
    program = ("/env/bin/python", "start.py", "lean", "clew.compute.worker")
    found = in_ranks(trial(program=program), TWO, {})
    assert found.program == program
    assert found.payload["program"] == list(program)
    with pytest.raises(Invalid) as refused:
        in_ranks(trial(program=program), TWO, {}, spreads=True)
    assert refused.value.code == "ranks.environment"
    assert in_ranks(trial(program=program), None, {}).program == program
