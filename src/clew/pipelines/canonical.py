"""Canonical text: what a piece of code does, without its dress and without the names of its locals.

Knows one syntax tree at a time and nothing of what its global names stand for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable

from clew.pipelines.syntax import Ignore, annotations_count, bindings, unquoted, variables

_SKIPPED = frozenset({"ctx", "type_comment", "kind", "type_params", "type_ignores", "lineno"})
_BODIES = frozenset({"body", "orelse", "finalbody"})

_LOOKS_AT_LOCALS = frozenset(
    {"locals", "vars", "dir", "eval", "exec", "_getframe", "currentframe", "f_locals", "stack"}
)
"""Where one of these is named, so are the locals: they keep their names."""

_WORD = re.compile(r"[^\W\d]\w*")
_Functions = ast.FunctionDef | ast.AsyncFunctionDef
Write = Callable[[], None]
Name = Callable[[str], str]
_Comprehensions = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp


def canonical(
    statement: ast.stmt, ignore: Ignore, *, entry: bool = False, dressed: bool = False
) -> str:
    """Text that two statements share if they do the same in the same surroundings.

    Comments, docstrings, formatting and type hints are gone; hints stay where they act: in class
    bodies, below decorators that may read them, and (``entry``) at the parameters of a step.
    Locals stand by the order in which they come, unless their names can be seen from outside or
    are part of a text (a query may name them). ``dressed``: docstrings and hints stay.
    """
    writer = _Writer(ignore, statement if entry else None, dressed=dressed)
    if dressed or not _is_dress(statement, in_class=False):
        writer.node(statement)
    return "".join(writer.out)


class _Scope:
    """Names that a function, class or comprehension binds, and what is written for them."""

    def __init__(self, number: int, names: Iterable[str], kept: Iterable[str], *, is_class: bool):
        self.names: dict[str, str | None] = dict.fromkeys(names)
        self.names.update((name, name) for name in kept)
        self.is_class = is_class
        self._number = number
        self._count = 0

    def written(self, name: str) -> str:
        """The name, or its place among those that are not kept."""
        known = self.names[name]
        if known is None:
            known = self.names[name] = f"~{self._number}.{self._count}"
            self._count += 1
        return known


class _Writer:
    """Writes a tree as text that is equal for equal meaning, whatever the Python version."""

    def __init__(self, ignore: Ignore, entry: ast.AST | None, *, dressed: bool) -> None:
        self.out: list[str] = []
        self._ignore = ignore
        self._entry = entry
        self._dressed = dressed
        self._scopes: list[_Scope] = []
        self._scopes_made = 0
        self._shown: set[str] | None = None
        """Words that must keep their names in the outermost function that is written now."""

    def node(self, node: ast.AST, *, in_class: bool = False) -> None:
        """Write one node and all below it."""
        if isinstance(node, _Functions):
            self._function(node)
        elif isinstance(node, ast.ClassDef):
            self._class(node)
        elif isinstance(node, ast.Lambda):
            self._lambda(node)
        elif isinstance(node, _Comprehensions):
            self._comprehension(node)
        elif isinstance(node, ast.AnnAssign) and node.value is not None and not in_class:
            self._plain(ast.Assign(targets=[node.target], value=node.value))
            if self._dressed:
                self.node(node.annotation)
        elif isinstance(node, ast.Constant):
            self.out.append(f"{type(node.value).__name__}:{node.value!r}")
        elif isinstance(node, ast.Name):
            self.out.append(f"(Name {self._name(node.id)})")
        else:
            self._plain(node)

    def _plain(self, node: ast.AST) -> None:
        self.out.append(f"({type(node).__name__}")
        for name, value in ast.iter_fields(node):
            if name not in _SKIPPED and value is not None and value != []:
                self.out.append(f" {name}=")
                self._value(_named(node, name, value, self._name), body=name in _BODIES)
        self.out.append(")")

    def _value(self, value: object, *, body: bool = False) -> None:
        if isinstance(value, ast.AST):
            self.node(value)
        elif isinstance(value, list) and body:
            self._body(value)
        elif isinstance(value, list):
            self.out.append("[")
            for one in value:
                self._value(one)
                self.out.append(",")
            self.out.append("]")
        else:
            self.out.append(repr(value))

    def _body(self, statements: list[ast.stmt], *, in_class: bool = False) -> None:
        self.out.append("[")
        for statement in statements:
            if self._dressed or not _is_dress(statement, in_class=in_class):
                self.node(statement, in_class=in_class)
                self.out.append(";")
        self.out.append("]")

    def _function(self, node: _Functions) -> None:
        kept = [one for one in node.decorator_list if not self._ignore(one)]
        annotated = self._dressed or node is self._entry or annotations_count(kept)
        self.out.append(f"({type(node).__name__} {node.name} ")
        self._value(kept)
        self._arguments(node.args, annotated=annotated)
        if self._dressed and node.returns is not None:
            self.node(unquoted(node.returns))
        self._inside(node, node.args, lambda: self._body(node.body))
        self.out.append(")")

    def _lambda(self, node: ast.Lambda) -> None:
        self.out.append("(Lambda")
        self._arguments(node.args, annotated=False)
        self._inside(node, node.args, lambda: self.node(node.body))
        self.out.append(")")

    def _arguments(self, arguments: ast.arguments, *, annotated: bool) -> None:
        for group in ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg"):
            found = getattr(arguments, group)
            self.out.append(f" {group}=")
            for argument in found if isinstance(found, list) else [found] if found else []:
                self.out.append(argument.arg)
                if annotated and argument.annotation is not None:
                    self.out.append(":")
                    self.node(unquoted(argument.annotation))
                self.out.append(",")
        self._value(arguments.defaults)
        self._value(arguments.kw_defaults)

    def _class(self, node: ast.ClassDef) -> None:
        self.out.append(f"(ClassDef {node.name} ")
        self._value([one for one in node.decorator_list if not self._ignore(one)])
        self._value(node.bases)
        self._value(node.keywords)
        self._within((), bindings(node.body)[0], is_class=True)
        self._body(node.body, in_class=True)
        self._scopes.pop()
        self.out.append(")")

    def _comprehension(self, node: _Comprehensions) -> None:
        self.out.append(f"({type(node).__name__} ")
        self.node(node.generators[0].iter)  # seen from outside
        names = {
            inner.id
            for generator in node.generators
            for inner in ast.walk(generator.target)
            if isinstance(inner, ast.Name)
        }
        kept = self._shown & names if self._shown is not None else names
        self._within(names - kept, kept)
        for number, generator in enumerate(node.generators):
            self.out.append(" async for " if generator.is_async else " for ")
            self.node(generator.target)
            if number:
                self.node(generator.iter)
            self._value(generator.ifs)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.node(part)
        self._scopes.pop()
        self.out.append(")")

    # names ----------------------------------------------------------------------------------

    def _inside(
        self, node: _Functions | ast.Lambda, arguments: ast.arguments, write: Write
    ) -> None:
        """Write the body of a function, whose variables have no names but where they are shown."""
        outermost = self._shown is None
        if outermost:
            self._shown = _shown(node)
        assert self._shown is not None
        body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
        given = {argument.arg for argument in _arguments(arguments)}
        names = variables(body) - given - self._shown
        self._within(names, (bindings(body)[0] | given) - names)
        write()
        self._scopes.pop()
        if outermost:
            self._shown = None

    def _within(self, names: Iterable[str], kept: Iterable[str], *, is_class: bool = False) -> None:
        self._scopes_made += 1
        self._scopes.append(_Scope(self._scopes_made, names, kept, is_class=is_class))

    def _name(self, name: str) -> str:
        for depth, scope in enumerate(reversed(self._scopes)):
            if name in scope.names and not (scope.is_class and depth):
                return scope.written(name)
        return name


def _named(node: ast.AST, field: str, value: object, name: Name) -> object:
    """The value of a field; where it is the name of a variable, what is written for that."""
    if isinstance(value, str) and (
        (field == "name" and isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar))
        or (field == "rest" and isinstance(node, ast.MatchMapping))
    ):
        return name(value)
    if isinstance(node, ast.Nonlocal):
        return sorted(name(one) for one in node.names)
    return value


def _shown(node: ast.AST) -> set[str]:
    """Names of locals that can be seen: all where frames are looked at, else words in texts."""
    words: set[str] = set()
    every: set[str] = set()
    looked_at = False
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            words.update(_WORD.findall(inner.value))
        elif isinstance(inner, ast.Name):
            every.add(inner.id)
            looked_at |= inner.id in _LOOKS_AT_LOCALS
        elif isinstance(inner, ast.Attribute):
            looked_at |= inner.attr in _LOOKS_AT_LOCALS
        elif isinstance(inner, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and inner.name:
            every.add(inner.name)
        elif isinstance(inner, ast.MatchMapping) and inner.rest:
            every.add(inner.rest)
    return every if looked_at else words


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [*found, *(one for one in (arguments.vararg, arguments.kwarg) if one is not None)]


def _is_dress(statement: ast.stmt, *, in_class: bool) -> bool:
    """Whether a statement does nothing: a docstring, ``pass``, a bare annotation."""
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None and not in_class
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
