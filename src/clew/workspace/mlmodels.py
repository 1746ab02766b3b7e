"""The ``MLmodel`` file of a model that an MLflow client logged, and the files beside it.

Reads the file and loads no model. Knows MLflow's format; nothing of runs and registries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from clew.base.records.run_cards import LoggedField, LoggedModel
from clew.store import Entry, Store

FILE = "MLmodel"
_MOST_FILES = 10_000


def logged_model(store: Store, tree: str, place: str, **named: str) -> LoggedModel | None:
    """The model below ``place`` of a tree; None where there is none.

    ``named``: its ``id`` and ``name``, where these are known.
    """
    entries = {one.path: one for one in _below(store, tree, place)}
    about = entries.get(f"{place}/{FILE}")
    if about is None:
        return None
    told = read_yaml(store.read(about.digest))
    signature = told.get("signature") or {}
    wanted = entries.get(f"{place}/requirements.txt")
    lines = store.read(wanted.digest).decode(errors="replace").splitlines() if wanted else []
    return LoggedModel(
        path=place,
        id=named.get("id", "") or str(told.get("model_id") or ""),
        name=named.get("name", ""),
        flavours=tuple(sorted(told.get("flavors") or {})),
        inputs=fields_of(signature.get("inputs")),
        outputs=fields_of(signature.get("outputs")),
        requirements=tuple(one.strip() for one in lines if one.strip() and one[0] != "#"),
        python=_python(told),
        files=len(entries),
        size_bytes=sum(one.size_bytes for one in entries.values()),
        example=bool(told.get("saved_input_example_info")),
    )


def fields_of(told: object) -> tuple[LoggedField, ...]:
    """The fields of one side of a signature: columns with their types, or tensors with shapes."""
    if isinstance(told, str):
        try:
            told = json.loads(told)
        except ValueError:
            return ()
    found = told if isinstance(told, list) else []
    return tuple(
        LoggedField(
            name=str(one.get("name") or f"{at}"),
            type=_type(one),
            required=bool(one.get("required", True)),
        )
        for at, one in enumerate(found)
        if isinstance(one, dict)
    )


def read_yaml(content: bytes) -> dict[str, Any]:
    """A mapping in YAML; empty where it is none, or nothing here can read it."""
    try:
        yaml: Any = import_module("yaml")
    except ModuleNotFoundError:
        return {}
    try:
        told = yaml.safe_load(content)
    except yaml.YAMLError:
        return {}
    return told if isinstance(told, dict) else {}


def _below(store: Store, tree: str, place: str) -> Iterator[Entry]:
    for number, entry in enumerate(store.entries(tree, place)):
        if number >= _MOST_FILES:
            return
        yield entry


def _type(one: Mapping[str, Any]) -> str:
    kind = one.get("type")
    spec = one.get("tensor-spec")
    if isinstance(spec, dict):
        shape = ", ".join(str(size) for size in spec.get("shape", ()))
        return f"{spec.get('dtype', 'tensor')} [{shape}]"
    return str(kind) if kind else "unknown"


def _python(told: Mapping[str, Any]) -> str:
    flavours = told.get("flavors") or {}
    version = (flavours.get("python_function") or {}).get("python_version")
    return str(version) if version else ""
