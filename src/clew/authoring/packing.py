"""Functions of the user that travel by value, to where endpoints are served.

Serving processes hold several versions of a project's code at once, so nothing of it can be
imported there: a function is pickled whole, with all that it uses of the project's own modules.
"""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from clew.authoring.checks import invalid
from clew.authoring.inputs import Node
from clew.authoring.steps import Around, GraphOptions
from clew.base.pickled import by_value
from clew.base.records.graphs import GRAPH, Graph, function_path
from clew.base.records.processing import POSTPROCESS, PREPROCESS, PROCESSING, ROWS, Processing
from clew.codecs import annotations_of
from clew.store import digest_of

Stands = Callable[[Callable[..., Any]], dict[str, Any]]
_FRAMES = {"polars": "polars", "pl": "polars", "pandas": "pandas", "pd": "pandas",
           "numpy": "numpy", "np": "numpy"}  # fmt: skip


def packed(function: Callable[..., Any], directory: Path) -> bytes:
    """A function of the project in ``directory`` (imported now), by value.

    Steps that it calls are packed as their functions.

    Raises:
        Invalid: ``pipeline.definition`` where something that it uses cannot be pickled.
    """
    sink = io.BytesIO()
    try:
        with by_value(directory):
            _pickler(sink).dump(function)
    except Exception as error:  # pickling runs methods of the user's classes: anything may come
        raise invalid(
            f"{function.__name__} cannot be packed for serving: {type(error).__name__}: {error}",
            "Use values that can be pickled; open files and connections inside the function.",
        ) from error
    return sink.getvalue()


def _pickler(sink: io.BytesIO) -> Any:
    import cloudpickle  # noqa: PLC0415 - only where an endpoint has functions

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # it has no types
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, Node) and hasattr(obj, "__wrapped__"):
                return copy.copy, (obj.__wrapped__,)  # a copy of a function is itself
            return super().reducer_override(obj)

    return Pickler(sink)


def processing_of(
    around: Around, stands: Stands, directory: Path
) -> tuple[Processing, dict[str, bytes]] | None:
    """What is around a model, and the files that it lies in; None where there is nothing.

    ``stands``: a function → where it is (``function``) and digests of its code and packages.
    """
    if not around:
        return None
    codes: dict[str, list[object]] = {}
    files: dict[str, bytes] = {}
    places: dict[str, str] = {}
    packages: dict[str, str] = {}
    for what, path in (("preprocess", PREPROCESS), ("postprocess", POSTPROCESS)):
        function = getattr(around, what)
        if function is None:
            continue
        found = stands(function)
        codes[what] = [found["fingerprint"], found["environment"]]
        places[what] = f"{found['function'].file}:{found['function'].name}"
        packages |= found["packages"]
        files[path] = packed(function, directory)
    takes = _frame(around.preprocess, 0)
    rows = msgspec.to_builtins(around.example, enc_hook=str)
    told = {
        "inputs": msgspec.to_builtins(around.inputs),
        "takes": takes or _frame(around.postprocess, 1),
        "gets": _frame(around.postprocess, 0),
        "with_rows": _takes_two(around.postprocess),
    }
    about = msgspec.convert(
        {**told, **places, "packages": packages, "code": digest_of("code", [codes, told, rows])},
        Processing,
    )
    files[PROCESSING] = msgspec.json.encode(about)
    if rows:
        files[ROWS] = msgspec.json.encode(rows)
    return about, files


def packed_graph(
    written: GraphOptions, stands: Stands, directory: Path
) -> tuple[Graph, dict[str, bytes]]:
    """A graph, and the files that it and its functions lie in; ``stands`` as above."""
    codes: dict[str, list[object]] = {}
    places: dict[str, str] = {}
    files: dict[str, bytes] = {}
    packages: dict[str, str] = {}
    for key, function in written.functions.items():
        found = stands(function)
        codes[key] = [found["fingerprint"], found["environment"]]
        places[key] = f"{found['function'].file}:{found['function'].name}"
        packages |= found["packages"]
        files[function_path(key)] = packed(function, directory)
    told = [msgspec.to_builtins(written.root), msgspec.to_builtins(written.inputs), codes]
    graph = Graph(
        code=digest_of("code", told),
        root=written.root,
        inputs=written.inputs,
        functions=places,
        packages=packages,
    )
    return graph, {**files, GRAPH: msgspec.json.encode(graph)}


def _frame(function: Callable[..., Any] | None, at: int) -> str:
    """What kind of frame a parameter of a function is annotated with; '' where it does not say."""
    if function is None:
        return ""
    names = list(inspect.signature(function).parameters)
    kind = annotations_of(function).get(names[at]) if len(names) > at else None
    root = kind if isinstance(kind, str) else str(getattr(kind, "__module__", ""))
    return _FRAMES.get(root.partition(".")[0], "")


def _takes_two(function: Callable[..., Any] | None) -> bool:
    if function is None:
        return False
    parameters = inspect.signature(function).parameters.values()
    return len([one for one in parameters if one.default is one.empty]) > 1
