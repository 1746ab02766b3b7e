"""Ready-made projects, copied where a user works.

Knows where templates lie; what is in them is theirs.
"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path


def copy_template(name: str, directory: Path) -> list[Path]:
    """Copy a ready-made project; files that are there already are left alone and not named."""
    root = resources.files("clew.templates") / name
    written: list[Path] = []
    with resources.as_file(root) as source:
        for file in sorted(source.rglob("*")):
            target = directory / file.relative_to(source)
            if file.is_dir() or target.exists() or "__pycache__" in file.parts:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            written.append(target)
    return written
