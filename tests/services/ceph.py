"""A real S3 server for tests: Debian's radosgw over a monitor and an OSD in memory.

Run as a program it serves until its standard input closes, and prints the URL once it answers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool")
ACCESS_KEY, SECRET_KEY = "clewaccess", "clewsecret"
CONFIG = """
[global]
fsid = {fsid}
run dir = {home}/run
admin socket = {home}/run/$name.asok
log file = {home}/$name.log
pid file = {home}/run/$name.pid
crash dir = {home}/run
mon host = [v2:127.0.0.1:{mon},v1:127.0.0.1:{old}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
auth allow insecure global id reclaim = false
keyring = {home}/keyring
[mon]
mon data = {home}/mon
mon data avail crit = 1
mon data avail warn = 2
mon initial members = a
[osd]
osd data = {home}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw]
rgw data = {home}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw run sync thread = false
rgw enable usage log = false
rgw multipart min part size = 5242880
"""


def missing() -> str:
    """What is not installed here, or nothing."""
    gone = [name for name in PROGRAMS if shutil.which(name) is None]
    return (
        f"{', '.join(gone)} not installed (Debian: apt-get install radosgw ceph-mon ceph-osd)"
        if gone
        else ""
    )


def main() -> None:
    """Serve until standard input closes; say what is missing where that cannot be."""
    if gone := missing():
        print(gone, flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="clew-ceph-") as directory:
        home = Path(directory)
        daemons: list[subprocess.Popen[bytes]] = []
        try:
            print(_start(home, daemons), flush=True)
            sys.stdin.read()
        finally:
            for daemon in reversed(daemons):
                daemon.kill()
                daemon.wait()


def _start(home: Path, daemons: list[subprocess.Popen[bytes]]) -> str:
    for name in ("mon", "osd", "rgw", "run"):
        (home / name).mkdir()
    mon, old, port = _free_ports(3)
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    config = home / "ceph.conf"
    config.write_text(CONFIG.format(home=home, fsid=fsid, mon=mon, old=old, port=port))
    os.environ["CEPH_CONF"] = str(config)
    keys = home / "keyring"
    _key(keys, "mon.", "mon", "allow *")
    _key(keys, "client.admin", "mon", "allow *", "osd", "allow *", "mds", "allow *")
    _key(keys, "client.rgw", "mon", "allow *", "osd", "allow *")
    _key(keys, "osd.0", "mon", "allow profile osd", "osd", "allow *")
    address = f"[v2:127.0.0.1:{mon},v1:127.0.0.1:{old}]"
    monmap = str(home / "monmap")
    _run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
    _run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", str(keys))
    daemons.append(_daemon(home, "ceph-mon", "-i", "a"))
    _run("ceph", "osd", "new", osd, "0")
    _run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
    daemons.append(_daemon(home, "ceph-osd", "-i", "0"))
    daemons.append(_daemon(home, "radosgw", "-n", "client.rgw"))
    url = f"http://127.0.0.1:{port}"
    _wait(url, daemons)
    _run(
        *("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=clew"),
        *("--display-name=clew", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"),
    )
    return url


def _key(keys: Path, name: str, *caps: str) -> None:
    pairs = zip(caps[::2], caps[1::2], strict=True)
    flags = [flag for service, may in pairs for flag in ("--cap", service, may)]
    create = [] if keys.exists() else ["--create-keyring"]
    _run("ceph-authtool", *create, str(keys), "--gen-key", "-n", name, *flags)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{(done.stdout + done.stderr).decode()}")


def _daemon(home: Path, *command: str) -> subprocess.Popen[bytes]:
    with (home / f"{command[0]}.out").open("wb") as out:
        return subprocess.Popen(
            [*command, "-f"], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )


def _wait(url: str, daemons: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 90
    while True:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
            raise SystemExit(f"No answer from {url}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    main()
