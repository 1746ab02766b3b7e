"""A tree that only grows at its end keeps all that it held."""

from clew.store import EMPTY_TREE, Entry, Store


def test_a_path_behind_all_others_is_added_and_nothing_goes(tmp_path):
    store, tree, paths = Store.open(tmp_path), EMPTY_TREE, []
    for number in range(300):
        with store.writer() as writer:
            digest, size = writer.put(b"x")
            paths.append(f"/{number:06}")
            tree = writer.tree(tree, [Entry(path=paths[-1], digest=digest, size_bytes=size)])
        assert [one.path for one in store.entries(tree)] == paths
