"""Bytes at the end of a file: the digest is that of the whole, and only the last chunk is read."""

import io
import random

import pytest

from clew.store.chunks import WHOLE_BELOW

SIZES = (0, 1, WHOLE_BELOW - 1, WHOLE_BELOW, WHOLE_BELOW + 1, 3 * WHOLE_BELOW + 7)


@pytest.mark.parametrize("before", SIZES)
@pytest.mark.parametrize("more", [0, 1, WHOLE_BELOW, 2 * WHOLE_BELOW + 3])
def test_an_extended_file_is_the_same_as_one_put_whole(store, before, more):
    data = random.Random(before + more).randbytes(before + more)
    with store.writer() as writer:
        first, _ = writer.put(data[:before])
    with store.writer() as writer:
        extended = writer.extend(first, io.BytesIO(data[before:]))
    with store.writer() as writer:
        assert extended == writer.put(data)
    assert store.read(extended[0]) == data


def test_an_extended_large_file_reads_its_last_chunk_alone(store, monkeypatch):
    data = random.Random(1).randbytes(8 * WHOLE_BELOW)
    with store.writer() as writer:
        digest, _ = writer.put(data)
    with store.writer() as writer:
        fetched, fetch = [], writer._catalog.fetch
        monkeypatch.setattr(
            writer._catalog, "fetch", lambda tag, key: fetched.append(tag) or fetch(tag, key)
        )
        writer.extend(digest, b"more")
    assert fetched == ["chunks", "chunk"]
