"""pip as a program: an environment made where uv is not, in the image of a model.

Knows pip's command line and what a virtual environment is; where environments are kept is for
``environments``.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from clew.base.errors import Unavailable
from clew.places.uv import Interpreter

_NOT_OURS = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"})


def make_by_pip(place: Path, lock: str, python: Interpreter) -> None:
    """A virtual environment at ``place`` with exactly what ``lock`` says. It may be moved, as it is
    asked by its interpreter alone.

    Raises:
        Unavailable: ``environment.build`` with pip's words.
    """
    _run([python.path, "-m", "venv", "--without-pip", str(place)])
    if lock.strip():
        file = place / "clew-lock.txt"
        file.write_text(lock)
        own = str(place / "bin" / "python")
        _run([
            python.path, "-m", "pip", "--python", own, "install", "--no-cache-dir", "--no-deps",
            "--disable-pip-version-check", "--quiet", "--requirement", str(file),
        ])  # fmt: skip


def _run(line: Sequence[str]) -> None:
    given = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=given
    )
    if done.returncode:
        raise Unavailable(
            "environment.build",
            "The environment of the model could not be built.",
            hint=f"pip says:\n{(done.stderr or done.stdout).strip()}",
        )
