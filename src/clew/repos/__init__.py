"""Versions of data: repos, branches, commits, what is in them, and typed values as files.

Knows nothing of why a commit is made: steps, models and logs all come in by the same door.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.repos.codecs import Codec, dump_value, load_value, register_codec
from clew.repos.files import File
from clew.repos.globs import Glob, glob_match

if TYPE_CHECKING:
    from clew.repos.history import LogFilter
    from clew.repos.repos import Repos
    from clew.repos.scanning import Scans
    from clew.repos.staging import RepoChange

__all__ = [
    "Codec",
    "File",
    "Glob",
    "LogFilter",
    "RepoChange",
    "Repos",
    "Scans",
    "dump_value",
    "glob_match",
    "load_value",
    "register_codec",
]

__getattr__ = on_demand(
    __name__,
    {
        "LogFilter": "history",
        "Repos": "repos",
        "RepoChange": "staging",
        "Scans": "scanning",
    },
)
