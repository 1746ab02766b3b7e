"""Work that another system runs: a training as a TrainJob of Kubeflow, models by KServe.

Knows how a training is repeated, and the fields of a TrainJob
(https://www.kubeflow.org/docs/components/trainer/); talks to no cluster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from clew.base.errors import Invalid, NotFound
from clew.base.ranks import Ranks, ranks_of
from clew.base.records import ModelVersion
from clew.base.records.exports import (
    ImageContext,
    ImageWish,
    InferenceServiceWish,
    Manifests,
    TrainJob,
    TrainJobWish,
)
from clew.pipelines import StepDefinition
from clew.workspace.container_images import ENVIRONMENT, image_context
from clew.workspace.inference_services import inference_services
from clew.workspace.own_environments import check_elsewhere, own_environment_of
from clew.workspace.repeating import payload_of, split_of, trial_of
from clew.workspace.rooms import Rooms

API = "trainer.kubeflow.org/v1alpha1"
MODULE = "clew.experiments.alone"
OUTPUT = "/tmp/clew-output"  # noqa: S108 - in a pod of its own
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_GPU = "nvidia.com/gpu"


class Exporting:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms

    def export_trainjob(self, model: str, wish: TrainJobWish | None = None) -> TrainJob:
        """A TrainJob that repeats the training of a model version."""
        return TrainJob(manifest=trainjob(self.rooms, model, wish or TrainJobWish()))

    def export_inference_service(
        self, subject: str, wish: InferenceServiceWish | None = None
    ) -> Manifests:
        """KServe's InferenceService for an endpoint or a model version."""
        wish = wish or InferenceServiceWish()
        return Manifests(manifests=inference_services(self.rooms, subject, wish))

    def export_image(self, subject: str, wish: ImageWish | None = None) -> ImageContext:
        """The build context of an image that serves a model."""
        return image_context(self.rooms, subject, wish or ImageWish())


def trainjob(rooms: Rooms, model: str, wish: TrainJobWish) -> dict[str, object]:
    """See :meth:`clew.base.export_verbs.ExportVerbs.export_trainjob`."""
    version = _version(rooms, model)
    row = rooms.pipelines.knowing.origin(rooms.pipelines.knowing.job(version.job, _no_ref))
    step, trial = rooms.pipelines.knowing.definition(row), trial_of(rooms, row)
    ranks, store = ranks_of(step.options), _store(rooms, wish)
    name = _name(wish.name or version.model.replace("/", "-"))
    params = _params(trial.params, wish.params)
    nodes, each = _nodes(ranks, params, wish.nodes)
    with rooms.store.lease():
        payload = payload_of(rooms, step, trial, split := split_of(rooms, row, step, version))
        repo = f"{step.output_repo}.exported"
        rooms.repos.create(repo, kind="output", exist_ok=True)
        rooms.repos.commit_tree(
            repo, split.train_tree, message=f"rows of {name}", provenance=(version.commit,)
        )
    told: dict[str, Any] = {**payload, "store": store, "snapshot": step.function.snapshot}
    if (own := own_environment_of(step)) is not None:
        check_elsewhere(own)
        kept = rooms.store.get(rooms.repos.commit_by_id(version.commit).tree, ENVIRONMENT)
        assert kept is not None, "it was packaged with its model"
        told["environment"] = kept.digest
    told["trial"] |= {"params": params, "max_steps": told["trial"]["target"]}
    del told["snapshot_dir"]
    trained = ""
    if wish.url:
        trained = f"{step.output_repo}.trained"
        rooms.repos.create(trained, kind="source", exist_ok=True)
    trainer = {
        **({"image": wish.image} if wish.image else {}),
        "command": _command(trained),
        "env": _env(told, wish),
        "numNodes": nodes,
        "numProcPerNode": each,
        "resourcesPerNode": _resources(step, ranks, each),
    }
    labels = {"clew.model": version.model.replace("/", "."), "clew.version": str(version.version)}
    space = {"namespace": wish.namespace} if wish.namespace else {}
    return {
        "apiVersion": API,
        "kind": "TrainJob",
        "metadata": {"name": name, **space, "labels": labels},
        "spec": {"runtimeRef": {"name": wish.runtime}, "trainer": trainer},
    }


