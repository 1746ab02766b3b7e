"""The bytes of format 1, pinned, and what happens when they change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clew.base.errors import ClewError, Corrupt, Invalid, NotFound
from clew.store import EMPTY_TREE, Entry, Store, digest
from clew.store.chunks import decode_chunks, encode_chunks
from clew.store.nodes import Item, decode_node, encode_node
from clew.store.packs import Pack, PackBuilder, read_index, read_trailer
from clew.store.squeeze import Squeezer, expand

ONE = bytes.fromhex("01" * 32)
TWO = bytes.fromhex("fe" * 32)

# golden bytes ---------------------------------------------------------------------------------

FORMAT = "636c65772073746f726520010a"

HEADER = "636c65777061636b 01 00000000000000"
RECORD_TWO = f"{'fe' * 32} 03000000 03000000 00 04 66696c65 616263"  # file, "abc"
RECORD_ONE = f"{'01' * 32} 05000000 02000000 01 04 74726565 7a7a"  # tree, "zz" for 5 bytes
INDEX_HEAD = "02000000 02000000 04 66696c65 04 74726565"
FANOUT = "00000000" + "01000000" * 253 + "02000000" * 2
KEYS = "01" * 32 + "fe" * 32
PLACE_ONE = "6f00000000000000 02000000 05000000 01 01"
PLACE_TWO = "3e00000000000000 03000000 03000000 00 00"
INDEX_KEY = "ee338546cc8ec1a1eedbd242a2744fd00471e6b300dda548bc33c629be74ca6f"
TRAILER = f"7100000000000000 7604000000000000 {INDEX_KEY} 01 00000000000000 636c65777061636b"

LEAF = "95 00 92a22f61a32fc3a4 c440" + KEYS + "c4020001 9205ce00100000"
INNER = "95 02 92a22f6da22f7a c440" + KEYS + "925a07 92cf000000020000000000"
CHUNK_LIST = "94 01 ce00100003 92ce0010000003 c440" + KEYS
ZSTD = "28b52ffd601404a5000068616c6c207468652073616d6520010004c13fbf"


def golden() -> PackBuilder:
    builder = PackBuilder()
    builder.add(TWO, "file", 0, 3, b"abc")
    builder.add(ONE, "tree", 1, 5, b"zz")
    return builder


def test_a_pack_of_format_1_keeps_its_bytes() -> None:
    name, parts, _ = golden().build()
    index = INDEX_HEAD + FANOUT + KEYS + PLACE_ONE + PLACE_TWO
    assert b"".join(parts).hex() == (HEADER + RECORD_TWO + RECORD_ONE + index + TRAILER).replace(
        " ", ""
    )
    assert name == INDEX_KEY + ".pack"


def test_the_places_in_an_index_are_where_the_bytes_are() -> None:
    name, parts, _ = golden().build()
    data = b"".join(parts)
    trailer = read_trailer(name, data, len(data))
    index = data[trailer.index_offset : trailer.index_offset + trailer.index_bytes]
    pack = read_index(name, trailer, index, len(data))
    one, two = pack.find(ONE), pack.find(TWO)
    assert one is not None
    assert two is not None
    assert data[one.offset : one.offset + one.stored_bytes] == b"zz"
    assert data[two.offset : two.offset + two.stored_bytes] == b"abc"
    assert (one.tag, two.tag) == ("tree", "file")
    assert [key for key, _ in pack.objects()] == [TWO, ONE]


def test_a_leaf_of_format_1_keeps_its_bytes() -> None:
    items = [Item("/a", ONE, 0, 1, 5), Item("/ä", TWO, 1, 1, 1 << 20)]
    assert encode_node(0, items).hex() == LEAF.replace(" ", "")
    assert decode_node("", bytes.fromhex(LEAF)).items() == items


def test_an_inner_node_of_format_1_keeps_its_bytes() -> None:
    items = [Item("/m", ONE, 0, 90, 1 << 33), Item("/z", TWO, 0, 7, 0)]
    assert encode_node(2, items).hex() == INNER.replace(" ", "")
    assert decode_node("", bytes.fromhex(INNER)).items() == items


def test_a_chunk_list_of_format_1_keeps_its_bytes() -> None:
    assert encode_chunks([ONE, TWO], [1 << 20, 3]).hex() == CHUNK_LIST.replace(" ", "")
    assert decode_chunks("", bytes.fromhex(CHUNK_LIST)).sizes == (1 << 20, 3)


def test_zstandard_frames_of_format_1_can_be_read() -> None:
    assert expand(1, bytes.fromhex(ZSTD), 1300) == b"all the same " * 100


def test_the_format_file_says_version_1(store: Store, home: Path) -> None:
    assert (home / "format").read_bytes().hex() == FORMAT
    assert sorted(path.name for path in home.iterdir()) == ["format", "packs", "tmp"]


# index ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 255, 5000])
def test_an_index_finds_every_key_and_no_other(count: int) -> None:
    keys = [bytes.fromhex(digest("file", b"%d" % n)[5:]) for n in range(count)]
    builder = PackBuilder()
    for key in keys:
        builder.add(key, "file", 0, 0, b"")
    _, _, pack = builder.build()
    assert pack.count == count
    assert all(pack.find(key) for key in keys)
    assert not any(pack.find(bytes([n]) * 32) for n in range(256))
    assert pack.sorted_keys() == sorted(keys)


def test_a_key_that_only_lies_across_two_others_is_not_found() -> None:
    builder = PackBuilder()
    builder.add(b"\x07" * 16 + b"\x07" * 15 + b"\x08", "file", 0, 0, b"")
    builder.add(b"\x07" * 16 + b"\x07" * 15 + b"\x09", "file", 0, 0, b"")
    _, _, pack = builder.build()
    across = b"\x07" * 15 + b"\x08" + b"\x07" * 16
    assert pack.find(across) is None
    assert pack.find(b"\x07" * 31 + b"\x08") is not None


def test_a_key_that_is_added_twice_is_kept_once() -> None:
    builder = PackBuilder()
    builder.add(ONE, "file", 0, 1, b"x")
    size = builder.size_bytes
    builder.add(ONE, "file", 0, 1, b"x")
    assert (len(builder), builder.size_bytes) == (1, size)


@pytest.mark.parametrize("data", [b"x" * 127, b"x" * 128, os.urandom(4096), b""])
def test_squeezed_bytes_come_back(data: bytes) -> None:
    encoding, stored = Squeezer().squeeze(data)
    assert expand(encoding, stored, len(data)) == data
    assert expand(encoding, stored, len(data) + 1) is None
    assert expand(7, stored, len(data)) is None


# damage ---------------------------------------------------------------------------------------


@pytest.fixture
def filled(store: Store, home: Path) -> tuple[Path, list[str], str]:
    with store.writer() as writer:
        names = [writer.put(b"content %d" % n)[0] for n in range(3)]
        entries = [Entry(path=f"/{n}", digest=n, size_bytes=9) for n in names]
        tree = writer.tree(EMPTY_TREE, entries)
    (pack,) = (home / "packs").iterdir()
    return pack, names, tree


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def read_or_refuse(store: Store, name: str) -> str:
    """The digest of what a read returned, or the code of its refusal."""
    try:
        return digest("file", store.read(name))
    except Corrupt as error:
        return error.code if name in error.message and error.hint else "says too little"


def test_a_flip_of_any_byte_is_found_by_fsck_and_no_read_returns_it(
    home: Path, filled: tuple[Path, list[str], str]
) -> None:
    pack, names, tree = filled
    size = pack.stat().st_size
    fanout = range(300, 1250)  # a kilobyte of equal numbers: a few of its bytes stand for all
    for at in [at for at in range(size) if at not in fanout or at % 50 == 0]:
        flip(pack, at)
        damaged = Store.open(home)
        assert damaged.fsck(), f"byte {at} of {size}"
        for name in names:
            assert read_or_refuse(damaged, name) in {name, "object.corrupt", "pack.corrupt"}
        flip(pack, at)
    assert Store.open(home).fsck() == []
    assert Store.open(home).summary(tree).files == 3


def test_a_truncated_pack_is_damaged_wherever_it_ends(
    home: Path, filled: tuple[Path, list[str], str]
) -> None:
    pack, names, tree = filled
    data = pack.read_bytes()
    for size in [0, 1, 15, 16, 100, len(data) // 2, len(data) - 65, len(data) - 1]:
        pack.write_bytes(data[:size])
        damaged = Store.open(home)
        with pytest.raises(Corrupt) as refused:
            damaged.read(names[0])
        assert refused.value.code == "pack.corrupt"
        assert pack.name in refused.value.message
        with pytest.raises(Corrupt):
            list(damaged.entries(tree))
        assert damaged.fsck()
    pack.write_bytes(data + b"\0")
    assert Store.open(home).fsck()


def test_a_pack_that_shrinks_under_an_open_store_is_noticed(
    store: Store, filled: tuple[Path, list[str], str]
) -> None:
    pack, names, _ = filled
    os.truncate(pack, 60)
    for name in names:
        with pytest.raises(Corrupt):
            store.read(name)
    assert store.fsck()


def test_a_pack_under_the_name_of_another_is_damaged(
    home: Path, filled: tuple[Path, list[str], str]
) -> None:
    pack, _, _ = filled
    pack.rename(pack.with_name("0" * 64 + ".pack"))
    assert any("name" in problem for problem in Store.open(home).fsck())


def test_an_object_that_was_never_stored_is_missing(store: Store) -> None:
    with pytest.raises(NotFound) as missing:
        store.read(digest("file", b"never"))
    assert missing.value.code == "object.missing"
    assert digest("file", b"never") in missing.value.message


def test_an_object_is_not_found_under_another_tag(
    store: Store, filled: tuple[Path, list[str], str]
) -> None:
    _, names, _ = filled
    with pytest.raises(ClewError):
        store.read(names[0].replace("file:", "commit:"))


def test_fsck_names_what_refers_to_missing_objects(store: Store) -> None:
    gone = digest("file", b"never put")
    with store.writer() as writer:
        tree = writer.tree(EMPTY_TREE, [Entry(path="/a", digest=gone, size_bytes=9)])
    (problem,) = store.fsck()
    assert tree in problem
    assert gone[5:] in problem


def test_putting_a_spoilt_file_again_heals_it(
    store: Store, home: Path, filled: tuple[Path, list[str], str]
) -> None:
    pack, names, _ = filled
    data = pack.read_bytes()
    flip(pack, data.index(b"content 1"))
    with pytest.raises(Corrupt):
        store.read(names[1])
    with store.writer() as writer:
        writer.put(b"content 1")
    assert store.read(names[1]) == b"content 1"
    assert Store.open(home).read(names[1]) == b"content 1"


def test_a_spoilt_pack_that_is_written_anew_is_read_by_stores_that_are_open(
    store: Store, home: Path
) -> None:
    with store.writer() as writer:
        name, _ = writer.put(b"alone")
    (pack,) = (home / "packs").iterdir()
    whole = pack.read_bytes()
    flip(pack, whole.index(b"alone"))
    with pytest.raises(Corrupt):
        store.read(name)
    with pytest.raises(Corrupt):
        Store.open(home).read(name)
    pack.unlink()
    pack.write_bytes(whole)
    assert store.read(name) == b"alone"


def test_one_whole_copy_of_two_is_enough(store: Store, home: Path) -> None:
    apart = Store.open(home).writer()
    with store.writer() as writer:
        name, _ = writer.put(b"twice")
        writer.put(b"and more")
    first = next((home / "packs").iterdir())
    apart.put(b"twice")
    apart.flush()
    assert len(list((home / "packs").iterdir())) == 2
    flip(first, first.read_bytes().index(b"twice"))
    assert Store.open(home).read(name) == b"twice"
    assert len(store.fsck()) == 1


# versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"clew store \x02\n", b"something else", b""])
def test_another_format_is_refused_and_not_touched(home: Path, store: Store, data: bytes) -> None:
    (home / "format").write_bytes(data)
    with pytest.raises(Invalid) as refused:
        Store.open(home)
    assert refused.value.code == "store.format"
    assert (home / "format").read_bytes() == data


def test_packs_without_a_format_file_are_not_taken_over(
    home: Path, filled: tuple[Path, list[str], str]
) -> None:
    (home / "format").unlink()
    with pytest.raises(Corrupt) as refused:
        Store.open(home)
    assert refused.value.code == "store.format_missing"


def test_a_node_of_a_later_form_is_refused() -> None:
    for payload in (b"", b"\x90", bytes.fromhex("95 00 91a161 c400 c400 90".replace(" ", ""))):
        with pytest.raises(Corrupt):
            decode_node("tree:x", payload)
        with pytest.raises(Corrupt):
            decode_chunks("chunks:x", payload)


def test_the_index_of_a_pack_is_small() -> None:
    builder = PackBuilder()
    for n in range(1000):
        builder.add(bytes.fromhex(digest("file", b"%d" % n)[5:]), "file", 0, 0, b"")
    _, _, pack = builder.build()
    assert isinstance(pack, Pack)
    assert pack.size_bytes - builder.size_bytes < 1000 * 50 + 1200
