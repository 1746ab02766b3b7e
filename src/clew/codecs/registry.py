"""The open registry: which codec a type has. A user's own comes first.

Knows types by name, so that no library is imported to find out; each codec is imported when it
is first used.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from clew.base.errors import ClewError, Invalid
from clew.codecs.formats import first_line, format_of, squeeze
from clew.codecs.kinds import Content, Kind, Place, only
from clew.repos import File

T = TypeVar("T")

_SHORT = {"pl": "polars", "pd": "pandas", "pa": "pyarrow", "np": "numpy", "ds": "pyarrow"}
_BARE = {"Path": "pathlib.Path", "File": "clew.File"}

_KINDS = {
    "str": "text.TEXT",
    "bytes": "text.BYTES",
    "bytearray": "text.BYTES",
    "pathlib.Path": "text.PATH",
    "clew.File": "text.FILE",
    "polars.DataFrame": "polars.FRAME",
    "polars.LazyFrame": "polars.LAZY",
    "polars.Series": "polars.SERIES",
    "pandas.DataFrame": "pandas.FRAME",
    "pandas.Series": "pandas.SERIES",
    "pyarrow.Table": "arrow.TABLE",
    "pyarrow.Dataset": "arrow.DATASET",
    "pyarrow.RecordBatch": "arrow.BATCH",
    "pyarrow.RecordBatchReader": "arrow.READER",
    "duckdb.DuckDBPyRelation": "duckdb.RELATION",
    "pyspark.DataFrame": "spark.FRAME",
    "numpy.ndarray": "numpy.ARRAY",
    "PIL.Image": "pillow.IMAGE",
}
"""Root package and class → the file of this room and the codec in it."""

FILES = frozenset({"pathlib.Path", "clew.File"})
"""Types that are files themselves, and kept under their own names."""


class Codec(Protocol):
    """How values of a type become one file and come back; see :func:`codec`.

    Law: ``write`` gives the same bytes for equal values, ``read`` an equal value of what ``write``
    wrote. Whatever ``read`` raises is told as an unreadable file. Both run in worker processes and
    are called by one thread at a time. ``clew.testing.codecs`` holds the suite that each passes.
    """

    def read(self, file: File) -> Any:
        """The value in a file."""
        ...

    def write(self, value: Any) -> bytes:
        """The content of a value. Where it takes a second parameter, that is the path to write."""
        ...


class _Registered(Struct, frozen=True):
    kind: Kind
    home: dict[str, Any]
    """Globals of the module that registered it."""

    @property
    def alive(self) -> bool:
        """Whether that module is still there: a worker forgets those of another snapshot."""
        module = sys.modules.get(str(self.home.get("__name__")))
        return module is None or vars(module) is self.home


_USERS: dict[type, _Registered] = {}


def codec(
    kind: type[T],
    plug: Codec | None = None,
    /,
    *,
    suffixes: Sequence[str] = (),
    read: Callable[[File], T] | None = None,
    write: Callable[..., object] | None = None,
) -> Any:
    """Let steps take and return values of a type (and of its subclasses).

    Three ways to say it, at module level of the project::

        clew.codec(Mesh, suffixes=[".stl"], read=read_mesh, write=write_mesh)
        clew.codec(Mesh, Meshes(), suffixes=[".stl"])

        @clew.codec(Mesh, suffixes=[".stl"])
        class Meshes: ...

    Args:
        kind: The type, as parameters are annotated with it.
        plug: An object with ``read`` and ``write``, in place of the two functions.
        suffixes: The first is what is written, the others are written where an annotation says
            so. Reading looks at no suffix. The type's name in lower case, without one.
        read: Gets a :class:`clew.File` and gives the value.
        write: Gets the value and gives its bytes; with two parameters it gets the value and a
            ``Path`` that it writes to. The same bytes for equal values.

    A codec is code of the steps that name its type: a change runs them anew. The last codec for a
    type counts.

    Raises:
        Invalid: ``codec.definition``.
    """
    if not isinstance(kind, type):
        raise _wrong(f"{kind!r} is no type", "Give the class that parameters are annotated with.")
    frame = inspect.currentframe()
    home = frame.f_back.f_globals if frame is not None and frame.f_back is not None else {}
    if plug is None and read is None and write is None:

        def plugged(cls: type[Codec]) -> type[Codec]:
            _register(kind, cls().read, cls().write, suffixes, home)
            return cls

        return plugged
    if plug is not None:
        read, write = plug.read, plug.write
    _register(kind, read, write, suffixes, home)
    return plug


def _register(
    kind: type,
    read: Callable[[File], Any] | None,
    write: Callable[..., object] | None,
    suffixes: Sequence[str],
    home: dict[str, Any],
) -> None:
    if read is None or write is None:
        raise _wrong(f"The codec of {kind.__name__} lacks read= or write=", "Give both.")
    if isinstance(suffixes, str) or any(not format_of(f"x{one}")[0] for one in suffixes):
        raise _wrong(f"suffixes={suffixes!r}", 'Give a list such as [".stl"].')
    known = tuple(suffixes) or (f".{kind.__name__.lower()}",)
    made = Kind(
        suffix=known[0],
        suffixes=frozenset(known),
        read=_reading(kind, read),
        write=_writing(kind, write),
    )
    _USERS[kind] = _Registered(made, home)
    cached_kind.cache_clear()


def _reading(kind: type, read: Callable[[File], Any]) -> Callable[..., Any]:
    def one(files: Sequence[File], asked: str, place: Place) -> Any:  # noqa: ARG001 - a codec's form
        file = only(files)
        try:
            return read(file)
        except ClewError:
            raise
        except Exception as error:
            raise Invalid(
                "file.unreadable",
                f"{file.path} ({file.size} bytes) is not readable as {kind.__name__}: "
                f"{type(error).__name__}: {first_line(error)}.",
                hint=f"Look at the file, or at the codec of {kind.__name__}.",
            ) from error

    return one


def _writing(kind: type, write: Callable[..., object]) -> Callable[[Any, str], Content]:
    to_path = len(inspect.signature(write).parameters) > 1

    def one(value: Any, suffix: str) -> bytes:
        made = _written(write, value, suffix) if to_path else write(value)
        if not isinstance(made, bytes | bytearray | memoryview):
            raise Invalid(
                "value.not_written",
                f"The codec of {kind.__name__} gave a {type(made).__name__}, not bytes.",
                hint="Let write(value) return bytes, or write(value, path) write the file.",
            )
        return squeeze(bytes(made), suffix)

    return one


def _written(write: Callable[..., object], value: Any, suffix: str) -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / f"value{suffix}"
        write(value, path)
        return path.read_bytes()


def _wrong(what: str, hint: str) -> Invalid:
    return Invalid("codec.definition", f"{what}.", hint=hint)


# looking up -----------------------------------------------------------------------------------


def kind_of(annotation: Any) -> Kind | None:
    """The codec of a type, or of the nearest class above it; None where there is none."""
    if isinstance(annotation, type):
        found = users_kind(annotation)
        if found is not None:
            return found
        if isinstance(annotation, types.GenericAlias):
            return None
        return next((k for one in annotation.__mro__ if (k := cached_kind(name_of(one)))), None)
    return cached_kind(name_of(annotation))


def users_kind(annotation: type) -> Kind | None:
    """The codec that a user registered for a type or a class above it."""
    if not _USERS:
        return None
    for one in getattr(annotation, "__mro__", ()):
        registered = _USERS.get(one)
        if registered is not None and registered.alive:
            return registered.kind
    return None


@cache
def cached_kind(name: str) -> Kind | None:
    """A codec of this room, by the name of its type."""
    place = _KINDS.get(name)
    if place is None:
        return None
    module, _, attribute = place.partition(".")
    kind: Kind = getattr(import_module(f"clew.codecs.{module}"), attribute)
    return kind


def is_file(annotation: Any) -> bool:
    """Whether a type is files themselves: a path, or a ``clew.File``."""
    kinds = annotation.__mro__ if isinstance(annotation, type) else (annotation,)
    return any(name_of(one) in FILES for one in kinds)


def name_of(kind: Any) -> str:
    """Root package and class, the same however the type was imported or written."""
    if isinstance(kind, str):
        root, _, rest = kind.partition(".")
        if not rest:
            return _BARE.get(kind, kind)
        return f"{_SHORT.get(root, root)}.{rest.rsplit('.', 1)[-1]}"
    if isinstance(kind, types.ModuleType):
        return kind.__name__
    if not isinstance(kind, type):
        return str(kind)
    root = kind.__module__.partition(".")[0]
    return kind.__name__ if root == "builtins" else f"{root.lstrip('_')}.{kind.__name__}"
