"""What is asked of an import: which model, under which name, and how it is to be read.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from msgspec import Struct

REMOTE = ("models:/", "runs:/")
"""How the URI of a model begins that MLflow's client fetches."""

SOURCE_SUFFIX = ".source"
MODEL_DIRECTORY = "/model"
EXAMPLE_DIRECTORY = "/example"


class ImportWish(Struct, frozen=True, kw_only=True):
    """A model of another tool that is to become a version of ``name``.

    ``commit``: of the repo ``<name>.source``, with its files below ``/model`` and rows that it
    takes below ``/example``; or ``uri``: of a registry of MLflow's. ``told``: where it came from,
    for people. ``test``: a repo (``repo@branch``) of rows with the column ``target``.

    ``requirements`` and ``python``: an environment of its own, in which it is read and asked;
    ``own_environment``: that which an MLflow model says it needs.
    """

    name: str
    told: str
    commit: str = ""
    uri: str = ""
    registry: str = ""
    trust: bool = False
    test: str = ""
    target: str = ""
    task: str = "auto"
    requirements: tuple[str, ...] = ()
    python: str = ""
    own_environment: bool = False
