"""What is said of work that another system is to run.

Plain values; they know neither system.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

RUNTIME = "torch-distributed"


class TrainJobWish(Struct, frozen=True, kw_only=True):
    """How a TrainJob should look.

    ``image``: with the project's packages and Clew; '' for that of the runtime. ``runtime``: the
    ClusterTrainingRuntime. ``nodes``: pods; 0 for one a rank. ``params``: in place of those of the
    version. ``store``: where pods reach the bytes, '' for the address of this workspace. ``url``:
    where they reach the server; then what was trained is committed to ``pipeline/step.trained``.
    ``secret``: a Secret of the cluster whose keys become variables (the keys of a bucket,
    CLEW_TOKEN), by name of the variable.
    """

    image: str = ""
    runtime: str = RUNTIME
    namespace: str = ""
    name: str = ""
    nodes: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    store: str = ""
    url: str = ""
    secret: str = ""
    secret_keys: tuple[str, ...] = ()


class TrainJob(Struct, frozen=True, kw_only=True):
    """A manifest for Kubernetes, as plain data."""

    manifest: dict[str, Any]
