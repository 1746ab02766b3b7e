"""Live windows are compared with the training reference, each row once, without storms."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from clew.base.errors import Invalid, NotFound
from clew.base.ids import new_id
from clew.db import Database
from clew.lineage import Lineage
from clew.monitoring import Around, MonitorDefinition, Monitoring, drift
from clew.monitoring.tables import windows
from clew.quality import profile
from clew.repos import Repos
from clew.store import Store
from clew.testing.postgres import database_url

LOG = "flights/late.predictions"


def live(rows: int, shift: float = 0.0, seed: int = 1) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "distance": random.normal(shift, 1, rows),
            "carrier": random.choice(["AA", "UA", "DL"], rows),
        }
    )


REFERENCE = {
    "inputs": profile(live(5000, seed=0)),
    "outputs": profile(pl.DataFrame({"label": [0, 1] * 500, "probability": [0.2, 0.8] * 500})),
}


def reference(version: str):
    if version == "unknown":
        raise NotFound("model.unknown", "no such version")
    return REFERENCE


@dataclass
class House:
    """A workspace with one monitor."""

    db: Database
    store: Store
    repos: Repos
    lineage: Lineage
    room: Monitoring

    def log(self, frame: pl.DataFrame, version: str = "v1", status: int = 200, label=None) -> str:
        rows = frame.height
        labels = [0, 1] * rows
        columns = {
            "id": [new_id() for _ in range(rows)],
            "at": [datetime.now(UTC)] * rows,
            "model_version": [version] * rows,
            "status": [status] * rows,
            **{f"in.{name}": frame[name] for name in frame.columns},
            "out.label": labels[:rows] if label is None else [label] * rows,
        }
        sink = io.BytesIO()
        pl.DataFrame(columns).write_parquet(sink)
        self.repos.create(LOG, kind="log", exist_ok=True)
        return self.repos.commit(LOG, {f"/2013-07-01/{new_id()}.parquet": sink.getvalue()}).id

    def has_drifted(self, version: str) -> bool:
        with self.db.read() as tx:
            return self.room.last_has_drifted(tx, "late", version)

    def events(self) -> list[str]:
        return [event.kind for event in self.db.events.after(0, ["drift.seen", "drift.clear"])]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    db = Database.open(database_url(tmp_path))
    store = Store.open(tmp_path / "store")
    lineage = Lineage(db)
    repos = Repos(db, store)
    room = Monitoring(db, repos, store, lineage)
    db.create()
    monitor = MonitorDefinition(
        pipeline="flights",
        endpoint="late",
        model="flights/model",
        drift=drift(0.2, window_rows=1000, min_rows=300),
        retrain=True,
    )
    with db.begin() as tx:
        room.define(tx, monitor)
    yield House(db, store, repos, lineage, room)
    db.close()


def test_a_drift_that_can_never_be_seen_is_refused():
    for wrong in ({"threshold": 0}, {"min_rows": 0}, {"min_rows": 10, "window_rows": 5}):
        with pytest.raises(Invalid, match="never be compared"):
            drift(**wrong)


def test_nothing_is_reported_before_anything_was_asked(house):
    assert house.room.tick(reference) == []


def test_rows_like_the_reference_are_clear(house):
    house.log(live(400))
    (report,) = house.room.tick(reference)
    assert not report.drifted
    assert report.action == ""
    assert [column.column for column in report.columns] == ["distance", "carrier", "out.label"]
    assert house.events() == ["drift.clear"]


def test_shifted_rows_are_drift_and_say_where(house):
    commit = house.log(live(400, shift=2.0))
    (report,) = house.room.tick(reference)
    assert report.drifted
    drifted = {column.column: column.detail for column in report.columns if column.drifted}
    assert list(drifted) == ["distance"]
    assert "→" in drifted["distance"]
    assert report.action == "retrain"
    (event,) = house.db.events.after(0, ["drift.seen"])
    assert event.subject == report.id
    assert event.global_id == report.global_id
    assert event.data["endpoint"] == "late"
    assert event.data["columns"] == ["distance"]
    kept = json.loads(house.repos.read(house.repos.commit_by_id(report.commit), "/report.json"))
    assert kept["log_commits"] == [commit]
    assert house.room.get(report.id) == report
    assert house.room.of_change(report.global_id) == [report]
    above, _ = house.lineage.walk(report.id, "up")
    assert commit in {node.id for node in above}


def test_answers_can_drift_too(house):
    house.log(live(400), label=1)
    (report,) = house.room.tick(reference)
    assert [one.column for one in report.columns if one.drifted] == ["out.label"]


def test_rows_wait_until_there_are_enough(house):
    house.log(live(200, shift=2.0))
    assert house.room.tick(reference) == []
    house.log(live(99, shift=2.0))
    assert house.room.tick(reference) == []
    house.log(live(1, shift=2.0))
    (report,) = house.room.tick(reference)
    assert report.rows == 300


def test_each_row_is_looked_at_once(house):
    house.log(live(400))
    assert len(house.room.tick(reference)) == 1
    assert house.room.tick(reference) == []
    house.log(live(400))
    (second,) = house.room.tick(reference)
    assert second.rows == 400


def test_only_the_newest_rows_of_a_large_window_are_compared(house):
    house.log(live(900, shift=5.0))
    house.log(live(1000))
    (report,) = house.room.tick(reference)
    assert report.rows == 1000
    assert not report.drifted


def test_drift_fires_once_for_a_version_until_it_was_clear(house):
    for _ in range(3):
        house.log(live(300, shift=2.0))
        house.room.tick(reference)
    assert [report.action for report in house.room.reports("late")] == ["", "", "retrain"]
    assert house.events() == ["drift.seen"]
    assert house.has_drifted("v1")
    house.log(live(300))
    house.log(live(300, shift=2.0), version="v2")
    house.room.tick(reference)
    assert [house.has_drifted(version) for version in ("v1", "v2", "v3")] == [False, True, False]
    assert sorted(house.events()) == ["drift.clear", "drift.seen", "drift.seen"]
    house.log(live(300, shift=2.0))
    house.room.tick(reference)
    assert house.events().count("drift.seen") == 3


def test_versions_are_compared_apart(house):
    house.log(live(250, shift=2.0), version="v1")
    house.log(live(300), version="v2")
    (report,) = house.room.tick(reference)
    assert (report.model_version, report.drifted) == ("v2", False)
    house.log(live(50, shift=2.0), version="v1")
    (report,) = house.room.tick(reference)
    assert (report.model_version, report.drifted, report.rows) == ("v1", True, 300)


def test_refused_requests_do_not_count(house):
    house.log(live(400, shift=2.0), status=400)
    assert house.room.tick(reference) == []


def test_rows_of_a_version_that_nobody_knows_wait(house):
    house.log(live(400), version="unknown")
    assert house.room.tick(reference) == []
    assert house.room.reports() == []


def waiting(house) -> list[tuple[str, int]]:
    with house.db.read() as tx:
        rows = tx.execute(windows.select().where(windows.c.report == "").order_by(windows.c.seq))
        return [(row.model_version, row.rows) for row in rows]


def test_the_newest_rows_of_a_version_that_nobody_knows_are_kept(house):
    for _ in range(5):
        house.log(live(400), version="unknown")
        house.room.tick(reference)
    assert waiting(house) == [("unknown", 400)] * 3, "1000 rows are compared"
    (report,) = house.room.tick(lambda _: REFERENCE)
    assert (report.rows, waiting(house)) == (1000, [])


def test_answers_of_graphs_are_not_counted(house):
    for _ in range(3):
        house.log(live(400), version="")
        house.log(live(100), version="v1")
        house.room.tick(reference)
    assert [row for row in waiting(house) if not row[0]] == []
    with house.db.begin() as tx:  # as it was counted before
        row = {"endpoint": "late", "model_version": "", "rows": 9, "report": ""}
        tx.execute(windows.insert(), [{**row, "commit": new_id()} for _ in range(3)])
    house.log(live(10), version="v1")
    house.room.tick(reference)
    assert [row for row in waiting(house) if not row[0]] == []


def test_a_column_that_is_no_longer_sent_is_drift(house):
    house.log(live(400).drop("carrier"))
    (report,) = house.room.tick(reference)
    (column,) = [one for one in report.columns if one.drifted]
    assert (column.column, column.detail) == ("carrier", "the column is missing")


def test_the_lists_of_a_matrix_model_are_its_columns(house):
    random = np.random.default_rng(0)
    matrix = pl.DataFrame({"input": [list(row) for row in random.normal(size=(400, 2))]})
    house.log(matrix)
    columns = pl.DataFrame(random.normal(size=(2000, 2)), schema=["a", "b"])
    (report,) = house.room.tick(lambda version: {"inputs": profile(columns), "outputs": None})
    assert [one.column for one in report.columns] == ["a", "b"]
    assert not report.drifted


def test_chance_alone_is_no_drift_where_rows_are_few_and_values_many(house):
    random = np.random.default_rng(3)
    names = [f"c{number}" for number in range(15)]
    seen = profile(pl.DataFrame({"carrier": random.choice(names, 3000)}))
    house.log(pl.DataFrame({"carrier": random.choice(names, 300)}))
    strict = MonitorDefinition(
        pipeline="flights", endpoint="late", drift=drift(0.001, min_rows=300)
    )
    with house.db.begin() as tx:
        house.room.define(tx, strict)
    (report,) = house.room.tick(lambda version: {"inputs": seen})
    (column,) = report.columns
    assert column.threshold > column.value > 0.001
    assert not report.drifted


def test_a_monitor_can_be_defined_anew_and_removed(house):
    with house.db.begin() as tx:
        house.room.define(tx, MonitorDefinition(pipeline="flights", endpoint="late"))
    (kept,) = house.room.list()
    assert not kept.retrain
    with house.db.begin() as tx:
        house.room.remove(tx, "late")
    assert house.room.list() == []
    with pytest.raises(NotFound, match="Nothing watches"):
        house.room.observe("late", model_version="v", rows=live(3), reference={}, commits=[])


def test_a_column_that_is_not_logged_is_not_held_against_anything(house):
    house.log(live(400).drop("carrier"))
    hidden = Around(hidden=frozenset({"carrier"}))
    (report,) = house.room.tick(reference, lambda _: hidden)
    assert [one.column for one in report.columns] == ["distance", "out.label"]
    assert not report.drifted


def test_an_answer_that_is_not_logged_is_not_held_against_anything(house):
    house.log(live(400), label=1)
    hidden = Around(hidden=frozenset({"label"}))
    (report,) = house.room.tick(reference, lambda _: hidden)
    assert [one.column for one in report.columns] == ["distance", "carrier"]


def test_a_column_that_a_part_of_a_window_does_not_have_is_left_out(house):
    house.log(live(200))
    house.log(live(200, seed=2).drop("carrier"))
    (report,) = house.room.tick(reference)
    assert [one.column for one in report.columns] == ["distance", "out.label"]
    assert not report.drifted


def sent(rows: int, shift: float = 0.0, seed: int = 1) -> pl.DataFrame:
    """What clients send where a function makes the features of it."""
    made = live(rows, shift, seed)
    return made.select(
        miles=pl.col("distance") * 0.62, carrier=pl.col("carrier").str.to_lowercase()
    )


def test_behind_a_function_rows_are_held_against_the_first_report_on_the_version(house):
    made = Around(apart=("inputs",), code="f1")
    house.log(sent(400))
    (first,) = house.room.tick(reference, lambda _: made)
    assert [one.column for one in first.columns] == ["out.label"]
    assert house.events() == ["drift.clear"]
    house.log(sent(400, seed=2))
    (second,) = house.room.tick(reference, lambda _: made)
    assert [one.column for one in second.columns] == ["miles", "carrier", "out.label"]
    assert not second.drifted
    house.log(sent(400, shift=3.0))
    (third,) = house.room.tick(reference, lambda _: made)
    assert [one.column for one in third.columns if one.drifted] == ["miles"]
    house.log(sent(400, shift=3.0), version="v2")
    (other,) = house.room.tick(reference, lambda _: made)
    assert [one.column for one in other.columns] == ["out.label"], "it begins anew"


def test_other_functions_begin_another_reference(house):
    for code in ("f1", "f2", "f2", "f1"):
        house.log(sent(400))
        house.room.tick(reference, lambda _, code=code: Around(apart=("inputs",), code=code))
    found = [len(report.columns) for report in house.room.reports("late")]
    assert found[::-1] == [1, 1, 3, 3]


def test_an_answer_that_a_function_makes_is_held_against_the_first_ones(house):
    made = Around(apart=("outputs",), code="f1")
    found = []
    for label in ("late", "late", "never"):
        house.log(live(400), label=label)
        (report,) = house.room.tick(reference, lambda _: made)
        found.append([one.column for one in report.columns if one.drifted])
    assert found == [[], [], ["out.label"]]


def test_a_version_that_learned_nothing_new_tells_no_drift_that_was_told(house):
    house.log(live(300, shift=2.0), version="v1")
    house.room.tick(reference)
    house.log(live(300, shift=2.0), version="v2")
    (report,) = house.room.tick(reference)
    assert (report.drifted, report.action) == (True, "")
    assert house.events() == ["drift.seen"]
    house.log(live(300), version="v2")
    house.log(live(300, shift=2.0), version="v2")
    house.room.tick(reference)
    house.log(live(300), version="v2")
    house.room.tick(reference)
    house.log(live(300, shift=2.0), version="v2")
    house.room.tick(reference)
    assert house.events()[-2:] == ["drift.clear", "drift.seen"], "it was over, and came again"


def test_a_version_that_learned_nothing_new_tells_of_another_column(house):
    house.log(live(300, shift=2.0), version="v1")
    house.room.tick(reference)
    house.log(live(300, shift=2.0), version="v2", label=1)
    (report,) = house.room.tick(reference)
    assert (report.action, house.events()) == ("retrain", ["drift.seen", "drift.seen"])


def test_a_version_that_learned_from_other_rows_tells_of_its_drift(house):
    others = {"v1": REFERENCE, "v2": {"inputs": profile(live(5000, shift=1.0, seed=9))}}
    house.log(live(300, shift=4.0), version="v1")
    house.room.tick(others.__getitem__)
    house.log(live(300, shift=4.0), version="v2")
    (report,) = house.room.tick(others.__getitem__)
    assert (report.drifted, report.action) == (True, "retrain")


def test_a_version_that_was_trained_for_a_drift_tells_of_it_and_trains_nothing(house):
    house.log(live(300, shift=4.0), version="v1")
    (alarm,) = house.room.tick(reference)

    def others(version):
        learned = {"global_id": alarm.global_id if version == "v2" else new_id()}
        shifts = {"v1": 0.0, "v2": 1.0, "v3": 1.1}
        inputs = profile(live(5000, shift=shifts[version], seed=9))
        return {**REFERENCE, "inputs": inputs, "training": learned}

    house.log(live(300, shift=4.0), version="v2")
    (report,) = house.room.tick(others)
    assert (report.drifted, report.action) == (True, "answered")
    events = house.db.events.after(0, ["drift.seen"])
    assert [event.data["action"] for event in events] == ["retrain", "answered"]
    assert (house.has_drifted("v1"), house.has_drifted("v2")) == (True, False)
    house.log(live(300, shift=4.0), version="v3")
    (report,) = house.room.tick(others)
    assert (report.drifted, report.action) == (True, "retrain"), "it was trained for another reason"


def test_a_version_that_was_trained_for_a_drift_is_trained_anew_for_another(house):
    house.log(live(300, shift=4.0), version="v1")
    (alarm,) = house.room.tick(reference)
    learned = {**REFERENCE, "training": {"global_id": alarm.global_id}}
    house.log(live(300, shift=4.0), version="v2", label=1)
    (report,) = house.room.tick(lambda _: learned)
    assert report.action == "retrain"
    assert house.has_drifted("v2")
    house.log(live(300), version="v2", label=1)
    house.room.tick(lambda _: learned)
    assert not house.has_drifted("v2"), "answers alone say nothing of what it is asked"


CRASH = """
import os, signal, sys
from pathlib import Path
from clew.db import Database, Tx
from clew.testing.postgres import database_url
from clew.lineage import Lineage
from clew.monitoring import Monitoring
from clew.repos import Repos
from clew.store import Store
home, left = Path(sys.argv[1]), [int(sys.argv[2])]
execute = Tx.execute
def dying(self, *arguments, **named):
    if self._writing:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return execute(self, *arguments, **named)
Tx.execute = dying
db = Database.open(database_url(home))
store = Store.open(home / "store")
room = Monitoring(db, Repos(db, store), store, Lineage(db))
import importlib.util
spec = importlib.util.spec_from_file_location("made", sys.argv[3])
made = importlib.util.module_from_spec(spec)
sys.modules["made"] = made
spec.loader.exec_module(made)
room.tick(made.reference)
"""


def test_a_crash_at_any_write_leaves_one_report_of_every_row(house, tmp_path: Path):
    house.log(live(200, shift=2.0))
    house.log(live(200, shift=2.0))
    died = True
    step = 0
    while died:
        done = subprocess.run(
            [sys.executable, "-c", CRASH, str(tmp_path), str(step), __file__],
            env=os.environ,
            check=False,
            capture_output=True,
            text=True,
        )
        died = done.returncode == -signal.SIGKILL
        assert died or done.returncode == 0, done.stderr
        step += 3
    assert step > 6
    (report,) = house.room.reports()
    assert report.rows == 400
    assert house.events() == ["drift.seen"]
    assert [one.state for one in house.repos.log("flights/late.drift")] == ["finished"]
