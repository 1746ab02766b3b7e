"""What a step reads, as a user writes it: files of nodes, cut, keyed and combined; and ticks.

It records; what a combination makes is for ``clew.pipelines``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from clew.authoring.checks import check_name, invalid
from clew.base.address import check_ref_name, check_repo_name
from clew.pipelines import Combination
from clew.repos import glob_match
from clew.schedules import Schedule, schedule
from clew.sources import Feed

PER = ("repo", "file", "directory", "capture", "match")
_KEYED = ("match", "file", "capture")

JoinHow: TypeAlias = Literal["inner", "left", "right", "outer"]


class Owner(Protocol):
    """What a node belongs to: a pipeline."""

    name: str


class Node:
    """A thing in a pipeline that has a repo: a source, a step, a training step or a gate."""

    branch = "main"

    def __init__(self, pipeline: Owner | None, name: str, *, repo: str = "") -> None:
        self.pipeline = pipeline
        self.name = name
        self.repo = repo or (f"{pipeline.name}/{name}" if pipeline else "")

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.repo or self.name}>"

    def glob(self, pattern: str, *, per: str = "") -> Input:
        """The files of this node that match ``pattern``; see :meth:`Input.glob`."""
        return Input(node=self).glob(pattern, per=per)

    def reference(self) -> Input:
        """This node as something to read that does not make the reader run again."""
        return Input(node=self).reference()

    def named(self, parameter: str) -> Input:
        """This node for the parameter of that name, wherever it stands."""
        return Input(node=self).named(parameter)


class Source(Node):
    """A repo that people or systems commit to."""

    def __init__(
        self, pipeline: Owner, name: str, *, repo: str, branch: str, feed: Feed | None = None
    ) -> None:
        check_ref_name(branch)
        if repo:
            check_repo_name(repo)
        super().__init__(pipeline, name, repo=repo)
        self.branch = branch
        self.feed = feed


class Cron(Node):
    """A repo that gets a file at each instant of a schedule; made by :func:`cron`.

    It belongs to the pipeline whose step reads it first.
    """

    def __init__(self, times: Schedule, name: str, *, overwrite: bool) -> None:
        check_name(name, "a cron input")
        super().__init__(None, name)
        self.times = times
        self.overwrite = overwrite

    def bind(self, pipeline: Owner) -> bool:
        """Make it one of a pipeline's; whether it was none before."""
        if self.pipeline is not None:
            if self.pipeline is not pipeline:
                raise invalid(
                    f"The cron input {self.name!r} is of another pipeline",
                    "Make one for each pipeline.",
                )
            return False
        self.pipeline, self.repo = pipeline, f"{pipeline.name}/{self.name}"
        return True


class Input(Struct, frozen=True, kw_only=True):
    """Files of a node that a step reads: which (``files``), how cut (``per``), and in which role.

    ``kind`` is ``data``, or ``reference`` for what is read but does not make a step run again.
    ``parameter`` and ``slot`` are filled in where a step is made of it; ``needed``: a reference
    without which it does not run.
    """

    node: Node
    files: str = "/**"
    per: str = ""
    kind: str = "data"
    on_key: str = ""
    by_key: str = ""
    is_outer: bool = False
    parameter: str = ""
    slot: str = ""
    needed: bool = False

    def glob(self, pattern: str, *, per: str = "") -> Input:
        """Only the files that match ``pattern``: ``*``, ``**``, ``[..]``, ``{a,b}``, ``(*)`` ….

        Args:
            pattern: Matched against whole paths; round brackets capture.
            per: How they are cut into datums: ``file``, ``directory``, ``capture`` (those with the
                same captures together), ``match`` (each file or directory that the pattern itself
                matches, as in Pachyderm) or ``repo`` (all together).

        Raises:
            Invalid: ``glob.invalid``, ``pipeline.definition`` for a wrong ``per``.
        """
        glob_match(pattern)
        if per:
            check_per(per, repr(self.node))
        files = pattern if pattern.startswith("/") else f"/{pattern}"
        return replace(self, files=files, per=per or self.per)

    def on(self, key: str) -> Input:
        """What it is joined by: ``$1``, ``$day``, ``$1-$2``; without it, by all captures.

        Raises:
            Invalid: ``glob.capture``.
        """
        self._fill(key)
        return replace(self, on_key=key)

    def by(self, key: str) -> Input:
        """What it is grouped by, where that is not what it is joined :meth:`on`.

        Raises:
            Invalid: ``glob.capture``.
        """
        self._fill(key)
        return replace(self, by_key=key)

    def outer(self) -> Input:
        """Take part in a join also where the others have nothing: their parameters get None."""
        return replace(self, is_outer=True)

    def reference(self) -> Input:
        """Read the newest version when the step runs, but do not run the step because of it."""
        return replace(self, kind="reference")

    def named(self, parameter: str) -> Input:
        """Be for the parameter of that name, wherever it stands."""
        return replace(self, parameter=parameter)

    def pairs(self, *, grouped: bool) -> int:
        """How many captures of its key have one right before them."""
        return self._fill((self.by_key or self.on_key) if grouped else self.on_key).count("\0")

    def _fill(self, key: str) -> str:
        glob = glob_match(self.files)
        return glob.fill(key, ["x"] * glob.groups)


