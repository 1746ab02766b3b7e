"""TLS of a server: pages and API, endpoints and gRPC by one certificate, which may be renewed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

pytest.importorskip("cryptography", reason="it makes the certificates of these tests")
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import clew
from clew.base.errors import ClewError
from clew.base.tls import ServerTls
from clew.client import RemoteWorkspace
from clew.testing.certificates import make_certificate


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An authority, and what it has signed: ``one`` and ``other`` hold, ``old`` held."""
    place = tmp_path_factory.mktemp("certificates")
    authority = make_certificate(place, "authority")
    for name, days in {"one": (-1, 30), "other": (-1, 30), "old": (-9, -2)}.items():
        make_certificate(place, name, signer=authority, days=days)
    return place


@pytest.fixture(scope="module")
def server(files, tmp_path_factory):
    """A whole server with TLS: (its home, the addresses that it said, its certificate)."""
    home = tmp_path_factory.mktemp("home")
    for end in ("pem", "key"):
        shutil.copy(files / f"one.{end}", home / f"shown.{end}")
    environ = {**os.environ, "CLEW_HOME": str(home / ".clew"), "CLEW_TOKEN": "t"}
    run = [sys.executable, "-m", "clew.cli"]
    subprocess.run([*run, "init", "--bare"], cwd=home, env=environ, check=True, capture_output=True)
    command = [*run, "server", "--port", "0", "--serving-port", "0", "--tls-certificate",
               "shown.pem", "--tls-key", "shown.key"]  # fmt: skip
    if HAS_GRPC:
        command += ["--grpc-port", "0"]
    process = subprocess.Popen(command, cwd=home, env=environ, stdout=subprocess.PIPE, text=True)
    said = {}
    for line in process.stdout:
        name, _, rest = line.strip().partition("  ")
        said[name] = rest.split()[0] if rest else ""
        if "Ctrl-C" in line:
            break
    yield home, said
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.stdout.close()
    process.wait()


try:
    import grpc
    import h2  # noqa: F401 - the server needs it

    HAS_GRPC = True
except ImportError:
    HAS_GRPC = False


def trusted(files):
    return ssl.create_default_context(cafile=files / "authority.pem")


def shown_by(url, files):
    """The serial number of the certificate that a server shows."""
    host, port = url.removeprefix("https://").partition("/")[0].split(":")
    with (
        socket.create_connection((host, int(port)), 30) as plain,
        trusted(files).wrap_socket(plain, server_hostname=host) as sock,
    ):
        return sock.getpeercert()["serialNumber"]


def serial(files, name):
    found = x509.load_pem_x509_certificate((files / f"{name}.pem").read_bytes())
    return f"{found.serial_number:X}".zfill(len(f"{found.serial_number:X}") + 1 & ~1)


def test_pages_api_and_endpoints_answer_over_tls_alone(server, files):
    _, said = server
    for url, path in [(said["pages and API"], "/api/v1/health"), (said["endpoints"], "")]:
        address = url.removesuffix("/v2/models") + (path or "/v2/health/live")
        assert address.startswith("https://")
        with urllib.request.urlopen(address, timeout=60, context=trusted(files)) as answer:
            assert answer.status == 200
        plain = address.replace("https", "http", 1)
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(plain, timeout=60)


def test_grpc_answers_over_tls(server, files):
    if not HAS_GRPC:
        pytest.skip('gRPC is not installed: pip install "clew[grpc]"')
    root = grpc.ssl_channel_credentials((files / "authority.pem").read_bytes())
    with grpc.secure_channel(server[1]["gRPC"], root) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", timeout=60) == b"\x08\x01"


def test_clients_trust_the_authority_that_they_are_told_and_no_other(server, files, monkeypatch):
    url = server[1]["pages and API"]
    with pytest.raises(ClewError) as error:
        clew.connect(url, token="t").repos()
    assert error.value.code == "server.untrusted"
    with pytest.raises(ClewError) as error:
        clew.load("nobody", at=server[1]["endpoints"].removesuffix("/v2/models"))
    assert error.value.code == "server.untrusted"
    monkeypatch.setenv("CLEW_CA", str(files / "authority.pem"))
    monkeypatch.setenv("CLEW_TOKEN", "t")
    workspace = clew.connect(url)
    assert workspace.repos() == []
    workspace.close()
    with pytest.raises(ClewError) as error:
        clew.load("nobody", at=server[1]["endpoints"].removesuffix("/v2/models"))
    assert error.value.code == "endpoint.unknown"
    monkeypatch.setenv("CLEW_CA", str(files / "nowhere.pem"))
    with pytest.raises(ClewError) as error:
        clew.connect(url)
    assert error.value.code == "tls.unreadable"


def test_this_machines_own_commands_need_no_authority(server):
    home, _ = server
    note = json.loads((home / ".clew" / "server.json").read_bytes())
    assert note["url"].startswith("http://127.0.0.1:")
    workspace = clew.connect(directory=home)
    assert isinstance(workspace, RemoteWorkspace)
    assert workspace.repos() == []
    assert workspace.endpoints() == []
    workspace.close()


def test_a_certificate_is_shown_anew_when_its_files_change(server, files):
    home, said = server
    addresses = [said["pages and API"], said["endpoints"]]
    before = {shown_by(each, files) for each in addresses}
    assert before == {serial(files, "one")}
    for end in ("key", "pem"):
        shutil.copy(files / f"other.{end}", home / f"new.{end}")
        (home / f"new.{end}").replace(home / f"shown.{end}")
    while {shown_by(each, files) for each in addresses} != {serial(files, "other")}:
        threading.Event().wait(0.05)  # until all processes have looked


WRONG = {
    "no key": ("one.pem", "", "tls.incomplete"),
    "no such file": ("nowhere.pem", "one.key", "tls.unreadable"),
    "no certificate": ("one.key", "one.key", "tls.unreadable"),
    "no PEM": ("text", "one.key", "tls.unreadable"),
    "a key with a password": ("one.pem", "locked.key", "tls.unreadable"),
    "the key of another": ("one.pem", "other.key", "tls.mismatch"),
    "what held until two days ago": ("old.pem", "old.key", "tls.expired"),
}


@pytest.mark.parametrize(("certificate", "key", "code"), WRONG.values(), ids=WRONG)
def test_what_no_client_could_use_is_told_before_anything_begins(files, certificate, key, code):
    (files / "text").write_text("no certificate at all")
    loaded = serialization.load_pem_private_key((files / "one.key").read_bytes(), None)
    (files / "locked.key").write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ClewError) as error:
        ServerTls(str(files / certificate), str(files / key) if key else "")
    assert error.value.code == code
    assert key in error.value.message or certificate in error.value.message or not key


def test_files_that_cannot_be_used_leave_the_certificate_that_is_shown(files, tmp_path, caplog):
    shown = [tmp_path / "shown.pem", tmp_path / "shown.key"]
    for file, name in zip(shown, ("one.pem", "one.key"), strict=True):
        shutil.copy(files / name, file)
    tls = ServerTls(*map(str, shown))
    shown[0].write_text("half of a")
    tls.refresh()
    assert "not replaced" in caplog.text
    assert tls.context.cert_store_stats() is not None
    shutil.copy(files / "other.pem", shown[0])
    tls.refresh()  # its key is not there yet
    shutil.copy(files / "other.key", shown[1])
    tls.refresh()
    assert "was read anew" in caplog.text
