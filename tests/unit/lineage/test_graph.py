from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.base.errors import Invalid, NotFound
from clew.base.records import Edge, Node
from clew.db import Database
from clew.lineage import Lineage
from clew.testing.postgres import database_url


@pytest.fixture
def lineage(db):
    return Lineage(db)


def node(id, kind="commit", title="", global_id="g", **detail):
    return Node(kind=kind, id=id, title=title or id, global_id=global_id, detail=detail)


def add(db, lineage, id, *sources, **more):
    with db.begin() as tx:
        lineage.add(tx, node(id, **more), [(source, "read") for source in sources])


@pytest.fixture
def diamond(db, lineage):
    """raw → clean → features → model, raw → features, weather → features."""
    add(db, lineage, "raw")
    add(db, lineage, "weather")
    add(db, lineage, "clean", "raw")
    add(db, lineage, "features", "clean", "weather", "raw")
    add(db, lineage, "model", "features")
    return lineage


def ids(nodes):
    return [node.id for node in nodes]


def test_up_leads_to_all_sources_nearest_first(diamond):
    nodes, edges = diamond.walk("model", "up")
    assert ids(nodes) == ["features", "raw", "weather", "clean"]
    assert len(edges) == 5
    assert Edge(source="raw", target="clean", label="read") in edges


def test_down_leads_to_all_that_was_made(diamond):
    nodes, edges = diamond.walk("raw", "down")
    assert ids(nodes) == ["clean", "features", "model"]
    assert {(e.source, e.target) for e in edges} == {
        ("raw", "clean"), ("raw", "features"), ("clean", "features"), ("features", "model"),
    }  # fmt: skip


def test_a_walk_is_bounded_and_its_edges_join_only_what_it_returns(diamond):
    nodes, edges = diamond.walk("model", "up", limit=2)
    assert ids(nodes) == ["features", "raw"]
    assert {(e.source, e.target) for e in edges} == {("features", "model"), ("raw", "features")}


def test_a_walk_from_nowhere_says_so(lineage):
    with pytest.raises(NotFound) as caught:
        lineage.walk("nothing", "up")
    assert caught.value.code == "lineage.unknown"


def test_a_source_that_is_not_known_yet_joins_when_it_is(db, lineage):
    add(db, lineage, "model", "late")
    assert lineage.walk("model", "up") == ([], [])
    add(db, lineage, "late")
    assert ids(lineage.walk("model", "up")[0]) == ["late"]


def test_adding_again_changes_neither_kind_nor_change_but_renews_title_and_detail(db, lineage):
    add(db, lineage, "aaaa", title="old", n=1)
    first = node("aaaa", kind="job", title="new", global_id="other")
    with db.begin() as tx:
        lineage.add(tx, first)
    assert lineage.get("aaaa") == node("aaaa", title="new", n=1)
    add(db, lineage, "aaaa", title="newer", n=2)
    assert lineage.get("aaaa") == node("aaaa", title="newer", n=2)


def test_edges_are_idempotent_and_join(db, lineage):
    for source in ("s1", "s2", "s1"):
        add(db, lineage, source)
        add(db, lineage, "target", source)
    assert len(lineage.walk("target", "up")[1]) == 2


def test_a_node_is_found_by_the_beginning_of_its_id(db, lineage):
    for id in ("abcd1", "abcd2", "abce1", "abc"):
        add(db, lineage, id)
    assert ids(lineage.find("abcd")) == ["abcd1", "abcd2"]
    assert ids(lineage.find("abce1")) == ["abce1"]
    assert lineage.find("zzzz") == []
    with pytest.raises(Invalid):
        lineage.find("abc")


def test_what_a_rolled_back_transaction_told_is_not_known(db, lineage):
    def fail():
        with db.begin() as tx:
            lineage.add(tx, node("aaaa"), [("bbbb", "read")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert lineage.get("aaaa") is None


def test_the_nodes_of_a_change_come_oldest_first(db, lineage):
    for id in ("zzzz", "mmmm", "aaaa"):
        add(db, lineage, id, global_id="g1")
    add(db, lineage, "other", global_id="g2")
    assert ids(lineage.of_change("g1")) == ["zzzz", "mmmm", "aaaa"]
    assert lineage.of_change("g3") == []


def test_a_node_may_have_thousands_of_sources(db, lineage):
    names = [f"source-{n:05}" for n in range(2500)]
    with db.begin() as tx:
        for name in names:
            lineage.add(tx, node(name))
        lineage.add(tx, node("target"), [(name, "read") for name in names])
    nodes, edges = lineage.walk("target", "up", limit=5000)
    assert ids(nodes) == names
    assert len(edges) == 2500


graphs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=graphs, start=st.integers(0, 9), direction=st.sampled_from(["up", "down"]))
def test_a_walk_finds_exactly_what_can_be_reached(tmp_path_factory, pairs, start, direction):
    db = Database.open(database_url(tmp_path_factory.mktemp("w")))
    db.create()
    lineage = Lineage(db)
    with db.begin() as tx:
        for name in range(10):
            lineage.add(tx, node(str(name)))
        for source, target in pairs:  # circles included: a walk must end all the same
            lineage.add(tx, node(str(target)), [(str(source), "read")])
    nodes, edges = lineage.walk(str(start), direction)
    step = {(t, s) if direction == "up" else (s, t) for s, t in pairs}
    reached, frontier = {start}, {start}
    while frontier:
        frontier = {b for a, b in step if a in frontier} - reached
        reached |= frontier
    assert {int(n.id) for n in nodes} == reached - {start}
    assert {(int(e.source), int(e.target)) for e in edges} == {
        (s, t) for s, t in pairs if (t if direction == "up" else s) in reached
    }
    db.close()
