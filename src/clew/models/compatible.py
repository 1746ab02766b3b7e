"""Whether those who ask one model can ask another in its place: what changed, and what breaks them.

Knows signatures alone. Breaking is what an endpoint would refuse, or answer differently in silence:
it demands every input and takes no other (serving/contract.py), and takes rows without names in the
order of the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from clew.base.records import Column, Signature

_NUMBERS = ("int", "uint", "float", "double", "halffloat", "decimal")

Shapes = Mapping[str, str]
"""What a model gives: the name of each output and what it holds, such as ``float64[rows, 3]``."""


class Change(Struct, frozen=True, kw_only=True):
    """A difference of two signatures. ``kind`` is what ``allow`` of a gate names."""

    kind: str
    name: str
    detail: str
    breaking: bool


def changes(
    old: Signature, new: Signature, gave: Shapes | None = None, gives: Shapes | None = None
) -> list[Change]:
    """All that differs, what breaks first. ``gave`` and ``gives`` are the outputs, if known."""
    found = [*_inputs(old, new), *_answers(old, new), *_outputs(gave, gives)]
    return sorted(found, key=lambda one: not one.breaking)


def _inputs(old: Signature, new: Signature) -> Iterator[Change]:
    if "numpy" in {old.frame, new.frame}:
        yield from _matrix(old, new)
        return
    before = {column.name: column for column in old.inputs}
    after = {column.name: column for column in new.inputs}
    for name in after.keys() - before.keys():
        yield _change("input added", name, f"{after[name].type}; requests of before lack it", True)
    for name in before.keys() - after.keys():
        yield _change("input removed", name, "requests of before still hold it", True)
    shared = [name for name in before if name in after]
    for name in shared:
        yield from _column(before[name], after[name])
    if shared != [name for name in after if name in before]:
        numbers = all(_is_number(column) for column in (*old.inputs, *new.inputs))
        detail = "rows without names are read in the order of the inputs"
        yield _change("inputs reordered", ", ".join(after), detail, numbers)


def _matrix(old: Signature, new: Signature) -> Iterator[Change]:
    if old.frame != new.frame and "numpy" in {old.frame, new.frame}:
        detail = f"it took {_form(old)} and takes {_form(new)}"
        numbers = all(_is_number(column) for column in (*old.inputs, *new.inputs))
        yield _change("input form", new.frame, detail, not numbers or old.frame != "numpy")
    if old.width != new.width:
        yield _change("input width", "width", f"{old.width} → {new.width} columns", True)


def _form(signature: Signature) -> str:
    return "a matrix" if signature.frame == "numpy" else "columns by name"


def _column(old: Column, new: Column) -> Iterator[Change]:
    if old.type != new.type:
        fits = _is_number(old) and _is_number(new) and not _narrows(old.type, new.type)
        yield _change("input retyped", old.name, f"{old.type} → {new.type}", not fits)
    if old.nullable and not new.nullable:
        yield _change("input required", old.name, "a missing value was borne and is not", True)
    if new.nullable and not old.nullable:
        yield _change("input optional", old.name, "a missing value is borne now", False)


def _answers(old: Signature, new: Signature) -> Iterator[Change]:
    if old.task != new.task:
        yield _change("task", new.task, f"{old.task} → {new.task}", True)
        return
    before, after = old.classes, new.classes
    for name in sorted(set(after) - set(before)):
        yield _change("class added", name, "an answer that nobody expects", True)
    for name in sorted(set(before) - set(after)):
        yield _change("class removed", name, "never answered any more", False)
    shared = [name for name in before if name in after]
    if shared != [name for name in after if name in before]:
        detail = f"{', '.join(before)} → {', '.join(after)}: probabilities change their places"
        yield _change("classes reordered", ", ".join(after), detail, True)


def _outputs(gave: Shapes | None, gives: Shapes | None) -> Iterator[Change]:
    if gave is None or gives is None:
        return
    for name in sorted(gave.keys() - gives.keys()):
        yield _change("output removed", name, f"it gave {gave[name]}", True)
    for name in sorted(gives.keys() - gave.keys()):
        yield _change("output added", name, f"it gives {gives[name]}", False)
    for name in sorted(gave.keys() & gives.keys()):
        if gave[name] != gives[name]:
            yield _change("output retyped", name, f"{gave[name]} → {gives[name]}", True)


def _is_number(column: Column) -> bool:
    return column.type.startswith(_NUMBERS)


def _narrows(old: str, new: str) -> bool:
    """Whether numbers of before may be refused: a fraction for a whole number, or its range."""
    whole = ("int", "uint")
    if not old.startswith(whole):
        return new.startswith(whole)
    if not new.startswith(whole):
        return False
    if old.startswith("uint") and not new.startswith("uint"):
        return _bits(new) <= _bits(old)
    return new.startswith("uint") != old.startswith("uint") or _bits(new) < _bits(old)


def _bits(kind: str) -> int:
    return int("".join(one for one in kind if one.isdigit()) or 0)


def _change(kind: str, name: str, detail: str, breaking: bool) -> Change:
    return Change(kind=kind, name=name, detail=detail, breaking=breaking)
