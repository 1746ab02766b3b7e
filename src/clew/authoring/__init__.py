"""What a user imports to write a file: it records definitions and runs nothing.

Knows the definitions of the rooms below, not how they are carried out.
"""

from clew.authoring.manifest import GATE_SUFFIX, TEST_SUFFIX, Manifest, read_manifests
from clew.authoring.nodes import Input, Pipeline, Source, Step, Training

__all__ = [
    "GATE_SUFFIX",
    "TEST_SUFFIX",
    "Input",
    "Manifest",
    "Pipeline",
    "Source",
    "Step",
    "Training",
    "read_manifests",
]
