"""What this room does in worker processes: split off test rows, package a model, judge it.

Knows no rows of the database: payloads come in, bytes go into the store, plain results go out.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from clew.base.errors import Invalid, NotFound
from clew.base.pickled import along, dumped_whole
from clew.base.records import Signature
from clew.base.records.cards import Trained
from clew.codecs import dump_value, load_value
from clew.compute import CallContext, Witness, load_function
from clew.models import conversion, mlflow_format
from clew.models.candidate import Candidate
from clew.models.cutting import Odd, cut, grown, size_of
from clew.models.definitions import HoldoutDefinition, check_task
from clew.models.evaluation import Bench, evaluate, try_champion
from clew.models.flavours import adapted, dumped
from clew.models.forms import load_model
from clew.models.held import Held, held_by
from clew.models.layout import (
    BACKGROUND,
    EXAMPLE,
    MODEL,
    PREDICTIONS,
    PROFILE,
    RECIPE,
    SIGNATURE,
    TRAINING,
)
from clew.models.loading import LoadedModel, Outputs, unpickle
from clew.models.probing import probe
from clew.models.replaying import request_of
from clew.models.reporting import Wished, report_of
from clew.models.surrounding import known_importances, queries, surroundings
from clew.models.things import Made, files_of, some
from clew.models.trees import keep, own_file, store_at
from clew.quality import profile
from clew.store import Store

TRAIN_PATH = "/train.parquet"
TEST_PATH = "/test.parquet"
HOLDOUT_PATH = "/holdout.json"
REPORT_PATH = "/report.json"
PREDICTED_PATH = "/predictions.parquet"
MOST_CLASSES = 1000
BACKGROUND_ROWS = 100
"""Rows of the training that are kept with a version, for explanations."""
_FRAMES = {"polars": "polars", "pandas": "pandas", "numpy": "numpy", "pyarrow": "pandas"}


def split(payload: dict[str, Any], context: CallContext) -> dict[str, object]:  # noqa: ARG001 - as every call of a worker
    """Cut features into training rows and the frozen test rows.

    The payload: ``store``, ``tree``, ``paths`` (None: all), ``definition``, ``target`` and
    ``frozen`` (the tree of the test set that stands, '' for none). The trees that come back:
    ``train``, and ``test`` ('' where the frozen one still stands).
    """
    store = store_at(payload["store"])
    definition = msgspec.convert(payload["definition"], HoldoutDefinition)
    features = _frame(store, payload["tree"], payload["paths"])
    _check_target(features.columns, payload["target"])  # before hours are spent on a search
    frozen, odd = _frozen(store, payload["frozen"], definition)
    about = msgspec.to_builtins(definition)
    if definition.grow:
        train, test, odd = grown(features, definition, frozen, odd)
        about["odd"] = msgspec.to_builtins(odd)
    else:
        train, test = cut(features, definition, frozen)
    trees = {"train": keep(store, {TRAIN_PATH: _parquet(train)}), "test": ""}
    if test is not None:
        note = msgspec.json.encode(about)
        trees["test"] = keep(store, {TEST_PATH: _parquet(test), HOLDOUT_PATH: note})
    size = "" if test is None else size_of(test.height, train.height, definition.fraction)
    lasts = "grows with the data" if definition.grow else "frozen for every version"
    return {**trees, "train_rows": train.height, "test_size": f"{size}; {lasts}"}


def check(payload: dict[str, Any], context: CallContext) -> dict[str, object]:  # noqa: ARG001 - as every call of a worker
    """That the rows to learn from and those to be judged on have the target.

    The payload: ``store``, ``train`` and ``test`` ({tree, paths}), ``target``. Only the columns
    are read where the format tells them.
    """
    store = store_at(payload["store"])
    for rows in (payload["train"], payload["test"]):
        table: pl.LazyFrame = load_value(store, rows["tree"], rows["paths"], pl.LazyFrame)
        _check_target(table.collect_schema().names(), payload["target"])
    return {}


def package(payload: dict[str, Any], context: CallContext) -> dict[str, object]:
    """Make a model version's tree of the artefact of a trial.

    The payload: ``store``, ``artefact`` (a tree with /model.pkl), ``train`` and ``test`` ({tree,
    paths}), ``target``, ``task``, ``frame`` ('': as ``function`` is annotated), ``snapshot_dir``,
    ``function`` ({file, name} or None), ``convert`` (to ONNX), ``training`` (kept as
    /clew/training.json), ``trained`` (what is known of the training besides) and ``own`` (the
    environment that this runs in, where it is not the server's; kept as /clew/environment.json).
    """
    store = store_at(payload["store"])
    frame = payload["frame"] or _frame_of(payload["snapshot_dir"], payload["function"])
    train, train_target = _features(store, payload["train"], payload["target"])
    test, test_target = _features(store, payload["test"], payload["target"])
    model, pickled, modules = _read_model(store, payload["artefact"], payload["snapshot_dir"])
    task = check_task(payload["task"])
    model, pickled, modules = _as_asked(model, pickled, modules, test, train_target, task)
    loaded = probe(
        model,
        test,
        train_target,
        frame=frame,
        task=task,
        pickled=pickled,
        train=train,
        captured=_captured(store, payload["train"]) if frame == "pandas" else None,
    )
    directory = context.scratch / "model"
    training = payload["training"]
    needed = mlflow_format.write(
        directory,
        loaded,
        test,
        pickled=pickled,
        modules=modules,
        metadata={f"clew.{name}": str(training[name]) for name in ("model", "global_id", "job")},
    )
    about = {
        **training,
        "environment": needed,
        "rows": {"train": train.height, "test": test.height},
    }
    files: dict[str, bytes | Path] = {
        f"/{path.relative_to(directory).as_posix()}": path
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    begun_s = time.perf_counter()
    outputs = loaded.predict(some(test))
    outputs_s = time.perf_counter() - begun_s
    clew_files = _clew_files(loaded, train, test, outputs, about)
    made = Made(
        model=model,
        loaded=loaded,
        train=train,
        train_target=train_target,
        test=test,
        test_target=test_target,
        features=msgspec.json.decode(clew_files[PROFILE]),
        predictions=msgspec.json.decode(clew_files[PREDICTIONS]),
        outputs=outputs,
        outputs_s=outputs_s,
    )
    kept = files_of(made, msgspec.convert(payload["trained"], Trained), needed)
    if payload["convert"]:
        forms = conversion.files_of(loaded, test, pickled)
    else:
        forms = conversion.refused("The pipeline says convert=False.")
    tree = keep(store, files | clew_files | kept | forms | own_file(payload["own"]))
    return {"tree": tree, "signature": msgspec.to_builtins(loaded.signature)}


def judge(payload: dict[str, Any], context: CallContext) -> dict[str, object]:  # noqa: ARG001 - as every call of a worker
    """Run candidate and champion on the frozen test rows, then the user's gate.

    Both in the form that serves.

    The payload: ``store``, ``candidate`` (tree), ``champion`` (tree or ''), ``champion_metrics``
    (as recorded), ``champion_name``, ``test`` ({tree, paths}), ``target``, ``snapshot_dir``,
    ``function`` ({file, name} or None) and what it gets by name (``parameters``), may read without
    a word (``allow``) and has ``declared``; ``wished`` of the report, and what ``surroundings``
    reads.
    """
    store = store_at(payload["store"])
    wished = msgspec.convert(payload.get("wished") or {}, Wished)
    rows = _labelled(store, payload["test"], payload["target"])
    features, truth = rows.drop(payload["target"]), rows[payload["target"]]
    groups = queries(rows, wished.query)
    mine = evaluate(load_model(store, payload["candidate"], served=True), features, truth, groups)
    theirs = try_champion(
        lambda: (
            load_model(store, payload["champion"], served=True) if payload["champion"] else None
        ),
        features,
        truth,
        name=payload["champion_name"],
        recorded=payload["champion_metrics"],
        groups=groups,
        signature=msgspec.convert(payload.get("champion_signature"), Signature | None),
    )
    bench = Bench(
        frame=rows,
        target=payload["target"],
        candidate=mine,
        champion=theirs,
        around=surroundings(store, payload),
    )
    candidate = Candidate(bench)
    reads = _ask(candidate, payload)
    kept = {
        "metrics": mine.metrics,
        "champion": payload["champion_name"],
        "champion_metrics": theirs.metrics if theirs else {},
        "checks": msgspec.to_builtins(candidate.checks),
        "rows": rows.height,
    }
    report = {**kept, **report_of(bench, wished, known_importances(store, payload))}
    files = {
        REPORT_PATH: msgspec.json.encode(report, order="deterministic"),
        PREDICTED_PATH: _parquet(bench.predictions()),
    }
    tree = keep(store, files)
    written = store.get(tree, REPORT_PATH)
    assert written is not None, "it was put there just now"
    return {**kept, "tree": tree, "undeclared": reads, "report": written.digest}


def _ask(candidate: Candidate, payload: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Have the user's gate state its rules; what it read undeclared."""
    gate = payload["function"]
    if gate is None:
        candidate.require("no gate", True, "No gate is defined: every model is blessed.")
        return []
    witness = Witness(
        payload["snapshot_dir"],
        allow=payload["allow"],
        declared=payload["declared"],
        store=payload["store"],
    )
    with witness.importing(gate["file"]):
        rule = load_function(payload["snapshot_dir"], gate["file"], gate["name"])
    _take_result(candidate, gate["name"], witness.around(rule)(candidate, **payload["parameters"]))
    return witness.all()


def _take_result(candidate: Candidate, name: str, result: object) -> None:
    """What a gate returned is a rule too, where it is a truth.

    Raises:
        Invalid: ``gate.result`` where it is something else; ``gate.empty`` where nothing was
            checked: a gate that asks nothing would bless everything in silence.
    """
    if isinstance(result, bool | np.bool_):
        candidate.require(name, bool(result), f"{name} returned {bool(result)}.")
    elif result is not None:
        raise Invalid(
            "gate.result",
            f"The gate {name} returned a {type(result).__name__}.",
            hint="State rules on the candidate, and return nothing, True or False.",
        )
    if not candidate.checks:
        raise Invalid(
            "gate.empty",
            f"The gate {name} checks nothing, so it can neither bless nor refuse.",
            hint='State a rule, such as candidate.at_least("accuracy", 0.8), or leave out the '
            "gate: then every model is blessed, and its verdict says so.",
        )


def _clew_files(
    loaded: LoadedModel,
    train: pl.DataFrame,
    test: pl.DataFrame,
    outputs: Outputs,
    training: dict[str, Any],
) -> dict[str, bytes]:
    named = loaded.signature.frame != "numpy"
    names = [column.name for column in loaded.signature.inputs] if named else train.columns
    plain = pl.DataFrame({name: out for name, out in outputs.items() if out.ndim == 1})
    files = {
        SIGNATURE: loaded.signature,
        RECIPE: loaded.recipe,
        PROFILE: profile(train.select(names)),
        PREDICTIONS: profile(plain),
        TRAINING: training,
        EXAMPLE: request_of(loaded.signature, test.head(3)),
    }
    encoded = {path: msgspec.json.encode(value) for path, value in files.items()}
    some = train.select(names).sample(min(BACKGROUND_ROWS, train.height), seed=0, shuffle=True)
    return {**encoded, BACKGROUND: _parquet(some)}


def _read_model(store: Store, artefact: str, snapshot_dir: str) -> tuple[Any, bytes, set[str]]:
    """The object, a pickle of it that brings the project's own code along, and its modules."""
    entry = store.get(artefact, MODEL)
    if entry is None:
        raise NotFound(
            "model.artefact",
            f"The best trial left no {MODEL}: its function returned nothing.",
            hint="Return the model at the end of the training function.",
        )
    content = store.read(entry.digest)
    model, modules = unpickle(content)
    if modules.isdisjoint(along(snapshot_dir)):
        return model, content, modules
    content = dumped_whole(model, snapshot_dir)
    return model, content, unpickle(content)[1]


def _as_asked(
    model: Any,
    pickled: bytes,
    modules: set[str],
    test: pl.DataFrame,
    target: pl.Series,
    task: str,
) -> tuple[Any, bytes, set[str]]:
    """The same for a model of a library that is asked in its own way (PyTorch, a booster, ONNX)."""
    classes = tuple(target.drop_nulls().unique().sort().head(MOST_CLASSES).to_list())
    found = adapted(model, test, classes, task)
    if found is model:
        return model, pickled, modules
    content = dumped(found)
    return found, content, unpickle(content)[1]


def _frame_of(snapshot_dir: str, function: Mapping[str, str] | None) -> str:
    """What the training function is annotated to work with; Polars where it does not say."""
    if function is None:
        return "polars"
    found: Callable[..., Any] = load_function(snapshot_dir, function["file"], function["name"])
    first = next(iter(inspect.signature(found).parameters.values()), None)
    written = first.annotation if first is not None else None
    if isinstance(written, str):
        root = written.partition(".")[0]
        kind = found.__globals__.get(root)
        module = getattr(kind, "__module__", None) or getattr(kind, "__name__", root)
    else:
        module = getattr(written, "__module__", "") or ""
    return _FRAMES.get(str(module).partition(".")[0], "polars")


def _features(
    store: Store, where: Mapping[str, Any], target: str
) -> tuple[pl.DataFrame, pl.Series]:
    rows = _frame(store, where["tree"], where["paths"])
    _check_target(rows.columns, target)
    return rows.drop(target), rows[target]


def _captured(store: Store, where: Mapping[str, Any]) -> Mapping[str, Held]:
    """How the frame of pandas is held that the training function was given."""
    pandas: Any = importlib.import_module("pandas")
    return held_by(load_value(store, where["tree"], where["paths"], pandas.DataFrame))


def _check_target(columns: Sequence[str], target: str) -> None:
    if target not in columns:
        raise Invalid(
            "model.target",
            f"There is no column {target!r}, only {', '.join(columns)}.",
            hint="Name the column to predict in train(..., target=...), and keep it in the rows.",
        )


def _labelled(store: Store, where: Mapping[str, Any], target: str) -> pl.DataFrame:
    features, truth = _features(store, where, target)
    rows = features.with_columns(truth).filter(truth.is_not_null())
    if not rows.height:
        raise Invalid(
            "test.empty",
            "The test set has no row with a known target.",
            hint="Give a test set with labels.",
        )
    return rows


def _frozen(
    store: Store, tree: str, definition: HoldoutDefinition
) -> tuple[pl.DataFrame | None, Odd]:
    """The test set that stands, and what its first cut decided."""
    if not tree:
        return None, Odd()
    entry = store.get(tree, HOLDOUT_PATH)
    note = msgspec.json.decode(store.read(entry.digest)) if entry else {}
    before = msgspec.convert(note, HoldoutDefinition) if note else None
    if before != definition:
        raise Invalid(
            "holdout.changed",
            f"The test set is frozen as {before}; the file now says {definition}. Another cut "
            "would test models on rows that earlier ones learned from.",
            hint="Keep the holdout as it was, or give the training step another name.",
        )
    return _frame(store, tree, [TEST_PATH]), msgspec.convert(note.get("odd", {}), Odd)


def _frame(store: Store, tree: str, paths: Sequence[str] | None) -> pl.DataFrame:
    found = paths if paths is not None else [entry.path for entry in store.entries(tree)]
    frame: pl.DataFrame = load_value(store, tree, found, pl.DataFrame)
    return frame


def _parquet(frame: pl.DataFrame) -> bytes:
    content = dump_value(frame, "frame")[0][1]
    assert isinstance(content, bytes)
    return content
