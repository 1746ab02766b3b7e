"""Objects that travel: what reading some files takes, at hand in a store that has not looked."""

import pytest

from clew.base.errors import Corrupt, NotFound
from clew.store import EMPTY_TREE, Entry, Store

SMALL = 1 << 16


def keep(store, files):
    with store.writer() as writer:
        entries = []
        for path, data in sorted(files.items()):
            digest, size = writer.put(data)
            entries.append(Entry(path=path, digest=digest, size_bytes=size))
        return writer.tree(EMPTY_TREE, entries)


def read(store, tree, path):
    return store.read(store.get(tree, path).digest)


def test_what_is_gathered_is_enough_for_a_store_that_has_nothing(store, tmp_path):
    tree = keep(store, {"/a": b"one", "/b/c": b"two", "/d": b"three"})
    other = Store.open(tmp_path / "other")
    other.lend(store.gather(tree, ["/a", "/b/c"], SMALL))
    assert read(other, tree, "/a") == b"one"
    assert read(other, tree, "/b/c") == b"two"
    with pytest.raises(NotFound, match="file:"):
        read(other, tree, "/d")
    other.lend({})
    with pytest.raises(NotFound):
        other.read(store.get(tree, "/a").digest)


def test_a_file_of_a_large_tree_brings_the_way_to_it_and_not_the_tree(store, tmp_path):
    tree = keep(store, {f"/{n:05}": b"%d" % n for n in range(5000)})
    found = store.gather(tree, ["/04321"], SMALL)
    assert 2 < len(found) < 6
    assert sum(map(len, found.values())) < SMALL
    other = Store.open(tmp_path / "other")
    other.lend(found)
    assert read(other, tree, "/04321") == b"4321"


@pytest.mark.parametrize(
    ("path", "limit"), [("/large", 1000), ("/chunks", 4 << 20), ("/none", SMALL), ("/small", 10)]
)
def test_what_is_large_or_missing_is_not_gathered(store, path, limit):
    files = {"/large": b"x" * 1001, "/chunks": bytes(3 << 20), "/small": b"x"}
    assert store.gather(keep(store, files), [path], limit) == {}


def test_many_files_are_not_gathered(store):
    files = {f"/{n}": b"x" for n in range(100)}
    assert store.gather(keep(store, files), list(files), SMALL) == {}


def test_of_an_empty_tree_there_is_nothing_to_lend(store):
    assert store.gather(EMPTY_TREE, [], SMALL) == {}


def test_what_is_damaged_is_not_lent_and_told_to_the_reader(store, tmp_path):
    tree = keep(store, {"/a": b"one" * 100})
    [pack] = (tmp_path / "store" / "packs").glob("*.pack")
    content = bytearray(pack.read_bytes())
    content[content.index(b"one")] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    anew = Store.open(tmp_path / "store")
    assert anew.gather(tree, ["/a"], SMALL) == {}
    with pytest.raises(Corrupt):
        read(anew, tree, "/a")
