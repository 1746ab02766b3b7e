"""Experiment configurations as people write them: YAML, with changes from a command line.

The one file that knows a library for YAML; what the fields mean is for ``configuring``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from clew.base.errors import Invalid, NotFound, Unavailable


def read_config(file: Path, changes: Iterable[str] = ()) -> dict[str, Any]:
    """The configuration in a file, with ``a.b=value`` (the value is YAML) put in its place.

    Raises:
        NotFound: ``file.unknown``.
        Invalid: ``determined.config`` for what is no YAML, or no mapping.
        Unavailable: ``extra.missing`` without PyYAML.
    """
    if not file.is_file():
        raise NotFound(
            "file.unknown",
            f"There is no file {file}.",
            hint="Name the experiment configuration: clew det run experiment.yaml CONTEXT_DIR",
        )
    found = parse(file.read_text(), str(file))
    if not isinstance(found, dict):
        raise Invalid(
            "determined.config",
            f"{file} is a {type(found).__name__}, not an experiment configuration.",
            hint="It is a mapping with name, entrypoint, searcher, ….",
        )
    for change in changes:
        _put(found, change)
    return found


def parse(text: str, where: str) -> Any:
    """The value that a text of YAML stands for. Raises as :func:`read_config`."""
    try:
        yaml: Any = import_module("yaml")
    except ModuleNotFoundError as error:
        raise Unavailable(
            "extra.missing",
            "Experiment configurations are YAML, and PyYAML is not installed.",
            hint='pip install "clew[determined]"',
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Invalid(
            "determined.config", f"{where} is not YAML: {error}", hint="Correct that line."
        ) from error


def _put(config: dict[str, Any], change: str) -> None:
    name, given, value = change.partition("=")
    if not given:
        raise Invalid(
            "determined.config", f"--config {change} has no value.", hint="Write name.below=value."
        )
    *above, last = name.strip().split(".")
    place = config
    for one in above:
        below = place.setdefault(one, {})
        if not isinstance(below, Mapping):
            raise Invalid(
                "determined.config",
                f"--config {change}: {one} is {below!r}, with nothing below it.",
                hint="Give the whole of it: --config 'searcher={name: single, metric: loss}'",
            )
        place = below if isinstance(below, dict) else dict(below)
    place[last] = parse(value, f"--config {name}")
