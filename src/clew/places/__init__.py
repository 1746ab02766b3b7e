"""Where a step runs when not in the server's own environment: uv, programs, sandboxes, images.

Knows nothing of pipelines and jobs; of a step it sees what to run and where its files lie.
"""

from clew.places.commands import DatumOfProgram, Program
from clew.places.definitions import CommandDefinition, RuntimeDefinition
from clew.places.scripts import parts_of, requirement_lines

__all__ = [
    "CommandDefinition",
    "DatumOfProgram",
    "Program",
    "RuntimeDefinition",
    "parts_of",
    "requirement_lines",
]
