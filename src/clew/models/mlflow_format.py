"""A model as a directory that MLflow's own clients load: ``mlflow.pyfunc.load_model(directory)``.

The only file that knows MLflow, and it runs in workers alone (the import takes a second). Knows no
store and no commit.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from clew.base.errors import Unavailable
from clew.models.frames import to_pandas
from clew.models.loading import LoadedModel

EXAMPLE_ROWS = 5
_MODEL = "model.pkl"


def write(
    directory: Path,
    loaded: LoadedModel,
    sample: Any,
    *,
    pickled: bytes,
    modules: Iterable[str],
    metadata: Mapping[str, str],
) -> dict[str, str]:
    """Write the model to ``directory`` (made here), with ``model.pkl`` at its root.

    A scikit-learn estimator that answers a pandas frame as it should keeps MLflow's flavour for
    it; everything else becomes a ``pyfunc`` that makes the frame that the model wants.

    Args:
        directory: Where; must not exist.
        loaded: The model with its signature and recipe.
        sample: Rows (Polars) to infer MLflow's signature and input example from.
        pickled: The bytes of ``model.pkl``.
        modules: Top-level modules that the pickle names.
        metadata: Kept in the ``MLmodel`` file.

    Returns:
        Distribution name to version: what the model needs (as in ``requirements.txt``).

    Raises:
        Unavailable: ``extra.missing`` without MLflow.
    """
    mlflow = _mlflow()
    needed = distributions([*modules, "mlflow", "cloudpickle", "numpy", "pandas", *_frame(loaded)])
    example = _example(loaded, sample)
    about = mlflow.models.Model(
        model_uuid=hashlib.sha256(pickled).hexdigest()[:32],
        utc_time_created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        metadata=dict(metadata),
    )
    with _silent():
        common = {
            "mlflow_model": about,
            "input_example": example,
            "pip_requirements": [f"{name}=={version}" for name, version in needed.items()],
        }
        original = cloudpickle.loads(pickled)  # with the feature names that it was fitted with
        if _is_plain_estimator(original, loaded, example, sample):
            mlflow.sklearn.save_model(
                original,
                str(directory),
                serialization_format="cloudpickle",
                signature=mlflow.models.infer_signature(example, original.predict(example)),
                **common,
            )
        else:
            _write_function(mlflow, directory, loaded, example, pickled, common)
    (directory / _MODEL).write_bytes(pickled)
    return needed


def distributions(modules: Iterable[str]) -> dict[str, str]:
    """Name to version of the installed distributions that the modules come from, by name."""
    owners = importlib.metadata.packages_distributions()
    names = {owner for module in set(modules) for owner in owners.get(module, ())[:1]}
    return {name: importlib.metadata.version(name) for name in sorted(names - {"clew"})}


def _mlflow() -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        for name in ("mlflow.models", "mlflow.pyfunc", "mlflow.sklearn"):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Unavailable(
            "extra.missing",
            f"Packaging a model needs {error.name}, which is not installed.",
            hint='Install it: pip install "clew[standard]"',
        ) from None
    return importlib.import_module("mlflow")


def _frame(loaded: LoadedModel) -> list[str]:
    return ["polars"] if loaded.recipe.takes == "polars" else []


def _example(loaded: LoadedModel, sample: Any) -> Any:
    rows = sample.head(EXAMPLE_ROWS)
    if loaded.signature.frame == "numpy":
        return loaded.input_of(rows)
    return to_pandas(rows, loaded.signature.inputs)


def _is_plain_estimator(original: Any, loaded: LoadedModel, example: Any, sample: Any) -> bool:
    """Whether MLflow's scikit-learn flavour gives what this model gives."""
    base = importlib.import_module("sklearn.base")
    if not isinstance(original, base.BaseEstimator):
        return False
    outputs = loaded.predict(sample.head(EXAMPLE_ROWS))
    expected = outputs.get("label", outputs.get("prediction"))
    try:
        answer = np.asarray(original.predict(example))
    except Exception:  # noqa: BLE001 - the user's estimator: then it is wrapped
        return False
    return expected is not None and np.array_equal(answer.ravel(), expected.ravel())


def _write_function(
    mlflow: Any,
    directory: Path,
    loaded: LoadedModel,
    example: Any,
    pickled: bytes,
    common: dict[str, Any],
) -> None:
    content = directory.with_suffix(".pkl")
    content.write_bytes(pickled)
    wrapper = _wrapper(mlflow, loaded)
    wrapper.model = loaded.model
    answer = wrapper.predict(None, example)
    wrapper.model = None
    mlflow.pyfunc.save_model(
        str(directory),
        python_model=wrapper,
        artifacts={"model": str(content)},
        signature=mlflow.models.infer_signature(example, answer),
        **common,
    )


def _wrapper(mlflow: Any, loaded: LoadedModel) -> Any:
    """A PythonModel that needs nothing of Clew where it is loaded.

    The class is local so that cloudpickle takes it whole, and it refers to no name of this file.
    """
    takes, method = loaded.recipe.takes, loaded.recipe.method
    names = [column.name for column in loaded.signature.inputs]
    named = loaded.signature.frame != "numpy"

    class Packaged(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            self.model: Any = None

        def load_context(self, context: Any) -> None:
            import cloudpickle  # noqa: PLC0415 - travels with the pickle

            with open(context.artifacts["model"], "rb") as file:  # noqa: PTH123 - as above
                self.model = cloudpickle.load(file)

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:  # noqa: ARG002 - as MLflow calls it
            if named and hasattr(model_input, "columns"):
                model_input = model_input[names]
            if takes == "polars":
                import polars  # noqa: PLC0415 - travels with the pickle

                model_input = polars.from_pandas(model_input)
            elif takes == "matrix" and hasattr(model_input, "to_numpy"):
                model_input = model_input.to_numpy(dtype="float64")
            asked = self.model if method == "call" else self.model.predict
            answer = asked(model_input)
            return answer.to_numpy() if hasattr(answer, "to_numpy") else answer

    return Packaged()


@contextmanager
def _silent() -> Iterator[None]:
    """MLflow's advice on formats, type hints and integers is decided here and shown to nobody."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
