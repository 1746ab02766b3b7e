"""What stands around the model of an endpoint that is watched.

Knows what serving keeps of a request; nothing of distances and reports.
"""

from __future__ import annotations

from collections.abc import Iterator

from clew.monitoring import Around
from clew.serving import EndpointDefinition
from clew.workspace.rooms import Rooms


def around_of(rooms: Rooms, endpoint: str) -> Around:
    """Which columns of the log of an endpoint are not what its model took and gave."""
    definition = rooms.serving.definition(endpoint)
    hidden = set(definition.redact)
    for graph in _asking(rooms, endpoint):
        hidden |= set(graph.redact)
    found = definition.processing
    if found is None:
        return Around(hidden=frozenset(hidden))
    parts = {"inputs": found.preprocess, "outputs": found.postprocess}
    apart = tuple(name for name, function in parts.items() if function)
    return Around(hidden=frozenset(hidden), apart=apart, code=found.code)


def _asking(rooms: Rooms, endpoint: str) -> Iterator[EndpointDefinition]:
    """Graphs that ask an endpoint."""
    for definition in rooms.serving.definitions():
        if definition.graph is not None and endpoint in definition.graph.endpoints:
            yield definition
