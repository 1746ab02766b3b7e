"""What a function's annotations say, also where they are kept as text or hang on TYPE_CHECKING.

Knows no codec but through ``reading``, which says whether there is one.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from clew.base.errors import ClewError, Invalid
from clew.codecs.reading import reader_of
from clew.codecs.wanted import NOT_SAID

_USUAL = {
    "pl": "polars",
    "pd": "pandas",
    "pa": "pyarrow",
    "np": "numpy",
    "ds": "pyarrow.dataset",
    "polars": "polars",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "numpy": "numpy",
    "duckdb": "duckdb",
    "clew": "clew",
    "typing": "typing",
    "t": "typing",
    "pathlib": "pathlib",
    "PIL": "PIL.Image",
    "pydantic": "pydantic",
    "msgspec": "msgspec",
}
"""Names that people give to libraries, for annotations whose import only a type checker sees."""

_FROM = {"Path": "pathlib", "Any": "typing", "Optional": "typing", "Annotated": "typing"}


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Types by parameter, and that of the result as ``return``; none where nothing is said.

    A text that names what the module does not have stays a text.
    """
    signature = inspect.signature(function)
    written = {name: one.annotation for name, one in signature.parameters.items()}
    written["return"] = signature.return_annotation
    inner = inspect.unwrap(function)
    names = _Names(getattr(inner, "__globals__", {}))
    return {
        name: _resolved(one, names)
        for name, one in written.items()
        if one is not inspect.Parameter.empty
    }


def check_annotation(function: Callable[..., Any], parameter: str) -> None:
    """That there is a codec for what a parameter is annotated with.

    Raises:
        Invalid: ``codec.unknown``, ``code.annotation``, naming function and parameter.
    """
    annotation = annotations_of(function).get(parameter, NOT_SAID)
    try:
        reader_of(annotation)
    except ClewError as error:
        raise Invalid(
            error.code, f"{parameter} of {function.__name__}: {error.message}", hint=error.hint
        ) from None


class _Names(Mapping[str, Any]):
    """The globals of a module; where it lacks a name, what that name usually means."""

    def __init__(self, own: dict[str, Any]) -> None:
        self._own = own

    def __getitem__(self, name: str) -> Any:
        if name in self._own:
            return self._own[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        try:
            if name in _FROM:
                return getattr(import_module(_FROM[name]), name)
            if name in _USUAL:
                module = import_module(_USUAL[name])
                return import_module("PIL") if name == "PIL" else module
        except ModuleNotFoundError:
            pass
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


def _resolved(written: Any, names: _Names) -> Any:
    if not isinstance(written, str):
        return written
    try:
        return eval(written, {}, names)  # noqa: S307 - the user's own text, as typing does
    except Exception:  # noqa: BLE001 - whatever it raises, it is not readable here
        return written
