"""The environment that a model was trained in, where that is not the server's.

Plain values that are kept with a version; how environments are made is not known here.
"""

from __future__ import annotations

from msgspec import Struct, field


class OwnEnvironment(Struct, frozen=True, kw_only=True):
    """What is installed in it.

    ``requirements`` are the lines that asked for it, ``lock`` what they were resolved to (a
    requirements file with hashes), ``python`` a version (``3.12``) or the path of an interpreter,
    ``packages`` the versions by distribution, ``python`` among them.
    """

    requirements: tuple[str, ...] = ()
    lock: str = ""
    python: str = ""
    packages: dict[str, str] = field(default_factory=dict)
