"""Versions of data: repos, branches, commits, and what is in them.

Knows nothing of why a commit is made: steps, models and logs all come in by the same door.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.repos.files import File, file_of
from clew.repos.globs import Glob, glob_match

if TYPE_CHECKING:
    from clew.repos.history import LogFilter
    from clew.repos.repos import Repos
    from clew.repos.scanning import Scans
    from clew.repos.staging import RepoChange

__all__ = [
    "File",
    "Glob",
    "LogFilter",
    "RepoChange",
    "Repos",
    "Scans",
    "file_of",
    "glob_match",
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
