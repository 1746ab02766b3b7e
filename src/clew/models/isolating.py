"""Environments of models: what they hold besides what the user asked for, and how work runs there.

Knows places; nothing of steps, jobs or versions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from clew.base.errors import Invalid
from clew.base.records.environments import OwnEnvironment
from clew.places import Environments

TOOLS = ("cloudpickle", "mlflow-skinny>=3", "pandas", "polars", "pyarrow")
"""What packaging needs where the model is: it is written in MLflow's format there."""

CONVERTERS = ("onnxruntime", "skl2onnx")
"""What makes a quicker form; left out where it does not fit what the user pins."""

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


class Isolating:
    """The part of :class:`clew.models.Models` that knows environments."""

    _environments: Environments | None

    def resolve(
        self, requirements: Sequence[str], python: str, project: Path, *, convert: bool = True
    ) -> OwnEnvironment:
        """The environment of a model: what was asked for, and what packaging needs there.

        ``convert``: with what makes an ONNX form, where that fits.

        Raises:
            Invalid: ``environment.python``, ``environment.unsatisfiable``,
                ``environment.requirements``.
            Unavailable: ``environment.no_uv``, ``environment.offline``.
        """
        assert self._environments is not None, "rooms are wired with environments"
        asked = {_plain(line) for line in requirements}
        tools = [one for one in TOOLS if not _is_asked(one, asked)]
        every = [*requirements, *tools]
        more = [one for one in CONVERTERS if convert and not _is_asked(one, asked)]
        try:
            found = self._environments.resolve([*every, *more], python, project)
        except Invalid as error:
            if not more or error.code != "environment.unsatisfiable":
                raise
            found = self._environments.resolve(every, python, project)
        return OwnEnvironment(
            requirements=tuple(requirements),
            lock=found.lock,
            python=python or found.packages["python"],
            packages=found.packages,
        )

    def program_in(self, own: OwnEnvironment | None) -> tuple[str, ...]:
        """How workers are started in an environment, which is built where it is not there; () for
        that of the server.

        Raises:
            Invalid: ``environment.python``.
            Unavailable: ``environment.no_uv``, ``environment.offline``, ``environment.build``.
        """
        if own is None or self._environments is None:
            return ()
        return self._environments.worker(own.lock, own.python)


def _plain(line: str) -> str:
    found = _NAME.match(line)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else ""


def _is_asked(tool: str, asked: set[str]) -> bool:
    """Whether the user names it; MLflow itself brings its skinny part."""
    name = _plain(tool.partition(">")[0])
    return name in asked or (name == "mlflow-skinny" and "mlflow" in asked)
