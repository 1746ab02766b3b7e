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


class InferenceServiceWish(Struct, frozen=True, kw_only=True):
    """How an InferenceService of KServe should look.

    ``mode``: ``standard`` (Deployments) or ``knative``. ``storage_uri``: where KServe finds the
    model in MLflow's layout, '' for this server's S3 gateway. ``canary``: the percentage of the
    traffic for a version while the one before has the rest (Knative). ``min_replicas`` 0 scales to
    zero (Knative). ``cpu`` and ``memory`` are quantities of Kubernetes, requested and as limits.
    ``image``: an image of ``clew image`` that serves it, with the functions around its model and
    what they need, in place of a runtime that reads the model.
    """

    mode: str = "standard"
    name: str = ""
    namespace: str = ""
    storage_uri: str = ""
    service_account: str = ""
    runtime: str = ""
    canary: int = 0
    min_replicas: int = 1
    max_replicas: int = 0
    cpu: str = ""
    memory: str = ""
    image: str = ""


class ImageWish(Struct, frozen=True, kw_only=True):
    """How an image of a model should look.

    ``base``: the image that it stands on, with Python and pip; '' for the official one of the
    server's version of Python. ``name``: what it is called; '' for that of the subject. ``port``:
    where its server listens.
    """

    base: str = ""
    name: str = ""
    port: int = 8080


class ImageFile(Struct, frozen=True, kw_only=True):
    """One file of what is served: its path, the SHA-256 of its bytes, and where it is committed."""

    path: str
    sha256: str
    size_bytes: int
    address: str = ""


class ImageEndpoint(Struct, frozen=True, kw_only=True):
    """An endpoint as an image serves it: a revision ('' where a version was named) and its files.

    ``endpoint`` is the name under which it answers. ``model`` and ``model_version`` are '' for a
    graph, whose ``version`` is that of its definition; ``commit`` has its files.
    """

    endpoint: str
    revision: str
    number: int
    model: str
    model_version: str
    version: str
    commit: str
    global_id: str
    files: tuple[ImageFile, ...]

    @property
    def title(self) -> str:
        """What is served, in a few words."""
        return f"{self.model}@{self.version}" if self.model else f"graph {self.version}"


class ImageManifest(ImageEndpoint, frozen=True, kw_only=True):
    """What an image serves: an endpoint, and ``nodes``, those that it asks where it is a graph."""

    nodes: tuple[ImageEndpoint, ...] = ()

    @property
    def places(self) -> dict[str, ImageEndpoint]:
        """Every endpoint by the directory that has its files, below that of the manifest."""
        return {"files": self, **{f"nodes/{at}": one for at, one in enumerate(self.nodes)}}


class ImageContext(Struct, frozen=True, kw_only=True):
    """A build context: ``texts`` by path, and below ``/model`` the files of what is served, where
    the manifest places them. ``clew``: the version of Clew whose code belongs below ``/src``.
    """

    name: str
    clew: str
    manifest: ImageManifest
    texts: dict[str, str]


class Manifests(Struct, frozen=True, kw_only=True):
    """Objects of Kubernetes in the order in which they are to be applied, as plain data."""

    manifests: tuple[dict[str, Any], ...]
