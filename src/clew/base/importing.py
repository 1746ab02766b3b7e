"""What of a disk belongs to an import, by where it goes in a repo.

Knows paths alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clew.base.errors import NotFound
from clew.base.records.imports import EXAMPLE_DIRECTORY, MODEL_DIRECTORY, REMOTE


def source_files(source: str, example: str) -> Mapping[str, Path]:
    """What of a disk belongs to an import, by its path in the repo.

    Raises:
        NotFound: ``file.missing``.
    """
    files: dict[str, Path] = {}
    if not source.startswith(REMOTE):
        place = _there(source)
        name = "" if place.is_dir() else f"/{place.name}"
        files[f"{MODEL_DIRECTORY}{name}"] = place
    if example:
        rows = _there(example)
        files[f"{EXAMPLE_DIRECTORY}/{rows.name}"] = rows
    return files


def _there(text: str) -> Path:
    place = Path(text)
    if not place.exists():
        raise NotFound("file.missing", f"There is no file {text!r}.", hint="Check the path.")
    return place
