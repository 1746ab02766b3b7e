"""A replica on a cluster: it serves what it is told, logs before it answers, and reports."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clew.base.errors import ClewError
from clew.serving.clusters import cluster_of
from clew.serving.plans import Contents, Plan, PlannedArm, Report
from clew.serving.replica import Seat
from clew.serving.runtime import Identity
from clew.serving.spool import records
from clew.serving.stats import Counts

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [3]}]})


class Hall:
    """The way to the workspace, in this process."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.plans: tuple[int, Plan | None] = (0, None)
        self.changed = threading.Condition()
        self.reports: list[Report] = []
        self.files: dict[str, bytes] = {}

    def tell(self, plan: Plan) -> None:
        with self.changed:
            self.plans = (self.plans[0] + 1, plan)
            self.changed.notify_all()

    def follow(self, endpoint: str, seen: int) -> tuple[int, Plan | None]:
        with self.changed:
            self.changed.wait_for(lambda: self.plans[0] != seen, 0.2)
            return self.plans

    def fetch(self, tree: str) -> Contents:
        if tree == "broken":
            data = {path: b"!" + content for path, content in self.contents.data.items()}
            return msgspec.structs.replace(self.contents, data=data)
        return self.contents

    def report(self, report: Report) -> None:
        with self.changed:
            self.reports.append(report)
            self.changed.notify_all()

    def deliver(self, name: str, data: bytes) -> bool:
        self.files[name] = data
        return True


def plan(*arms: tuple[str, str, float]) -> Plan:
    """Revisions with their tree and share."""
    return Plan(
        endpoint="e",
        arms=tuple(
            PlannedArm(
                identity=Identity(
                    endpoint="e", revision=name, number=1, model_version=name, version=name,
                    global_id="g",
                ),
                tree=tree, role="live", weight=weight,
            )
            for name, tree, weight in arms
        ),
    )  # fmt: skip


@pytest.fixture
def hall(shop: Any) -> Hall:
    told = shop.export_image("late_shop").manifest
    data = {one.path: shop.read(one.address) for one in told.files}
    return Hall(Contents(files=told.files, data=data))


def test_a_replica_follows_its_plan_logs_and_counts(hall: Hall, tmp_path: Path) -> None:
    hall.tell(plan(("one", "tree", 100)))
    answered: list[str] = []

    async def ask(seat: Seat, token: str = "word") -> tuple[int, dict[str, str]]:
        headers = {b"authorization": f"Bearer {token}".encode()}
        status, told, _ = await seat.answer("POST", b"/v2/models/e/infer", headers, BODY.encode())
        if status == 200:
            answered.append(told["clew-prediction-id"])
        return status, told

    async def until(holds: Any) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.01)

    async def run() -> None:
        seat = Seat(
            hall, name="r", endpoint="e", spool=tmp_path, home="http://home", version="1",
            token_digest=hashlib.sha256(b"word").hexdigest(), limit_bytes=1 << 20,
        )  # fmt: skip
        await asyncio.to_thread(seat.start)
        await asyncio.sleep(0)
        status, told = await ask(seat)
        assert (status, told["clew-revision"]) == (200, "one")
        assert "clew-logged" not in told
        assert (await ask(seat, "wrong"))[0] == 401
        hall.tell(plan(("one", "tree", 0), ("two", "tree", 100), ("bad", "broken", 0)))
        await until(lambda: hall.reports and "bad" in hall.reports[-1].held)
        assert (await ask(seat))[1]["clew-revision"] == "two"
        held = hall.reports[-1].held
        assert (held["one"].error, held["two"].error) == ("", "")
        assert "its bytes are others" in held["bad"].error
        await asyncio.to_thread(seat.close)

    asyncio.run(run())
    logged = [one for data in hall.files.values() for one, _ in records(data, 0)]
    assert [one.id for one in sorted(logged, key=lambda one: one.id)] == sorted(answered)
    assert not list(tmp_path.glob("*.log"))
    counted: dict[str, int] = {}
    for report in hall.reports:
        for name, counts in report.counts.items():
            more = msgspec.msgpack.decode(counts, type=Counts, strict=False).requests
            counted[name] = counted.get(name, 0) + more
    assert counted == {"one": 1, "two": 1}


def test_a_setting_says_where_endpoints_are_served() -> None:
    found = cluster_of("ray?min=2&max=8&target=4", "ray://head:10001")
    assert (found.address, found.min, found.max, found.target) == ("ray://head:10001", 2, 8, 4.0)
    assert found.url == "http://127.0.0.1:8000"
    open_to_all = cluster_of("ray+gcs://head:6379?host=0.0.0.0&port=9000", token="word")
    assert (open_to_all.address, open_to_all.url) == ("head:6379", "http://head:9000")
    for text, compute, code in (
        ("ray", "", "serving.address"),
        ("ray?min=3&max=2", "ray://head:10001", "serving.address"),
        ("ray?size=3", "ray://head:10001", "serving.address"),
        ("http://head", "", "serving.address"),
        ("ray?host=0.0.0.0", "ray://head:10001", "server.no_auth"),
    ):
        with pytest.raises(ClewError) as refused:
            cluster_of(text, compute)
        assert refused.value.code == code, text
