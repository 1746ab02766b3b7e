"""A model between the functions of its endpoint: what a client sends in, what it is told out.

Knows no endpoint and no request. Functions see whole batches: rows of several requests stand below
one another, so each row must be answered by itself and none may be dropped or added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from clew.base.errors import Invalid
from clew.base.pickled import read_function
from clew.base.records.processing import POSTPROCESS, PREPROCESS, PROCESSING, Processing
from clew.models.frames import Data, plain_array, rows_of, to_own_matrix, to_pandas, to_polars
from clew.models.loading import LoadedModel, Outputs, Reads

Function = Callable[..., Any]


class Processed(LoadedModel):
    """``model`` behind ``preprocess`` and before ``postprocess``, as far as there are such.

    Its signature is what a client sends. Thread-safe as far as the model and the functions are.
    """

    def __init__(
        self,
        model: LoadedModel,
        about: Processing,
        preprocess: Function | None,
        postprocess: Function | None,
    ) -> None:
        self.signature = about.signature(model.signature)
        self.platform = model.platform
        self.inner = model
        self._about, self._before, self._after = about, preprocess, postprocess
        named = self.signature.frame != "numpy"
        self._names = [column.name for column in self.signature.inputs] if named else []

    def predict(self, data: Data) -> Outputs:
        """The outputs of ``postprocess`` for what ``preprocess`` makes of the rows.

        Raises:
            ValueError: a function raised one: the rows are not as it wants them.
            Invalid: ``processing.failed`` where a function raised something else;
                ``processing.rows`` where it gave another number of rows; ``processing.result``
                where it gave nothing that a model takes, or no outputs. And whatever the model
                raises.
        """
        rows = rows_of(data)
        given = self._as_taken(data)
        asked = data if self._before is None else self._prepared(given, rows)
        try:
            outputs = self.inner.predict(asked)
        except Invalid as error:
            if self._before is None or not error.code.startswith("input."):
                raise
            said = f"{self._about.preprocess} gave what the model does not take: {error.message}"
            raise _wrong("processing.result", said, error.hint) from error
        return outputs if self._after is None else self._told(outputs, given, rows)

    def prepared(self, data: Data) -> Any:
        """The rows as the model gets them. Raises as :meth:`predict`."""
        if self._before is None:
            return data
        return self._prepared(self._as_taken(data), rows_of(data))

    @property
    def apart(self) -> bool:
        """Whether the model computes in a process of its own."""
        return bool(getattr(self.inner, "apart", False))

    def _as_taken(self, data: Data) -> Any:
        """The rows as functions get them."""
        if self._before is None and not self._about.with_rows:
            return data
        takes = self._about.takes or self.signature.frame
        if takes == "numpy" or not self._names:
            return to_own_matrix(data, self._names, self.signature.width)
        return (to_pandas if takes == "pandas" else to_polars)(data, self.signature.inputs)

    def _prepared(self, given: Any, rows: int) -> Any:
        assert self._before is not None, "it is asked only where there is one"
        name = self._about.preprocess
        found = _called(name, self._before, given)
        if not hasattr(found, "__len__"):
            raise _wrong(
                "processing.result",
                f"{name} returned a {type(found).__name__}.",
                "Return the rows for the model: a frame, an array, or a mapping of columns.",
            )
        _check_rows(name, rows_of(found), rows)
        return found

    def _told(self, outputs: Outputs, given: Any, rows: int) -> Outputs:
        assert self._after is not None, "it is asked only where there is one"
        name = self._about.postprocess
        told = _as_got(outputs, self._about.gets)
        arguments = (told, given) if self._about.with_rows else (told,)
        found = _named(name, _called(name, self._after, *arguments))
        for values in found.values():
            _check_rows(name, len(values) if values.ndim else 1, rows)
        return found


def processed(store: Reads, tree: str, model: LoadedModel) -> LoadedModel:
    """The model with the functions that lie beside it in a tree; itself where there are none.

    Raises:
        Unavailable: ``model.distribution`` where a function needs a module that is not installed.
        Corrupt: ``processing.code`` where a function cannot be read.
    """
    entry = store.get(tree, PROCESSING)
    if entry is None:
        return model
    about = msgspec.json.decode(store.read(entry.digest), type=Processing)
    return with_functions(store, tree, about, model)


def with_functions(store: Reads, tree: str, about: Processing, model: LoadedModel) -> LoadedModel:
    """The same, where what is said of the functions is known already.

    Raises:
        Unavailable, Corrupt: as :func:`processed`.
    """
    found = [_function(store, tree, path) for path in (PREPROCESS, POSTPROCESS)]
    return Processed(model, about, *found)


def _function(store: Reads, tree: str, path: str) -> Function | None:
    entry = store.get(tree, path)
    return None if entry is None else read_function(store.read(entry.digest), "the endpoint")


def _called(name: str, function: Function, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise _wrong(
            "processing.failed",
            f"{name} raised {type(error).__name__}: {error}",
            "A ValueError says that the rows are wrong (400); anything else is a fault (500).",
        ) from error


def _check_rows(name: str, found: int, rows: int) -> None:
    if found != rows:
        raise _wrong(
            "processing.rows",
            f"{name} gave {found} rows for {rows}.",
            "Rows of several requests come together: answer each, in their order.",
        )


def _as_got(outputs: Outputs, gets: str) -> Any:
    if not gets:  # it may write into them, also where the model still has them
        return {name: one if one.flags.writeable else one.copy() for name, one in outputs.items()}
    columns = {name: list(one) if one.ndim > 1 else one for name, one in outputs.items()}
    if gets == "pandas":
        import pandas as pd  # noqa: PLC0415 - heavy, and only where a function wants it

        return pd.DataFrame(columns)
    import polars as pl  # noqa: PLC0415 - heavy, and only where a function wants it

    return pl.DataFrame(columns)


def _named(name: str, found: Any) -> Outputs:
    """What a function returned, as outputs by name."""
    if isinstance(found, Mapping):
        outputs = {str(key): plain_array(values) for key, values in found.items()}
    elif hasattr(found, "columns"):
        outputs = {str(key): plain_array(found[key]) for key in found.columns}
    elif hasattr(found, "__len__") and not isinstance(found, str | bytes):
        outputs = {"prediction": plain_array(found)}
    else:
        outputs = {}
    if not outputs:
        raise _wrong(
            "processing.result",
            f"{name} returned a {type(found).__name__}.",
            "Return outputs by name: {'label': array, ...}, a frame, or one array.",
        )
    return {key: np.atleast_1d(values) for key, values in outputs.items()}


def _wrong(kind: str, message: str, hint: str) -> Invalid:
    return Invalid(kind, message, hint=hint)
