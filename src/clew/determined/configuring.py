"""An experiment configuration of Determined, checked and as what Clew carries out.

What Clew cannot carry out is refused with the name of the field; what has no meaning here is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from clew.base.records.trial_policy import Keep, LogRule, TrialPolicy
from clew.determined.definitions import (
    INVALID_HP,
    Determined,
    Task,
    unsupported,
    wrong,
)
from clew.determined.hyperparameters import hyperparameters_of
from clew.determined.searching import searching_of
from clew.experiments import SearchDefinition

_REFUSED = {
    "bind_mounts": "Trials run on this machine's files: use the host path in the code itself.",
    "data_layer": "Use a bucket or a directory in the code, or a source of Clew.",
    "slurm": "Clew starts trials on its own workers, or on Ray.",
    "pbs": "Clew starts trials on its own workers, or on Ray.",
    "security": "Give the trials what they need by environment.environment_variables.",
    "integrations": "Read the data in the code, or make it a source of a Clew pipeline.",
    "environment.pod_spec": "Clew starts no pods.",
    "environment.proxy_ports": "Reach ports of a trial on the machine that it runs on.",
    "environment.add_capabilities": "Trials are plain processes.",
    "environment.drop_capabilities": "Trials are plain processes.",
    "resources.devices": "Trials are plain processes, which see the devices of the machine.",
}
_WITHOUT_EFFECT = {
    "environment.image": "trials run in an environment with the harness and what "
    "requirements.txt of the context directory asks for",
    "environment.registry_auth": "no image is pulled",
    "environment.force_pull_image": "no image is pulled",
    "environment.ports": "trials are plain processes",
    "resources.resource_pool": "trials run on the workers of this workspace",
    "resources.shm_size": "trials have the shared memory of the machine",
    "resources.agent_label": "trials run on the workers of this workspace",
    "resources.weight": "experiments of one priority share the slots evenly",
    "resources.native_parallel": "it has had no effect in Determined either",
    "resources.is_single_node": "all slots of a trial are on one machine",
    "tensorboard_storage": "event files stay in the trial's directory",
    "retention_policy": "logs stay with their trials",
    "workspace": "the experiment is a pipeline of this workspace",
    "project": "the experiment is a pipeline of this workspace",
}
_READ = {
    "name", "description", "labels", "entrypoint", "searcher", "hyperparameters", "resources",
    "environment", "max_restarts", "checkpoint_storage", "reproducibility", "log_policies",
    "preemption_timeout",
}  # fmt: skip
_FOR_HARNESS = {
    "data", "debug", "min_checkpoint_period", "min_validation_period", "checkpoint_policy",
    "perform_initial_validation", "records_per_epoch", "scheduling_unit", "optimizations",
    "profiling", "internal",
}  # fmt: skip
_OF_STORAGE = {
    "type", "save_experiment_best", "save_trial_best", "save_trial_latest", "host_path",
    "storage_path", "checkpoint_path", "tensorboard_path", "propagation", "container_path",
    "bucket", "prefix", "access_key", "secret_key", "endpoint_url", "container",
    "connection_string", "account_url", "credential",
}  # fmt: skip
_OF_RESOURCES = {"slots_per_trial", "slots", "max_slots", "priority"}
_OF_ENVIRONMENT = {"environment_variables"}
_TRIAL_CLASS = ("python3", "-m", "determined.exec.harness")
_TRIAL_CLASS_IN_RANKS = ("python3", "-m", "determined.launch.torch_distributed", "--trial")
_USUAL_PRIORITY = 42
"""Of Determined, where 1 goes first and 99 last."""

_DEFAULTS: dict[str, Any] = {
    "debug": False,
    "data": {},
    "hyperparameters": {},
    "max_restarts": 5,
    "min_checkpoint_period": {"batches": 0},
    "min_validation_period": {"batches": 0},
    "checkpoint_policy": "best",
    "perform_initial_validation": False,
    "records_per_epoch": 0,
    "scheduling_unit": 100,
    "optimizations": {
        "aggregation_frequency": 1,
        "average_aggregated_gradients": True,
        "average_training_metrics": True,
        "gradient_compression": False,
        "grad_updates_size_file": None,
        "mixed_precision": "O0",
        "tensor_fusion_threshold": 64,
        "tensor_fusion_cycle_time": 1,
        "auto_tune_tensor_fusion": False,
    },
    "profiling": {"enabled": False, "begin_on_batch": 0, "sync_timings": True},
}
"""What the master of Determined puts where a configuration says nothing, as far as it is read."""


def determined_of(config: Mapping[str, Any]) -> Determined:
    """Read a whole configuration.

    Raises:
        Invalid: ``determined.config`` for a field that is missing or means nothing,
            ``determined.unsupported`` for one that Clew does not carry out, each by its name.
    """
    _refuse(config)
    resources, storage = _below(config, "resources"), _below(config, "checkpoint_storage")
    seed = _number(_below(config, "reproducibility"), "reproducibility.experiment_seed", 0)
    searcher = _below(config, "searcher")
    if not searcher:
        raise wrong("searcher", "is missing", "A single trial: searcher: {name: single, metric: x}")
    searching = searching_of(searcher, seed=seed)
    found = hyperparameters_of(
        _below(config, "hyperparameters"), grid=searching.search.searcher == "grid"
    )
    slots = _number(resources, "resources.slots_per_trial", 1)
    most_slots = _number(resources, "resources.max_slots", 0)
    limits = [searching.at_most, most_slots // max(1, slots)] if most_slots else [searching.at_most]
    entrypoint, shell = _entrypoint(config.get("entrypoint"), slots)
    search: SearchDefinition = searching.search
    return Determined(
        name=_name(config),
        description=str(config.get("description") or ""),
        task=Task(
            config={
                **_DEFAULTS,
                **config,
                "resources": {**resources, "slots_per_trial": slots},
                "searcher": {"smaller_is_better": True, **searcher},
            },
            fixed=found.fixed,
            labels=found.labels,
            entrypoint=entrypoint,
            shell=shell,
            variables=_variables(_below(config, "environment").get("environment_variables")),
            metric=search.metric,
            time_metric=searching.time_metric,
            halves=searching.halves,
            slots=slots,
            at_most=min((one for one in limits if one), default=0),
            grace_s=float(_number(config, "preemption_timeout", 3600)),
            source=searching.source,
        ),
        search=search,
        space=found.space,
        policy=_policy(config, storage),
        priority=_USUAL_PRIORITY - _number(resources, "resources.priority", _USUAL_PRIORITY),
        notes=tuple(_notes(config, storage, searching.unknown)),
    )


def _refuse(config: Mapping[str, Any]) -> None:
    for name, hint in _REFUSED.items():
        if _at(config, name):
            raise unsupported(name, hint)


def _name(config: Mapping[str, Any]) -> str:
    """The name of the pipeline: that of the experiment, as far as it can stand in addresses."""
    given = str(config.get("name") or "experiment")
    return re.sub(r"[^A-Za-z0-9_-]+", "-", given).strip("-_").lower() or "experiment"


def _entrypoint(given: object, slots: int) -> tuple[tuple[str, ...], bool]:
    """A command; for the class of a trial, what Determined starts for one."""
    if isinstance(given, str) and given.strip():
        if re.fullmatch(r"[\w.]+:\w+", given.strip()):
            start = _TRIAL_CLASS if slots < 2 else _TRIAL_CLASS_IN_RANKS
            return (*start, given.strip()), False
        return (given,), True
    if isinstance(given, list) and given and all(isinstance(one, str) for one in given):
        return tuple(given), False
    raise wrong("entrypoint", f"is {given!r}", "Write a command: entrypoint: python3 train.py")


def _policy(config: Mapping[str, Any], storage: Mapping[str, Any]) -> TrialPolicy:
    return TrialPolicy(
        keep=Keep(
            best=_number(storage, "checkpoint_storage.save_experiment_best", 0),
            trial_best=_number(storage, "checkpoint_storage.save_trial_best", 1),
            trial_latest=_number(storage, "checkpoint_storage.save_trial_latest", 1),
        ),
        restarts=_number(config, "max_restarts", 5),
        on_log=(
            LogRule(pattern=re.escape(INVALID_HP), act="give_up"),
            *_rules(config.get("log_policies")),
        ),
    )


def _rules(given: object) -> Iterator[LogRule]:
    """What is done where a failed trial's log has a pattern: of two actions, we know one."""
    for one in given if isinstance(given, list) else ():
        pattern, action = one.get("pattern"), one.get("action")
        act = action.get("type") if isinstance(action, Mapping) else action
        if act is None:
            continue
        if act != "cancel_retries":
            raise unsupported(f"log_policies.action: {act}", "Use cancel_retries.")
        try:
            re.compile(str(pattern))
        except re.error as error:
            raise wrong("log_policies.pattern", f"{pattern!r} is no pattern: {error}") from error
        yield LogRule(pattern=str(pattern), act="give_up")