class Combined(Struct, frozen=True, kw_only=True):
    """Inputs that make datums together; made by ``cross``, ``union``, ``join`` and ``group``."""

    how: str
    parts: tuple[Input | Combined, ...]


Given: TypeAlias = Node | Input | Combined


def cross(*inputs: Given) -> Combined:
    """Every combination of the datums of several inputs; each is a parameter."""
    return _combined("cross", inputs)


def union(*inputs: Given) -> Combined:
    """The datums of several inputs, one after the other, for one parameter.

    Inputs with names of their own (``a.named("a")``) are parameters of their own: those whose turn
    it is not get None.
    """
    return _combined("union", inputs)


def join(*inputs: Given, on: str = "", how: JoinHow = "inner") -> Combined:
    """The combinations of files whose captures are the same; each input is a parameter.

    Args:
        inputs: With captures: ``readings.glob("/*/(*).csv")``, ``units.glob("/(*).json")``.
        on: Which captures, for inputs that do not say so with ``.on(...)``: ``$1``, ``$day``.
        how: ``inner``: files that match; ``left``: those of the first input in any case; ``right``:
            those of the last; ``outer``: of all. ``.outer()`` says so for one of several. What is
            missing is None, or empty where the parameter is a list, tuple or dict.

    Raises:
        Invalid: ``pipeline.definition``, ``glob.capture``.
    """
    made = _keyed("join", inputs, on)
    if how not in ("inner", "left", "right", "outer"):
        raise invalid(f"how={how!r} is no join", "Use inner, left, right or outer.")
    last = len(made.parts) - 1
    outer = {"inner": (), "left": (0,), "right": (last,), "outer": range(last + 1)}[how]
    parts = tuple(_outer(one) if at in outer else one for at, one in enumerate(made.parts))
    return replace(made, parts=parts)


def group(*inputs: Given, by: str = "") -> Combined:
    """All files with the same captures, from all inputs; each input is a parameter.

    Args:
        inputs: With captures: ``results.glob("/*-(*)-lab*.csv")``. A join among them chooses
            files; then they are grouped each by its own captures.
        by: Which captures, for inputs that do not say so with ``.by(...)`` or ``.on(...)``.

    Raises:
        Invalid: ``pipeline.definition``, ``glob.capture``.
    """
    return _keyed("group", inputs, by)


def cron(
    schedule_text: str, *, name: str = "cron", zone: str = "UTC", overwrite: bool = False
) -> Cron:
    """A file at each instant of a schedule, as an input: its step runs then.

    The file is named after the instant, ``/2026-11-21T05-00-00Z.json``, and holds it. Instants at
    which nothing ran are made up for by one, the last.

    Args:
        schedule_text: ``0 5 * * *`` (minute, hour, day, month, weekday), ``@daily``, ``@every 15m``
            or ``never``.
        name: Of the input and its repo.
        zone: The time zone on whose clock the schedule is read: ``Europe/Berlin``.
        overwrite: Keep the last tick alone; else they add up, each a datum.

    Raises:
        Invalid: ``schedule.invalid``, ``schedule.zone``, ``pipeline.definition``.
    """
    return Cron(schedule(schedule_text, zone), name, overwrite=overwrite)


# what a step makes of them ------------------------------------------------------------------


class Arranged(Struct, frozen=True, kw_only=True):
    """The inputs of a step, each with its parameter; ``combination`` is None where all cross."""

    inputs: tuple[Input, ...]
    combination: Combination | None = None