def _version(rooms: Rooms, model: str) -> ModelVersion:
    if "@" in model:
        return rooms.models.get(model)
    found = next(iter(rooms.models.versions(model)), None)
    if found is None:
        raise NotFound(
            "model.unknown",
            f"{model} has no version whose training could be repeated.",
            hint="Train it here once; what there is: clew models",
        )
    return found


def _no_ref(ref: str) -> Any:
    raise NotFound("job.unknown", f"There is no job {ref!r}.", hint="List them: clew jobs")


def _store(rooms: Rooms, wish: TrainJobWish) -> str:
    """Where pods reach the bytes."""
    found = wish.store or rooms.settings.store
    if not wish.store and "://" not in found:
        raise Invalid(
            "export.store",
            "The bytes of this workspace are on this machine, where no pod can read them.",
            hint="Keep them in a bucket (clew init --store s3://…), or say where the pods see the "
            "directory: --store /mnt/clew",
        )
    return found


def _name(text: str) -> str:
    name = re.sub(r"[^-a-z0-9]+", "-", text.lower()).strip("-")
    if not _NAME.fullmatch(name):
        raise Invalid(
            "export.name",
            f"{text!r} makes no name of a TrainJob.",
            hint="Give one of at most 63 letters, digits and -, a letter first: --name",
        )
    return name


def _params(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(given.keys() - own.keys())
    if unknown:
        raise Invalid(
            "export.params",
            f"{unknown[0]!r} is no parameter of that training.",
            hint=f"It has {', '.join(sorted(own)) or 'none'}.",
        )
    return {**own, **given}


def _nodes(ranks: Ranks | None, params: dict[str, Any], wanted: int) -> tuple[int, int]:
    """How many pods, and how many ranks in each."""
    if ranks is not None and ranks.launcher == "mpi":
        raise Invalid(
            "export.launcher",
            "Ranks that mpirun starts are not exported.",
            hint='Use launcher="processes", which any runtime of PyTorch can start.',
        )
    size = 1 if ranks is None else ranks.of(params)
    nodes = wanted or size
    if nodes < 0 or size % nodes:
        raise Invalid(
            "export.nodes",
            f"{size} ranks cannot be spread evenly over {nodes} nodes.",
            hint="Give a number that divides them.",
        )
    return nodes, size // nodes


def _command(trained: str) -> list[str]:
    """What a pod runs: torchrun, which reads in PET_* (set by the runtime) who its peers are."""
    ranks = f"torchrun -m {MODULE}"
    if not trained:
        return ["sh", "-c", f"exec {ranks}"]
    put = f"clew put {trained} {OUTPUT}"
    return ["sh", "-c", f'{ranks} && {{ [ "${{PET_NODE_RANK:-0}}" != 0 ] || {put}; }}']


def _env(told: Mapping[str, Any], wish: TrainJobWish) -> list[dict[str, object]]:
    plain: dict[str, str] = {
        "CLEW_TRAINING": _unexpanded(msgspec.json.encode(told).decode()),
        **({"CLEW_OUTPUT": OUTPUT, "CLEW_URL": wish.url} if wish.url else {}),
    }
    secret: list[dict[str, object]] = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": wish.secret, "key": key}}}
        for key in (wish.secret_keys if wish.secret else ())
    ]
    given: list[dict[str, object]] = [{"name": name, "value": one} for name, one in plain.items()]
    return [*given, *secret]


def _unexpanded(text: str) -> str:
    """Kubernetes replaces ``$(NAME)`` in values, and ``$$`` by ``$``."""
    return text.replace("$", "$$")


def _resources(step: StepDefinition, ranks: Ranks | None, each: int) -> dict[str, object]:
    """Of a pod with so many ranks: requests, and as limits what cannot be shared."""
    demand = step.demand()
    beside = 1 if ranks is None else each
    gpus = int(demand.get("GPU", 0)) or beside * ((ranks.gpus or 0) if ranks is not None else 0)
    requests: dict[str, object] = {"cpu": _amount(demand.get("CPU", 1.0) * beside)}
    limits: dict[str, object] = {}
    if step.memory_bytes is not None:
        requests["memory"] = limits["memory"] = str(step.memory_bytes)
    if gpus:
        limits[_GPU] = str(gpus)
    return {"requests": requests, **({"limits": limits} if limits else {})}


def _amount(number: float) -> str:
    return json.dumps(int(number) if number == int(number) else number)
