"""A model from a file or directory of another tool: which kind it is, and whether it may be loaded.

Runs in workers alone. A pickle runs whatever code it holds, so it is loaded only where somebody
trusts it; formats of data (ONNX, XGBoost, LightGBM, Keras) are loaded without.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from msgspec import Struct

from clew.base.errors import ClewError, Corrupt, Denied, Invalid, Unavailable
from clew.models import mlflow_format
from clew.models.flavours import OnnxRaw
from clew.models.loading import unpickle

PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".cloudpickle", ".pt", ".pth", ".skops"})
_CODE = frozenset({".py", ".so"})
_EXTRA = {"xgboost": "boosting", "lightgbm": "boosting", "torch": "torch", "keras": "keras"}


class Read(Struct, frozen=True, kw_only=True):
    """A model as it was read. ``example``: rows that came with it, or were made of its own
    signature (``made_up``); None where nothing tells what it takes.
    """

    model: Any
    flavour: str
    unsafe: bool
    example: pl.DataFrame | None = None
    made_up: bool = False
    classes: tuple[Any, ...] = ()


def read_model(place: Path, *, trust: bool) -> Read:
    """The model in a directory: an MLflow model, or one file.

    Raises:
        Denied: ``import.untrusted`` for a pickle that nobody trusts.
        Invalid: ``import.kind`` where it is nothing that is known.
        Unavailable: ``extra.missing``, ``model.distribution``.
        Corrupt: ``import.unreadable``.
    """
    files = sorted(one for one in place.rglob("*") if one.is_file())
    described = [one for one in files if one.name == "MLmodel"]
    if described:
        return _of_mlflow(described[0].parent, trust)
    if len(files) != 1:
        raise Invalid(
            "import.kind",
            f"There are {len(files)} files and no MLmodel among them.",
            hint="Give the directory of an MLflow model, or one file of a model.",
        )
    kind = _KINDS.get(files[0].suffix.lower())
    if kind is None:
        raise Invalid(
            "import.kind",
            f"{files[0].name} is no kind of model that is known by its ending.",
            hint=f"Known are {', '.join(sorted(_KINDS))}, and directories of MLflow.",
        )
    flavour, load = kind
    unsafe = files[0].suffix.lower() in PICKLES
    if unsafe and not trust:
        raise _untrusted(files[0].name)
    model = _loaded(files[0].name, flavour, lambda: load(files[0]))
    return _described(model, flavour, unsafe)


def _of_mlflow(directory: Path, trust: bool) -> Read:
    flavours = mlflow_format.flavours_of(directory)
    native = next((one for one in mlflow_format.NATIVE if one in flavours), "")
    files = [one for one in directory.rglob("*") if one.is_file()]
    unsafe = native not in mlflow_format.DATA or any(
        one.suffix.lower() in PICKLES | _CODE for one in files
    )
    if unsafe and not trust:
        raise _untrusted(f"the MLflow model ({', '.join(flavours)})")
    model, example, made_up = _loaded(
        "the MLflow model", native or "mlflow", lambda: mlflow_format.read(directory, native)
    )
    if native == "onnx":
        model = OnnxRaw(model.SerializeToString())
    found = _described(model, native or "mlflow pyfunc", unsafe)
    if example is None:
        return found
    return Read(
        model=found.model,
        flavour=found.flavour,
        unsafe=unsafe,
        example=example,
        made_up=made_up,
        classes=found.classes,
    )


def _described(model: Any, flavour: str, unsafe: bool) -> Read:
    """With what the model itself says of its columns and classes."""
    names = [str(one) for one in getattr(model, "feature_names_in_", ())]
    width = getattr(model, "n_features_in_", None)
    if isinstance(model, OnnxRaw):
        names, width = list(model.names), model.width
    elif not names and flavour in {"xgboost", "lightgbm"}:
        names = list(getattr(model, "feature_names", None) or [])
        if not names and hasattr(model, "feature_name"):
            names = list(model.feature_name())
        if not names and hasattr(model, "num_features"):
            width = int(model.num_features())
    names = names or [f"column_{n}" for n in range(width or 0)]
    rows = pl.DataFrame({name: [0.0, 1.0, -1.0, 0.5] for name in names}) if names else None
    classes = _classes_of_onnx(model.content) if isinstance(model, OnnxRaw) else ()
    return Read(
        model=model,
        flavour=flavour,
        unsafe=unsafe,
        example=rows,
        made_up=rows is not None,
        classes=classes,
    )


def _untrusted(name: str) -> Denied:
    return Denied(
        "import.untrusted",
        f"{name} holds a pickle or code, which runs when it is loaded.",
        hint="Where you trust whoever made it, say so: --trust (it is loaded in a worker alone). "
        "ONNX and the formats of XGBoost, LightGBM and Keras need no trust.",
    )


def _loaded(name: str, flavour: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ClewError:
        raise
    except ModuleNotFoundError as error:
        missing = (error.name or flavour).partition(".")[0]
        raise Unavailable(
            "extra.missing",
            f"Reading {name} needs {missing}, which is not installed.",
            hint=(
                f'Install it: pip install "clew[{_EXTRA[missing]}]"'
                if missing in _EXTRA
                else f"Install it: pip install {missing}"
            )
            + ". Or give the model an environment of its own: --own-environment, --requirement.",
        ) from None
    except Exception as error:
        raise Corrupt(
            "import.unreadable",
            f"{name} cannot be read as {flavour}: {type(error).__name__}: {error}",
            hint="Is it whole, and of a version of the library that reads here?",
        ) from error


def _pickle(file: Path) -> Any:
    try:
        return unpickle(file.read_bytes())[0]
    except Corrupt:
        return importlib.import_module("joblib").load(file)  # arrays beside the pickle


def _xgboost(file: Path) -> Any:
    booster = importlib.import_module("xgboost").Booster()
    booster.load_model(str(file))
    return booster


def _lightgbm(file: Path) -> Any:
    return importlib.import_module("lightgbm").Booster(model_file=str(file))


def _torch(file: Path) -> Any:
    torch = importlib.import_module("torch")
    try:
        return torch.jit.load(str(file), map_location="cpu")
    except RuntimeError:
        return torch.load(str(file), map_location="cpu", weights_only=False)


def _keras(file: Path) -> Any:
    return importlib.import_module("keras").saving.load_model(str(file), safe_mode=True)


def _onnx(file: Path) -> Any:
    return OnnxRaw(file.read_bytes())


def _classes_of_onnx(content: bytes) -> tuple[Any, ...]:
    """The classes that a converted classifier holds in its nodes; none where it holds none."""
    try:
        onnx = importlib.import_module("onnx")
    except ModuleNotFoundError:
        return ()
    for node in onnx.load_from_string(content).graph.node:
        for one in node.attribute:
            if one.name in {"classlabels_ints", "classlabels_int64s"} and len(one.ints) > 1:
                return tuple(one.ints)
            if one.name == "classlabels_strings" and len(one.strings) > 1:
                return tuple(text.decode() for text in one.strings)
    return ()


_KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    ".onnx": ("onnx", _onnx),
    **dict.fromkeys((".pkl", ".pickle", ".cloudpickle", ".joblib"), ("pickle", _pickle)),
    **dict.fromkeys((".json", ".ubj", ".xgb"), ("xgboost", _xgboost)),
    **dict.fromkeys((".txt", ".lgb"), ("lightgbm", _lightgbm)),
    **dict.fromkeys((".pt", ".pth"), ("pytorch", _torch)),
    ".keras": ("keras", _keras),
}
