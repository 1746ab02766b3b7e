"""Digests and the canonical encoding: pinned bytes, and values that have none."""

from __future__ import annotations

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.base.errors import Invalid
from clew.store import EMPTY_TREE, canonical, digest, digest_of
from clew.store.digests import split

GOLDEN = {
    ("file", b""): "file:fade9378aedb6bc5fd1af53a8c77c096fc83815cdf50970e924cc5db4167111c",
    ("file", b"clew"): "file:ec030cd17f302450599ff4c4463dbe7c0b4232bebfb4c4b3d7e909b29981ce12",
    ("tree", b"clew"): "tree:dc717e63fd198d90d3570750d56045389e60514cc59510338cfa1e2b9070ee6d",
    ("commit", b"clew"): "commit:7f0a80c132abf799b611c731c349a653afea88e2a5249c3447995490fabb4f35",
}


@pytest.mark.parametrize(("thing", "expected"), GOLDEN.items())
def test_digests_of_format_1_never_change(thing: tuple[str, bytes], expected: str) -> None:
    assert digest(*thing) == expected


def test_a_digest_is_blake3_with_the_tag_as_derivation_context() -> None:
    expected = blake3.blake3(b"bytes", derive_key_context="clew 1 datum").hexdigest()
    assert digest("datum", b"bytes") == f"datum:{expected}"


def test_the_empty_tree_has_a_name_that_never_changes() -> None:
    assert EMPTY_TREE == "tree:f0977e4ab6957f11b77a17a7fb5f43ccdf1bf46c5bd531884b8b0b9bed927379"


def test_the_canonical_encoding_never_changes() -> None:
    value = {"b": [1, -1, 2.5, None, True], "a": b"\x00\xff", "ä": (300, "x"), "": {}}
    assert (
        canonical(value).hex()
        == "84a080a161c40200ffa1629501ffcb4004000000000000c0c3a2c3a492cd012ca178"
    )


def test_the_order_of_keys_and_the_kind_of_sequence_do_not_count() -> None:
    assert digest_of("datum", {"a": 1, "b": (1, 2)}) == digest_of("datum", {"b": [1, 2], "a": 1})


def test_things_that_differ_in_type_differ_in_digest() -> None:
    values = [0, 0.0, False, None, "", b"", [], {}, "0", b"0"]
    assert len({digest_of("datum", value) for value in values}) == len(values)


def test_equal_bytes_under_two_tags_have_two_digests() -> None:
    assert digest("job", b"same")[4:] != digest("file", b"same")[5:]


@pytest.mark.parametrize("value", [object(), {1: 2}, 2**64, -(2**63) - 1, "\ud800", [object()]])
def test_a_value_without_a_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(Invalid) as refused:
        canonical(value)
    assert refused.value.code == "digest.value"


@pytest.mark.parametrize("tag", ["", "File", "a b", "1st", "x" * 32, "a:b"])
def test_a_tag_is_a_plain_lower_case_word(tag: str) -> None:
    with pytest.raises(Invalid) as refused:
        digest(tag, b"")
    assert refused.value.code == "digest.tag"


@pytest.mark.parametrize("text", ["", "file", "file:12", "file:" + "G" * 64, "FILE:" + "0" * 64])
def test_text_that_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        split(text)
    assert refused.value.code == "digest.invalid"


_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), _plain))
def test_a_map_in_any_order_has_one_encoding(value: dict[str, object]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)
