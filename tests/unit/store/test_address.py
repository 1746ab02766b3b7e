"""Addresses of stores: what they say, what they never hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.base.errors import Invalid
from clew.store import Store
from clew.store.address import BucketAddress, parse


def bucket(text: str, **options: str) -> BucketAddress:
    found = parse(text, options)
    assert isinstance(found, BucketAddress)
    return found


@pytest.mark.parametrize("text", ["/data/store", "relative/store", "with space/ü"])
def test_a_path_is_a_directory(text: str) -> None:
    assert parse(text) == Path(text)
    assert parse(Path(text)) == Path(text)


def test_a_file_url_is_a_directory(tmp_path: Path) -> None:
    place = tmp_path / "with space" / "ü"
    assert parse(place.as_uri()) == place
    with Store.open((place / "store").as_uri()).writer() as writer:
        name, _ = writer.put(b"content")
    assert Store.attach(str(place / "store")).read(name) == b"content"


def test_a_url_names_bucket_prefix_and_options() -> None:
    found = bucket("s3://data/a/b%20c/?endpoint=http://host:9000&region=eu&timeout_s=5&retry_s=9")
    assert (found.scheme, found.bucket, found.prefix) == ("s3", "data", "a/b c")
    assert found.config == {"endpoint": "http://host:9000", "region": "eu"}
    assert (found.timeout_s, found.retry_s) == (5.0, 9.0)
    assert found.place == "s3://data/a/b c"


def test_options_come_on_top_of_the_url() -> None:
    found = bucket("s3://data?region=eu", region="us", timeout_s="7")
    assert found.config == {"region": "us"}
    assert found.timeout_s == 7


@pytest.mark.parametrize(
    "text",
    [
        "s3://data",
        "gs://data/a",
        "az://data/a/b%20c/ü",
        "s3://data/a?region=eu&timeout_s=2.5&cache=%2Ftmp%2Fx%20y",
    ],
)
def test_the_text_of_an_address_leads_to_the_same_place(text: str) -> None:
    assert bucket(bucket(text).text) == bucket(text)


def test_secrets_that_were_given_as_options_are_in_no_text() -> None:
    found = bucket("s3://data", access_key_id="id", secret_access_key="s3cr3t", session_token="t0k")
    assert found.config["secret_access_key"] == "s3cr3t"
    assert "s3cr3t" not in found.text + repr(found)
    assert "t0k" not in found.text + repr(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3://data?secret_access_key=x", "secret_access_key"),
        ("s3://data?Session_Token=x", "Session_Token"),
        ("s3://user:password@data/x", "user"),
        ("s3:///prefix", "no bucket"),
        ("ftp://data/x", "ftp://"),
        ("s3://data?timeout_s=soon", "timeout_s"),
        ("s3://data?retry_s=-1", "retry_s"),
    ],
)
def test_an_address_that_cannot_be_is_refused(text: str, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(text)
    assert refused.value.code == "store.address"
    assert says in refused.value.message
    assert refused.value.hint


def test_an_option_that_the_client_does_not_know_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        Store.open("s3://data/x?colour=blue&region=us-east-1")
    assert refused.value.code == "store.address"
