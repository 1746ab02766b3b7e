"""Settings: read once at the door, frozen, passed in.

Knows which settings there are and what they mean; nobody below ``workspace`` reads the
environment. The environment comes first, then ``config.toml`` in the home, which ``clew init``
writes.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from clew.base.durations import seconds
from clew.base.errors import Invalid

CONFIG_NAME = "config.toml"
VARIABLES = {
    "CLEW_URL": "URL of a server to work on, instead of the workspace in this directory",
    "CLEW_TOKEN": "bearer token for that server (and the token that `clew server` asks for)",
    "CLEW_HOME": "directory of the workspace, instead of the nearest .clew/ at or above here",
    "CLEW_DB": "where the rows are: postgresql://user@host/database",
    "CLEW_STORE": "where the bytes are: s3://bucket/prefix, or a directory",
    "CLEW_WORKERS": "number of worker processes (default: one per core)",
    "CLEW_COMPUTE": "where user code runs: ray://auto, ray://HOST:10001 (default: this machine)",
    "CLEW_SERVING": "where endpoints are served: ray?min=1&max=4, ray://HOST:10001 (default: here)",
    "CLEW_POOLS": "resource pools with their slots: 'train=cpu:2,gpu:0,gpu:1; night=cpu:1'",
    "CLEW_JOBS": "number of jobs that run at once (default: 16)",
    "CLEW_AUTOLOG": "off: MLflow does not log by itself what steps, trials and notebooks train",
    "CLEW_LOGS": "json: serving processes log lines of JSON (default: text)",
    "CLEW_TRACES": "on: a span for each inference request goes to OTEL_EXPORTER_OTLP_ENDPOINT",
    "CLEW_ENVIRONMENTS": "directory of the environments that steps and models have of their own",
    "CLEW_TLS_CERTIFICATE": "file with the certificate (PEM) of `clew server`: it speaks TLS",
    "CLEW_TLS_KEY": "file with the key of that certificate",
    "CLEW_CA": "file with authorities (PEM) that clients trust beside those of the system",
    "CLEW_KEEP_LOGS": "how long logs of jobs are kept, such as 30d (default: for ever)",
    "CLEW_KEEP_FEEDBACK": "how long committed feedback stays in rows, such as 90d (default: ever)",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a process may be told. ``home`` is the ``.clew`` directory of the workspace.

    ``db`` and ``store`` are '' where rows or bytes are in the home; ``workspace`` is the id that
    the database must have, '' where that is not known.
    """

    home: Path
    url: str = ""
    token: str = ""
    workers: int = 0
    """Worker processes; 0 means one per core."""
    jobs: int = 16
    """How many jobs run at once."""
    keep_logs_s: float = 0.0
    """How long the log of a job that has ended is kept; 0 means for ever."""
    keep_feedback_s: float = 0.0
    """How long feedback that is committed stays in rows too; 0 means for ever."""
    json_logs: bool = False
    """Whether serving processes log lines of JSON."""
    traces: bool = False
    """Whether serving processes send a span for each request."""
    pools: str = ""
    """Resource pools with their slots, as ``clew.base.pools`` reads them."""
    compute: str = ""
    """Where user code runs: the address of a Ray cluster; '' is this machine."""
    serving: str = ""
    """Where ``clew server`` has endpoints served: on a Ray cluster; '' is this machine."""
    environments: str = ""
    """Where environments of steps and models are built; '' is in the home."""
    tls_certificate: str = ""
    tls_key: str = ""
    """Files of the certificate that ``clew server`` shows, and of its key; '': no TLS."""
    ca: str = ""
    """File with authorities that clients trust beside those of the system."""
    autolog: bool = True
    """Whether training in workers is logged by itself, where a server carries MLflow."""
    db: str = field(default="", repr=False)
    store: str = field(default="", repr=False)
    workspace: str = ""

    @property
    def made(self) -> bool:
        """Whether there is a workspace to open, as far as can be seen without asking a server."""
        files = ("clew.db", CONFIG_NAME)
        return bool(self.db) or any((self.home / file).exists() for file in files)

    @property
    def database_url(self) -> str:
        """Where the rows are."""
        return self.db or f"sqlite:///{self.home / 'clew.db'}"

    @property
    def store_address(self) -> str:
        """Where the bytes are: a URL, or the path of a directory."""
        return self.store or str(self.home / "store")

    @property
    def environments_path(self) -> Path:
        """Where environments of steps and models are built."""
        return Path(self.environments or self.home / "cache" / "environments").absolute()

    @property
    def worker_count(self) -> int:
        """How many worker processes to run."""
        return self.workers or max(2, os.cpu_count() or 1)


