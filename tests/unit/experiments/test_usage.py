"""What a trial uses of its machine is sampled while it runs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from clew.base.gpus import Gpu
from clew.experiments import single, usage


def gpu(index: int, load: float | None) -> Gpu:
    return Gpu(
        index=index, uuid=f"GPU-{index}", name="A", memory_bytes=1 << 32, used_bytes=1 << 30,
        load=load,
    )  # fmt: skip


def test_of_each_visible_gpu_there_is_its_load_where_it_tells_it_and_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usage, "gpus", lambda: [gpu(0, 0.37), gpu(2, None)])
    assert usage.gpu_values() == {
        "gpu0_percent": 37.0,
        "gpu0_memory_bytes": float(1 << 30),
        "gpu2_memory_bytes": float(1 << 30),
    }


def test_processor_time_and_memory_are_those_of_the_process_and_below() -> None:
    before = usage.usage(None)
    assert set(before.values) == {"memory_bytes"}
    sum(i * i for i in range(2_000_000))
    after = usage.usage(before)
    assert after.values["cpu_percent"] > 0
    assert after.values["memory_bytes"] > 10_000_000
    assert after.busy_s > before.busy_s


def test_pauses_grow_in_a_long_training() -> None:
    assert usage.pause_s(0) == usage.FIRST_S
    assert usage.pause_s(1) == usage.EVERY_S
    assert usage.pause_s(100) == 2 * usage.EVERY_S
    assert usage.pause_s(10**6) == usage.LONGEST_S


def test_a_trial_has_samples_and_its_page_of_them(
    house: Any, inline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_S", "EVERY_S"):
        monkeypatch.setattr(usage, name, 0.001)
    enough = threading.Event()
    sampled = usage.gpu_values

    def gpu_values() -> dict[str, float]:
        enough.set()
        return sampled() | {"gpu0_percent": 50.0}

    monkeypatch.setattr(usage, "gpu_values", gpu_values)
    monkeypatch.setattr(threading, "clew_enough", enough, raising=False)
    house.write("""
        import threading

        def model(trial):
            threading.clew_enough.wait()
            trial.report(1, loss=1.0)
    """)
    result = house.search(inline, single(metric="loss", max_steps=1), {})
    detail = house.experiments(inline).detail(result.trial.id)
    assert len(detail.usage) >= 1
    assert detail.usage[0].values["gpu0_percent"] == 50.0
    assert detail.usage[0].values["memory_bytes"] > 0
    assert [one.at for one in detail.usage] == sorted(one.at for one in detail.usage)
    for _ in range(2):  # the database answers what it was asked before in another way
        assert house.experiments(inline).detail(result.trial.id) == detail
