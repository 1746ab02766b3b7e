"""What combinations of inputs make: cross, union, join, group; whole, and by what has changed.

Values only: it is handed the groups of each input. Knows no keys of datums. See design/0019.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product

from msgspec import Struct

from clew.pipelines.cutting import BETWEEN, Group, Keep, key_of, keys_of, readable
from clew.pipelines.definitions import Combination, InputDefinition, Part, leaves

_CAPTURES_ALONE = re.compile(r"(?:\$(?:\d+|[A-Za-z_]\w*|\{\w+\}))*")
_MOST_NEEDLES = 100

Inputs = tuple[InputDefinition, ...]
Groups = Callable[[InputDefinition, Keep | None], Iterable[Group]]
"""The groups of an input; only those at wanted places."""

Some = Mapping[int, Sequence[Group]]
"""Groups by number of the input."""


class Element(Struct, frozen=True):
    """Groups that go together, and the name of what is made of them."""

    groups: tuple[Group, ...]
    name: str

    def identity(self) -> tuple[object, ...]:
        """Equal where nothing differs but trees around it."""
        return (self.name, *((one.input.name, one.place, one.digest) for one in self.groups))


Changes = tuple[list[Element], list[Element]]
"""What is no more, and what is new."""

ChangedGroups = Callable[[InputDefinition], tuple[list[Group], list[Group]]]


class Side(Struct, frozen=True):
    """Inputs over trees: the elements that each part of a combination makes of them."""

    inputs: Inputs
    groups: Groups

    def elements(self, part: Part, some: Some | None = None) -> Iterator[Element]:
        """All elements, in the order of their files; or those of some groups by input."""
        if isinstance(part, int):
            found = some[part] if some is not None else self.groups(self.inputs[part], None)
            yield from map(_alone, found)
        elif part.how == "union":
            for one in part.parts:
                yield from self.elements(one, some)
        elif part.how == "cross":
            yield from self._crossed(part)
        elif part.how == "join":
            yield from _joined([self.elements(one, some) for one in part.parts])
        else:
            yield from self._grouped(self.elements(one, some) for one in part.parts)

    def _crossed(self, part: Combination) -> Iterator[Element]:
        first, *others = part.parts or (None,)
        rest = [list(self.elements(one)) for one in others if one is not None]
        if all(rest):
            ahead = self.elements(first) if first is not None else iter([Element((), "")])
            for element in ahead:
                for some in product(*rest):
                    yield together((element, *some))

    def _grouped(self, parts: Iterable[Iterator[Element]]) -> Iterator[Element]:
        found: dict[str, dict[str, list[Group]]] = defaultdict(lambda: defaultdict(list))
        for part in parts:
            for element in part:
                for group in element.groups:
                    key = _key(group, group.input.by or group.input.on)
                    found[key][group.input.name].append(group)
        for key in sorted(found):
            own = [found[key][one.name] for one in self.inputs if one.name in found[key]]
            name = readable(key.split(BETWEEN))
            yield Element(tuple(_merged(groups, key, name) for groups in own), name)


def changed(part: Part, old: Side, new: Side, groups: ChangedGroups) -> Changes:
    """How the elements of a part differ between two sides with the same inputs.

    What it costs beside the difference: for a cross, the other parts; for a join or a group, a look
    at the paths of its inputs.
    """
    if isinstance(part, int):
        before, after = groups(new.inputs[part])
        return [_alone(one) for one in before], [_alone(one) for one in after]
    if part.how == "union":
        found = [changed(one, old, new, groups) for one in part.parts]
        return [e for gone, _ in found for e in gone], [e for _, came in found for e in came]
    if part.how == "cross":
        return _changed_cross(part, old, new, groups)
    if part.how == "group" and any(not _is_flat(one) for one in part.parts):
        return _differing(old.elements(part), new.elements(part))
    return _changed_keyed(part, old, new, groups)


def _changed_cross(part: Combination, old: Side, new: Side, groups: ChangedGroups) -> Changes:
    """Each combination in which anything has changed, once: by the first part that has."""
    found = [changed(one, old, new, groups) for one in part.parts]
    if not any(gone or came for gone, came in found):
        return [], []
    gone = [one[0] for one in found]
    came = [one[1] for one in found]
    return (
        _first_changed(gone, [old.elements(one) for one in part.parts]),
        _first_changed(came, [new.elements(one) for one in part.parts]),
    )


def _first_changed(
    changes: Sequence[list[Element]], parts: Sequence[Iterable[Element]]
) -> list[Element]:
    busy = [at for at, some in enumerate(changes) if some]
    if not busy:
        return []
    # The list of a part is not asked for where no combination needs it: it may be long.
    alone = len(busy) == 1
    every = [[] if alone and at in busy else list(part) for at, part in enumerate(parts)]
    marked = [{one.identity() for one in some} for some in changes]
    same = [
        [one for one in all_of if one.identity() not in marks] if marks else all_of
        for all_of, marks in zip(every, marked, strict=True)
    ]
    return [
        together(some) for at in busy for some in product(*same[:at], changes[at], *every[at + 1 :])
    ]


def _changed_keyed(part: Combination, old: Side, new: Side, groups: ChangedGroups) -> Changes:
    """By the keys of the groups that have changed: what has another key is as it was."""
    inputs, grouped = new.inputs, part.how == "group"
    differ = {at: groups(inputs[at]) for at in leaves(part)}
    keys = {
        _key(one, _template(one.input, grouped))
        for both in differ.values()
        for some in both
        for one in some
    }
    if not keys:
        return [], []
    keep = {at: _having(keys, inputs[at], grouped) for at in differ}
    after = {at: list(new.groups(inputs[at], keep[at])) for at in differ}
    before = {
        at: list(old.groups(inputs[at], keep[at])) if any(both) else after[at]
        for at, both in differ.items()
    }
    return _differing(old.elements(part, before), new.elements(part, after))


def _having(keys: set[str], one: InputDefinition, grouped: bool) -> Keep:
    """Groups with one of some keys. Where keys are captures alone, their longest is in the path."""
    template = _template(one, grouped)
    needles = {max(key.split(BETWEEN), key=len) for key in keys}

    key = keys_of(one, template)

    def wanted(place: str) -> bool:
        return key(place) in keys

    if not _CAPTURES_ALONE.fullmatch(template) or len(needles) > _MOST_NEEDLES or "" in needles:
        return Keep(wanted)
    return Keep(wanted, re.compile("|".join(map(re.escape, needles))).search)


def _template(one: InputDefinition, grouped: bool) -> str:
    return (one.by or one.on) if grouped else one.on


def _is_flat(part: Part) -> bool:
    """Whether a part is an input, or a union of such."""
    return isinstance(part, int) or (part.how == "union" and all(map(_is_flat, part.parts)))


def _joined(parts: Sequence[Iterator[Element]]) -> Iterator[Element]:
    found: dict[str, list[list[Element]]] = {}
    for at, part in enumerate(parts):
        for element in part:
            group = element.groups[0]
            rows = found.setdefault(_key(group, group.input.on), [[] for _ in parts])
            rows[at].append(element)
    for key in sorted(found):
        rows = found[key]
        if not all(rows):
            outer = [[one for one in row if one.groups[0].input.outer] for row in rows]
            rows = [row for row in outer if row]
        for some in product(*rows) if rows else ():
            names = {one.name for one in some}
            yield together(some, name=names.pop() if len(names) == 1 else None)


def together(some: Sequence[Element], *, name: str | None = None) -> Element:
    """Elements as one, named after all of them."""
    if len(some) == 1:
        return some[0]
    if name is None:
        name = "+".join(one.name for one in some if one.name)
    return Element(tuple(group for one in some for group in one.groups), name)


def _alone(group: Group) -> Element:
    slot = group.input.slot
    name = f"{slot}/{group.name}" if slot and group.name else slot or group.name
    return Element((group,), name)


def _merged(groups: list[Group], key: str, name: str) -> Group:
    files = dict(file for group in groups for file in group.files)
    ordered = tuple(sorted(files.items(), key=lambda file: file[0].encode()))
    return Group(groups[0].input, groups[0].tree, name, ordered, key, True)


def _key(group: Group, template: str) -> str:
    return key_of(group.input, group.place, template)


def _differing(before: Iterable[Element], after: Iterable[Element]) -> Changes:
    old = {one.identity(): one for one in before}
    new = {one.identity(): one for one in after}
    return (
        [one for key, one in old.items() if key not in new],
        [one for key, one in new.items() if key not in old],
    )
