"""Large puts over HTTP go on where they broke: a cut line, a killed server, another process."""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import blake3
import pytest

from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.settings import Settings
from clew.client import RemoteWorkspace
from clew.client import upload as module
from clew.workspace import open_workspace

SIZE = 6 << 20

SERVER = """
import sys, threading
from pathlib import Path
from clew.base.settings import Settings
from clew.server import serve
from clew.workspace import open_workspace

home, port = Path(sys.argv[1]), int(sys.argv[2])
workspace = open_workspace(Settings(home=home))
serve(workspace, port=port, scratch=home / "uploads", ready=lambda url: print(url, flush=True),
      stop=threading.Event())
"""


def noise(size, seed=b"upload"):
    return blake3.blake3(seed).digest(length=size)


class Server:
    """A process that serves a workspace; it may be killed and started again."""

    def __init__(self, home):
        self.home = home
        self.port = 0
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(self.home), str(self.port)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.url = self.process.stdout.readline().strip()
        self.port = int(self.url.rpartition(":")[2])

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path):
    home = tmp_path / ".clew"
    workspace = open_workspace(Settings(home=home), create=True)
    workspace.create_repo("p/raw")
    workspace.close()
    running = Server(home)
    running.start()
    yield running
    running.end(signal.SIGTERM)


class Line:
    """A way to a server that counts what goes through, and is cut where it is told to."""

    def __init__(self, port, cut_at=0, then=lambda: None):
        self.sent = 0
        self._port, self._cut_at, self._then = port, cut_at, then
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def refuse(self):
        self._listener.shutdown(socket.SHUT_RDWR)

    def close(self):
        with suppress(OSError):
            self.refuse()
        self._listener.close()
        for thread in list(self._threads):
            thread.join()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                near.close()
                continue
            for here, there, up in ((near, far, True), (far, near, False)):
                thread = threading.Thread(target=self._carry, args=(here, there, up))
                self._threads.append(thread)
                thread.start()

    def _carry(self, here, there, up):
        with here:
            try:
                while data := here.recv(1 << 16):
                    there.sendall(data)
                    if up:
                        self.sent += len(data)
                    if up and self._cut_at and self.sent > self._cut_at:
                        self._cut_at = 0
                        self._then()
                        return
            except OSError:
                return
            finally:
                for end in (here, there):
                    try:
                        end.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        continue


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(module, "LARGE_BYTES", 1 << 20)


@pytest.fixture
def large(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large.bin").write_bytes(noise(SIZE))
    (tmp_path / "data" / "small.bin").write_bytes(b"small")
    return tmp_path / "data"


def check(url, data):
    remote = RemoteWorkspace(url)
    try:
        for path in sorted(data.iterdir()):
            assert remote.read(f"p/raw:/{path.name}") == path.read_bytes()
        assert len(remote.log("p/raw")) == 1
    finally:
        remote.close()


@pytest.mark.parametrize("how", ["cut", "killed"])
def test_an_upload_that_breaks_goes_on_where_it_broke(server, large, how):
    def kill():
        server.end(signal.SIGKILL)
        server.start()

    line = Line(server.port, SIZE // 2, kill if how == "killed" else lambda: None)
    remote = RemoteWorkspace(line.url)
    try:
        told = []
        commit = remote.put("p/raw", {"/": large}, progress=told.append)
        assert commit.files == 2
        assert told[-1].size_bytes >= SIZE
        assert line.sent < SIZE * 1.9
    finally:
        remote.close()
        line.close()
    check(server.url, large)
    assert list((server.home / "uploads" / "clew-parts").iterdir()) == []


def test_the_same_put_given_again_later_goes_on(server, large, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    line = Line(server.port, SIZE // 2, lambda: line.refuse())
    remote = RemoteWorkspace(line.url)
    with pytest.raises(Exception, match="No answer"):
        remote.put("p/raw", {"/": large})
    remote.close()
    second = Line(server.port)
    again = RemoteWorkspace(second.url)
    try:
        again.put("p/raw", {"/": large})
        assert second.sent < SIZE * 0.9
    finally:
        again.close()
        second.close()
        line.close()
    check(server.url, large)


def test_a_large_stream_that_cannot_seek_is_sent_too(server):
    reader, writer = os.pipe()

    def feed():
        with os.fdopen(writer, "wb") as end:
            end.write(noise(SIZE))

    thread = threading.Thread(target=feed)
    thread.start()
    remote = RemoteWorkspace(server.url)
    with os.fdopen(reader, "rb") as stream:
        remote.put("p/raw", {"/large.bin": stream})
    thread.join()
    assert remote.read("p/raw:/large.bin") == noise(SIZE)
    remote.close()


def test_what_is_wrong_with_an_upload_has_a_code(server):
    remote = RemoteWorkspace(server.url)
    wire = remote._wire
    name = "ab" * 32

    def add(offset):
        return wire.put(f"/parts/{name}", dict, iter([b"bytes"]), offset=offset)

    def finish(part):
        return wire.post(f"/parts/{part}/commit", dict, {}, repo="p/raw", checksum="0")

    try:
        with pytest.raises(Conflict) as offset:
            add(7)
        with pytest.raises(NotFound) as unknown:
            finish("cd" * 32)
        with pytest.raises(Invalid) as odd:
            finish("odd")
        assert add(0)["size_bytes"] == 5
        with pytest.raises(Conflict) as damaged:
            finish(name)
        assert wire.get(f"/parts/{name}", dict)["size_bytes"] == 0
    finally:
        remote.close()
    codes = [error.value.code for error in (offset, unknown, odd, damaged)]
    assert codes == ["parts.offset", "parts.unknown", "parts.id", "parts.damaged"]
