"""Data that comes in by itself, and what it sets off: a server, its webhook, its directory.

One project for both parts: a source of each kind that needs no service, and triggers on them.
"""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from clew.base.settings import Settings
from clew.client import RemoteWorkspace
from clew.server import serve
from clew.server.working import Working
from clew.workspace import open_workspace

PROJECT = """
import clew

p = clew.Pipeline("shop")
orders = p.source("orders", sql="select * from orders", url="sqlite:///{db}", watermark="id",
                  every="100ms")
files = p.source("files", clew.directory("{inbox}", settle=0, every="100ms"))
hook = p.source("hook", clew.webhook(secret="env:SHOP_HOOK"))

@p.step(files)
def count(files: list[bytes]) -> dict:
    return {{"files": len(files)}}

p.trigger("enough", when=clew.amount(orders, rows=3), do=clew.run(count))
p.trigger("paid", when=clew.on_webhook("shop/hook", action="paid"),
          do=[clew.notify("{url}", secret="env:SHOP_HOOK"), clew.notify(message="paid")])
"""


@pytest.fixture
def told() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A receiver of notifications that fails at first."""
    got: list[tuple[dict[str, str], bytes]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(({name.lower(): one for name, one in self.headers.items()}, body))
            self.send_response(503 if len(got) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def shop(tmp_path: Path, told, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHOP_HOOK", "hush")
    (tmp_path / "inbox").mkdir()
    database = tmp_path / "shop.db"
    with closing(sqlite3.connect(database)) as db:
        db.execute("create table orders (id integer, price real)")
    project = tmp_path / "project"
    project.mkdir()
    text = PROJECT.format(db=database, inbox=tmp_path / "inbox", url=told[0])
    (project / "shop.py").write_text(text)
    return tmp_path


@pytest.fixture
def served(shop: Path) -> Iterator[RemoteWorkspace]:
    workspace = open_workspace(Settings(home=shop / ".clew", workers=2), create=True)
    working = Working.take(workspace)
    working.start()
    stop, ready = threading.Event(), threading.Event()
    urls: list[str] = []

    def tell(url: str) -> None:
        urls.append(url)
        ready.set()

    thread = threading.Thread(
        target=serve,
        args=(workspace, "127.0.0.1", 0),
        kwargs={"token": "letmein", "stop": stop, "ready": tell},
    )
    thread.start()
    ready.wait()
    remote = RemoteWorkspace(urls[0], token="letmein")
    remote.url = urls[0]
    yield remote
    remote.close()
    stop.set()
    thread.join()
    working.end()
    working.let_go()
    workspace.close()


def until(met, what: str) -> None:
    """Wait for something that a server is about to do."""
    end = time.monotonic() + 120
    while not met():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def insert(shop: Path, *ids: int) -> None:
    with closing(sqlite3.connect(shop / "shop.db")) as db:
        db.executemany("insert into orders values (?, 1.5)", [(one,) for one in ids])
        db.commit()


def post(url: str, body: bytes, key: str) -> int:
    signature = hmac.new(b"hush", body, hashlib.sha256).hexdigest()
    headers = {
        "X-Hub-Signature-256": f"sha256={signature}",
        "Content-Type": "application/json",
        "Idempotency-Key": key,
    }
    request = urllib.request.Request(f"{url}/api/v1/hooks/shop/hook", body, headers, method="POST")
    with urllib.request.urlopen(request) as answer:
        return answer.status


def test_a_server_takes_in_what_comes_and_does_what_it_sets_off(shop, served, told):
    served.apply(shop / "project" / "shop.py")
    assert [one.name for one in served.sources()] == ["shop/files", "shop/hook", "shop/orders"]
    assert {one.name for one in served.triggers()} == {"enough", "paid"}
    (shop / "inbox" / "a.txt").write_bytes(b"1")
    until(lambda: served.source("files").commits == 1, "the file is committed")
    served.wait(timeout_s=120)
    insert(shop, 1, 2)
    until(lambda: served.source("orders").items == 2, "the rows are committed")
    insert(shop, 3)
    until(lambda: [one.state for one in served.firings("enough")] == ["done"], "the step runs")
    (firing,) = served.firings("enough")
    assert firing.effect == "ran count of shop"
    jobs = served.change(firing.change).jobs
    assert [(job.step, firing.reason) for job in jobs] == [("count", firing.reason)]

    body = json.dumps({"action": "paid", "order": 7}).encode()
    assert [post(served.url, body, "k1"), post(served.url, body, "k1")] == [202, 202]
    until(lambda: [one.state for one in served.firings("paid")] == ["done"], "it is told")
    url, got = told
    (paid,) = served.firings("paid")
    assert paid.effect == f"told {url.split('/')[2]} (204); wrote to the log"
    assert len(got) == 2  # the first was refused
    assert {headers["idempotency-key"] for headers, _ in got} == {paid.id}
    headers, sent = got[1]
    wanted = hmac.new(b"hush", sent, hashlib.sha256).hexdigest()
    assert headers["x-hub-signature-256"] == f"sha256={wanted}"
    assert json.loads(sent)["data"]["order"] == 7
    until(lambda: served.source("hook").commits == 1, "the body is committed")
    assert [one.size_bytes for one in served.ls("shop/hook", recursive=True)] == [len(body)]

    refused = urllib.request.Request(f"{served.url}/api/v1/hooks/shop/hook", b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as error, urllib.request.urlopen(refused):
        pass
    with error.value as answer:
        assert answer.code == 403
        assert json.loads(answer.read())["error"]["code"] == "hook.denied"
    found = served.backtest("enough")
    assert [one.kind for one in found] == ["both"]
    other = (shop / "project" / "shop.py").read_text().replace("rows=3", "rows=1")
    (shop / "project" / "shop.py").write_text(other)
    kinds = [one.kind for one in served.backtest_file(shop / "project" / "shop.py")]
    assert kinds == ["only_replayed", "both", "both"]


def test_without_a_server_a_poll_takes_in_what_is_there(shop):
    workspace = open_workspace(Settings(home=shop / ".clew", workers=2), create=True)
    workspace.apply(shop / "project" / "shop.py")
    (shop / "inbox" / "a.txt").write_bytes(b"1")
    assert len(workspace.poll_source("files")) == 1
    insert(shop, 1, 2, 3)
    assert len(workspace.poll_source("orders")) == 1
    workspace.wait()
    assert [one.state for one in workspace.firings("enough")] == ["done"]
    workspace.wait()
    assert workspace.read("shop/count:/count.json")
    workspace.close()