def read_settings(environ: Mapping[str, str], directory: Path) -> Settings:
    """Settings for a process that works in ``directory``.

    The home is CLEW_HOME, else the nearest ``.clew`` at or above ``directory``, else
    ``directory/.clew`` (which need not exist).

    Raises:
        Invalid: ``settings.invalid`` for a value or a file that cannot be read.
    """
    workers, jobs = environ.get("CLEW_WORKERS", "0"), environ.get("CLEW_JOBS", "16")
    for name, value in (("CLEW_WORKERS", workers), ("CLEW_JOBS", jobs)):
        if not value.isdigit() or (name == "CLEW_JOBS" and int(value) == 0):
            raise Invalid(
                "settings.invalid",
                f"{name} is {value!r}.",
                hint=f"Set it to a whole number of {name[5:].lower()}, or unset it.",
            )
    named = environ.get("CLEW_HOME", "")
    home = Path(named).absolute() if named else _nearest_home(directory.absolute())
    config = _read_config(home / CONFIG_NAME)
    db, store = environ.get("CLEW_DB", ""), environ.get("CLEW_STORE", "")
    return Settings(
        home=home,
        url=environ.get("CLEW_URL", "").rstrip("/"),
        token=environ.get("CLEW_TOKEN", ""),
        workers=int(workers),
        jobs=int(jobs),
        environments=environ.get("CLEW_ENVIRONMENTS", ""),
        tls_certificate=environ.get("CLEW_TLS_CERTIFICATE", ""),
        tls_key=environ.get("CLEW_TLS_KEY", ""),
        ca=environ.get("CLEW_CA", ""),
        autolog=environ.get("CLEW_AUTOLOG", "on").lower() != "off",
        json_logs=environ.get("CLEW_LOGS", "").lower() == "json",
        traces=environ.get("CLEW_TRACES", "off").lower() == "on",
        keep_logs_s=_span(environ.get("CLEW_KEEP_LOGS", ""), "CLEW_KEEP_LOGS"),
        keep_feedback_s=_span(environ.get("CLEW_KEEP_FEEDBACK", ""), "CLEW_KEEP_FEEDBACK"),
        pools=environ.get("CLEW_POOLS", "") or config.get("pools", ""),
        db=expand(db or config.get("db", ""), environ),
        store=expand(store or config.get("store", ""), environ),
        compute=expand(environ.get("CLEW_COMPUTE", "") or config.get("compute", ""), environ),
        serving=expand(environ.get("CLEW_SERVING", "") or config.get("serving", ""), environ),
        # Another database than the one that was written down may hold another workspace.
        workspace="" if db else config.get("workspace", ""),
    )


def _span(text: str, name: str) -> float:
    try:
        return seconds(text, name) if text else 0.0
    except Invalid as error:
        raise Invalid(
            "settings.invalid", f"{name} is {text!r}.", hint='Write such as "30d", or unset it.'
        ) from error


def write_config(home: Path, *, workspace: str, db: str, store: str) -> Path:
    """Keep where rows and bytes are for the commands to come; readable by its owner alone.

    ``${NAME}`` in a value is not replaced: each process takes it from its own environment.
    """
    lines = [
        "# Written by `clew init`. CLEW_DB, CLEW_STORE and CLEW_COMPUTE come first;",
        "# ${NAME} is taken from the environment.",
        f"workspace = {json.dumps(workspace)}",
        *([f"db = {json.dumps(db)}"] if db else []),
        *([f"store = {json.dumps(store)}"] if store else []),
    ]
    file, temporary = home / CONFIG_NAME, home / f"{CONFIG_NAME}.{os.getpid()}"
    temporary.touch(mode=0o600)
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(file)
    return file


def expand(text: str, environ: Mapping[str, str]) -> str:
    """``text`` with every ``${NAME}`` replaced from ``environ``.

    Raises:
        Invalid: ``settings.invalid`` naming a variable that is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise Invalid(
                "settings.invalid",
                f"A setting needs {match[1]} from the environment, which is not set.",
                hint=f"Set it: export {match[1]}=…",
            )
        return environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, text)


def shown(address: str) -> str:
    """An address as it may be printed: no password, and no query, which may hold one."""
    parts = urlsplit(address)
    if not parts.scheme:
        return address
    user, at, host = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"


def _read_config(file: Path) -> dict[str, str]:
    try:
        config = tomllib.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise _bad_config(file, str(error)) from error
    if not all(isinstance(value, str) for value in config.values()):
        raise _bad_config(file, "every value has to be a text")
    return config


def _bad_config(file: Path, what: str) -> Invalid:
    return Invalid(
        "settings.invalid",
        f"{file} cannot be read: {what}.",
        hint="Mend it: workspace, db, store, compute and pools are texts.",
    )


def _nearest_home(directory: Path) -> Path:
    for place in (directory, *directory.parents):
        if (place / ".clew").is_dir():
            return place / ".clew"
    return directory / ".clew"
