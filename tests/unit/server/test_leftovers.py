"""What a killed server has left on the disk."""

import importlib


def test_a_server_starts_with_an_empty_place_for_what_it_sends(tmp_path):
    make_empty = importlib.import_module("clew.server.whole")._make_empty
    uploads = tmp_path / "uploads"
    make_empty(uploads)
    (uploads / "clew-get-x1" / "content").mkdir(parents=True)
    (uploads / "clew-get-x1" / "content" / "a").write_bytes(b"left")
    make_empty(uploads)
    assert list(uploads.iterdir()) == []
