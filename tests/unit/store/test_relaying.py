"""A store that is reached through another process is the same store, and takes nothing spoilt."""

import pytest

from clew.base.errors import Corrupt, Denied, NotFound
from clew.store import EMPTY_TREE, Entry, Store
from clew.store.relaying import asked


@pytest.fixture
def near(tmp_path):
    return Store.open(tmp_path / "near")


@pytest.fixture
def far(near, tmp_path):
    """The same store, through a socket and with a cache of its own."""
    board = Store.switchboard(tmp_path / "socket", near.relay().answer)
    yield Store.attach(board.address, cache=tmp_path / "cache")
    board.close()


def put(store, content):
    with store.writer() as writer:
        digest, size = writer.put(content)
        tree = writer.tree(EMPTY_TREE, [Entry(path="/a", digest=digest, size_bytes=size)])
    return digest, tree


def test_what_is_put_on_one_side_is_read_on_the_other(near, far):
    small, tree = put(far, b"far" * 100)
    large, _ = put(near, bytes(range(256)) * 20_000)
    assert near.read(small) == b"far" * 100
    assert far.read(large) == bytes(range(256)) * 20_000
    assert [entry.digest for entry in near.entries(tree)] == [small]


def test_what_is_not_there_is_missing_through_the_relay_too(far):
    with pytest.raises(NotFound) as raised:
        far.read("file:" + "0" * 64)
    assert raised.value.code == "object.missing"


def test_a_pack_with_a_spoilt_byte_is_refused_and_one_that_is_sound_is_taken(near, tmp_path):
    other = Store.open(tmp_path / "other")
    digest, _ = put(other, b"some content " * 50)
    pack = next((tmp_path / "other" / "packs").glob("*.pack"))
    data = pack.read_bytes()
    relay = near.relay()
    for at in range(0, len(data), 7):
        spoilt = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(Corrupt):
            asked(relay.answer, "put", pack.name, spoilt)
    asked(relay.answer, "put", pack.name, data)
    assert near.read(digest) == b"some content " * 50


def test_nothing_but_packs_is_taken_and_nothing_is_removed(near):
    relay = near.relay()
    with pytest.raises(Denied) as raised:
        asked(relay.answer, "put", "x.condemned", b"")
    assert raised.value.code == "store.relay"
    with pytest.raises(KeyError):
        asked(relay.answer, "remove", "x.pack")


def test_leases_of_the_far_side_stand_here_until_its_relay_ends(near):
    relay = near.relay()
    asked(relay.answer, "post", "token.lease")
    assert "token.lease" in asked(near.relay().answer, "standing")
    relay.end()
    assert "token.lease" not in asked(near.relay().answer, "standing")
