"""Who may ask, and how the server stands at its door."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

import clew.server.web
from clew.base.errors import Denied, Unavailable
from clew.server import serve

TOKEN = "a-long-random-token"
HTML = {"Accept": "text/html"}


def ask(url, path="/api/v1/repos", method="GET", **more):
    return httpx2.request(method, url + path, trust_env=False, **more)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_is_refused_though_it_leads_here(url, host):
    answer = ask(url, headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host.denied"


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:99", "[::1]", "[::1]:80"])
def test_the_names_of_loopback_are_answered(url, host):
    assert ask(url, headers={"Host": host}).status_code == 200


def test_a_name_that_is_allowed_is_answered(verbs, serving):
    with serving(verbs, allowed_hosts=["clew.lan"]) as url:
        assert ask(url, headers={"Host": "Clew.lan:8686"}).status_code == 200
        assert ask(url, headers={"Host": "other.lan"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_nobody_elses_page_changes_anything(url, verbs, headers):
    answer = ask(url, "/api/v1/repos", "POST", json={"name": "a/b"}, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "origin.denied"
    assert verbs.asked == []


def test_a_form_must_say_that_it_is_ours(url, verbs, fake):
    path = f"/jobs/{verbs.job_list[0].id}/cancel"
    assert ask(url, path, "POST", data={"x": "1"}).status_code == 403
    assert ask(url, path, "POST", data={"x": "1"}, headers={"Origin": url}).status_code == 303
    assert verbs.asked == [("cancel", verbs.job_list[0].id)]


def test_every_answer_has_safe_headers(url):
    for path in ("/", "/nope", "/api/v1/repos", "/api/v1/nope", "/static/clew.js", "/metrics"):
        headers = ask(url, path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_templates_have_nothing_that_the_policy_forbids():
    here = Path(clew.server.web.__file__).parent
    for template in (here / "templates").glob("*.html"):
        text = template.read_text()
        assert not re.search(r"\son\w+=|\sstyle=|javascript:|<style", text), template.name
        assert not re.search(r"<script(?![^>]*src=\"/static/)", text), template.name
        assert not re.search(r"(src|href)=\"https?:", text), template.name
        assert "| safe" not in text, template.name


@pytest.fixture
def guarded(verbs, serving):
    with serving(verbs, token=TOKEN) as url:
        yield url


def test_with_a_token_nothing_but_the_door_is_open(guarded):
    for path in ("/api/v1/repos", "/metrics", "/v2/models/m", "/openapi.json", "/nope"):
        answer = ask(guarded, path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert ask(guarded, "/api/v1/health").status_code == 200
    assert ask(guarded, "/v2/health/live").status_code == 503  # asked: no endpoint server runs here
    assert ask(guarded, "/static/clew.css").status_code == 200
    assert ask(guarded, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert ask(guarded, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert ask(guarded, headers={"Cookie": "clew_session=99999999999.00"}).status_code == 401
    assert ask(guarded, headers={b"Cookie": b"clew_session=99999999999.\xfc; x"}).status_code == 401


def test_a_person_logs_in_once_and_comes_back_to_the_page(guarded):
    away = ask(guarded, "/jobs?state=done", headers=HTML)
    assert away.status_code == 303
    assert away.headers["location"].startswith("/login?next=/jobs%3Fstate%3Ddone")
    form = {"token": TOKEN, "next": "/jobs?state=done"}
    answer = ask(guarded, "/login", "POST", data=form, headers={"Origin": guarded})
    assert answer.headers["location"] == "/jobs?state=done"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    inside = {"Cookie": cookie.partition(";")[0], **HTML}
    assert ask(guarded, "/jobs", headers=inside).status_code == 200


def test_a_wrong_token_stays_outside(guarded):
    answer = ask(guarded, "/login", "POST", data={"token": "no"}, headers={"Origin": guarded})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "not the token" in answer.text


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil", "/a\r\nb"])
def test_login_leads_nowhere_else(guarded, target):
    form = {"token": TOKEN, "next": target}
    answer = ask(guarded, "/login", "POST", data=form, headers={"Origin": guarded})
    assert answer.headers["location"] == "/"


def test_beyond_loopback_a_token_is_needed(verbs):
    with pytest.raises(Denied) as caught:
        serve(verbs, "0.0.0.0", 0)
    assert caught.value.code == "server.no_auth"


def test_a_port_in_use_is_named(verbs):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable) as caught:
            serve(verbs, port=port)
    assert caught.value.code == "server.port_in_use"
    assert str(port) in caught.value.message
    assert "--port" in caught.value.hint


def test_an_address_of_nobody_is_refused_clearly(verbs):
    with pytest.raises(Unavailable) as caught:
        serve(verbs, "192.0.2.1", 0, token="t")
    assert caught.value.code == "server.cannot_listen"


STOPPED = """
import sys, importlib.util
from clew.server import serve
spec = importlib.util.spec_from_file_location("fake", sys.argv[1])
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)
serve(fake.FakeVerbs(), port=0, ready=lambda url: print(url, flush=True))
print("ended in order", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_though_somebody_listens(number):
    arguments = [sys.executable, "-c", STOPPED, str(Path(__file__).parent / "fake.py")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        with httpx2.stream(
            "GET", f"{url}/api/v1/events?follow=1", trust_env=False, timeout=60
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(number)
            for _ in lines:
                pass
        assert process.stdout.read().strip() == "ended in order"
        assert process.wait(60) == 0


def test_who_is_told_that_it_leaves_is_told_while_it_still_listens(serving, verbs, tmp_path):
    reached = []

    def leaving():
        with socket.create_connection(place):
            reached.append(True)

    with serving(verbs, scratch=tmp_path, leaving=leaving) as url:
        place = urlsplit(url).hostname, urlsplit(url).port
        assert httpx2.get(f"{url}/api/v1/status", trust_env=False).status_code == 200
    assert reached == [True]
