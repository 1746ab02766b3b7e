"""A workspace with one small project, for rules of keys: what counts, what was read, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from clew.base.records import Datum, Job
from clew.base.settings import Settings
from clew.testing.postgres import database_url
from clew.workspace import Workspace, open_workspace


def _database(home: Path) -> str:
    """PostgreSQL where the tests run on it, else the file in the home."""
    url = database_url(home)
    return "" if url.startswith("sqlite") else url


class Shop:
    """A project on disk and the workspace that it is applied to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "project"
        self.directory.mkdir(parents=True)
        home = directory / "home"
        self.clew: Workspace = open_workspace(
            Settings(home=home, workers=2, db=_database(home)), create=True
        )

    def write(self, files: Mapping[str, str] | str) -> Path:
        """Files of the project; a text is that of ``flow.py``."""
        for name, text in ({"flow.py": files} if isinstance(files, str) else files).items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))
        return self.directory / "flow.py"

    def apply(self, files: Mapping[str, str] | str) -> tuple[str, ...]:
        """Apply, and run all that follows; the notes."""
        (applied,) = self.clew.apply(self.write(files))
        self.clew.wait()
        return applied.notes

    def put(self, repo: str = "p/raw", **files: str) -> None:
        """Commit files, each called after its keyword, and run all that follows."""
        self.clew.put(repo, {f"/{name}.txt": text.encode() for name, text in files.items()})
        self.clew.wait()

    def last(self, step: str = "f") -> Job:
        """The newest job of a step."""
        return next(job for job in self.clew.jobs() if job.step == step)

    def datums(self, step: str = "f") -> dict[str, Datum]:
        """Datums of the newest job, by the name of their first file."""
        found = self.clew.datums(self.last(step).id)
        return {Path(datum.inputs[0][0]).stem: datum for datum in found}

    def ran(self, step: str = "f") -> int:
        """How many datums the newest job ran."""
        return self.last(step).done


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.clew.close()


@pytest.fixture(scope="module")
def one_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One for all tests of a file, each with steps or pipelines of its own."""
    made = Shop(tmp_path_factory.mktemp("shop"))
    yield made
    made.clew.close()
