"""Libraries that read files by themselves, where no audit hook hears it: they tell the path.

Runs in worker processes only. Imports none of the libraries: each is watched as soon as the user's
code has imported it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from clew.compute.chance import arrived, count_seed

Note = Callable[[Any], None]

_READERS = {
    "polars": (
        *("read_csv", "scan_csv", "read_csv_batched", "read_parquet", "scan_parquet", "read_ipc"),
        *("scan_ipc", "read_ndjson", "scan_ndjson", "read_json", "read_avro", "scan_delta"),
    ),
    "pyarrow.parquet": ("read_table", "read_pandas", "ParquetFile", "ParquetDataset"),
    "pyarrow.csv": ("read_csv", "open_csv"),
    "pyarrow.json": ("read_json",),
    "pyarrow.feather": ("read_table", "read_feather"),
    "pyarrow.dataset": ("dataset",),
    "duckdb": ("read_csv", "read_parquet", "read_json", "from_csv_auto", "from_parquet"),
    "cv2": ("imread",),
}
_SEEDS = {
    "numpy.random": ("numpy.random", ("seed", "set_state")),
    "torch": ("torch", ("manual_seed",)),
}


def watch_readers(note: Note) -> None:
    """Have ``note`` told each path that a known reader is given, for the life of the process."""
    for name in (*_READERS, *_SEEDS):
        module = sys.modules.get(name)
        if module is not None:
            _wrap(module, note)
    sys.meta_path.insert(0, _Finder(note))


def _wrap(module: ModuleType, note: Note) -> None:
    for name in _READERS.get(module.__name__, ()):
        real = getattr(module, name, None)
        if callable(real) and not isinstance(real, type):
            setattr(module, name, _telling(real, note))
    generator, names = _SEEDS.get(module.__name__, ("", ()))
    for name in names:
        setattr(module, name, _counting(getattr(module, name), generator))
    if generator:
        arrived(generator)


def _telling(real: Callable[..., Any], note: Note) -> Callable[..., Any]:
    @wraps(real)
    def telling(*arguments: Any, **named: Any) -> Any:
        source = arguments[0] if arguments else next(iter(named.values()), None)
        for one in source if isinstance(source, list | tuple) else (source,):
            note(one)
        return real(*arguments, **named)

    return telling


def _counting(real: Callable[..., Any], generator: str) -> Callable[..., Any]:
    @wraps(real)
    def counting(*arguments: Any, **named: Any) -> Any:
        if named or (arguments and arguments[0] is not None):
            count_seed(generator)
        return real(*arguments, **named)

    return counting


class _Finder(MetaPathFinder):
    """Finds as all others do, and watches a known library once it is loaded."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._asked: set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - found by the others
        target: ModuleType | None = None,  # noqa: ARG002 - as above
    ) -> ModuleSpec | None:
        if fullname in self._asked or not (fullname in _READERS or fullname in _SEEDS):
            return None
        self._asked.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asked.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._note)
        return spec


class _Loader(Loader):
    """The library's own loader, and then a look at what it loaded."""

    def __init__(self, real: Loader, note: Note) -> None:
        self._real = real
        self._note = note

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._real
            module.__loader__ = self._real
        self._real.exec_module(module)
        _wrap(module, self._note)
