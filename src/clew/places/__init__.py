"""Where a step runs when not in the server's own environment: uv, programs, sandboxes, images.

Knows nothing of pipelines and jobs; of a step it sees what to run and where its files lie.
"""

from clew.places.commands import DatumOfProgram, Program
from clew.places.cores import on_cores
from clew.places.definitions import CommandDefinition, RuntimeDefinition
from clew.places.enclosures import require_sandbox
from clew.places.environments import Environments
from clew.places.images import pin_image
from clew.places.running import surroundings
from clew.places.scripts import parts_of, requirement_lines
from clew.places.uv import find_python

__all__ = [
    "CommandDefinition",
    "DatumOfProgram",
    "Environments",
    "Program",
    "RuntimeDefinition",
    "find_python",
    "on_cores",
    "parts_of",
    "pin_image",
    "require_sandbox",
    "requirement_lines",
    "surroundings",
]
