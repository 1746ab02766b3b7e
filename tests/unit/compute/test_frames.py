"""Frames come out of the pipe as they went in, however the pipe cuts them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.base.errors import Invalid
from clew.compute.frames import (
    Answer,
    Done,
    Inbox,
    Run,
    decode,
    encode,
    encode_or_refuse,
    from_worker,
    pack,
    to_worker,
)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.lists(plain, max_size=5), st.data())
def test_frames_survive_any_cut_of_their_bytes(values, data):
    stream = b"".join(pack(Done(encode(value), None, 0.5, "log")) for value in values)
    inbox, bodies = Inbox(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        bodies += inbox.add(stream[:size])
        stream = stream[size:]
    assert [decode(from_worker.decode(body).value) for body in bodies] == values


def test_calls_and_answers_survive_the_way_to_the_worker():
    for frame in (
        Run("id", "m:f", "label", "/x", {"A": "b"}, encode({"x": [1, 2]})),
        Answer(encode({"x": 1}), None),
        Answer(encode(None), {"kind": "invalid", "code": "a.b", "message": "m", "hint": ""}),
    ):
        (body,) = Inbox().add(pack(frame))
        assert to_worker.decode(body) == frame


def test_scalars_of_numpy_travel_as_numbers():
    assert decode(encode({"a": np.float32(1.5), "b": np.int64(3), "c": np.bool_(True)})) == {
        "a": 1.5,
        "b": 3,
        "c": True,
    }


@pytest.mark.parametrize("value", [object(), 2**64, {(1,): lambda: 1}, np.zeros(3)])
def test_what_is_not_plain_is_refused_with_a_code(value):
    with pytest.raises(Invalid) as caught:
        encode_or_refuse(value, "call.payload", "The payload")
    assert caught.value.code == "call.payload"
