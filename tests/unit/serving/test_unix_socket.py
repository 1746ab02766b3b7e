"""A Unix socket beside the port: the same protocol, for the owner alone, over every end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from http.client import HTTPConnection
from pathlib import Path

import pytest

from clew.base.errors import Invalid, NotFound, Unavailable
from clew.serving import RemoteModel
from clew.serving.unix import UnixSocket

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}
)


class Over(HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.path)

    def ask(self, method, target, body=None):
        self.request(method, target, body)
        answer = self.getresponse()
        return answer, json.loads(answer.read())


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="clew") as short:  # a path has 107 bytes, not more
        yield Path(short) / "clew.sock"


@pytest.fixture
def served_at(workspace, laws, path):
    def made(law=None, **more):
        workspace.endpoint()
        workspace.deploy(law or laws.matrix(), version="7")
        return workspace.serve(unix_path=path, **more)

    return made


def test_all_that_is_answered_over_tcp_is_answered_over_the_socket(served_at, workspace, path):
    process = served_at()
    assert process.unix_url == f"unix://{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    over = Over(path)
    try:
        for _ in range(2):  # on one connection
            answer, body = over.ask("POST", "/v2/models/e/infer", BODY)
            assert (answer.status, body["outputs"][0]["data"]) == (200, [6.0])
        assert workspace.serving.find_prediction(answer.headers["clew-prediction-id"])
        v1 = json.dumps({"instances": [[1, 2, 3]]})
        assert over.ask("POST", "/v1/models/e:predict", v1)[1]["predictions"] == [6.0]
        assert over.ask("GET", "/v2/models/e")[1]["versions"] == ["7"]
        assert over.ask("GET", "/v2/models/nobody")[0].status == 404
    finally:
        over.close()
    if curl := shutil.which("curl"):
        asked = [curl, "-sS", "--unix-socket", path, "-d", BODY, "http://x/v2/models/e/infer"]
        said = subprocess.run(asked, check=True, capture_output=True, timeout=30).stdout
        assert json.loads(said)["outputs"][0]["data"] == [6.0]
    process.stop()
    assert not path.exists()


def test_a_model_at_an_address_is_asked_as_one_in_memory_also_when_its_process_is_another(
    served_at, workspace, path
):
    process = served_at()
    for at in (process.unix_url, process.url):
        with RemoteModel("e", at) as model:
            found = model.predict([[1, 2, 3], [1, 1, 1]])
            assert found.outputs == {"prediction": [6.0, 3.0]}
            assert found.model_version == model.model_version
            assert (model.platform, model.inputs[0]["shape"]) == ("clew_numpy", [-1, 3])
            with pytest.raises(Invalid, match="shape") as refused:
                model.predict([[1, 2]])
            assert refused.value.code == "predict.refused"
    (pid,) = process.pids
    with RemoteModel("e", process.unix_url) as model:
        os.kill(pid, signal.SIGTERM)
        workspace.wait(lambda: process.pids not in ([], [pid]))
        assert model.predict([[1, 2, 3]]).outputs == {"prediction": [6.0]}
    with pytest.raises(NotFound, match="nobody"):
        RemoteModel("nobody", process.unix_url)
    process.stop()
    with pytest.raises(Unavailable) as silent:
        RemoteModel("e", process.unix_url)
    assert silent.value.code == "endpoint.unreachable"
    for wrong in ("unix:clew.sock", "clew.sock", "ftp://x"):
        with pytest.raises(Invalid) as refused:
            RemoteModel("e", wrong)
        assert refused.value.code == "load.address"


@pytest.mark.slow
def test_two_processes_share_the_socket_and_the_token_is_asked_for(served_at, workspace, path):
    process = served_at(processes=2, token="secret")
    over = Over(path)
    try:
        assert over.ask("GET", "/v2")[0].status == 401
    finally:
        over.close()
    gone = process.pids[0]
    os.kill(gone, signal.SIGTERM)
    workspace.wait(lambda: gone not in process.pids and len(process.pids) == 2)
    with RemoteModel("e", process.unix_url, token="secret") as model:
        assert model.predict([[1, 2, 3]]).outputs == {"prediction": [6.0]}


def test_what_a_killed_server_left_is_replaced_and_what_somebody_uses_is_not(path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    first = UnixSocket.listen(path)
    with pytest.raises(Unavailable) as refused:
        UnixSocket.listen(path)
    assert refused.value.code == "socket.in_use"
    path.unlink()
    second = UnixSocket.listen(path)
    first.close()  # it is not its path any more
    assert path.is_socket()
    second.close()
    second.close()
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "error", "code"),
    [
        ("x" * 200, Invalid, "socket.too_long"),
        ("nowhere/clew.sock", Unavailable, "socket.unusable"),
        ("a_file", Invalid, "socket.not_one"),
    ],
)
def test_a_path_that_cannot_be_a_socket_is_told(tmp_path, name, error, code):
    (tmp_path / "a_file").write_text("something else")
    with pytest.raises(error) as refused:
        UnixSocket.listen(tmp_path / name)
    assert refused.value.code == code
    assert refused.value.hint
    assert (tmp_path / "a_file").read_text() == "something else"


def test_a_server_that_cannot_listen_there_leaves_nothing_behind(workspace):
    with pytest.raises(Invalid):
        workspace.serve(unix_path=Path("/" + "x" * 200), grpc_port=0)
