"""Where and as what a step runs, as values: a program in place of a function, an environment.

Knows nothing of pipelines; a definition travels as JSON inside that of a step.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class CommandDefinition(Struct, frozen=True, kw_only=True):
    """A program that runs over directories, one datum at a time.

    ``arguments`` are the program and what it is given; with ``shell`` there is one, a text for
    ``/bin/sh -c``. ``stdin`` names the input whose files are fed to standard input, one after
    another; ``stdout`` the file of the output that standard output becomes (``{name}`` in it is
    the name of the datum; '' keeps it in the log). Files of the inputs in ``pipes`` are named
    pipes, read once from start to end and never copied to disk. Any of ``exit_codes`` is success.
    """

    arguments: tuple[str, ...]
    shell: bool = False
    stdin: str = ""
    stdout: str = ""
    pipes: tuple[str, ...] = ()
    exit_codes: tuple[int, ...] = (0,)
    environment: dict[str, str] = field(default_factory=dict)


class RuntimeDefinition(Struct, frozen=True, kw_only=True):
    """What a step runs in, where that is not the environment of the server.

    ``requirements`` are lines of a requirements file, as the user wrote them, ``lock`` what they
    were resolved to; ``python`` is a version (``3.12``) or the path of an interpreter. ``image`` is
    a container image as written, ``pinned`` the digest that its name meant when the pipeline was
    applied. ``sandbox`` and ``image`` have no network without ``network``. ``cpus`` is how many
    cores a datum may use.
    """

    requirements: tuple[str, ...] = ()
    lock: str = ""
    python: str = ""
    sandbox: bool = False
    network: bool = False
    image: str = ""
    pinned: str = ""
    cpus: int | None = None

    @property
    def own_environment(self) -> bool:
        """Whether the step has a Python environment of its own."""
        return bool(self.requirements or self.python)

    @property
    def elsewhere(self) -> bool:
        """Whether anything of it has to be found on this machine before the step can run."""
        return self.own_environment or self.sandbox or bool(self.image)

    def key_material(self) -> dict[str, Any]:
        """What of it counts for results besides the versions of what is installed."""
        return {name: True for name in ("sandbox", "network") if getattr(self, name)}
