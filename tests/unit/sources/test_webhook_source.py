"""What is posted is kept once, by who knows the secret, and committed in batches."""

from __future__ import annotations

import hashlib
import hmac

import pytest

import clew
from clew.base.errors import Denied, Invalid, NotFound

SECRET = "env:HOOK"


def sign(body: bytes, key: str = "hush") -> dict[str, str]:
    digest = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


@pytest.fixture
def hook(house):
    house.secrets[SECRET] = "hush"
    house.define(clew.webhook(secret=SECRET))

    def post(body, headers=None, trusted=False):
        return house.sources.receive("orders", body, headers or sign(body), trusted=trusted)[1]

    return post


def test_a_body_becomes_a_file(house, hook):
    found = hook(b'{"event": "paid", "order": 7}')
    assert not found.duplicate
    assert house.poll() == ["1 posted"]
    assert list(house.files().items()) == [(found.path, b'{"event": "paid", "order": 7}')]
    assert found.path.endswith(".json")
    (event,) = house.db.events.after(0, ["hook.received"])
    assert (event.data["event"], event.data["order"]) == ("paid", 7)


def test_of_several_with_one_key_the_first_counts_also_after_its_commit(house, hook):
    headers = sign(b"1") | {"Idempotency-Key": "k1"}
    first = hook(b"1", headers)
    assert hook(b"1", headers).duplicate
    house.poll()
    again = hook(b"2", sign(b"2") | {"X-GitHub-Delivery": "k1"})
    assert again.duplicate
    assert again.path == first.path
    assert house.poll() == []
    assert len(house.files()) == 1


def test_only_who_knows_the_secret_may_post(house, hook):
    hook(b"x", {"Authorization": "Bearer hush"})
    for headers in (
        {},
        sign(b"other"),
        sign(b"x", "guess"),
        {"Authorization": "Bearer guess"},
        {"Authorization": "Basic hush"},
        {"X-Hub-Signature-256": "é"},
    ):
        with pytest.raises(Denied) as raised:
            hook(b"x", headers or {"a": "b"}, trusted=True)
        assert raised.value.code == "hook.denied"


def test_without_a_secret_the_login_of_the_server_is_asked_for(house):
    house.define(clew.webhook())
    house.sources.receive("orders", b"1", {}, trusted=True)
    with pytest.raises(Denied):
        house.sources.receive("orders", b"1", {}, trusted=False)


def test_a_secret_cannot_stand_in_the_definition():
    with pytest.raises(Invalid) as raised:
        clew.webhook(secret="hush")
    assert raised.value.code == "source.secret"


def test_batches_end_by_count_or_by_time(house):
    house.define(clew.webhook(batch_count=3, batch_every="10s"))

    def post():
        house.sources.receive("orders", b"x", {}, trusted=True)

    post()
    post()
    house.clock.pass_s(1)
    assert house.poll() == []
    assert house.sources.get("orders").lag == 2
    post()
    assert house.poll() == ["3 posted"]
    post()
    house.clock.pass_s(60)
    assert house.poll() == ["1 posted"]


def test_a_body_that_is_too_large_or_for_nobody_is_refused(house, hook):
    house.define(clew.webhook(max_bytes=3))
    with pytest.raises(Invalid, match="4 bytes"):
        hook(b"1234", trusted=True)
    with pytest.raises(NotFound):
        house.sources.receive("nobody", b"", {}, trusted=True)
    house.define(clew.directory("."))
    with pytest.raises(Invalid) as raised:
        hook(b"1", trusted=True)
    assert raised.value.code == "source.kind"


def test_a_key_may_hold_anything_and_names_a_file_of_its_own(house, hook):
    paths = {hook(b"x", sign(b"x") | {"Idempotency-Key": key}).path for key in ("a/b", "a_b", "ü")}
    house.poll()
    assert set(house.files()) == paths
    assert len(paths) == 3


def test_a_crash_in_the_commit_leaves_the_body_and_it_is_committed_once(house, hook):
    hook(b"x")

    def die(*_):
        raise ZeroDivisionError

    house.repos.listeners.append(die)
    with pytest.raises(ZeroDivisionError):
        house.poll()
    house.repos.listeners.remove(die)
    assert house.files() == {}
    assert house.poll() == ["1 posted"]
    assert house.commits() == 1
