"""A cluster is kept as the rows say: over a restart, a full disk, and whatever it delivers."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import msgspec
import pytest

from clew.authoring.graphs import ensemble, graph_of, node, sequence
from clew.base.errors import Unavailable
from clew.base.ids import new_id
from clew.base.records import Signature
from clew.base.records.graphs import GRAPH, Graph
from clew.serving.deployer import Deployer
from clew.serving.desk import Desk
from clew.serving.plans import Held, Report
from clew.serving.ray_serve import Post
from clew.serving.spool import Spool, segments
from clew.serving.stats import Counts

SIGNATURE = Signature(frame="numpy", inputs=(), width=3, task="regression")


class Cluster:
    """A cluster that outlives its deployers: an endpoint that is deployed has a replica, which
    holds what it is planned to and has the files of.
    """

    def __init__(self):
        self.life, self.up, self.plans, self.trees = new_id(), set(), {}, set()
        self.told, self.deleted, self.got = [], [], set()
        self.files, self.counts = {}, {}
        self.on_give = lambda: None
        self.changed = threading.Condition()

    def deploy(self, endpoint):
        self._change(lambda: self.up.add(endpoint))

    def delete(self, endpoint):
        self.deleted.append(endpoint)
        self._change(lambda: self.up.discard(endpoint))

    def deployed(self):
        return set(self.up)

    def plan(self, plans, trees):
        def change():
            self.plans, self.trees = dict(plans), self.trees & set(trees)
            self.told.append(self.plans)

        self._change(change)

    def give(self, tree, _):
        self.on_give()
        self._change(lambda: self.trees.add(tree))

    def hear(self, got):
        with self.changed:
            self.got |= set(got)
            for name in got:
                self.files.pop(name, None)
            self.changed.notify_all()
            self.changed.wait(0.02)
            return self.life, [self._report(each) for each in self.up], list(self.files.items())

    def _report(self, endpoint):
        arms = self.plans[endpoint].held if endpoint in self.plans else ()
        held = Held(platform="fake", signature=SIGNATURE)
        return Report(
            replica=f"of-{endpoint}",
            endpoint=endpoint,
            held={arm.identity.revision: held for arm in arms if arm.tree in self.trees},
            in_flight=0,
            unlogged=0,
            counts=self.counts.pop(endpoint, {}),
        )

    def _change(self, act):
        with self.changed:
            act()
            self.changed.notify_all()

    def until(self, holds):
        with self.changed:
            assert self.changed.wait_for(holds, 60), "it did not come to pass"


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def deployed(workspace, cluster):
    @contextmanager
    def made():
        deployer = Deployer(
            workspace.db, workspace.store, cluster, url="http://x", spool_dir=workspace.spool
        )
        deployer.start()
        try:
            yield deployer
        finally:
            deployer.close()

    return made


def with_two(workspace, laws, cluster, deployed):
    """Two endpoints have answered on the cluster, and the server ends; their revisions."""
    found = []
    for name in ("a", "b"):
        workspace.endpoint(name)
        found.append(workspace.deploy(laws.matrix(), name, version="1"))
    with deployed():
        workspace.wait(lambda: all(workspace.state(each) == "live" for each in found))
        cluster.until(
            lambda: (
                [arm.weight for plan in cluster.plans.values() for arm in plan.arms] == [100, 100]
            )
        )
        for name, each in zip(("a", "b"), found, strict=True):
            cluster.counts[name] = {each.id: msgspec.msgpack.encode(Counts(requests=1))}
        workspace.wait(
            lambda: all(workspace.serving.endpoint(name).requests == 1 for name in ("a", "b"))
        )
    return found


def test_a_restart_of_the_server_changes_nothing_on_the_cluster(workspace, laws, cluster, deployed):
    with_two(workspace, laws, cluster, deployed)
    before, trees = dict(cluster.plans), set(cluster.trees)
    cluster.told.clear()
    cluster.deleted.clear()
    first = threading.Event()

    def slowly():  # reading the files of a model takes its time
        if not first.is_set():
            first.set()
            threading.Event().wait(0.3)

    cluster.on_give = slowly
    with deployed() as deployer:
        cluster.until(lambda: len(cluster.told) > 2)
        assert all(route.ready for route in deployer.routes.values())
    assert cluster.deleted == []
    assert all(told == before for told in cluster.told)
    assert cluster.trees == trees
    assert cluster.up == {"a", "b"}


def test_what_cannot_be_held_after_a_restart_is_served_as_it_was(
    workspace, laws, cluster, deployed
):
    with_two(workspace, laws, cluster, deployed)
    before = dict(cluster.plans)

    def away():
        raise Unavailable("serving.cluster", "It is not there.")

    cluster.on_give = away
    told = len(cluster.told)
    with deployed():
        cluster.until(lambda: len(cluster.told) > told)
    assert cluster.deleted == []
    assert cluster.plans == before


def test_what_was_unloaded_is_deleted_and_comes_back_when_it_is_loaded(
    workspace, laws, cluster, deployed
):
    with_two(workspace, laws, cluster, deployed)
    with deployed() as deployer:
        desk = Desk(
            workspace.db,
            process=deployer.process,
            write=deployer.write,
            gauges=deployer.gauges,
            wake=deployer.watcher.wake_now,
        )
        desk.unload("a")
        cluster.until(lambda: cluster.up == {"b"} and set(cluster.plans) == {"b"})
        desk.load("a")
        cluster.until(lambda: cluster.up == {"a", "b"})
        assert cluster.plans["a"].arms[0].weight == 100
        desk.close()


def test_a_post_that_is_started_anew_is_told_everything_again(workspace, laws, cluster, deployed):
    with_two(workspace, laws, cluster, deployed)
    with deployed():
        before, trees = dict(cluster.plans), set(cluster.trees)

        def lost():
            cluster.life, cluster.plans, cluster.trees = new_id(), {}, set()

        cluster._change(lost)
        cluster.until(lambda: (cluster.plans, cluster.trees) == (before, trees))


def segment():
    return f"{new_id()}-00000001"


def test_a_full_disk_costs_no_file_of_the_log_and_the_cluster_is_heard(
    workspace, cluster, deployed
):
    workspace.spool.mkdir()
    full = workspace.spool / "received"
    full.touch()  # nothing can be written below it
    name = segment()
    cluster.files[name] = b"records"
    with deployed() as deployer:
        cluster.until(lambda: not deployer._keep(name, b"records"))
        assert not cluster.got
        assert all(thread.is_alive() for thread in deployer._threads)
        full.unlink()
        cluster.until(lambda: name in cluster.got)
    assert (workspace.spool / f"{name}.log").read_bytes() == b"records"


def test_a_file_is_kept_once_and_only_if_a_spool_has_named_it(workspace, cluster, tmp_path):
    deployer = Deployer(
        workspace.db, workspace.store, cluster, url="http://x", spool_dir=workspace.spool
    )
    spool = Spool(tmp_path / "replica")
    spool.append([b"records"])
    spool.close()
    (found,) = segments(tmp_path / "replica")
    kept = workspace.spool / f"{found.name}.log"
    assert deployer._keep(found.name, b"records")
    assert kept.read_bytes() == b"records"
    kept.unlink()  # the collector has it
    assert deployer._keep(found.name, b"records")
    assert not kept.exists()
    before = set(workspace.home.rglob("*"))
    for name in ("../escaped", f"{workspace.home}/escaped", "received/x", "", "a-00000001"):
        assert deployer._keep(name, b"evil"), "it is not asked for again"
    assert set(workspace.home.rglob("*")) == before


def test_counts_that_cannot_be_read_cost_no_others(workspace, laws, cluster, deployed):
    live, _ = with_two(workspace, laws, cluster, deployed)
    good = msgspec.msgpack.encode(Counts(requests=3))
    with deployed():
        cluster.counts["a"] = {"x": msgspec.msgpack.encode({"requests": "many"}), live.id: good}
        workspace.wait(lambda: workspace.serving.endpoint("a").requests == 4)


def test_while_the_workspace_is_away_reports_take_no_more_room():
    def report(requests, in_flight):
        counts = {"v": msgspec.msgpack.encode(Counts(requests=requests, latency_s=0.5))}
        return msgspec.msgpack.encode(
            Report(replica="r", endpoint="e", held={}, in_flight=in_flight, unlogged=0,
                   counts=counts)
        )  # fmt: skip

    async def heard():
        post = Post()
        for turn in range(100):
            await post.report("r", report(2, turn))
        await post.report("s", report(7, 0))
        return (await post.hear([]))[1]

    found = [msgspec.msgpack.decode(each, type=Report) for each in asyncio.run(heard())]
    counted = [msgspec.msgpack.decode(each.counts["v"], type=Counts) for each in found]
    assert [each.requests for each in counted] == [200, 7]
    assert counted[0].latency_s == pytest.approx(50)
    assert found[0].in_flight == 99  # what is now is of the last one


def test_replicas_of_a_graph_hold_what_it_asks_and_count_it_as_theirs(
    workspace, laws, cluster, deployed
):
    for name in ("a", "b", "inner", "g"):
        workspace.endpoint(name)
    found = {name: workspace.deploy(laws.matrix(), name, version="1") for name in ("a", "b")}
    for name, written in (
        ("inner", sequence("b", node("b", name="again"))),
        ("g", ensemble("a", "inner")),
    ):
        root, _ = graph_of(name, written)
        files = {GRAPH: msgspec.json.encode(Graph(code="c", root=root))}
        commit = workspace.repos.commit("p/model", files, replace=True)
        found[name] = workspace.serving.deploy(
            name, commit=commit.id, tree=commit.tree, signature=SIGNATURE, model_version=new_id(),
            version="1", global_id=new_id(), reason="a test",
        )  # fmt: skip
    with deployed():
        cluster.until(
            lambda: (
                {arm.identity.revision for arm in cluster.plans["g"].held}
                == {each.id for each in found.values()}
                if "g" in cluster.plans
                else False
            )
        )
        assert {one.endpoint for one in cluster.plans["g"].nodes} == {"a", "inner", "b"}
        assert {one.endpoint for one in cluster.plans["inner"].nodes} == {"b"}
        assert cluster.plans["a"].nodes == ()
        workspace.wait(lambda: all(workspace.state(each) == "live" for each in found.values()))
        cluster.counts["g"] = {found["b"].id: msgspec.msgpack.encode(Counts(requests=2))}
        workspace.wait(lambda: workspace.serving.endpoint("b").requests == 2)
        assert workspace.serving.endpoint("g").requests == 0