def as_input(one: object) -> Input | Combined:
    """A node, some of its files, or a combination, as an input.

    Raises:
        Invalid: ``pipeline.definition`` where it is neither.
    """
    if isinstance(one, Node):
        return Input(node=one)
    if isinstance(one, Input | Combined):
        return one
    raise invalid(
        f"{one!r} is not an input of a step", "Give sources, steps, or node.glob('/*.parquet')."
    )


def width(inputs: Sequence[Given]) -> int:
    """How many parameters inputs fill."""
    found = [as_input(one) for one in inputs]
    names = {leaf.parameter for one in found for leaf in _leaves(one) if leaf.parameter}
    return sum(_unnamed(one) for one in found) + len(names)


def arrange(step: str, inputs: Sequence[Given], per: str, names: Sequence[str]) -> Arranged:
    """Inputs with their parameters, in the order of ``names`` where they do not name their own.

    ``per`` cuts the first input, where that says nothing of itself.

    Raises:
        Invalid: ``pipeline.definition``.
    """
    check_per(per, step)
    found = [as_input(one) for one in inputs]
    if found and per != "repo":
        found[0] = _cut(found[0], per)
    own = [leaf.parameter for one in found for leaf in _leaves(one) if leaf.parameter]
    unknown = next((name for name in own if name not in names), None)
    if unknown is not None:
        raise invalid(
            f"{step} has no parameter {unknown!r} for an input", f"It has {', '.join(names)}."
        )
    whole = Combined(how="cross", parts=tuple(found))
    placed, _ = _placed(whole, [name for name in names if name not in own])
    _check_names(step, placed)
    slotted = _slotted(placed)
    leaves = [_settled(leaf, keyed) for leaf, keyed in _leaves_in(slotted, keyed=False)]
    for leaf in leaves:
        _check_leaf(step, leaf)
    assert isinstance(slotted, Combined)
    plain = all(isinstance(one, Input) for one in slotted.parts)
    numbers = iter(range(len(leaves)))
    made = _numbered(slotted, numbers)
    assert isinstance(made, Combination)
    return Arranged(inputs=tuple(leaves), combination=None if plain else made)


def leaves_of(inputs: Sequence[Given]) -> list[Input]:
    """All inputs below, from left to right."""
    return [leaf for one in inputs for leaf in _leaves(as_input(one))]


def check_per(per: str, of_what: str) -> None:
    """A way to cut files.

    Raises:
        Invalid: ``pipeline.definition``.
    """
    if per not in PER:
        raise invalid(f"per={per!r} of {of_what}", f"Use one of {', '.join(PER)}.")


def _combined(how: str, inputs: Sequence[Given]) -> Combined:
    if not inputs:
        raise invalid(
            f"clew.{how}() has no inputs", "Give it sources, steps or some of their files."
        )
    return Combined(how=how, parts=tuple(as_input(one) for one in inputs))


def _keyed(how: str, inputs: Sequence[Given], key: str) -> Combined:
    made = _combined(how, inputs)
    parts = tuple(_with_key(one, how, key) for one in made.parts)
    for one in parts:
        _check_keyed(how, one)
    grouped = how == "group"
    pairs = {leaf.pairs(grouped=grouped): leaf for one in parts for leaf in _leaves(one)}
    if len(pairs) > 1:
        few, many = pairs[min(pairs)], pairs[max(pairs)]
        raise invalid(
            f"clew.{how}() compares {min(pairs) + 1} captures of {few.files!r} with "
            f"{max(pairs) + 1} of {many.files!r}",
            "Say which: .on('$1'), or set something between them: .on('$1-$2').",
        )
    return replace(made, parts=parts)


def _with_key(one: Input | Combined, how: str, key: str) -> Input | Combined:
    if isinstance(one, Combined):
        return replace(one, parts=tuple(_with_key(part, how, key) for part in one.parts))
    if how == "join":
        return one if one.on_key or not key else one.on(key)
    return one if one.by_key or one.on_key or not key else one.by(key)


def _check_keyed(how: str, one: Input | Combined) -> None:
    if isinstance(one, Combined) and how == "join" and one.how != "union":
        raise invalid(
            f"A join cannot have a {one.how} in it",
            "Join sources and steps, or unions of them; put the join into the other.",
        )
    if isinstance(one, Combined):
        for part in one.parts:
            _check_keyed(how, part)
    elif one.per not in ("", *_KEYED):
        raise invalid(
            f"per={one.per!r} cannot be in a {how}", f"Use one of {', '.join(_KEYED)}, or none."
        )


