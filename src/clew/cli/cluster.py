"""Objects given to a Kubernetes cluster, as ``kubectl apply --server-side`` gives them.

Knows manifests as plain data and the cluster that the user's kubeconfig (or the pod) names.
Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from typing import Any

from clew.base.errors import ClewError, Conflict, Denied, Invalid, NotFound, Unavailable

MANAGER = "clew"
_KINDS: dict[int, type[ClewError]] = {
    401: Denied, 403: Denied, 404: NotFound, 409: Conflict, 422: Invalid, 400: Invalid,
}  # fmt: skip


def apply(manifests: Iterable[Mapping[str, Any]], context: str = "") -> Iterator[str]:
    """Apply objects one after the other; of each ``kind/name``, when the cluster has it.

    Raises:
        Unavailable: ``k8s.missing`` (no client installed), ``k8s.unreachable``.
        ClewError: ``k8s.refused``, of the kind that fits the cluster's answer.
    """
    try:
        from kubernetes import client, config, dynamic  # noqa: PLC0415 - an extra, and heavy
        from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415 - as above
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - as above
    except ImportError as error:
        raise Unavailable(
            "k8s.missing",
            "The client of Kubernetes is not installed.",
            hint='pip install "clew[k8s]", or pipe the manifest to kubectl apply -f -',
        ) from error
    what = "to be asked"
    try:
        with redirect_stdout(sys.stderr):  # the client says there what it looks for
            config.load_kube_config(context=context) if context else config.load_config()
        cluster = dynamic.DynamicClient(client.ApiClient())
        for manifest in manifests:
            kind, about = manifest["kind"], manifest["metadata"]
            what = f"{kind}/{about['name']}"
            served = cluster.resources.get(api_version=manifest["apiVersion"], kind=kind)
            cluster.server_side_apply(
                served,
                body=dict(manifest),
                name=about["name"],
                namespace=about.get("namespace") or _namespace(config, context),
                field_manager=MANAGER,
            )
            yield what
    except ConfigException as error:
        raise Unavailable(
            "k8s.unreachable",
            f"No cluster is known here: {error}",
            hint="Set KUBECONFIG, or name a context: --context NAME",
        ) from error
    except dynamic.exceptions.ResourceNotFoundError as error:
        raise NotFound(
            "k8s.refused",
            f"The cluster knows no objects such as {what}: {error}",
            hint="Install KServe there first.",
        ) from error
    except dynamic.exceptions.DynamicApiError as error:
        raise _KINDS.get(error.status, Unavailable)(
            "k8s.refused",
            f"The cluster refused {what}: {error.summary()}",
            hint="Check the namespace, the rights there and the version of KServe.",
        ) from error
    except (HTTPError, OSError) as error:
        raise Unavailable(
            "k8s.unreachable",
            f"The cluster does not answer: {error}",
            hint="Check it with kubectl get inferenceservices.",
        ) from error


def _namespace(config: Any, context: str) -> str:
    """That of the context, as kubectl takes it."""
    try:
        contexts, active = config.list_kube_config_contexts()
    except config.ConfigException:
        return "default"
    chosen = next((one for one in contexts if one["name"] == context), active)
    return str(chosen["context"].get("namespace", "default"))
