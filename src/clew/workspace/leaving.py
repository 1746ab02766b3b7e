"""What a file defined once and defines no more: monitors go, endpoints stay and are told.

Knows manifests and what is registered; it changes nothing.
"""

from __future__ import annotations

from clew.authoring import Manifest
from clew.workspace.rooms import Rooms


def removed_monitors(rooms: Rooms, manifest: Manifest) -> list[str]:
    """Endpoints whose monitor was of this pipeline and is not in its file any more."""
    kept = {monitor.endpoint for monitor in manifest.monitors}
    return [
        monitor.endpoint
        for monitor in rooms.monitoring.list()
        if monitor.pipeline == manifest.pipeline.name and monitor.endpoint not in kept
    ]


def left_out(rooms: Rooms, manifest: Manifest) -> list[str]:
    """Sentences on what is not in the file any more, and what becomes of it.

    An endpoint is not taken down by an edit of a file: somebody may be asking it. It goes on with
    the revision that it has, and follows its model.
    """
    name = manifest.pipeline.name
    monitors = [
        f"The monitor of {endpoint} is defined no more: it is removed, its reports stay."
        for endpoint in removed_monitors(rooms, manifest)
    ]
    kept = {endpoint.name for endpoint in manifest.endpoints}
    endpoints = [
        f"The endpoint {endpoint.name} is defined no more: it is kept and goes on serving."
        for endpoint in rooms.serving.endpoints(name)
        if endpoint.name not in kept
    ]
    return [*monitors, *endpoints]
