"""Libraries that tell their makers how they are used: from what Clew runs, nobody is told.

Knows the variables that they listen to. Who sets one of them has decided for themselves.
"""

from __future__ import annotations

import os

UNTOLD = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on: names and digests of models
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variables of the environment, before such a library is imported."""


def tell_nobody() -> None:
    """From now on, in this process and those that it starts."""
    for name, value in UNTOLD.items():
        os.environ.setdefault(name, value)
