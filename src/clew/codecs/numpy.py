"""NumPy arrays: .npy and .npz, the columns of a table, the pixels of an image.

The one file of this room that knows NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from clew.base.errors import Invalid
from clew.codecs import arrow, pillow
from clew.codecs.formats import IMAGES, content_of, explained, need, suffix_in
from clew.codecs.kinds import Kind, Place
from clew.codecs.tables import read_each, same_kinds, stack
from clew.repos import File

_TEXT = {"U": "string", "S": "binary"}
"""What NumPy writes with the length of the longest (``<U5``)."""


def _read(files: Sequence[File], asked: str, place: Place) -> Any:
    """An array: of .npy files, joined along the first axis, or of a table's columns."""
    numpy = need("numpy")
    suffixes = {suffix_in(file, asked) for file in files}
    if suffixes and suffixes <= IMAGES:
        arrays = [numpy.asarray(pillow.IMAGE.read([file], asked, place)) for file in files]
    elif suffixes and not suffixes <= {".npy", ".npz"}:
        return arrow.read_table(files, asked).to_pandas().to_numpy()
    else:
        readers = {".npy": _load, ".npz": _load_only}
        arrays = read_each(files, asked, readers)
    if len(arrays) == 1:
        return arrays[0]
    same_kinds(files, [{"of values": _TEXT.get(one.dtype.kind, one.dtype)} for one in arrays])
    return stack(files, lambda: numpy.concatenate(arrays))


def _load(data: bytes) -> Any:
    return need("numpy").load(BytesIO(data), allow_pickle=False)


def _load_only(data: bytes) -> Any:
    members = _members(data)
    if len(members) != 1:
        raise ValueError(
            f"it holds {len(members)} arrays ({', '.join(members)}): annotate the parameter with "
            "dict[str, numpy.ndarray]"
        )
    return next(iter(members.values()))


def _members(data: bytes) -> dict[str, Any]:
    with _load(data) as archive:
        return {name: archive[name] for name in archive.files}


def read_members(file: File, asked: str = "") -> dict[str, Any]:
    """The arrays of an .npz file, by name."""
    suffix, data = suffix_in(file, asked), content_of(file, asked)
    with explained(file, suffix, data):
        return _members(data)


def _write(array: Any, suffix: str) -> bytes:
    """NPY of an array that holds no Python objects."""
    _check(array)
    if suffix == ".npz":
        return write_members({"array": array})
    sink = BytesIO()
    need("numpy").save(sink, array, allow_pickle=False)
    return sink.getvalue()


def write_members(arrays: Mapping[str, Any]) -> bytes:
    """NPZ of arrays by name."""
    for array in arrays.values():
        _check(array)
    sink = BytesIO()
    need("numpy").savez_compressed(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def _check(array: Any) -> None:
    if need("numpy").asarray(array).dtype.hasobject:
        raise Invalid(
            "value.objects",
            "A numpy array of Python objects cannot be kept.",
            hint="Give it a number or string dtype, or return a DataFrame.",
        )


ARRAY = Kind(suffix=".npy", suffixes=frozenset({".npy", ".npz"}), read=_read, write=_write)
