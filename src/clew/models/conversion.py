"""A model in a form that answers quicker, kept only where it answers the same.

Runs in workers, when a version is packaged. Knows the files of a version; no store, no endpoint.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from clew.base.errors import Unavailable
from clew.base.records import Column
from clew.base.records.parity import Parity, RowSet
from clew.models import booster_graphs, neural_graphs, onnx_graphs, onnx_parts, parity
from clew.models import rows as making
from clew.models.frames import is_number
from clew.models.layout import ONNX, ONNX_RECIPE, PARITY
from clew.models.loading import LoadedModel
from clew.models.onnx_graphs import Input
from clew.models.onnx_model import MATRIX, OnnxModel, OnnxRecipe, Port, session_of
from clew.models.parity import Answers
from clew.models.rows import Rows

_GIVES = {"values", "several", "proba", "proba_and_labels", "labels"}
_CALLS = 7
_BATCH = 64
_DISTRIBUTIONS = (
    "onnx", "onnxruntime", "skl2onnx", "scikit-learn", "xgboost", "lightgbm", "torch", "keras",
    "numpy",
)  # fmt: skip


class Converted(Struct, frozen=True, kw_only=True):
    """A graph, how it is asked, and the model that they make."""

    graph: bytes
    recipe: OnnxRecipe
    model: OnnxModel


def files_of(loaded: LoadedModel, test: pl.DataFrame, pickled: bytes) -> dict[str, bytes]:
    """What is kept of the attempt: always the report, and the ONNX form where that may serve.

    ``loaded`` is the original as it was probed, ``test`` the test rows without the target. A
    failed attempt never fails the packaging: the report says what was in the way.
    """
    found, report = _convert(loaded, test)
    digests = {"original": hashlib.sha256(pickled).hexdigest()}
    files: dict[str, bytes] = {}
    if found is not None and report.serves == "onnx":
        digests["onnx"] = hashlib.sha256(found.graph).hexdigest()
        files[ONNX] = found.graph
        files[ONNX_RECIPE] = msgspec.json.encode(found.recipe)
    report = replace(report, digests=digests, made_with=_versions())
    return files | {PARITY: msgspec.json.encode(report)}


def refused(why: str) -> dict[str, bytes]:
    """The report of a model that was not to be converted."""
    return {PARITY: msgspec.json.encode(Parity(serves="original", why=why))}


def _convert(loaded: LoadedModel, test: pl.DataFrame) -> tuple[Converted | None, Parity]:
    if loaded.recipe.gives not in _GIVES or loaded.recipe.method != "predict":
        return None, _original("It is not an estimator whose form is known.")
    made_of = neural_graphs.is_net(loaded.model) or booster_graphs.is_booster(loaded.model)
    if not hasattr(loaded.model, "get_params") and not made_of:
        kind = type(loaded.model).__qualname__
        return None, _original(f"There is no converter for {kind}.")
    if not test.height:
        return None, _original("There are no test rows to compare on.")
    try:
        return _compared(loaded, test)
    except Unavailable as missing:
        return None, _original(f"It was not converted: {missing}")
    except Exception as error:  # noqa: BLE001 - converters fail in any way; the original serves
        return None, _original(f"It cannot be converted: {_said(error)}")


def _original(why: str) -> Parity:
    return Parity(serves="original", why=why)


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _compared(loaded: LoadedModel, test: pl.DataFrame) -> tuple[Converted | None, Parity]:
    matrix = loaded.recipe.takes == "matrix"
    named = loaded.signature.frame != "numpy"
    columns = loaded.signature.inputs if named else ()
    real = making.real(test, columns, matrix=matrix, named=named)
    refusals = parity.refusals_of(loaded, real.take(slice(0, 1)))
    nullable = [column.nullable for column in columns] if named else [True] * len(real.names)
    net, booster = neural_graphs.is_net(loaded.model), booster_graphs.is_booster(loaded.model)
    if net:
        trees = []
        graphs = neural_graphs.graphs_of(loaded.model, loaded.signature.width)
        attempts = [_of_scores(loaded, real, refusals, graph) for graph in graphs]
    elif booster:
        trees = booster_graphs.trees_of(loaded.model)
        graph = booster_graphs.graph_of(loaded.model, loaded.signature.width)
        attempts = [_of_scores(loaded, real, refusals, graph)]
    else:
        trees = onnx_graphs.trees_of(loaded.model)
        attempts = list(_attempts(loaded, real, refusals, direct=bool(trees)))
    asked: list[tuple[str, str, Rows, Answers]] = []
    wanted = parity.row_sets(loaded, real, nullable, trees, test.height, single=net)
    for name, about, rows in wanted:
        asked.append((name, about, rows, parity.answers_of(loaded, rows)))
    scale, relative = _scale(asked[0][3]), parity.SINGLE if net else parity.RELATIVE
    best: tuple[Converted, tuple[RowSet, ...]] | None = None
    for attempt in attempts:
        sets = tuple(
            parity.compare(name, about, rows, said, attempt.model, scale=scale, relative=relative)
            for name, about, rows, said in asked
        )
        if best is None or _differing(sets) < _differing(best[1]):
            best = attempt, sets
        if not _differing(sets):
            break
    assert best is not None, "there is an attempt, or it raised"
    tolerance = parity.tolerances(loaded.signature.task, scale, relative)
    return _decided(loaded, *best, real, tolerance)


def _differing(sets: tuple[RowSet, ...]) -> int:
    return sum(one.differing for one in sets)


def _scale(said: Answers) -> float:
    values = said.outputs.get("prediction")
    if values is None or not np.isfinite(values).any():
        return 1.0
    return float(np.abs(values[np.isfinite(values)]).mean()) or 1.0


def _decided(
    loaded: LoadedModel,
    found: Converted,
    sets: tuple[RowSet, ...],
    real: Rows,
    tolerance: dict[str, str],
) -> tuple[Converted, Parity]:
    speed = {
        "original": _speed(loaded, real),
        "onnx": _speed(found.model, real),
    }
    report = Parity(
        serves="original",
        why="",
        tolerance=tolerance,
        sets=sets,
        speed={
            f"{name}_{rows}_us": us for name, each in speed.items() for rows, us in each.items()
        },
    )
    one, many = (f"{rows} row{'s' * (rows > 1)}" for rows in (1, _BATCH))
    differing = [part for part in sets if part.differing]
    if differing:
        said = ", ".join(f"{part.differing} of {part.rows} ({part.name})" for part in differing)
        why = f"The ONNX form answers otherwise on {said}."
    elif any(speed["onnx"][rows] > speed["original"][rows] for rows in (1, _BATCH)):
        slower = ", ".join(
            f"{name} {speed['onnx'][rows]:,.0f} µs instead of {speed['original'][rows]:,.0f}"
            for name, rows in ((one, 1), (many, _BATCH))
        )
        why = f"The ONNX form answers the same on all {report.rows:,} rows, but slower: {slower}."
    else:
        quicker = speed["original"][1] / max(speed["onnx"][1], 0.1)
        why = f"The same on all {report.rows:,} rows, {quicker:,.0f} times quicker for one row."
        return found, replace(report, serves="onnx", why=why)
    return found, replace(report, why=why)


def _speed(model: LoadedModel, real: Rows) -> dict[int, float]:
    """Rows at once → microseconds; the best of some calls."""
    spent: dict[int, float] = {}
    for rows in (1, _BATCH):
        data = real.copies(rows).data()
        model.predict(data)
        best = np.inf
        for _ in range(_CALLS):
            begun_s = time.perf_counter()
            model.predict(data)
            best = min(best, time.perf_counter() - begun_s)
        spent[rows] = round(best * 1e6, 1)
    return spent


# attempts ---------------------------------------------------------------------------------------


def _attempts(
    loaded: LoadedModel, real: Rows, refusals: parity.Refusals, *, direct: bool
) -> Iterator[Converted]:
    """Ways to convert it, the likeliest first; ``direct``: the input goes to trees as it is."""
    kinds = {name: values.dtype.str for name, values in _first(loaded, real).items()}
    ways = ["graph", "scores"] if loaded.recipe.gives == "proba" else ["graph"]
    failed: list[Exception] = []
    made = False
    for ports in _ports(loaded):
        inputs = [Input(name=port.name, kind=port.kind) for port in ports] or [
            Input(name=MATRIX, kind="float64", width=loaded.signature.width)
        ]
        try:
            graph, outputs = onnx_graphs.graph_of(loaded.model, inputs)
            session = session_of(graph)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - another way to ask may still be written
            failed.append(error)
            continue
        for labels_of in ways:
            recipe = OnnxRecipe(
                outputs=_asked(outputs, loaded, labels_of),
                dtypes=kinds,
                ports=ports,
                labels_of=labels_of,
                no_missing=refusals.missing,
                no_infinite=refusals.infinite,
                no_large=refusals.large if direct else (),
                nan_refuses=refusals.huge and not direct,
            )
            model = OnnxModel(
                signature=loaded.signature, recipe=loaded.recipe, onnx=recipe, session=session
            )
            yield Converted(graph=graph, recipe=recipe, model=model)
            made = True
    if failed and not made:
        raise failed[0]


def _of_scores(
    loaded: LoadedModel, real: Rows, refusals: parity.Refusals, graph: bytes
) -> Converted:
    """A net or a booster, for which there is one way: its label is the class of the largest score,
    and it takes a matrix.
    """
    recipe = OnnxRecipe(
        outputs=(neural_graphs.OUTPUT,),
        dtypes={name: values.dtype.str for name, values in _first(loaded, real).items()},
        labels_of="scores",
        no_missing=refusals.missing,
        no_infinite=refusals.infinite,
        no_large=refusals.large,
    )
    model = OnnxModel(
        signature=loaded.signature, recipe=loaded.recipe, onnx=recipe, session=session_of(graph)
    )
    return Converted(graph=graph, recipe=recipe, model=model)


def _first(loaded: LoadedModel, real: Rows) -> dict[str, Any]:
    return loaded.predict(real.copies(2).data())


def _asked(outputs: tuple[str, ...], loaded: LoadedModel, labels_of: str) -> tuple[str, ...]:
    """The outputs to ask for: labels come first in a classifier's graph, then scores."""
    if loaded.recipe.gives in {"labels", "values", "several"}:
        return outputs[:1]
    return outputs[1:2] if labels_of == "scores" else outputs[:2]


def _ports(loaded: LoadedModel) -> Iterator[tuple[Port, ...]]:
    columns = loaded.signature.inputs
    if loaded.recipe.takes == "matrix" or all(is_number(column) for column in columns):
        yield ()
    if loaded.recipe.takes == "matrix":
        return
    fills = onnx_parts.text_fills(loaded.model)
    yield tuple(_port(column, _PORT_KINDS, fills) for column in columns)
    if any(column.type.startswith(("int", "uint", "bool")) for column in columns):
        yield tuple(_port(column, {}, fills) for column in columns)


_PORT_KINDS = {"int": "int64", "uint": "int64", "bool": "bool"}


def _port(column: Column, kinds: dict[str, str], fills: Mapping[str, str]) -> Port:
    if column.type == "string" or column.type.startswith("dictionary"):
        fill = fills.get(column.name)
        return Port(name=column.name, column=column.name, kind="text", fill=fill)
    for start, kind in kinds.items():
        if column.type.startswith(start) and not column.nullable:
            return Port(name=column.name, column=column.name, kind=kind)
    return Port(name=column.name, column=column.name, kind="float64")


def _versions() -> dict[str, str]:
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
