"""A project of Clew for an experiment of Determined: the context directory, and a file of ours.

Knows directories and what Determined leaves out of them; nothing of workspaces.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from clew.base.errors import Invalid, NotFound
from clew.base.ids import new_id
from clew.base.project import Files
from clew.determined.configuring import determined_of
from clew.determined.definitions import CONFIG, ENTRY, HARNESS
from clew.determined.reading import read_config

MOST_BYTES = 95 << 20
"""What Determined takes as a context directory."""

_REQUIREMENTS = "requirements.txt"
_SKIPPED = frozenset({".git", "__pycache__", ".clew"})
_TEXT = '''\
"""Written by `clew det run` ({run}): the experiment whose configuration stands beside this."""

import json
from pathlib import Path

import clew
from clew.determined import run_task

pipeline = clew.Pipeline({name!r}, description={description!r})
trials = pipeline.determined(
    run_task,
    json.loads(Path(__file__).with_name({config!r}).read_text()),
    requirements={requirements!r},
    python={python!r},
)
'''


class Borrowed(Struct, frozen=True, kw_only=True):
    """What to apply, the pipeline that it is, and what people should know of it."""

    files: Files
    pipeline: str
    notes: tuple[str, ...]


def project_of(
    config: Path,
    context: Path,
    changes: Sequence[str] = (),
    requirements: Sequence[str] = (),
    python: str = "",
) -> Borrowed:
    """The project of an experiment; ``requirements`` besides those of the context directory.

    Raises:
        NotFound: ``file.unknown``.
        Invalid: ``determined.config``, ``determined.unsupported``, ``determined.context``.
        Unavailable: ``extra.missing``.
    """
    given = read_config(config, changes)
    found = determined_of(given)
    files = {name: path.read_bytes() for name, path in _context(context)}
    own = [f"-r {_REQUIREMENTS}"] if _REQUIREMENTS in files else []
    lines = [HARNESS, *own, *requirements]
    files[CONFIG] = json.dumps(given, indent=1, sort_keys=True, default=str).encode()
    files[ENTRY] = _TEXT.format(
        run=new_id(),  # each call is an experiment of its own
        name=found.name,
        description=found.description,
        config=CONFIG,
        requirements=lines,
        python=python,
    ).encode()
    ordered = dict(sorted(files.items(), key=lambda item: item[0].encode()))
    return Borrowed(
        files=Files(content=ordered, entry=ENTRY), pipeline=found.name, notes=found.notes
    )


def _context(directory: Path) -> Iterator[tuple[str, Path]]:
    """The files of a context directory, without what ``.detignore`` names."""
    if not directory.is_dir():
        raise NotFound(
            "file.unknown",
            f"There is no directory {directory}.",
            hint="Name the directory with the code of the trials.",
        )
    ignored, total = _ignored(directory), 0
    for place, names, files in os.walk(directory):
        here = Path(place)
        names[:] = sorted(
            name for name in names if name not in _SKIPPED
            and not (here / name / "pyvenv.cfg").exists()
            and not _matches(ignored, here / name, directory, is_directory=True)
        )  # fmt: skip
        for name in sorted(files):
            path = here / name
            if not path.is_file() or _matches(ignored, path, directory, is_directory=False):
                continue
            total += path.stat().st_size
            if total > MOST_BYTES:
                raise Invalid(
                    "determined.context",
                    f"{directory} has more than {MOST_BYTES >> 20} MiB of files.",
                    hint="Keep data elsewhere, or name it in .detignore there.",
                )
            yield path.relative_to(directory).as_posix(), path


def _ignored(directory: Path) -> list[str]:
    file = directory / ".detignore"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _matches(patterns: Sequence[str], path: Path, root: Path, *, is_directory: bool) -> bool:
    """By the rules of ``.gitignore``: the last line that matches has the word."""
    name = path.relative_to(root).as_posix()
    found = False
    for line in patterns:
        wanted = not line.startswith("!")
        pattern = line.removeprefix("!")
        if pattern.endswith("/") and not is_directory:
            continue
        pattern = pattern.rstrip("/")
        whole = name if "/" in pattern else path.name
        if fnmatch.fnmatchcase(whole, pattern.lstrip("/")):
            found = wanted
    return found
