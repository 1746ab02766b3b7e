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
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from clew.base.errors import Unavailable
from clew.base.ids import new_id
from clew.base.records import Signature
from clew.base.records.exports import ImageFile
from clew.base.records.graphs import GRAPH, Graph
from clew.db import Database
from clew.lineage import Lineage
from clew.serving import accounts
from clew.serving.dataplane import Route
from clew.serving.graph_model import graph_in
from clew.serving.plans import Contents, Held, Plan, PlannedArm, Report
from clew.serving.recording import SHADOW
from clew.serving.rollouts import Rollouts
from clew.serving.runtime import Runtime
from clew.serving.spool import is_name
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
        self._given: dict[str, Contents] = {}
        self._failed: set[str] = set()
        self._nodes: dict[str, set[str]] = {}
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
        hear, lay_out, keep_books = self._threads
        hear.start()
        keep_books.start()
        self.watcher.start()
        lay_out.start()  # what the last life left is served until it is known what is wanted

    def close(self) -> None:
        """Follow no more. What is laid out goes on: a restart here is no outage there."""
        self._closed.set()
        self._changed.set()
        self.watcher.close()
        for thread in self._threads:
            if thread.ident is not None:
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
            Unavailable: ``serving.cluster``; ``serving.load`` with what a replica says of it; for a
                graph ``model.distribution``.
            Corrupt: ``processing.code`` for a graph.
        """
        identity = wanted.identity
        graph = graph_in(self._store, wanted.tree)
        with self._lock:
            self._failed.discard(identity.revision)
        try:
            contents = self._give(wanted.tree)
            if graph is not None:  # a replica of it waits for the files of all that it asks
                for each in self._asked_by(identity.endpoint, self.watcher.wanted()):
                    self._give(each.tree)
            self._tell()
            self._fabric.deploy(identity.endpoint)
            held = self._wait_held(identity.endpoint, identity.revision)
        except BaseException:
            with self._lock:
                self._failed.add(identity.revision)
            self._changed.set()
            raise
        if graph is not None:
            return Runtime(identity, graph)
        signature = held.signature or msgspec.json.decode(contents.data[SIGNATURE], type=Signature)
        runtime = Runtime(identity, _Far(signature, held.platform))
        runtime.outputs = list(held.outputs)
        return runtime

    def _give(self, tree: str) -> Contents:
        with self._telling:
            known = self._given.get(tree)
        if known is not None:
            return known
        data = {one.path: self._store.read(one.digest) for one in self._store.entries(tree)}
        files = tuple(
            ImageFile(path=path, sha256=hashlib.sha256(each).hexdigest(), size_bytes=len(each))
            for path, each in sorted(data.items())
        )
        contents = Contents(files=files, data=data)
        with self._telling:  # else a plan that was made before could take it away again
            self._fabric.give(tree, contents)
            self._given[tree] = contents
        return contents

    def _wait_held(self, endpoint: str, revision: str) -> Held:
        deadline = time.monotonic() + HOLD_S
        while time.monotonic() < deadline and not self._closed.is_set():
            if revision not in {each.identity.revision for each in self.watcher.wanted()}:
                raise Unavailable("serving.load", f"{endpoint} does not want it any more.")
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
                there = self._fabric.deployed()  # first: what comes meanwhile is not to be deleted
                self._tell()
                for endpoint in there:
                    if endpoint not in self._endpoints():
                        self._fabric.delete(endpoint)
            except Exception as error:  # noqa: BLE001 - this thread goes on; it is tried again
                _log.error("the cluster cannot be told: %s", error)
                self._closed.wait(1.0)
                self._changed.set()

    def _endpoints(self) -> set[str]:
        """Endpoints that are wanted, whatever of them is held yet."""
        return {each.identity.endpoint for each in self.watcher.wanted()}

    def _tell(self) -> None:
        with self._telling:
            plans = self._plans()
            trees = {arm.tree for plan in plans.values() for arm in plan.held}
            self._given = {name: one for name, one in self._given.items() if name in trees}
            self._fabric.plan(plans, trees)

    def _plans(self) -> dict[str, Plan]:
        """What the rows want, also what is not held yet: so the first plans after a restart are
        the last ones before it, and replicas go on with what they have.
        """
        wanted = self.watcher.wanted()
        routes = self.routes  # read later, so it has what is wanted
        with self._lock:
            self._failed &= {each.identity.revision for each in wanted}
            failed = set(self._failed)
        by_endpoint: dict[str, list[Wanted]] = {}
        for each in wanted:
            gets = each.traffic > 0 or each.state == SHADOW
            if gets or each.identity.revision not in failed:
                by_endpoint.setdefault(each.identity.endpoint, []).append(each)
        # a replica waits for files that are not there: what needs them is last
        for of_endpoint in by_endpoint.values():
            of_endpoint.sort(key=lambda each: each.tree not in self._given)
        plans = {
            name: _plan(routes[name], of_endpoint)
            for name, of_endpoint in by_endpoint.items()
            if name in routes
        }
        nodes: dict[str, list[str]] = {}
        for name in plans:
            asked = dict.fromkeys(each.identity.endpoint for each in self._asked_by(name, wanted))
            nodes[name] = [node for node in asked if node in plans]
        return {
            name: replace(plan, nodes=tuple(plans[node] for node in nodes[name]))
            for name, plan in plans.items()
        }

    def _asked_by(self, endpoint: str, wanted: Sequence[Wanted]) -> list[Wanted]:
        """What is wanted of the endpoints that a graph asks, and that those ask that are graphs."""
        found: dict[str, Wanted] = {}
        seen, left = {endpoint}, [endpoint]
        while left:
            name = left.pop()
            for each in wanted:
                if each.identity.endpoint == name:
                    if name != endpoint:
                        found[each.identity.revision] = each
                    new = self._nodes_in(each.tree) - seen
                    seen |= new
                    left += sorted(new)
        return list(found.values())

    def _nodes_in(self, tree: str) -> set[str]:
        """The endpoints that the graph in a tree asks; none of a model."""
        known = self._nodes.get(tree)
        if known is None:
            entry = self._store.get(tree, GRAPH)
            graph = entry and msgspec.json.decode(self._store.read(entry.digest), type=Graph)
            known = self._nodes[tree] = set(graph.endpoints) if graph else set()
        return known

    # what comes back ----------------------------------------------------------------------------

    def _listen(self) -> None:
        got: list[str] = []
        while not self._closed.is_set():
            try:
                life, reports, files = self._fabric.hear(got)
                got = []
                if self._life and life != self._life:
                    self._again()
                self._life = life
                self._take(reports)
                got = [name for name, data in files if self._keep(name, data)]
                if len(got) < len(files):
                    self._closed.wait(1.0)  # they are offered again at once
            except Exception as error:  # noqa: BLE001 - nobody else hears the cluster
                _log.error("the cluster is not heard: %s", error)
                self._closed.wait(1.0)

    def _again(self) -> None:
        """The post has forgotten everything: its machine was lost."""
        with self._telling:
            for tree, contents in self._given.items():
                self._fabric.give(tree, contents)
        if self.routes:  # else the rows have not been read
            self._tell()

    def _take(self, reports: Collection[Report]) -> None:
        makers = {each.identity.revision: each.identity.endpoint for each in self.watcher.wanted()}
        with self._lock:
            for report in reports:
                self._replicas[report.replica] = (report, time.monotonic())
                for revision, counts in report.counts.items():
                    key = makers.get(revision, report.endpoint), revision  # a graph's: of its nodes
                    try:
                        more = msgspec.msgpack.decode(counts, type=Counts, strict=False)
                    except msgspec.MsgspecError as error:
                        _log.error("counts of %s cannot be read: %s", report.endpoint, error)
                    else:
                        self._counts[key] = self._counts.get(key, Counts()) + more
        with self._heard:
            self._heard.notify_all()

    def _keep(self, name: str, data: bytes) -> bool:
        """A file of the log is put where the collector finds it, once; whether it need not come
        again. What no spool has named is nobody's log.
        """
        if not is_name(name):
            _log.error("a file of the log is dropped: no spool has named it %.100r", name)
            return True
        try:
            self._put(name, data)
        except OSError as error:
            _log.error("a file of the log cannot be kept; it is asked for again: %s", error)
            return False
        return True

    def _put(self, name: str, data: bytes) -> None:
        marks = self._spool_dir / "received"
        marks.mkdir(parents=True, exist_ok=True)
        mark, due = marks / name, marks / f"{name}.due"
        if mark.exists():
            return
        due.touch()  # before the file: a disk may have room for one of them
        new = self._spool_dir / f"{name}.new"
        try:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        new.rename(self._spool_dir / f"{name}.log")
        due.rename(mark)
        old = time.time() - GOT_S
        for one in marks.iterdir():
            if one.stat().st_mtime < old:
                one.unlink(missing_ok=True)

    def _keep_books(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            try:
                self.write()
                self.rollouts.tick()
            except Exception as error:  # noqa: BLE001 - this thread goes on; it is tried again
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


def _plan(route: Route, wanted: Collection[Wanted]) -> Plan:
    """An endpoint's plan, as the watcher makes its route once all of it is held."""
    shadows = [each for each in wanted if each.state == SHADOW]
    arms = [each for each in wanted if each.state != SHADOW]
    compared = bool(shadows) or sum(each.traffic > 0 for each in arms) > 1
    return Plan(
        endpoint=route.name,
        arms=tuple(_arm(each, watched=compared and each.traffic > 0) for each in arms),
        shadows=tuple(_arm(each, watched=True) for each in shadows),
        log=route.log,
        redact=tuple(sorted(route.redact)),
        max_queue=route.max_queue,
    )


def _arm(wanted: Wanted, *, watched: bool) -> PlannedArm:
    return PlannedArm(
        identity=wanted.identity,
        tree=wanted.tree,
        role=wanted.state,
        weight=0 if wanted.state == SHADOW else wanted.traffic,
        watched=watched,
        copied=wanted.copied,
    )
