"""Calls take slots of their pool while they run: processes and GPUs, each has one holder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clew.base.errors import Invalid, Unavailable
from clew.base.gpus import Gpu
from clew.base.ids import new_id
from clew.base.pools import read_pools, with_default
from clew.compute import Call, Handle, ProcessPool
from clew.compute.gpus import lease_now
from clew.compute.slots import Ledger

PROJECT = """
import os

def seen(payload, context):
    context.ask({"pid": os.getpid()})
    return [os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()]
"""


def cards(count: int) -> list[Gpu]:
    """GPUs that nobody else on this machine locks."""
    mark = new_id()
    return [
        Gpu(index=n, uuid=f"GPU-{mark}-{n}", name="A", memory_bytes=1 << 30, used_bytes=0)
        for n in range(count)
    ]


def ledger(text: str, gpus: int = 0, cores: int = 4) -> Ledger:
    found = cards(gpus)
    return Ledger(with_default(read_pools(text), cores), lambda: found)


def call(label: str, *, pool: str = "", cpus: float = 1, gpus: float = 0, **more: Any) -> Call:
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    return Call(entry="calls:seen", payload={}, label=label, pool=pool, resources=resources, **more)


def test_gpus_go_to_the_pool_that_names_them_and_the_rest_to_the_default_one() -> None:
    found = {one.name: one for one in ledger("train=cpu:2,gpu:1", gpus=3).look([])}
    assert [slot.name for slot in found["train"].slots] == [
        "train/cpu:0", "train/cpu:1", "train/gpu:1",
    ]  # fmt: skip
    assert [slot.name for slot in found["default"].slots if slot.kind == "gpu"] == [
        "default/gpu:0", "default/gpu:2",
    ]  # fmt: skip
    assert (found["default"].cpus, found["train"].cpus) == (2, 2)


@pytest.mark.parametrize(
    ("pool", "resources", "code"),
    [
        ("night", {}, "pool.unknown"),
        ("", {"CPU": 3}, "pool.too_small"),
        ("", {"GPU": 1}, "pool.too_small"),
        ("train", {"GPU": 3}, "pool.too_small"),
        ("", {"TPU": 1}, "pool.too_small"),
    ],
)
def test_what_a_pool_could_never_hold_is_refused(
    pool: str, resources: dict[str, float], code: str
) -> None:
    with pytest.raises(Invalid) as refused:
        ledger("train=cpu:2,gpu:0,gpu:1", gpus=2).check(pool, resources)
    assert refused.value.code == code


def test_room_is_counted_in_whole_calls_without_what_is_excluded() -> None:
    slots = ledger("train=cpu:4,gpu:*", gpus=4, cores=6)
    assert slots.room("train", {}) == 4
    assert slots.room("train", {"CPU": 2}) == 2
    assert slots.room("train", {"GPU": 1.5}) == 2
    assert slots.room("train", {"GPU": 5}) == 0
    slots.exclude({"train/gpu:2": "broken"})
    assert slots.room("train", {"GPU": 1}) == 3
    assert slots.room("train", {"CPU": 9}) == 1  # ranks may be more than there are processes


def test_a_gpu_has_one_holder_also_among_workspaces() -> None:
    found = cards(2)
    here, there = (Ledger(with_default((), 4), lambda: found) for _ in range(2))
    need = here.need(call("a", gpus=1))
    first = here.take(need, "a")
    other = there.take(there.need(call("b", gpus=1)), "b")
    assert first is not None
    assert other is not None
    assert {first.slots, other.slots} == {("default/gpu:0",), ("default/gpu:1",)}
    assert here.lack(need) == ""  # as far as this one knows
    assert here.take(need, "c") is None
    assert here.contended
    there.give_back(other)
    last = here.take(need, "c")
    assert last is not None
    assert not here.contended
    assert here.lack(need) == "gpu"
    for grant in (first, last):
        here.give_back(grant)
    free = lease_now(2, found)
    assert free is not None
    free.close()


def test_where_all_that_could_hold_a_call_are_excluded_the_error_names_them() -> None:
    slots = ledger("", gpus=2)
    slots.exclude({"default/gpu:0": "ECC", "default/gpu:1": "Xid 79"})
    assert slots.lack(slots.need(call("cpu"))) == ""
    with pytest.raises(Unavailable) as refused:
        slots.lack(slots.need(call("gpu", gpus=1)))
    assert refused.value.code == "pool.excluded"
    assert "default/gpu:0 (ECC); default/gpu:1 (Xid 79)" in refused.value.message
    assert "clew pools --restore default/gpu:0" in refused.value.hint


# in a pool of processes -----------------------------------------------------------------------


class Driver:
    """Calls that stay until they are let go, in the order in which they began."""

    def __init__(self, pool: ProcessPool, project: Path) -> None:
        self.pool = pool
        self.project = project
        self.began: list[str] = []
        self._gates: dict[str, threading.Event] = {}  # labels may come again
        self._arrived = threading.Semaphore(0)

    def submit(self, one: Call) -> Handle:
        gate = self._gates.setdefault(one.label, threading.Event())

        def hold(_message: object) -> dict[str, object]:
            self.began.append(one.label)
            self._arrived.release()
            gate.wait()
            return {}

        return self.pool.submit(msgspec.structs.replace(one, snapshot_dir=str(self.project)), hold)

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            self._arrived.acquire()

    def let_go_all(self) -> None:
        self.let_go(*self._gates)

    def let_go(self, *labels: str) -> None:
        for label in labels:
            self._gates[label].set()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Driver]]:
    """A machine whose nvidia-smi tells of so many GPUs."""
    drivers: list[Driver] = []

    def make(cores: int, gpus: int, pools_text: str = "") -> Driver:
        lines = "".join(f"{one.index}, {one.uuid}, A, 1024, 0, 0\n" for one in cards(gpus))
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}END\n")
        program.chmod(0o755)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        (tmp_path / "calls.py").write_text(PROJECT)
        pool = ProcessPool(
            cores, tmp_path / "scratch", tmp_path / "logs", pools=read_pools(pools_text)
        )
        drivers.append(Driver(pool, tmp_path))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.let_go_all()
        driver.pool.close()


def test_calls_with_gpus_see_their_own_in_processes_of_their_own(
    machine: Callable[..., Driver],
) -> None:
    driver = machine(2, 2)
    first, second = (driver.submit(call(name, gpus=1)) for name in "ab")
    driver.wait_for(2)
    (pool,) = driver.pool.pools()
    assert pool.used_gpus == 2
    assert {slot.by for slot in pool.slots if slot.kind == "gpu"} == {"a", "b"}
    driver.let_go("a", "b")
    found = [one.result() for one in (first, second)]
    values: list[Any] = [one.unwrap() for one in found]
    assert {value[0] for value in values} == {"0", "1"}
    assert {one.slots for one in found} == {("default/gpu:0",), ("default/gpu:1",)}
    third = driver.submit(call("c", gpus=2))
    driver.let_go("c")
    both: Any = third.result().unwrap()
    assert both[0] == "0,1"
    assert both[1] not in {value[1] for value in values}
    plain = driver.submit(call("d"))
    driver.let_go("d")
    cpu: Any = plain.result().unwrap()
    assert cpu[0] is None
    assert (pool := driver.pool.pools()[0]).used_gpus == pool.used_cpus == 0


def test_parts_of_one_work_share_a_process_on_their_gpu_and_another_work_has_its_own(
    machine: Callable[..., Driver],
) -> None:
    driver = machine(2, 1)
    first = driver.submit(call("batches", gpus=1))
    driver.wait_for(1)
    second, other = (driver.submit(call(name, gpus=1)) for name in ("batches", "trial"))
    plain = driver.submit(call("plain"))  # it begins: those before it are in the queue
    driver.wait_for(1)
    driver.let_go_all()
    pids: list[Any] = [one.result().unwrap()[1] for one in (first, second, other, plain)]
    assert pids[0] == pids[1]
    assert len(set(pids)) == 3


def test_who_waits_for_a_gpu_holds_up_nobody_who_needs_none(
    machine: Callable[..., Driver],
) -> None:
    driver = machine(2, 1)
    driver.submit(call("first", gpus=1))
    driver.wait_for(1)
    waiting = driver.submit(call("second", gpus=1, priority=5))
    driver.submit(call("plain"))
    driver.wait_for(1)
    assert driver.began == ["first", "plain"]
    assert [one.label for one in driver.pool.pools()[0].waiting] == ["second"]
    driver.let_go("first", "plain", "second")
    assert waiting.result().error is None


def test_a_call_of_several_processes_is_not_overtaken_by_small_ones(
    machine: Callable[..., Driver],
) -> None:
    driver = machine(2, 0)
    driver.submit(call("small"))
    driver.wait_for(1)
    large = driver.submit(call("large", cpus=2))
    after = driver.submit(call("after"))
    driver.let_go("small", "large", "after")
    assert large.result().slots == ("default/cpu:0", "default/cpu:1")
    assert after.result().error is None
    assert driver.began == ["small", "large", "after"]


def test_pools_do_not_wait_for_each_other(machine: Callable[..., Driver]) -> None:
    driver = machine(1, 0, "night=cpu:1")
    day = driver.submit(call("day"))
    driver.wait_for(1)
    night = driver.submit(call("night", pool="night"))
    driver.wait_for(1)
    driver.let_go("night")
    assert night.result().slots == ("night/cpu:0",)
    driver.let_go("day")
    assert day.result().slots == ("default/cpu:0",)
    nowhere = driver.submit(call("nowhere", pool="dusk")).result()
    assert nowhere.error is not None
    assert nowhere.error.code == "pool.unknown"


def test_what_waits_for_slots_that_are_excluded_is_told_so(
    machine: Callable[..., Driver],
) -> None:
    driver = machine(2, 1)
    first = driver.submit(call("first", gpus=1))
    driver.wait_for(1)
    second = driver.submit(call("second", gpus=1))
    driver.pool.exclude({"default/gpu:0": "Xid 79"})
    error = second.result().error
    assert error is not None
    assert error.code == "pool.excluded"
    assert "Xid 79" in error.message
    (gpu,) = [slot for slot in driver.pool.pools()[0].slots if slot.kind == "gpu"]
    assert (gpu.state, gpu.by, gpu.reason) == ("excluded", "first", "Xid 79")
    driver.let_go("first")
    assert first.result().error is None
    driver.pool.exclude({})
    third = driver.submit(call("third", gpus=1))
    driver.let_go("third")
    assert third.result().slots == ("default/gpu:0",)