def _variables(given: object) -> dict[str, dict[str, str]]:
    """Variables by device: a list of ``NAME=value``, a mapping, or either for each device."""
    devices = {"cpu", "cuda", "gpu", "rocm"}
    if isinstance(given, Mapping) and given and set(given) <= devices:
        cuda = given.get("cuda", given.get("gpu"))
        return {"cpu": _pairs(given.get("cpu")), "cuda": _pairs(cuda)}
    pairs = _pairs(given)
    return {"cpu": pairs, "cuda": pairs}


def _pairs(given: object) -> dict[str, str]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): str(value) for name, value in given.items()}
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return {name: value for name, _, value in (one.partition("=") for one in given)}
    raise wrong(
        "environment.environment_variables", f"is {given!r}", "Write a list: [NAME=value, …]."
    )


def _notes(
    config: Mapping[str, Any], storage: Mapping[str, Any], more: tuple[str, ...]
) -> Iterator[str]:
    """What of a configuration has no effect here, and what nobody knows."""
    for name, why in _WITHOUT_EFFECT.items():
        if _at(config, name) not in (None, "", {}, [], False):
            yield f"{name} has no effect: {why}."
    kind = storage.get("type")
    if kind:
        yield f"checkpoint_storage.type {kind}: checkpoints are kept in Clew's own store."
    within = {
        "checkpoint_storage": (storage, _OF_STORAGE),
        "resources": (_below(config, "resources"), _OF_RESOURCES),
        "environment": (_below(config, "environment"), _OF_ENVIRONMENT),
    }
    known = {*_REFUSED, *_WITHOUT_EFFECT, *_READ, *_FOR_HARNESS}
    unknown = [name for name in config if name not in known]
    for above, (place, names) in within.items():
        unknown += [
            f"{above}.{name}" for name in place
            if name not in names and f"{above}.{name}" not in known
        ]  # fmt: skip
    for name in (*unknown, *more):
        yield f"{name} is unknown, and ignored."


def _at(config: Mapping[str, Any], name: str) -> Any:
    found: Any = config
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _below(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        if name == "checkpoint_storage" and isinstance(found, str):
            return {"type": "shared_fs" if "://" not in found else found.partition(":")[0]}
        raise wrong(name, f"is {found!r}, and should have fields")
    return found


def _number(place: Mapping[str, Any], name: str, default: int) -> int:
    value = place.get(name.rpartition(".")[2])
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong(name, f"is {value!r}, not a whole number from 0 on")
    return value
