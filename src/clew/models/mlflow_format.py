"""A model as a directory that MLflow's own clients load: ``mlflow.pyfunc.load_model(directory)``.

The only file that knows MLflow, and it runs in workers alone (the import takes a second). Knows no
store and no commit.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from clew.base.errors import Unavailable
from clew.base.untold import tell_nobody
from clew.models.frames import decimal_places, polars_type, to_pandas
from clew.models.loading import LoadedModel

EXAMPLE_ROWS = 5
_MODEL = "model.pkl"
_UNTOLD = ("duration", "time64")
"""What MLflow's signatures and examples have no type for; a decimal is a double there."""
_OTHERWISE = ("duration", "decimal")
"""What a frame of pandas has in another unit, or as another type."""


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
        told = all(not one.type.startswith(_UNTOLD) for one in loaded.signature.inputs)
        common = {
            "mlflow_model": about,
            "input_example": example if told else None,
            "pip_requirements": [f"{name}=={version}" for name, version in needed.items()],
        }
        original = cloudpickle.loads(pickled)  # with the feature names that it was fitted with
        if _is_plain_estimator(original, loaded, example, sample):
            mlflow.sklearn.save_model(
                original,
                str(directory),
                serialization_format="cloudpickle",
                signature=mlflow.models.infer_signature(example, original.predict(example))
                if told
                else None,
                **common,
            )
        else:
            _write_function(mlflow, directory, loaded, example, pickled, common)
    (directory / _MODEL).write_bytes(pickled)
    return needed


NATIVE = ("onnx", "xgboost", "lightgbm", "keras", "tensorflow", "pytorch", "sklearn")
"""Flavours that are read as their own library has them; any other is asked as a pyfunc."""

DATA = frozenset({"onnx", "xgboost", "lightgbm", "keras"})
"""Flavours whose files can be data alone; what is not is seen by its endings."""


def flavours_of(directory: Path) -> list[str]:
    """The flavours that a model of MLflow has. Raises Unavailable ``extra.missing``."""
    return sorted(_mlflow().models.Model.load(str(directory)).flavors)


def read(directory: Path, native: str) -> tuple[Any, Any, bool]:
    """A model of MLflow: as its own library has it (``native``), else as a pyfunc.

    Returns:
        The model; rows (Polars) that it takes, None where nothing tells; whether these rows were
        made up of its signature.

    Raises:
        ModuleNotFoundError: where its library is missing; whatever loading it raises.
    """
    mlflow = _mlflow()
    about = mlflow.models.Model.load(str(directory))
    with _silent():
        example = (
            about.load_input_example(str(directory)) if about.saved_input_example_info else None
        )
        if native:
            module = importlib.import_module(f"mlflow.{native}")
            model = module.load_model(str(directory))
        else:
            files = sorted(one for one in directory.rglob("*") if one.is_file())
            model = PyFunc(
                {one.relative_to(directory).as_posix(): one.read_bytes() for one in files}
            )
    if example is not None:
        return model, _rows(example), False
    inputs = about.signature.inputs if about.signature else None
    if inputs is None or inputs.is_tensor_spec():
        width = inputs.inputs[0].shape[-1] if inputs is not None else -1
        names = [f"column_{n}" for n in range(max(0, width))]
        return model, (polars_of({name: [0.0, 1.0] for name in names}) if names else None), True
    columns = {
        one.name or f"column_{at}": _values_of_type(str(one.type))
        for at, one in enumerate(inputs.inputs)
    }
    return model, polars_of(columns), True


def download(uri: str, registry: str, target: Path) -> Path:
    """The files behind ``models:/name/version``, ``models:/name@alias`` or ``runs:/id/path``.

    ``registry``: the URI of a tracking server; '' for the one of the environment.
    """
    mlflow = _mlflow()
    if registry:
        mlflow.set_tracking_uri(registry)
        mlflow.set_registry_uri(registry)
    target.mkdir(parents=True, exist_ok=True)
    with _silent():
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(target)))


