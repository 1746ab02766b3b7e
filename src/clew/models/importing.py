"""A model of another tool made a model version's tree, in a worker.

Knows no rows of the database: files and example rows come in by the store, a tree goes out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from clew.base.errors import ClewError, Invalid, NotFound, Unavailable
from clew.base.records.cards import Configuration, Trained
from clew.codecs import load_value
from clew.compute import CallContext
from clew.models import conversion, mlflow_format
from clew.models.definitions import check_task
from clew.models.flavours import adapted, dumped
from clew.models.layout import EXAMPLE, NOTES, PREDICTIONS, PROFILE, RECIPE, SIGNATURE, TRAINING
from clew.models.loading import LoadedModel, unpickle
from clew.models.probing import probe
from clew.models.reading_models import Read, read_model
from clew.models.replaying import request_of
from clew.models.things import Made, files_of, some
from clew.models.trees import keep, own_file, store_at
from clew.quality import profile
from clew.store import Store

_MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"})
MODEL_DIRECTORY = "/model/"
EXAMPLE_DIRECTORY = "/example/"


def fetch(payload: dict[str, Any], context: CallContext) -> dict[str, object]:
    """The files behind a URI of MLflow's, kept as a tree.

    The payload: ``store``, ``uri``, ``registry``. The tree has them below ``/model``.

    Raises:
        NotFound: ``import.missing``.
        Unavailable: ``import.unreachable``, ``extra.missing``.
    """
    store = store_at(payload["store"])
    target = context.scratch / "download"
    try:
        found = mlflow_format.download(payload["uri"], payload["registry"], target)
    except ClewError:
        raise
    except Exception as error:  # MLflow's own, or of the network
        if getattr(error, "error_code", "") in _MISSING:
            raise NotFound(
                "import.missing",
                f"There is no {payload['uri']} in the registry: {error}",
                hint="Name it as models:/name/version, models:/name@alias or runs:/id/path.",
            ) from None
        raise Unavailable(
            "import.unreachable",
            f"{payload['uri']} cannot be fetched: {type(error).__name__}: {error}",
            hint="Name the MLflow server: --registry http://HOST:PORT",
        ) from error
    files = [one for one in sorted(found.rglob("*")) if one.is_file()]
    named = {f"{MODEL_DIRECTORY}{one.relative_to(found).as_posix()}": one for one in files}
    return {"tree": keep(store, named)}


def bring(payload: dict[str, Any], context: CallContext) -> dict[str, object]:
    """Make a model version's tree of files of another tool.

    The payload: ``store``, ``source`` (a tree: the model below ``/model``, example rows below
    ``/example``), ``rows`` ({tree, paths} of rows with a target, or None), ``target``, ``task``,
    ``trust``, ``training`` (kept as /clew/training.json) and ``own`` (the environment that this
    runs in, where it is not the server's).
    """
    store = store_at(payload["store"])
    task = check_task(payload["task"])
    read = read_model(_exported(store, payload["source"], context.scratch), trust=payload["trust"])
    rows = _rows(store, payload, read)
    truth = _truth(rows, payload["target"])
    sample = rows.drop(payload["target"]) if truth is not None else rows
    if truth is None and payload["target"]:
        raise Invalid(
            "model.target",
            f"The rows have no column {payload['target']!r}, only {', '.join(rows.columns)}.",
            hint="Name the column that holds the truth, or leave --target out.",
        )
    classes = read.classes or _few(truth)
    model = adapted(read.model, sample, classes, task)
    content = dumped(model)
    modules = unpickle(content)[1]
    loaded = _probed(model, sample, truth, task, content)
    directory = context.scratch / "packaged"
    about = {
        **payload["training"],
        "imported": {"flavour": read.flavour, "unsafe": read.unsafe},
        "rows": {"train": 0, "test": sample.height},
    }
    needed = mlflow_format.write(
        directory,
        loaded,
        sample,
        pickled=content,
        modules=modules,
        metadata={f"clew.{name}": str(about[name]) for name in ("model", "global_id")},
    )
    about["environment"] = needed
    files: dict[str, bytes | Path] = {
        f"/{path.relative_to(directory).as_posix()}": path
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    files |= _clew_files(loaded, sample, truth, read, about)
    files |= conversion.files_of(loaded, sample, content) | own_file(payload["own"])
    return {
        "tree": keep(store, files),
        "signature": msgspec.to_builtins(loaded.signature),
        "flavour": read.flavour,
        "unsafe": read.unsafe,
    }


def _probed(
    model: Any, sample: pl.DataFrame, truth: pl.Series | None, task: str, content: bytes
) -> LoadedModel:
    """How the model is asked; what answers in classes is told from the truth, where it knows none.

    Raises:
        Invalid: ``model.signature``, and what :func:`clew.models.probing.probe` raises besides.
    """
    try:
        return probe(
            model,
            sample,
            truth if truth is not None else pl.Series("target", [], pl.Float64),
            frame=_frame(sample),
            task=task,
            pickled=content,
            train=sample if truth is not None else None,
        )
    except Invalid as error:
        if error.code != "model.signature" or truth is not None:
            raise
        raise Invalid(
            error.code,
            error.message,
            hint="Where it answers with classes of which it knows nothing itself, give rows with "
            "their truth: --test REPO --target COLUMN. Else give rows that it takes: --example "
            "FILE.",
        ) from error


def _exported(store: Store, tree: str, scratch: Path) -> Path:
    """The files of the model on disk."""
    place = scratch / "source"
    for entry in store.entries(tree):
        if entry.path.startswith(MODEL_DIRECTORY):
            file = place / entry.path.removeprefix(MODEL_DIRECTORY)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(store.read(entry.digest))
    if not place.is_dir():
        raise Invalid(
            "import.kind", "There is no file to import.", hint="Name a file or directory."
        )
    return place


def _rows(store: Store, payload: Mapping[str, Any], read: Read) -> pl.DataFrame:
    """Rows that the model takes: given, of a test set, its own, or made of its signature."""
    paths = [
        one.path for one in store.entries(payload["source"])
        if one.path.startswith(EXAMPLE_DIRECTORY)
    ]  # fmt: skip
    found: pl.DataFrame | None = read.example
    if paths:
        found = load_value(store, payload["source"], paths, pl.DataFrame)
    elif payload["rows"]:
        found = load_value(store, payload["rows"]["tree"], payload["rows"]["paths"], pl.DataFrame)
    if found is None or not found.height:
        raise Invalid(
            "import.example",
            "Nothing tells which columns the model takes.",
            hint="Give some rows that it takes: --example rows.csv (Parquet, JSON), or a test set "
            "with its target: --test REPO --target COLUMN",
        )
    return found


def _truth(rows: pl.DataFrame, target: str) -> pl.Series | None:
    return rows[target] if target and target in rows.columns else None


def _few(truth: pl.Series | None) -> tuple[Any, ...]:
    if truth is None:
        return ()
    values = truth.drop_nulls().unique().sort()
    return tuple(values.to_list()) if len(values) <= 1000 else ()


def _frame(sample: pl.DataFrame) -> str:
    """Rows without names of their own are a matrix."""
    unnamed = [f"column_{n}" for n in range(sample.width)]
    return "numpy" if sample.columns == unnamed else "polars"


def _clew_files(
    loaded: LoadedModel,
    sample: pl.DataFrame,
    truth: pl.Series | None,
    read: Read,
    about: Mapping[str, Any],
) -> dict[str, bytes]:
    notes = [f"It was imported ({read.flavour}): nothing is known of how it was trained."]
    if read.unsafe:
        notes.append(
            "It was imported from a pickle or code, which somebody said to trust: it runs when "
            "the model is loaded, in workers and serving processes."
        )
    files: dict[str, Any] = {}
    real = not read.made_up or truth is not None or sample is not read.example
    if real:
        files |= _references(loaded, sample, truth, about, notes)
    else:
        notes.append("No rows came with it: there is no reference for drift.")
    files |= {
        SIGNATURE: loaded.signature,
        RECIPE: loaded.recipe,
        TRAINING: about,
        EXAMPLE: request_of(loaded.signature, sample.head(3)),
        NOTES: [*notes, *files.get(NOTES, [])],
    }
    return {path: msgspec.json.encode(value) for path, value in files.items()}


def _references(
    loaded: LoadedModel,
    sample: pl.DataFrame,
    truth: pl.Series | None,
    about: Mapping[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    """References for drift, and the nine things as far as rows with a target tell them."""
    begun_s = time.perf_counter()
    outputs = loaded.predict(some(sample))
    took_s = time.perf_counter() - begun_s
    plain = pl.DataFrame({name: out for name, out in outputs.items() if out.ndim == 1})
    features, predictions = profile(sample), profile(plain)
    files: dict[str, Any] = {PROFILE: features, PREDICTIONS: predictions}
    if truth is None:
        return files
    made = Made(
        model=loaded.model,
        loaded=loaded,
        train=sample,
        train_target=truth,
        test=sample,
        test_target=truth,
        features=msgspec.json.decode(msgspec.json.encode(features)),
        predictions=msgspec.json.decode(msgspec.json.encode(predictions)),
        outputs=outputs,
        outputs_s=took_s,
    )
    trained = Trained(configuration=Configuration(target=truth.name))
    things = files_of(made, trained, dict(about["environment"]))
    files |= {path: msgspec.json.decode(content) for path, content in things.items()}
    notes.append("Metrics of training rows are those of the rows that it was imported with.")
    return files
