"""Trees against a dict: edits, ranges, differences, sums; and one root for one content."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clew.base.errors import Conflict, Invalid, NotFound
from clew.store import EMPTY_TREE, Entry, Store, TreeSummary, digest
from clew.store.writer import Writer

Model = dict[str, Entry]


def entry(path: str, content: object = "") -> Entry:
    data = f"{content}".encode()
    return Entry(path=path, digest=digest("file", data), size_bytes=len(data))


def model_of(entries: Iterable[Entry]) -> Model:
    return {item.path: item for item in entries}


def listed(model: Model) -> list[Entry]:
    return [model[path] for path in sorted(model, key=str.encode)]


def below(model: Model, prefix: str) -> Model:
    root = prefix.rstrip("/") + "/"
    return {path: e for path, e in model.items() if path == prefix or path.startswith(root)}


def total(model: Mapping[str, Entry]) -> TreeSummary:
    return TreeSummary(files=len(model), size_bytes=sum(item.size_bytes for item in model.values()))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Writer]:
    store = Store.open(tmp_path_factory.mktemp("trees") / "store")
    return store, store.writer()


def numbered(count: int, start: int = 0) -> list[Entry]:
    return [entry(f"/data/{n % 17:02}/{n:06}.csv", n) for n in range(start, start + count)]


def test_a_tree_of_format_1_keeps_its_root(shared: tuple[Store, Writer]) -> None:
    _, writer = shared
    assert (
        writer.tree(EMPTY_TREE, [entry("/a", 1), entry("/b/c", 22)])
        == "tree:6b4e7c893b47af10daad5616ae9a9482c84f429371b0d656c8cea35115070082"
    )
    assert (
        writer.tree(EMPTY_TREE, numbered(20_000))
        == "tree:2ce897c986364431d1b241038774565b7d082904e719249f20e6c3ddf6247b04"
    )


def test_an_empty_tree_is_the_same_everywhere(store: Store) -> None:
    assert list(store.entries(EMPTY_TREE)) == []
    assert store.children(EMPTY_TREE) == []
    assert store.summary(EMPTY_TREE) == TreeSummary(files=0, size_bytes=0)
    assert store.get(EMPTY_TREE, "/a") is None
    writer = store.writer()
    assert writer.tree(EMPTY_TREE, []) == EMPTY_TREE
    tree = writer.tree(EMPTY_TREE, [entry("/a")])
    assert writer.tree(tree, [], ["/"]) == EMPTY_TREE


# edits in any order ---------------------------------------------------------------------------

_names = st.sampled_from(
    ["a", "b", "a-b", "a b", "a!", "ab", "ä", "10", "9", "z.csv", "\U0001f600"]
)
_paths = st.lists(_names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(_paths, st.integers(0, 3)), max_size=30), st.data())
def test_the_root_depends_on_content_and_not_on_history(
    shared: tuple[Store, Writer], puts: list[tuple[str, int]], data: st.DataObject
) -> None:
    _, writer = shared
    tree, model = EMPTY_TREE, Model()
    for path, content in puts:
        doomed = data.draw(st.lists(_paths, max_size=1))
        kept = {p: e for p, e in model.items() if not any(p in below(model, d) for d in doomed)}
        parents = {p for p in kept if path.startswith(p + "/")}
        if parents or any(p.startswith(path + "/") for p in kept):
            with pytest.raises(Conflict):
                writer.tree(tree, [entry(path, content)], doomed)
            continue
        tree = writer.tree(tree, [entry(path, content)], doomed)
        model = {**kept, path: entry(path, content)}
    assert tree == writer.tree(EMPTY_TREE, model.values())


@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2**32))
def test_large_trees_agree_with_a_dict(shared: tuple[Store, Writer], seed: int) -> None:
    _, writer = shared
    rng = random.Random(seed)
    tree, model = EMPTY_TREE, Model()
    for _ in range(6):
        puts = [
            entry(f"/{rng.randrange(5)}d/{rng.randrange(3000)}", rng.randrange(4))
            for _ in range(rng.choice([1, 5, 200, 1500]))
        ]
        deletes = rng.sample(sorted(model), min(len(model), rng.choice([0, 1, 300, 2000])))
        deletes += [f"/{rng.randrange(5)}d"] * (rng.random() < 0.2)
        gone = {
            path
            for doomed in deletes
            for path in (below(model, doomed) if doomed.count("/") == 1 else [doomed])
        }
        after = {p: e for p, e in model.items() if p not in gone} | model_of(puts)
        new = writer.tree(tree, puts, deletes)
        assert new == writer.tree(EMPTY_TREE, after.values())
        assert writer.tree(new, [model[p] for p in model], after.keys() - model.keys()) == tree
        tree, model = new, after


class TreeMachine(RuleBasedStateMachine):
    """One branch of trees, edited and asked at random, beside a dict."""

    store: Store
    writer: Writer

    @initialize(count=st.sampled_from([0, 3, 150, 3000]))
    def start(self, count: int) -> None:
        type(self).writer = self.store.writer()
        self.model = model_of(numbered(count))
        self.tree = self.writer.tree(EMPTY_TREE, self.model.values())
        self.before = (self.tree, dict(self.model))

    @rule(
        start=st.integers(0, 3000),
        count=st.sampled_from([1, 2, 90, 700]),
        content=st.integers(0, 2),
    )
    def put(self, start: int, count: int, content: int) -> None:
        puts = [entry(item.path, content) for item in numbered(count, start)]
        self.tree = self.writer.tree(self.tree, puts)
        self.model.update(model_of(puts))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        paths = sorted(self.model)
        first = data.draw(st.integers(0, len(paths) - 1))
        doomed = paths[first : first + data.draw(st.sampled_from([1, 40, 1000]))]
        self.tree = self.writer.tree(self.tree, [], doomed)
        for path in doomed:
            del self.model[path]

    @rule(number=st.integers(0, 16))
    def delete_directory(self, number: int) -> None:
        self.tree = self.writer.tree(self.tree, [], [f"/data/{number:02}"])
        for path in below(self.model, f"/data/{number:02}"):
            del self.model[path]

    @rule()
    def compare(self) -> None:
        self.writer.flush()
        old_tree, old = self.before
        changes = [(c.path, c.old, c.new) for c in self.store.diff(old_tree, self.tree)]
        paths = sorted(old.keys() | self.model.keys())
        assert changes == [
            (p, old.get(p), self.model.get(p)) for p in paths if old.get(p) != self.model.get(p)
        ]
        self.before = (self.tree, dict(self.model))

    @rule(number=st.integers(0, 17))
    def ask(self, number: int) -> None:
        self.writer.flush()
        directory = f"/data/{number:02}"
        inside = below(self.model, directory)
        assert list(self.store.entries(self.tree, directory)) == listed(inside)
        names = {path.split("/")[2] for path in self.model}
        children = self.store.children(self.tree, "/data")
        assert [name for name, _, _ in children] == sorted(names)
        sums = {name: summary for name, _, summary in children}
        assert sums.get(f"{number:02}", TreeSummary(files=0, size_bytes=0)) == total(inside)

    @invariant()
    def root_is_that_of_the_content(self) -> None:
        assert self.tree == self.writer.tree(EMPTY_TREE, self.model.values())


def test_a_tree_behaves_like_a_dict(tmp_path_factory: pytest.TempPathFactory) -> None:
    TreeMachine.store = Store.open(tmp_path_factory.mktemp("machine") / "store")
    case = TreeMachine.TestCase
    case.settings = settings(max_examples=20, stateful_step_count=8, deadline=None)
    case().runTest()


# questions ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(shared: tuple[Store, Writer]) -> tuple[Store, str, Model]:
    store, writer = shared
    paths = ["/a/x", "/a/y", "/a-b", "/a.txt", "/a0", "/a b/c", "/b/c/d/e", "/b/c/f", "/ä/ö"]
    model = model_of([entry(path, path) for path in paths] + numbered(5000))
    tree = writer.tree(EMPTY_TREE, model.values())
    writer.flush()
    return store, tree, model


def test_entries_come_by_the_bytes_of_their_paths(wide: tuple[Store, str, Model]) -> None:
    store, tree, model = wide
    assert list(store.entries(tree)) == listed(model)


@pytest.mark.parametrize("prefix", ["/a", "/a/", "/a/x", "/b", "/b/c", "/data/03", "/none", "/"])
def test_a_prefix_is_a_file_or_a_directory_and_not_a_beginning(
    wide: tuple[Store, str, Model], prefix: str
) -> None:
    store, tree, model = wide
    expected = below(model, prefix.rstrip("/") or "/")
    assert list(store.entries(tree, prefix)) == listed(expected)


@pytest.mark.parametrize("after", ["", "/a", "/a/x", "/data/02/000002.csv", "/data/5", "/zz"])
def test_a_listing_goes_on_behind_a_path(wide: tuple[Store, str, Model], after: str) -> None:
    store, tree, model = wide
    for prefix in ("/", "/data/02", "/a"):
        expected = [e for e in listed(below(model, prefix)) if e.path.encode() > after.encode()]
        assert list(store.entries(tree, prefix, after)) == expected


def test_every_file_is_found_and_no_other(wide: tuple[Store, str, Model]) -> None:
    store, tree, model = wide
    assert all(store.get(tree, path) == item for path, item in model.items())
    for path in ("/", "/a", "/b/c", "/zzz", "/data/00", "/data/00/000000.csv2", ""):
        assert store.get(tree, path) is None


def test_children_are_one_level_with_the_sums_below(wide: tuple[Store, str, Model]) -> None:
    store, tree, model = wide
    for directory in ("/", "/a", "/b", "/b/c", "/data", "/data/", "/none", "/a.txt"):
        base = directory.rstrip("/") + "/"
        names = sorted({p[len(base) :].split("/")[0] for p in model if p.startswith(base)})
        expected = [(n, model.get(base + n), total(below(model, base + n))) for n in names]
        assert store.children(tree, directory) == expected


def test_the_sum_of_a_tree_is_that_of_its_files(wide: tuple[Store, str, Model]) -> None:
    store, tree, model = wide
    assert store.summary(tree) == total(model)


def test_a_difference_below_a_prefix_is_the_difference_of_that_part(
    shared: tuple[Store, Writer], wide: tuple[Store, str, Model]
) -> None:
    store, tree, _ = wide
    _, writer = shared
    new = writer.tree(tree, [entry("/a", 1), entry("/data/03/new")], ["/a", "/data/05"])
    writer.flush()
    for prefix in ("/", "/a", "/a/", "/data", "/data/03", "/data/05", "/b"):
        changes = {c.path for c in store.diff(tree, new, prefix)}
        everything = {c.path for c in store.diff(tree, new)}
        whole = prefix.rstrip("/") or "/"
        root = prefix.rstrip("/") + "/"
        assert changes == {p for p in everything if p == whole or p.startswith(root)}
    assert {c.path for c in store.diff(tree, new, "/a")} == {"/a", "/a/x", "/a/y"}


# cost -----------------------------------------------------------------------------------------


class Counting:
    """Loads nodes and counts them."""

    def __init__(self, store: Store) -> None:
        self.count = 0
        self._load = store._load_node

    def __call__(self, tree: str) -> object:
        self.count += 1
        return self._load(tree)


def test_one_change_in_many_files_touches_a_few_nodes(store: Store) -> None:
    writer = store.writer()
    tree = writer.tree(EMPTY_TREE, numbered(50_000))
    writer.flush()
    writer.tree(tree, [entry("/data/03/new")])
    assert len(writer._nodes) <= 6
    assert len(writer._builder) <= 6


def test_a_difference_reads_only_what_differs(store: Store) -> None:
    writer = store.writer()
    tree = writer.tree(EMPTY_TREE, numbered(50_000))
    new = writer.tree(tree, [entry("/data/03/new")], ["/data/11/000011.csv"])
    writer.flush()
    load = store._node = Counting(store)
    assert len(list(store.diff(tree, new))) == 2
    assert load.count <= 20


def test_a_sum_of_a_directory_reads_few_nodes(store: Store) -> None:
    writer = store.writer()
    tree = writer.tree(EMPTY_TREE, numbered(50_000))
    writer.flush()
    load = store._node = Counting(store)
    assert store.summary(tree).files == 50_000
    assert load.count == 1
    assert len(store.children(tree, "/data")) == 17
    assert load.count <= 17 * 12


# rules ----------------------------------------------------------------------------------------

CLASHES = [
    ([], ["/a", "/a/b"], []),
    (["/a"], ["/a/b"], []),
    (["/a"], ["/a/b/c/d"], []),
    (["/a/b/c"], ["/a/b"], []),
    (["/a/b", "/a-b"], ["/a"], []),
    (["/a/b", "/a/c"], ["/a"], ["/a/b"]),
]


@pytest.mark.parametrize(("base", "puts", "deletes"), CLASHES)
def test_no_path_is_both_file_and_directory(
    store: Store, base: list[str], puts: list[str], deletes: list[str]
) -> None:
    writer = store.writer()
    tree = writer.tree(EMPTY_TREE, [entry(path) for path in base])
    with pytest.raises(Conflict) as refused:
        writer.tree(tree, [entry(path) for path in puts], deletes)
    assert refused.value.code == "tree.file_and_directory"


def test_a_file_gives_way_to_a_directory_in_one_edit(store: Store) -> None:
    writer = store.writer()
    tree = writer.tree(EMPTY_TREE, [entry("/a"), entry("/b/c"), entry("/b/d")])
    new = writer.tree(tree, [entry("/a/x"), entry("/b")], ["/a", "/b"])
    assert new == writer.tree(EMPTY_TREE, [entry("/a/x"), entry("/b")])


def test_deletes_come_before_puts_and_may_name_nothing(store: Store) -> None:
    writer = store.writer()
    tree = writer.tree(EMPTY_TREE, [entry("/a", 1)])
    assert writer.tree(tree, [entry("/a", 2)], ["/a", "/none", "/a/none"]) == writer.tree(
        EMPTY_TREE, [entry("/a", 2)]
    )
    assert writer.tree(tree, [], ["/none"]) == tree


def test_of_two_puts_at_one_path_the_later_counts(store: Store) -> None:
    writer = store.writer()
    both = writer.tree(EMPTY_TREE, [entry("/a", 1), entry("/a", 2)])
    assert both == writer.tree(EMPTY_TREE, [entry("/a", 2)])


@pytest.mark.parametrize(
    "path", ["", "a", "/a/", "//a", "/a/../b", "/.", "/a\n", "/\x7f", "/\ud800"]
)
def test_a_path_that_is_not_normal_is_refused(store: Store, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        store.writer().tree(EMPTY_TREE, [entry(path)])
    assert refused.value.code == "path.invalid"


def test_dots_and_odd_letters_inside_names_are_kept(store: Store) -> None:
    paths = ["/...", "/..a", "/a..", "/.hidden", "/a b/ü\U0001f600", "/\u00a0", "/\ufffe"]
    with store.writer() as writer:
        tree = writer.tree(EMPTY_TREE, [entry(path) for path in paths])
    assert {item.path for item in store.entries(tree)} == set(paths)


@pytest.mark.parametrize("name", ["tree:" + "0" * 64, "file:12", "", "file:" + "g" * 64])
def test_an_entry_must_name_a_file(store: Store, name: str) -> None:
    with pytest.raises(Invalid):
        store.writer().tree(EMPTY_TREE, [Entry(path="/a", digest=name, size_bytes=0)])


def test_only_a_tree_can_be_asked_like_one(store: Store) -> None:
    with pytest.raises(Invalid) as refused:
        store.get(digest("file", b""), "/a")
    with pytest.raises(NotFound) as missing:
        store.summary("tree:" + "0" * 64)
    assert refused.value.code == "tree.digest"
    assert missing.value.code == "object.missing"


def test_names_that_hash_badly_cannot_break_a_tree(store: Store) -> None:
    long = [entry("/" + "x" * 3000 + f"/{n}") for n in range(600)]
    with store.writer() as writer:
        tree = writer.tree(EMPTY_TREE, long)
        again = writer.tree(writer.tree(EMPTY_TREE, long[::2]), long[1::2])
    assert tree == again
    assert store.summary(tree).files == 600
