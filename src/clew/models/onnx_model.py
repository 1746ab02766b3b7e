"""A converted model in memory: ONNX Runtime asked as the original is, with the same outputs.

The only file that knows ONNX Runtime. Knows no store, and nothing of how the graph was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from clew.base.errors import Unavailable
from clew.base.records import Signature
from clew.base.untold import tell_nobody
from clew.models.frames import Array, Data, to_matrix, to_polars
from clew.models.loading import LoadedModel, Outputs, Recipe

MATRIX = "input"
MISSING_TEXT = "\x00missing"
"""Stands for a missing text, of which ONNX has none: a category that no model has learned."""
_FLOAT32_MOST = float(np.finfo(np.float32).max)
_SQUARES = _FLOAT32_MOST**2
_KINDS = {"text": object, "float64": np.float64, "int64": np.int64, "bool": np.bool_}


class Port(Struct, frozen=True, kw_only=True):
    """One input of a graph that takes a column each. ``kind``: text, float64, int64 or bool.

    ``fill``: stands for a missing text, where the model fills one in.
    """

    name: str
    column: str
    kind: str
    fill: str | None = None


class OnnxRecipe(Struct, frozen=True, kw_only=True):
    """How the graph is asked. Without ``ports`` it takes one matrix [rows, width] of float64.

    ``outputs``: the graph's outputs to ask for: of labels, then of scores, as far as there are.
    ``dtypes``: by name of an output, its numpy dtype. ``labels_of``: ``graph``, or ``scores``
    where the label is the class of the largest score. Places of columns where the original refuses
    a value: ``no_missing``, ``no_infinite``, ``no_large`` (beyond float32). ``nan_refuses``: the
    graph says by NaN that a value inside it is too large.
    """

    outputs: tuple[str, ...]
    dtypes: dict[str, str]
    ports: tuple[Port, ...] = ()
    labels_of: str = "graph"
    no_missing: tuple[int, ...] = ()
    no_infinite: tuple[int, ...] = ()
    no_large: tuple[int, ...] = ()
    nan_refuses: bool = False


class OnnxModel(LoadedModel):
    """Answers as the original does, on the values that the original takes.

    ``onnx_recipe`` and ``session``: how, and what. Thread-safe.
    """

    def __init__(
        self, *, signature: Signature, recipe: Recipe, onnx: OnnxRecipe, session: Any
    ) -> None:
        super().__init__(signature=signature, recipe=replace(recipe, bare=False), model=None)
        self.platform = "onnxruntime_onnx"
        self._onnx, self._run = onnx, session.run
        self._asked = list(onnx.outputs)
        self._kinds = {name: np.dtype(kind) for name, kind in onnx.dtypes.items()}
        self._classes = np.array(recipe.classes) if recipe.classes else None
        self._columns = [column.name for column in signature.inputs]
        self._strict = bool(onnx.no_missing or onnx.no_infinite or onnx.no_large)
        self._matrix_only = not onnx.ports

    def predict(self, data: Data) -> Outputs:
        """As the original's; see :meth:`LoadedModel.predict`.

        Raises:
            ValueError: a value that the original refuses.
        """
        if self._matrix_only:
            if type(data) is not np.ndarray or data.dtype != np.float64:
                data = to_matrix(data, self._names, self.signature.width)
            if self._strict:
                flat = data.ravel()
                with np.errstate(over="ignore", invalid="ignore"):
                    whole = flat.dot(flat) < _SQUARES  # no NaN, nothing infinite, nothing large
                if not whole:
                    self._check(data)
            found = self._run(self._asked, {MATRIX: data})
        else:
            found = self._run(self._asked, self._feeds(data))
        if self._onnx.nan_refuses and np.isnan(found[-1].sum()):
            raise ValueError("A value is too large for the model, which computes in float32.")
        return self._named_outputs(found)

    def input_of(self, data: Data) -> Any:
        """``data`` as the graph takes it: one array an input."""
        if self._matrix_only:
            return {MATRIX: to_matrix(data, self._names, self.signature.width)}
        return self._feeds(data)

    def ask(self, given: Any) -> Any:
        """What the graph itself says."""
        return dict(zip(self._asked, self._run(self._asked, given), strict=True))

    def _named_outputs(self, found: Sequence[Array]) -> Outputs:
        if self.signature.task == "regression":
            values = found[0]
            values = values if self.recipe.gives == "several" else values.ravel()
            return {"prediction": self._as("prediction", values)}
        if len(self._asked) == 1 and self._onnx.labels_of == "graph":
            return {"label": self._as("label", found[0].ravel())}
        scores = found[-1]
        if self._onnx.labels_of == "scores":
            assert self._classes is not None, "only classifiers have labels"
            labels = self._classes[scores.argmax(axis=1)]
        else:
            labels = found[0]
        if self.signature.task == "binary":
            name, values = "probability", scores[:, 1]
        else:
            name, values = "probabilities", scores
        return {"label": self._as("label", labels), name: self._as(name, values)}

    def _as(self, name: str, values: Array) -> Array:
        kind = self._kinds[name]
        return values if values.dtype == kind else values.astype(kind)

    # inputs -----------------------------------------------------------------------------------

    def _feeds(self, data: Data) -> dict[str, Array]:
        if isinstance(data, np.ndarray):
            data = {name: data[:, at] for at, name in enumerate(self._columns)}
        elif not isinstance(data, Mapping):
            frame = to_polars(data, self.signature.inputs)
            data = {name: frame[name].to_list() for name in self._columns}
        feeds = {port.name: self._column(port, data[port.column]) for port in self._onnx.ports}
        if self._strict:
            self._check_columns(feeds)
        return feeds

    def _column(self, port: Port, values: Any) -> Array:
        if port.kind == "text":
            if not isinstance(values, list):
                values = list(values)
            missing = MISSING_TEXT if port.fill is None else port.fill
            texts = [missing if value is None else str(value) for value in values]
            return np.array(texts, dtype=object).reshape(-1, 1)
        return np.asarray(values, dtype=_KINDS[port.kind]).reshape(-1, 1)

    def _check_columns(self, feeds: Mapping[str, Array]) -> None:
        """The rules of the columns, each in its own array."""
        places = {name: at for at, name in enumerate(self._columns)}
        for port in self._onnx.ports:
            at, values = places[port.column], feeds[port.name]
            if port.kind == "text":
                if at in self._onnx.no_missing and (values == MISSING_TEXT).any():
                    raise _refused(port.column, "is missing")
            elif port.kind == "float64":
                self._check_values(values, [at])

    def _check(self, matrix: Array) -> None:
        self._check_values(matrix, range(matrix.shape[1]))

    def _check_values(self, matrix: Array, places: Sequence[int]) -> None:
        """Raises ValueError where a column of ``matrix`` holds what the original refuses."""
        for column, at in enumerate(places):
            values = matrix[:, column]
            name = self._columns[at] if at < len(self._columns) and self._names else str(at)
            if at in self._onnx.no_missing and np.isnan(values).any():
                raise _refused(name, "is missing (NaN)")
            if at in self._onnx.no_infinite and np.isinf(values).any():
                raise _refused(name, "is infinite")
            if at in self._onnx.no_large and (np.abs(values) > _FLOAT32_MOST).any():
                raise _refused(name, "is too large for float32")


def _refused(column: str, why: str) -> ValueError:
    return ValueError(f"A value of input {column!r} {why}, which the model does not take.")


def session_of(graph: bytes) -> Any:
    """An inference session on one thread: a prediction is short, and processes are what scales.

    Raises:
        Unavailable: ``extra.missing`` without ONNX Runtime.
    """
    runtime = runtime_library()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def runtime_library() -> Any:
    """ONNX Runtime itself.

    Raises:
        Unavailable: ``extra.missing``.
    """
    tell_nobody()
    try:
        import onnxruntime  # noqa: PLC0415 - heavy, and only where a converted model is asked
    except ModuleNotFoundError:
        raise Unavailable(
            "extra.missing",
            "A converted model needs onnxruntime, which is not installed.",
            hint='Install it: pip install "clew[standard]"',
        ) from None
    return onnxruntime
