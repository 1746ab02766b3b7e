"""A server of this directory that ends: who comes then waits for that, and works on the files."""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

import clew
from clew.base.errors import Unavailable
from clew.base.running import RunningServer, announce_server, withdraw_server
from clew.base.settings import Settings
from clew.client import RemoteWorkspace
from clew.sdk import connect
from clew.workspace import Workspace, open_workspace


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace beside which a process of a server lives that listens no more."""
    home = tmp_path / ".clew"
    open_workspace(Settings(home=home), create=True).close()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    announce_server(home, RunningServer(pid=os.getpid(), url=f"http://127.0.0.1:{port}"))
    return home


def test_a_server_that_is_about_to_end_is_waited_for(home: Path) -> None:
    found = []

    def come() -> None:
        with closing(connect(directory=home.parent)) as verbs:
            found.append((type(verbs), verbs.repos()))

    thread = threading.Thread(target=come)
    thread.start()
    thread.join(0.3)
    withdraw_server(home)
    thread.join(60)
    assert found == [(Workspace, [])]


def test_a_process_that_never_listens_is_not_waited_for_for_ever(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["clew.sdk.connect"], "ENDING_S", 0.1)
    with closing(connect(directory=home.parent)) as verbs:
        assert isinstance(verbs, Workspace)


def test_a_server_that_is_named_is_not_waited_for(home: Path) -> None:
    with closing(clew.connect("http://127.0.0.1:9")) as verbs:
        assert isinstance(verbs, RemoteWorkspace)
        with pytest.raises(Unavailable) as raised:
            verbs.repos()
    assert (raised.value.code, "CLEW_URL" in raised.value.hint) == ("server.unreachable", True)


def test_one_that_ends_while_it_is_asked_leaves_the_files_as_the_next_step(home: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        announce_server(home, RunningServer(pid=os.getpid(), url=url))
        verbs = connect(directory=home.parent)
    with closing(verbs), pytest.raises(Unavailable) as raised:
        verbs.repos()
    assert "works on its files" in raised.value.hint
