"""Settings: read once at the door, frozen, passed in.

Knows which settings there are and what they mean; nobody below ``workspace`` reads the
environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clew.base.errors import Invalid

VARIABLES = {
    "CLEW_URL": "URL of a server to work on, instead of the workspace in this directory",
    "CLEW_TOKEN": "bearer token for that server (and the token that `clew server` asks for)",
    "CLEW_HOME": "directory of the workspace, instead of the nearest .clew/ at or above here",
    "CLEW_WORKERS": "number of worker processes (default: one per core)",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a process may be told. ``home`` is the ``.clew`` directory of the workspace."""

    home: Path
    url: str = ""
    token: str = ""
    workers: int = 0
    """Worker processes; 0 means one per core."""

    @property
    def database_url(self) -> str:
        """Where the rows are."""
        return f"sqlite:///{self.home / 'clew.db'}"

    @property
    def store_path(self) -> Path:
        """Where the bytes are."""
        return self.home / "store"

    @property
    def worker_count(self) -> int:
        """How many worker processes to run."""
        return self.workers or max(2, os.cpu_count() or 1)


def read_settings(environ: Mapping[str, str], directory: Path) -> Settings:
    """Settings for a process that works in ``directory``.

    The home is CLEW_HOME, else the nearest ``.clew`` at or above ``directory``, else
    ``directory/.clew`` (which need not exist).

    Raises:
        Invalid: ``settings.invalid`` for a value that cannot be read.
    """
    workers = environ.get("CLEW_WORKERS", "0")
    if not workers.isdigit():
        raise Invalid(
            "settings.invalid",
            f"CLEW_WORKERS is {workers!r}.",
            hint="Set it to a whole number of processes, or unset it.",
        )
    home = environ.get("CLEW_HOME", "")
    return Settings(
        home=Path(home).absolute() if home else _nearest_home(directory.absolute()),
        url=environ.get("CLEW_URL", "").rstrip("/"),
        token=environ.get("CLEW_TOKEN", ""),
        workers=int(workers),
    )


def _nearest_home(directory: Path) -> Path:
    for place in (directory, *directory.parents):
        if (place / ".clew").is_dir():
            return place / ".clew"
    return directory / ".clew"
