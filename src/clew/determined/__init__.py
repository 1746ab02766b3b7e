"""Determined users come in: their experiment configurations, and the master's API for a trial.

Knows searches and trials of Clew; nothing of pipelines, jobs and workspaces.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.determined.configuring import determined_of
from clew.determined.definitions import CONFIG, ENTRY, HARNESS, OPEN_END, Determined, Task

if TYPE_CHECKING:
    from clew.determined.projects import project_of
    from clew.determined.reading import read_config
    from clew.determined.running import run_task

__all__ = [
    "CONFIG",
    "ENTRY",
    "HARNESS",
    "OPEN_END",
    "Determined",
    "Task",
    "determined_of",
    "project_of",
    "read_config",
    "run_task",
]

__getattr__ = on_demand(
    __name__, {"project_of": "projects", "read_config": "reading", "run_task": "running"}
)
