"""A module of a notebook: what its cells say of a pipeline, and all that this needs, as one file.

Knows Python's syntax and no pipeline: a name is given, and what hangs on it is taken. Runs nothing.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from msgspec import Struct, field

from clew.base.errors import Invalid, NotFound

_TIMERS = ("%%time", "%%timeit", "%%capture", "%%prun")
_WORD = re.compile(r"[^\W\d]\w*")
_MUTATORS = frozenset(
    {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove"}
    | {"reverse", "setdefault", "sort", "update"}
)


def cells_of_file(file: Path) -> list[str]:
    """The code cells of a notebook's file, in their order.

    Raises:
        Invalid: ``notebook.unreadable``.
    """
    try:
        cells = json.loads(file.read_bytes())["cells"]
        texts = [one["source"] for one in cells if one["cell_type"] == "code"]
        return [one if isinstance(one, str) else "".join(one) for one in texts]
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(
            "notebook.unreadable",
            f"{file.name} is no notebook: {error!r}.",
            hint="Give a .ipynb file of format 4, or a .py file.",
        ) from None


def cells_of_kernel() -> list[str]:
    """The cells that have run in this process, in the order in which they ran.

    Raises:
        NotFound: ``notebook.unknown`` outside of IPython.
    """
    cells = getattr(sys.modules.get("__main__"), "In", None)
    if not isinstance(cells, list):
        raise NotFound(
            "notebook.unknown",
            "A pipeline alone can be applied in a notebook only: here are no cells.",
            hint="Give the file that defines it: apply(Path('pipeline.py')).",
        )
    return [str(one) for one in cells]


def names_of(value: object) -> list[str]:
    """The names that a value has in the notebook."""
    main: ModuleType | None = sys.modules.get("__main__")
    return [name for name, one in vars(main).items() if one is value] if main else []


def module_of(cells: Sequence[str], pipelines: Iterable[str] = ()) -> str:
    """The module that defines pipelines: their statements and all that these reach.

    Of statements that give one name a meaning the last counts, as in the notebook: a cell that ran
    again stands for what it said before. Whatever else the cells do (looking at data, plots,
    applying) is left out.

    Args:
        cells: Code, in the order in which it ran.
        pipelines: Names of pipelines; without any, all that are made by ``...Pipeline(...)``.

    Raises:
        Invalid: ``notebook.no_pipeline``.
    """
    found = [one for cell in cells for one in _statements(cell)]
    names = set(pipelines) or {name for one in found for name in one.binds if one.makes_pipeline}
    last = {name: at for at, one in enumerate(found) for name in one.binds if name in names}
    if not last:
        raise Invalid(
            "notebook.no_pipeline",
            "The cells make no pipeline.",
            hint='Start with p = clew.Pipeline("name") in a cell.',
        )
    cut = _Cut(found, last)
    parts = [ast.unparse(found[at].node) for at in cut.order()]
    head = '"""Made from the cells of a notebook."""\n\n'
    return head + "\n\n\n".join(parts) + "\n"


class _Statement(Struct):
    node: ast.stmt
    binds: set[str] = field(default_factory=set)
    reads: set[str] = field(default_factory=set)
    """All names in it, also in the bodies of functions."""
    roots: set[str] = field(default_factory=set)
    """Names on which the statement hangs: ``late`` of ``@late.step(raw)``."""
    alters: set[str] = field(default_factory=set)
    makes_pipeline: bool = False
    makes_slot: bool = False


class _Cut:
    """The statements that count, and an order in which each comes after what it needs."""

    def __init__(self, found: list[_Statement], pipelines: Mapping[str, int]) -> None:
        self._found = found
        self._wanted = _defining(found, pipelines)
        self._binders: dict[str, list[int]] = {}
        for at, one in enumerate(found):
            for name in one.binds:
                self._binders.setdefault(name, []).append(at)
        self._star = [at for at, one in enumerate(found) if "*" in one.binds]
        self._made: dict[int, None] = {}
        self._open: set[int] = set()

    def order(self) -> list[int]:
        for at in [*self._star, *self._wanted]:
            self._take(at)
        return list(self._made)

    def _take(self, at: int) -> None:
        if at in self._made or at in self._open:
            return
        self._open.add(at)
        statement = self._found[at]
        for name in sorted(statement.reads - set(dir(builtins))):
            for other in self._meaning(name, at):
                self._take(other)
        self._made[at] = None
        for name in sorted(statement.binds):
            for other in self._alterers(name, at):
                self._take(other)

    def _meaning(self, name: str, reader: int) -> Iterator[int]:
        """The statements that give a name its meaning: the last, and those that it builds on."""
        binders = self._binders.get(name, [])
        if reader in binders or name in self._found[reader].alters:  # it builds on what came before
            binders = [at for at in binders if at < reader]
        for at in reversed(binders):
            yield at
            if name not in self._found[at].reads or not isinstance(
                self._found[at].node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.For
            ):
                return

    def _alterers(self, name: str, binder: int) -> Iterator[int]:
        after = next((at for at in self._binders[name] if at > binder), len(self._found))
        for at in range(binder + 1, after):
            if name in self._found[at].alters:
                yield at


def _defining(found: list[_Statement], pipelines: Mapping[str, int]) -> list[int]:
    """The statements that define on these pipelines, after each was made; the last of each kind."""
    since = dict(pipelines)
    taken: dict[object, int] = {pipelines[name]: pipelines[name] for name in pipelines}
    for at, one in enumerate(found):
        on = [name for name in one.roots if name in since and since[name] <= at]
        if not on or at in pipelines.values():
            continue
        key: object = frozenset(one.binds) or ast.dump(one.node)
        taken.pop(key, None)
        taken[key] = at
        if one.makes_slot:  # it defines in its turn; a step does not, when it is called
            since |= dict.fromkeys(one.binds, at)
    return list(taken.values())


# cells --------------------------------------------------------------------------------------


def _statements(cell: str) -> Iterator[_Statement]:
    try:
        tree = ast.parse(_plain(cell))
    except (SyntaxError, ValueError):
        return  # a cell that did not run either, or one in another language
    for node in tree.body:
        yield _statement(node)


def _plain(cell: str) -> str:
    """A cell without its magic: lines that begin with ``%``, ``!`` or ``?``."""
    lines = cell.splitlines()
    first = lines[0].strip() if lines else ""
    if first.startswith("%%"):
        if not first.startswith(_TIMERS):
            return ""
        lines = lines[1:]
    return "\n".join("" if one.lstrip()[:1] in {"%", "!", "?"} else one for one in lines)


def _statement(node: ast.stmt) -> _Statement:
    made = _Statement(node)
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            made.reads.add(inner.id)
        for hint in (getattr(inner, "annotation", None), getattr(inner, "returns", None)):
            if isinstance(hint, ast.Constant) and isinstance(hint.value, str):
                made.reads |= set(_WORD.findall(hint.value))
    made.binds = set(_bound(node))
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        made.reads.add(node.target.id)
    made.roots = {root for one in _hanging(node) if (root := _root(one))}
    made.alters = set(_altered(node))
    value = getattr(node, "value", None)
    if isinstance(node, ast.Assign) and isinstance(value, ast.Call):
        called = value.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        made.makes_pipeline, made.makes_slot = name == "Pipeline", name == "slot"
    return made


def _hanging(node: ast.stmt) -> Iterator[ast.expr]:
    """The expressions by which a statement may define something."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from node.decorator_list
    elif isinstance(node, ast.Assign | ast.Expr) and isinstance(node.value, ast.Call):
        yield node.value.func


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (one.asname or one.name.partition(".")[0] for one in node.names)
        return
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, ast.stmt):
            yield from _bound(inner)
        elif isinstance(inner, ast.Tuple | ast.List | ast.Starred | ast.withitem):
            yield from (
                one.id
                for one in ast.walk(inner)
                if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
            )


def _altered(node: ast.stmt) -> Iterator[str]:
    """Names whose value a statement changes in place."""
    targets: Sequence[ast.expr] = ()
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    for target in targets:
        if isinstance(target, ast.Attribute | ast.Subscript) and (root := _root(target)):
            yield root
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        root = _root(call.func)
        if root and call.func.attr in _MUTATORS:
            yield root


def _root(node: ast.expr) -> str:
    """The name that a chain of attributes, calls and subscripts begins with."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
