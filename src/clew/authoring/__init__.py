"""What a user imports to write a file: it records definitions and runs nothing.

Knows the definitions of the rooms below, not how they are carried out.
"""

from clew.authoring.inputs import cron, cross, group, join, union
from clew.authoring.manifest import Manifest, read_manifests
from clew.authoring.policies import backoff
from clew.authoring.reuse import Pipeline

__all__ = [
    "Manifest",
    "Pipeline",
    "backoff",
    "cron",
    "cross",
    "group",
    "join",
    "read_manifests",
    "union",
]
