"""A packaged model in memory: load it from its commit, ask it, get named outputs.

Knows nothing of MLflow, endpoints or gates. The pickle is read by cloudpickle's own rules, so the
process must have the distributions that the model was packaged with; the project's own code
travels inside the pickle (design/0008).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace

from clew.base.errors import ClewError, Corrupt, Invalid, NotFound, Unavailable
from clew.base.records import Signature
from clew.models.frames import Array, Data, plain_array, to_own_matrix, to_pandas, to_polars
from clew.models.held import Held
from clew.models.layout import RECIPE, SIGNATURE

Outputs: TypeAlias = dict[str, Array]


class Recipe(Struct, frozen=True, kw_only=True):
    """How the pickled object is asked, found out when it was packaged.

    ``takes``: matrix, polars or pandas. ``method``: predict (an attribute) or call (the object).
    ``gives``: values (of a regression), several (numbers a row, of one), proba (``predict_proba``
    alone says it all), proba_and_labels, labels, score (of the second class), scores (of all
    classes), or named (a mapping of outputs). ``bare``: feature names are taken off the object
    first, because it answers the same without and takes a matrix then. ``classes`` are the labels
    as the model gives them, in the order of the signature's. ``held``: how pandas has the columns
    of what the model learned from; empty where it takes none, or where nobody looked.
    """

    takes: str
    method: str
    gives: str
    bare: bool = False
    classes: tuple[bool | int | float | str, ...] = ()
    held: dict[str, Held] = field(default_factory=dict)


class Reads(Protocol):
    """The part of a store that loading needs."""

    def get(self, tree: str, path: str) -> Any:
        """The entry (with its ``digest``) of a file in a tree, or None."""
        ...

    def read(self, digest: str) -> bytes:
        """The bytes of a file."""
        ...


class LoadedModel:
    """A model with its signature. Thread-safe as far as the model itself is."""

    def __init__(self, *, signature: Signature, recipe: Recipe, model: Any) -> None:
        self.signature = signature
        self.recipe = recipe
        self.platform = f"clew_{signature.frame}"
        self.model = bare(model) if recipe.bare else model
        self._names = [c.name for c in signature.inputs] if signature.frame != "numpy" else []
        self._labels = np.array(recipe.classes) if recipe.classes else None

    def predict(self, data: Data) -> Outputs:
        """One value (or row of values) for each row of ``data``, by the name of the output.

        ``data``: an array [rows, width], a mapping of column names to values, or a frame of Polars
        or pandas; columns that the model does not take are ignored. Binary models give ``label``
        and ``probability`` (of the second class), multiclass ones ``label`` and ``probabilities``
        [rows, classes], where they have probabilities at all; regressions give ``prediction``, or
        several of them [rows, n].

        Raises:
            Invalid: ``input.columns``, ``input.type``; and whatever the model raises.
        """
        return self._outputs(self.input_of(data))

    def input_of(self, data: Data) -> Any:
        """``data`` as the model takes it; its own, since the user's code may write into it."""
        if self.recipe.takes == "matrix":
            return to_own_matrix(data, self._names, self.signature.width)
        if self.recipe.takes == "pandas":
            return to_pandas(data, self.signature.inputs, self.recipe.held)
        return to_polars(data, self.signature.inputs)

    def ask(self, given: Any) -> Any:
        """What the object itself says of its input, as it comes."""
        return self.model(given) if self.recipe.method == "call" else self.model.predict(given)

    def _outputs(self, given: Any) -> Outputs:
        gives = self.recipe.gives
        if gives in {"proba", "proba_and_labels"}:
            scores = plain_array(self.model.predict_proba(given))
            labels = plain_array(self.model.predict(given)) if gives != "proba" else None
            return self._of_scores(scores, labels)
        raw = self.ask(given)
        if gives == "named":
            return {name: plain_array(values) for name, values in raw.items()}
        values = plain_array(raw)
        if gives == "scores":
            return self._of_scores(values, None)
        if gives == "score":
            return self._of_scores(np.column_stack([1 - values.ravel(), values.ravel()]), None)
        if gives == "labels":
            return {"label": values.ravel()}
        shape = (len(values), -1) if gives == "several" else (-1,)
        return {"prediction": values.reshape(shape).astype(np.float64)}

    def _of_scores(self, scores: Array, labels: Array | None) -> Outputs:
        if labels is None:
            assert self._labels is not None, "only classifiers give scores"
            labels = self._labels[scores.argmax(axis=1)]
        if self.signature.task == "binary":
            return {"label": labels, "probability": scores[:, 1]}
        return {"label": labels, "probabilities": scores}


