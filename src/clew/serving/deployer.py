"""Rows → a cluster: revisions are held there before they get traffic, and what was answered and
logged there becomes rows and commits here.

Stands in the place of a serving process: it follows the same rows and tells the same. Knows no Ray.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from clew.base.errors import ClewError, Invalid, Unavailable
from clew.base.ids import new_id
from clew.base.records import Signature
from clew.base.records.exports import ImageFile
from clew.db import Database
from clew.lineage import Lineage
from clew.serving import accounts
from clew.serving.dataplane import Route
from clew.serving.graph_model import graph_in
from clew.serving.plans import Contents, Held, Plan, PlannedArm, Report
from clew.serving.rollouts import Rollouts
from clew.serving.runtime import Runtime
from clew.serving.stats import Counts
from clew.serving.watcher import Wanted, Watcher
from clew.store import Store

SIGNATURE = "/clew/signature.json"
HOLD_S = 600.0
SILENT_S = 15.0
"""A replica that was not heard of for so long is gone."""
INTERVAL_S = 0.5
GOT_S = 86_400.0
"""So long it is remembered which files of the log have come: a replica may send one twice."""
_log = logging.getLogger("clew.serving")


class Fabric(Protocol):
    """A cluster as endpoints are laid out on it. Thread-safe; every call may wait, and raises
    Unavailable ``serving.cluster`` where the cluster is away.
    """

    def deploy(self, endpoint: str) -> None:
        """Have replicas of an endpoint running; returns when they do. Idempotent."""
        ...

    def delete(self, endpoint: str) -> None:
        """Have none. Idempotent."""
        ...

    def deployed(self) -> Collection[str]:
        """Endpoints of this workspace that have replicas."""
        ...

    def plan(self, plans: Mapping[str, Plan], trees: Collection[str]) -> None:
        """Tell replicas what they serve. Of files no other trees are needed any more."""
        ...

    def give(self, tree: str, contents: Contents) -> None:
        """Keep the files of a model version where replicas find them."""
        ...

    def hear(self, got: Collection[str]) -> tuple[str, list[Report], list[tuple[str, bytes]]]:
        """What replicas told and delivered since the last call; after some seconds also nothing.

        ``got``: names of files of the log that are safe here now. First comes what names the life
        of the post: another one has forgotten plans and files.
        """
        ...


class _Far:
    """Stands for a model that is in memory elsewhere."""

    apart = True

    def __init__(self, signature: Signature, platform: str) -> None:
        self.signature, self.platform = signature, platform

    def predict(self, data: Any, /) -> Mapping[str, Any]:  # noqa: ARG002 - it is not here
        raise Unavailable("serving.elsewhere", "This model is on the cluster.")


class Deployer:
    """Keeps a cluster as the rows say. ``url``: where its endpoints answer. Thread-safe."""

    def __init__(
        self, db: Database, store: Store, fabric: Fabric, *, url: str, spool_dir: Path
    ) -> None:
        self._db, self._store, self._fabric, self._url = db, store, fabric, url
        self._spool_dir = spool_dir
        self.process = new_id()
        self.rollouts = Rollouts(db, Lineage(db))
        self.watcher = Watcher(
            db,
            self.rollouts,
            self._nothing_here,
            process=self.process,
            publish=self._publish,
            opened=self._hold,
        )
        self.routes: dict[str, Route] = {}
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._trees: dict[str, str] = {}
        self._given: dict[str, Contents] = {}
        self._holding: dict[str, Wanted] = {}
        self._replicas: dict[str, tuple[Report, float]] = {}
        self._counts: dict[tuple[str, str], Counts] = {}
        self._changed = threading.Event()
        self._heard = threading.Condition()
        self._life = ""
        self._beat_s = 0.0
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=work.__name__.strip("_"), daemon=True)
            for work in (self._listen, self._lay_out, self._keep_books)
        ]

    def start(self) -> None:
        """Register, and lay out what is served now; returns when that has been tried."""
        with self._db.begin() as tx:
            accounts.register(tx, self.process, self._url)
        for thread in self._threads:
            thread.start()
        self.watcher.start()

    def close(self) -> None:
        """Follow no more. What is laid out goes on: a restart here is no outage there."""
        self._closed.set()
        self._changed.set()
        self.watcher.close()
        for thread in self._threads:
            thread.join()
        self.write()
        with self._db.begin() as tx:
            accounts.leave(tx, self.process)

    def gauges(self) -> dict[str, float]:
        """What there is now, by the name of the metric."""
        alive = [report for report, _ in self._alive()]
        return {
            "clew_requests_in_flight": sum(each.in_flight for each in alive),
            "clew_serving_processes": len(alive),
            "clew_unlogged_total": sum(each.unlogged for each in alive),
        }

    def replicas(self) -> dict[str, int]:
        """Endpoint → how many replicas it has now."""
        found = dict.fromkeys(self.routes, 0)
        for report, _ in self._alive():
            found[report.endpoint] = found.get(report.endpoint, 0) + 1
        return found

    def _alive(self) -> list[tuple[Report, float]]:
        with self._lock:
            since = time.monotonic() - SILENT_S
            self._replicas = {k: one for k, one in self._replicas.items() if one[1] > since}
            return list(self._replicas.values())

    # revisions ----------------------------------------------------------------------------------

    def _nothing_here(self, *_: object) -> Any:
        raise AssertionError("models are loaded on the cluster")

    def _hold(self, wanted: Wanted) -> Runtime:
        """Have every replica of an endpoint hold a revision, without traffic yet.

        Raises:
            Invalid: ``serving.graph``.
            Unavailable: ``serving.cluster``; ``serving.load`` with what a replica says of it.
        """
        identity = wanted.identity
        if graph_in(self._store, wanted.tree) is not None:
            raise Invalid(
                "serving.graph",
                f"{identity.endpoint} is a graph, and graphs are not served on a cluster.",
                hint="Serve it on a machine: leave out --serving.",
            )
        with self._lock:
            self._trees[identity.revision] = wanted.tree
            self._holding[identity.revision] = wanted
        try:
            contents = self._give(wanted.tree)
            self._tell()
            self._fabric.deploy(identity.endpoint)
            held = self._wait_held(identity.endpoint, identity.revision)
        except BaseException:
            with self._lock:
                self._holding.pop(identity.revision, None)
            self._changed.set()
            raise
        signature = held.signature or msgspec.json.decode(contents.data[SIGNATURE], type=Signature)
        runtime = Runtime(identity, _Far(signature, held.platform))
        runtime.outputs = list(held.outputs)
        return runtime

    def _give(self, tree: str) -> Contents:
        with self._lock:
            known = self._given.get(tree)
        if known is not None:
            return known
        data = {one.path: self._store.read(one.digest) for one in self._store.entries(tree)}
        files = tuple(
            ImageFile(path=path, sha256=hashlib.sha256(each).hexdigest(), size_bytes=len(each))
            for path, each in sorted(data.items())
        )
        contents = Contents(files=files, data=data)
        self._fabric.give(tree, contents)
        with self._lock:
            self._given[tree] = contents
        return contents

    def _wait_held(self, endpoint: str, revision: str) -> Held:
        deadline = time.monotonic() + HOLD_S
        while time.monotonic() < deadline and not self._closed.is_set():
            told = [each for each, _ in self._alive() if each.endpoint == endpoint]
            held = [each.held.get(revision) for each in told]
            if wrong := next((each for each in held if each and each.error), None):
                raise Unavailable("serving.load", wrong.error, hint="Deploy another version.")
            if held and all(held) and held[0] is not None:
                return held[0]
            with self._heard:
                self._heard.wait(1.0)
        raise Unavailable(
            "serving.load",
            f"No replica of {endpoint} held it within {HOLD_S:g} s.",
            hint="See `ray status` and `serve status`: is there room for another replica?",
        )

    # plans --------------------------------------------------------------------------------------

    def _publish(self, routes: dict[str, Route]) -> None:
        self.routes = routes
        self._changed.set()

    def _lay_out(self) -> None:
        """Tell the cluster what has changed, and delete what is served no more."""
        while not self._closed.is_set():
            self._changed.wait()
            self._changed.clear()
            try:
                plans = self._tell()
                for endpoint in set(self._fabric.deployed()) - plans.keys():
                    self._fabric.delete(endpoint)
            except ClewError as error:
                _log.error("the cluster cannot be told: %s", error)
                self._closed.wait(1.0)
                self._changed.set()

    def _tell(self) -> dict[str, Plan]:
        with self._telling:
            with self._lock:
                plans = self._plans()
                trees = {arm.tree for plan in plans.values() for arm in plan.held}
                self._given = {name: one for name, one in self._given.items() if name in trees}
            self._fabric.plan(plans, trees)
            return plans

    def _plans(self) -> dict[str, Plan]:
        """What is served, and beside it what is about to be. The lock is held."""
        plans = {}
        routes = self.routes
        for endpoint, route in routes.items():
            arms = [arm for arm in route.arms if not isinstance(arm, tuple)]
            known = {arm.name for arm in arms} | (
                {route.shadow.identity.revision} if route.shadow else set()
            )
            self._holding = {k: one for k, one in self._holding.items() if k not in known}
            coming = [
                PlannedArm(identity=one.identity, tree=one.tree, role=one.state, weight=0)
                for one in self._holding.values()
                if one.identity.endpoint == endpoint
            ]
            there = [self._arm(arm.value, arm.role, arm.weight) for arm in arms]
            shadow = route.shadow
            if not there and not coming and shadow is None:
                continue
            plans[endpoint] = Plan(
                endpoint=endpoint,
                arms=(*there, *coming),
                shadow=self._arm(shadow, "shadow", 0) if shadow else None,
                shadow_share=route.shadow_share,
                log=route.log,
                redact=tuple(sorted(route.redact)),
                max_queue=route.max_queue,
            )
        return plans

    def _arm(self, runtime: Runtime, role: str, weight: float) -> PlannedArm:
        return PlannedArm(
            identity=runtime.identity,
            tree=self._trees[runtime.identity.revision],
            role=role,
            weight=weight,
            watched=runtime.watch is not None,
        )

    # what comes back ----------------------------------------------------------------------------

    def _listen(self) -> None:
        got: list[str] = []
        while not self._closed.is_set():
            try:
                life, reports, files = self._fabric.hear(got)
                if self._life and life != self._life:
                    self._again()
                self._life = life
                self._take(reports)
                got = [name for name, data in files if self._keep(name, data)]
            except ClewError as error:
                _log.error("the cluster is not heard: %s", error)
                self._closed.wait(1.0)

    def _again(self) -> None:
        """The post has forgotten everything: its machine was lost."""
        with self._lock:
            given = dict(self._given)
        for tree, contents in given.items():
            self._fabric.give(tree, contents)
        self._tell()

    def _take(self, reports: Collection[Report]) -> None:
        with self._lock:
            for report in reports:
                self._replicas[report.replica] = (report, time.monotonic())
                for revision, counts in report.counts.items():
                    key = report.endpoint, revision
                    more = msgspec.msgpack.decode(counts, type=Counts, strict=False)
                    self._counts[key] = self._counts.get(key, Counts()) + more
        with self._heard:
            self._heard.notify_all()

    def _keep(self, name: str, data: bytes) -> bool:
        """A file of the log is put where the collector finds it, once."""
        marks = self._spool_dir / "received"
        marks.mkdir(parents=True, exist_ok=True)
        mark = marks / name
        if not mark.exists():
            new = self._spool_dir / f"{name}.new"
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.rename(self._spool_dir / f"{name}.log")
            mark.touch()
            old = time.time() - GOT_S
            for one in marks.iterdir():
                if one.stat().st_mtime < old:
                    one.unlink(missing_ok=True)
        return True

    def _keep_books(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            try:
                self.write()
                self.rollouts.tick()
            except ClewError as error:
                _log.error("the counts cannot be written: %s", error)

    def write(self) -> None:
        """Write what was heard until now as rows. Raises Unavailable; then it is kept."""
        with self._lock:
            counts, self._counts = self._counts, {}
        if not counts and time.monotonic() - self._beat_s < accounts.BEAT_S:
            return
        try:
            with self._db.begin() as tx:
                accounts.beat(tx, self.process, self.gauges())
                accounts.add_counts(tx, counts)
        except BaseException:
            with self._lock:
                for key, each in counts.items():
                    self._counts[key] = self._counts.get(key, Counts()) + each
            raise
        self._beat_s = time.monotonic()