def _outer(one: Input | Combined) -> Input | Combined:
    if isinstance(one, Combined):
        return replace(one, parts=tuple(_outer(part) for part in one.parts))
    return one.outer()


def _leaves(one: Input | Combined) -> Iterator[Input]:
    if isinstance(one, Input):
        yield one
    else:
        for part in one.parts:
            yield from _leaves(part)


def _leaves_in(one: Input | Combined, *, keyed: bool) -> Iterator[tuple[Input, bool]]:
    """Inputs, and whether they are joined or grouped."""
    if isinstance(one, Input):
        yield one, keyed
    else:
        for part in one.parts:
            yield from _leaves_in(part, keyed=keyed or one.how in {"join", "group"})


def _cut(one: Input | Combined, per: str) -> Input | Combined:
    if isinstance(one, Input):
        return one if one.per else replace(one, per=per)
    first, *others = one.parts
    rest = others if one.how == "cross" else [_cut(part, per) for part in others]
    return replace(one, parts=(_cut(first, per), *rest))


def _unnamed(one: Input | Combined) -> int:
    """How many parameters it fills in their order."""
    if isinstance(one, Input):
        return 0 if one.parameter else 1
    counts = [_unnamed(part) for part in one.parts]
    return max(counts) if one.how == "union" else sum(counts)


def _placed(one: Input | Combined, names: list[str]) -> tuple[Input | Combined, list[str]]:
    """With parameters, and the names that are left."""
    if isinstance(one, Input):
        if one.parameter:
            return one, names
        return replace(one, parameter=names[0]), names[1:]
    parts = []
    for part in one.parts:
        placed, left = _placed(part, names)
        parts.append(placed)
        if one.how != "union":
            names = left
    return replace(one, parts=tuple(parts)), names[_unnamed(one) :] if one.how == "union" else names


def _check_names(step: str, one: Input | Combined, *, grouped: bool = False) -> list[str]:
    """The parameters of one datum, each once; in a union there is only one part at a time."""
    if isinstance(one, Input):
        return [one.parameter]
    grouped = grouped or one.how == "group"
    found = [_check_names(step, part, grouped=grouped) for part in one.parts]
    names = [name for some in found for name in some]
    if one.how == "union" and not grouped:
        return list(dict.fromkeys(names))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise invalid(
            f"Two inputs of {step} are for {twice!r}",
            "Give each a parameter of its own: a.named('a'), b.named('b').",
        )
    return names


def _slotted(one: Input | Combined) -> Input | Combined:
    """With slots for what is below a union: the name of the node; with a number if it is twice."""
    return _slots(one, Counter(), below=False)


def _slots(one: Input | Combined, seen: Counter[str], *, below: bool) -> Input | Combined:
    if isinstance(one, Combined):
        below = below or one.how == "union"
        return replace(one, parts=tuple(_slots(part, seen, below=below) for part in one.parts))
    if not below:
        return one
    seen[one.node.name] += 1
    again = seen[one.node.name]
    return replace(one, slot=one.node.name if again == 1 else f"{one.node.name}-{again}")


def _settled(leaf: Input, keyed: bool) -> Input:
    usual = "match" if keyed else "file" if isinstance(leaf.node, Cron) else "repo"
    if keyed and leaf.kind == "reference":
        raise invalid(
            f"{leaf.node.name} is a reference in a join or group", "Give it beside that, by itself."
        )
    return replace(leaf, per=leaf.per or usual)


def _check_leaf(step: str, leaf: Input) -> None:
    if leaf.kind == "reference" and (leaf.per != "repo" or leaf.slot):
        raise invalid(
            f"The reference {leaf.node.name} of {step} is cut or in a union",
            "What is read beside the datums is read whole: give it last, by itself.",
        )
    if leaf.per == "capture" and not glob_match(leaf.files).groups:
        raise invalid(
            f"per='capture' of {step}, and {leaf.files!r} captures nothing",
            "Put round brackets around what makes a datum: /(*)-*.csv",
        )


def _numbered(one: Input | Combined, numbers: Iterator[int]) -> int | Combination:
    if isinstance(one, Input):
        return next(numbers)
    parts = tuple(_numbered(part, numbers) for part in one.parts)
    if one.how == "cross" and len(parts) == 1 and isinstance(parts[0], Combination):
        return parts[0]
    return Combination(how=one.how, parts=parts)  # type: ignore[arg-type]  # made here alone