def asked_how(store: Reads, tree: str, *, as_trained: bool = False) -> tuple[Signature, Recipe]:
    """What a packaged model takes and how it is asked.

    ``as_trained``: as its training function would ask it, with the names it was fitted with, and
    not in the quicker way that an endpoint has. Raises NotFound ``model.tree``.
    """
    signature = msgspec.json.decode(read_file(store, tree, SIGNATURE), type=Signature)
    recipe = msgspec.json.decode(read_file(store, tree, RECIPE), type=Recipe)
    if as_trained and recipe.bare:
        recipe = replace(recipe, bare=False, takes=signature.frame)
    return signature, recipe


def unpickle(content: bytes) -> tuple[Any, set[str]]:
    """The object of a pickle, and the top-level modules that it names.

    Raises:
        Unavailable: ``model.distribution``.
        Corrupt: ``model.pickle``.
    """
    reader = _Reader(io.BytesIO(content))
    try:
        return reader.load(), reader.modules
    except ModuleNotFoundError as error:
        raise Unavailable(
            "model.distribution",
            f"The model needs the module {error.name!r}, which is not installed here.",
            hint="Install the distributions in the requirements.txt of the model.",
        ) from error
    except ClewError:
        raise
    except Exception as error:  # a pickle runs code of the user's libraries: anything may come
        raise Corrupt(
            "model.pickle",
            f"The model cannot be unpickled: {type(error).__name__}: {error}",
            hint="Compare the installed versions with the requirements.txt of the model.",
        ) from error


def bare(model: Any) -> Any:
    """The estimator without the feature names that it was fitted with, in all its parts.

    scikit-learn then takes a matrix without a warning and without looking for names. The object is
    changed in place.
    """
    for part in parts(model, set()):
        vars(part).pop("feature_names_in_", None)
    return model


def parts(value: Any, seen: set[int]) -> list[Any]:
    """An estimator and the estimators in its attributes, lists and dicts, each once."""
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, Mapping):
        return [part for one in value.values() for part in parts(one, seen)]
    if isinstance(value, list | tuple):
        return [part for one in value for part in parts(one, seen)]
    if not hasattr(value, "get_params") or not hasattr(value, "__dict__"):
        return []
    return [value, *(part for one in vars(value).values() for part in parts(one, seen))]


class _Reader(pickle.Unpickler):
    """Notes which modules a pickle names."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.modules.add(module.partition(".")[0])
        return super().find_class(module, name)


def read_file(store: Reads, tree: str, path: str) -> bytes:
    """The bytes of a file of a packaged model. Raises NotFound ``model.tree``."""
    entry = store.get(tree, path)
    if entry is None:
        raise NotFound(
            "model.tree",
            f"There is no {path} in {tree}: it is not a packaged model.",
            hint="Give the tree of a commit in the repo of a training step.",
        )
    return store.read(entry.digest)


def check_outputs(outputs: Outputs, rows: int) -> Outputs:
    """The outputs themselves, if each has one value a row.

    Raises:
        Invalid: ``model.output``.
    """
    for name, values in outputs.items():
        if values.ndim < 1 or len(values) != rows:
            raise Invalid(
                "model.output",
                f"The model gave {name!r} of shape {list(values.shape)} for {rows} rows.",
                hint="Return a model whose predict gives one value for each row.",
            )
    return outputs
