"""What a trial uses of its machine is sampled while it runs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from clew.experiments import single, usage

SAID = "0, 37, 1024\n1, [N/A], 12\n2, 0, 0\n"


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, {f"gpu{n}_memory_bytes" for n in range(3)} | {"gpu0_percent", "gpu2_percent"}),
        ("2", {"gpu2_percent", "gpu2_memory_bytes"}),
        ("0,1", {"gpu0_percent", "gpu0_memory_bytes", "gpu1_memory_bytes"}),
        ("", set()),
    ],
)
def test_of_gpus_the_visible_ones_count(visible: str | None, names: set[str]) -> None:
    found = usage.read_gpus(SAID, visible)
    assert set(found) == names
    assert found.get("gpu0_memory_bytes", 1 << 30) == 1 << 30
    assert found.get("gpu0_percent", 37) == 37


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
    sampled = usage.gpus

    def gpus() -> dict[str, float]:
        enough.set()
        return sampled() | {"gpu0_percent": 50.0}

    monkeypatch.setattr(usage, "gpus", gpus)
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