class PyFunc:
    """A model of MLflow in any flavour, with all its files; loaded where it is first asked.

    It is pickled with its files, so that it can be asked where they are not.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self._loaded: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "_loaded": None}

    def predict(self, rows: Any) -> Any:
        """What the pyfunc says of a pandas frame."""
        if self._loaded is None:
            import tempfile  # noqa: PLC0415 - travels with the pickle

            import mlflow.pyfunc  # noqa: PLC0415 - travels with the pickle

            with tempfile.TemporaryDirectory(prefix="clew-pyfunc-") as place:
                for name, content in self.files.items():
                    file = Path(place, name)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
                self._loaded = mlflow.pyfunc.load_model(place)
        if not hasattr(rows, "iloc") and hasattr(rows, "to_pandas"):
            rows = rows.to_pandas()
        found = self._loaded.predict(rows)
        return found.to_numpy() if hasattr(found, "to_numpy") else np.asarray(found)


def polars_of(columns: Mapping[str, Any]) -> Any:
    """A Polars frame of columns."""
    return importlib.import_module("polars").DataFrame(columns)


def _rows(example: Any) -> Any:
    polars = importlib.import_module("polars")
    if hasattr(example, "columns"):
        return polars.from_pandas(example.reset_index(drop=True))
    array = np.asarray(example)
    array = array.reshape(1, -1) if array.ndim == 1 else array
    return polars.DataFrame({f"column_{n}": array[:, n] for n in range(array.shape[1])})


def _values_of_type(kind: str) -> list[Any]:
    """Two made-up values of a type of MLflow's."""
    if kind.endswith(("string", "String")) or "string" in kind.lower():
        return ["", "a"]
    if "bool" in kind.lower():
        return [False, True]
    if "datetime" in kind.lower():
        return [datetime(2020, 1, 1), datetime(2020, 1, 2)]
    return [0, 1] if any(one in kind.lower() for one in ("integer", "long")) else [0.0, 1.0]


def distributions(modules: Iterable[str]) -> dict[str, str]:
    """Name to version of the installed distributions that the modules come from, by name."""
    owners = importlib.metadata.packages_distributions()
    names = {owner for module in set(modules) for owner in owners.get(module, ())[:1]}
    return {name: importlib.metadata.version(name) for name in sorted(names - {"clew"})}


def _mlflow() -> Any:
    tell_nobody()
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
    found = to_pandas(rows, loaded.signature.inputs, loaded.recipe.held)
    decimals = [one.name for one in loaded.signature.inputs if one.type.startswith("decimal")]
    return found.astype(dict.fromkeys(decimals, "float64"))


def _is_plain_estimator(original: Any, loaded: LoadedModel, example: Any, sample: Any) -> bool:
    """Whether MLflow's scikit-learn flavour gives what this model gives."""
    try:
        base = importlib.import_module("sklearn.base")
    except ModuleNotFoundError:  # an environment without it: then it is no estimator of its
        return False
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
        signature=mlflow.models.infer_signature(example, answer)
        if common["input_example"] is not None
        else None,
        **common,
    )


def _wrapper(mlflow: Any, loaded: LoadedModel) -> Any:
    """A PythonModel that needs nothing of Clew where it is loaded.

    The class is local so that cloudpickle takes it whole, and it refers to no name of this file.
    """
    takes, method = loaded.recipe.takes, loaded.recipe.method
    names = [column.name for column in loaded.signature.inputs]
    named = loaded.signature.frame != "numpy"
    inputs = loaded.signature.inputs if takes == "polars" and named else ()
    kinds = {one.name: polars_type(one) for one in inputs if one.type.startswith(_OTHERWISE)}
    places = {one.name: decimal_places(one.type)[1] for one in inputs if "decimal" in one.type}

    class Packaged(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined, unused-ignore]  # not installed everywhere
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
                for name, kind in kinds.items():
                    column = polars.col(name)
                    column = column.round(places[name]) if name in places else column
                    model_input = model_input.with_columns(column.cast(kind))
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
