"""Python source as values: what a piece of code means (without its dress) and what it refers to.

Knows one syntax tree at a time; which file a name leads to is for ``modules``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct, field

PLAIN_DECORATORS = frozenset(
    {"staticmethod", "classmethod", "property", "wraps", "lru_cache", "cache", "cached_property"}
)
"""Decorators that do not look at annotations; below any other one, annotations count."""

MUTATORS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"}
    | {"register", "remove", "reverse", "setdefault", "sort", "update"}
)
"""Methods that alter what they are called on."""

MIRRORS = frozenset(
    {"__doc__", "__annotations__", "__code__", "__globals__", "__subclasses__", "__closure__"}
)
"""Attributes through which code looks at code."""

Ignore = Callable[[ast.expr], bool]
"""Whether a decorator is a definition of a pipeline and so no part of the function."""


class Imported(Struct, frozen=True):
    """What an import statement binds: a module, or (``name``) something out of it."""

    module: str
    name: str = ""
    level: int = 0


class Reference(Struct, frozen=True):
    """A global name with the attributes taken from it, such as ``helpers.LIMIT``.

    ``imported`` is set where a local import statement binds the first name. ``argument`` is the
    first argument, where the reference is called with a literal text.
    """

    chain: tuple[str, ...]
    imported: Imported | None = None
    argument: str | None = None


class Usage(Struct):
    """What a piece of code refers to outside itself."""

    references: set[Reference] = field(default_factory=set)
    imports: set[Imported] = field(default_factory=set)
    """By import statements inside of it."""
    global_stores: set[str] = field(default_factory=set)
    """Names that it assigns with ``global``."""
    mutated: set[str] = field(default_factory=set)
    """Global names that its functions store into (``T[x] = y``) or call a mutator of."""
    mirrors: set[str] = field(default_factory=set)
    """Attributes through which code looks at code (``__doc__``, ``__globals__``)."""


def chain_of(node: ast.expr) -> tuple[str, ...] | None:
    """``a.b.c`` as ``("a", "b", "c")``; None where it does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return (node.id, *reversed(names))


def root_of(node: ast.expr) -> ast.expr:
    """What is left of an expression without its calls, attributes and subscripts."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node


def handed_on(node: ast.AST) -> ast.expr | None:
    """What an assignment or a loop gives to its target."""
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
        return node.value
    return node.iter if isinstance(node, ast.For | ast.AsyncFor) else None


def named_in(value: ast.expr | None) -> set[str]:
    """Names whose very objects a value may be or hold: ``a``, ``[a]``, ``a.b``, ``a or b``."""
    if isinstance(value, ast.Name):
        return {value.id}
    if isinstance(value, ast.Subscript | ast.Attribute | ast.Starred):
        return named_in(value.value)
    parts: list[ast.expr] = []
    if isinstance(value, ast.List | ast.Tuple | ast.Set):
        parts = value.elts
    elif isinstance(value, ast.Dict | ast.BoolOp):
        parts = value.values
    elif isinstance(value, ast.IfExp):
        parts = [value.body, value.orelse]
    return {name for part in parts for name in named_in(part)}


def imports_of(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Imported]]:
    """The names that an import statement binds (``*`` for a star) and what they stand for."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            found = Imported(node.module or "", alias.name, node.level)
            yield alias.asname or alias.name, found
        elif alias.asname:
            yield alias.asname, Imported(alias.name)
        else:
            yield alias.name.partition(".")[0], Imported(alias.name.partition(".")[0])


# names --------------------------------------------------------------------------------------


class _Bindings(ast.NodeVisitor):
    """Names that the statements of one scope bind, without those of the scopes inside."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.imports: dict[str, Imported] = {}
        self.defined: set[str] = set()
        self.outer: set[str] = set()
        self.globals: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for name, imported in imports_of(node):
            self.names.add(name)
            self.imports[name] = imported

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.names.add(node.name)
        self.defined.add(node.name)
        for expression in outside(node):
            self.visit(expression)

    def _comprehension(self, node: ast.expr) -> None:
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr) and isinstance(inner.target, ast.Name):
                self.names.add(inner.target.id)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)

    def visit_Global(self, node: ast.Global) -> None:
        self.outer.update(node.names)
        self.globals.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.outer.update(node.names)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.names.add(node.name)
        self.generic_visit(node)

    def _pattern(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self.names.add(node.name)
        self.generic_visit(node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.names.add(node.rest)
        self.generic_visit(node)

    visit_Import = visit_ImportFrom = _import  # noqa: N815 - ast's own names
    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _definition  # noqa: N815 - ast's own names
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815 - ast's own names
    visit_MatchAs = visit_MatchStar = _pattern  # noqa: N815 - ast's own names


def bindings(statements: Iterable[ast.AST]) -> tuple[set[str], dict[str, Imported]]:
    """Names that these statements bind in their own scope, and those bound by imports."""
    found = _bindings(statements)
    return found.names - found.outer, found.imports


def variables(statements: Iterable[ast.AST]) -> set[str]:
    """Names that these statements of a function bind, but for imports and definitions."""
    found = _bindings(statements)
    return found.names - found.outer - found.defined - found.imports.keys()


def _bindings(statements: Iterable[ast.AST]) -> _Bindings:
    visitor = _Bindings()
    for statement in statements:
        visitor.visit(statement)
    return visitor


def outside(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[ast.expr]:
    """Expressions of a definition that are evaluated in the scope around it."""
    yield from node.decorator_list
    if isinstance(node, ast.ClassDef):
        yield from node.bases
        yield from (keyword.value for keyword in node.keywords)
    else:
        yield from node.args.defaults
        yield from filter(None, node.args.kw_defaults)


# references ---------------------------------------------------------------------------------


class _Scope(Struct):
    names: set[str]
    imports: dict[str, Imported]
    is_class: bool = False
    aliases: dict[str, set[str]] = field(default_factory=dict)
    """Locals, and the names whose objects they may be."""


class _References(ast.NodeVisitor):
    """Collects what code refers to outside its own functions."""

    def __init__(self, ignore: Ignore, keep_annotations_of: ast.AST | None) -> None:
        self.usage = Usage()
        self._ignore = ignore
        self._keep = keep_annotations_of
        self._scopes: list[_Scope] = []

    def _refer(self, chain: tuple[str, ...], argument: str | None = None) -> None:
        if not self._is_local(chain, argument):
            self.usage.references.add(Reference(chain, None, argument))

    def _is_local(self, chain: tuple[str, ...], argument: str | None = None) -> bool:
        """Whether a name is bound inside; if by an import, what it refers to is kept."""
        for depth, scope in enumerate(reversed(self._scopes)):
            if chain[0] in scope.names and not (scope.is_class and depth):
                imported = scope.imports.get(chain[0])
                if imported is not None:
                    self.usage.references.add(Reference(chain, imported, argument))
                return True
        return False

    def _mutate(self, chain: tuple[str, ...] | None) -> None:
        if not chain or not self._scopes:
            return
        todo, seen = [chain[0]], set[str]()
        while todo:
            name = todo.pop()
            if name not in seen and not self._is_local((name,)):
                self.usage.mutated.add(name)
            for scope in self._scopes if name not in seen else ():
                todo += scope.aliases.get(name, ())
            seen.add(name)

    def _alias(self, target: ast.expr, value: ast.expr) -> None:
        """Note what a local stands for from now on."""
        names = named_in(value) if self._scopes else set()
        for inner in ast.walk(target) if names else ():
            if isinstance(inner, ast.Name):
                self._scopes[-1].aliases.setdefault(inner.id, set()).update(names)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._alias(target, node.value)
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._alias(node.target, node.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._alias(node.target, node.iter)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._mutate(_root_chain(node))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._refer((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = chain_of(node)
        self.usage.mirrors |= {node.attr} & MIRRORS
        if not isinstance(node.ctx, ast.Load):
            self._mutate(_root_chain(node))
        if chain:
            self._refer(chain)
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        chain = chain_of(node.func)
        first = node.args[0] if node.args else None
        second = node.args[1] if len(node.args) > 1 else None
        taken = chain_of(first) if first is not None else None
        if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            self._mutate(_root_chain(node.func))
        if chain == ("getattr",) and taken and (name := _text(second)):
            self._refer((*taken, name))
            for argument in node.args[2:]:
                self.visit(argument)
            return
        if chain in {("vars",), ("locals",), ("dir",)} and not node.args and not self._scopes:
            self._refer(("globals",))  # at module level they are the same
            return
        if chain and len(chain) > 1:
            self.usage.mirrors |= {chain[-1]} & MIRRORS
        if chain and _text(first) is not None:
            self._refer(chain, _text(first))
            for argument in (*node.args[1:], *(keyword.value for keyword in node.keywords)):
                self.visit(argument)
            return
        self.generic_visit(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.usage.imports.update(imported for _, imported in imports_of(node))

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        kept = [one for one in node.decorator_list if not self._ignore(one)]
        for expression in (*kept, *_defaults(node.args)):
            self.visit(expression)
        if annotations_count(kept) or node is self._keep:
            for argument in _arguments(node.args):
                if argument.annotation is not None:
                    self._annotation(argument.annotation)
        self._inside(node.args, node.body)

    def _annotation(self, annotation: ast.expr) -> None:
        self.visit(unquoted(annotation))

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for expression in _defaults(node.args):
            self.visit(expression)
        self._inside(node.args, [node.body])

    def _inside(self, arguments: ast.arguments, body: Iterable[ast.AST]) -> None:
        body = list(body)
        found = _bindings(body)
        names = found.names | {argument.arg for argument in _arguments(arguments)}
        self.usage.global_stores |= found.names & found.globals
        self._scopes.append(_Scope(names - found.outer, found.imports))
        for statement in body:
            self.visit(statement)
        self._scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for expression in outside(node):
            if not self._ignore(expression):
                self.visit(expression)
        names, imports = bindings(node.body)
        self._scopes.append(_Scope(names, imports, is_class=True))
        for statement in node.body:
            self.visit(statement)
        self._scopes.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._scopes and self._scopes[-1].is_class:
            self._annotation(node.annotation)
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> None:
        names = {
            inner.id
            for generator in node.generators
            for inner in ast.walk(generator.target)
            if isinstance(inner, ast.Name)
        }
        self.visit(node.generators[0].iter)
        # A class body is not seen from inside a comprehension: hide it behind a plain scope.
        self._scopes.append(_Scope(names, {}))
        self.generic_visit(node)
        self._scopes.pop()

    visit_Import = visit_ImportFrom = _import  # noqa: N815 - ast's own names
    visit_FunctionDef = visit_AsyncFunctionDef = _function  # noqa: N815 - ast's own names
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815 - ast's own names


def is_definition(node: ast.AST) -> bool:
    """Whether a statement defines a function or a class."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def usage_of(statement: ast.stmt, ignore: Ignore, *, entry: bool = False) -> Usage:
    """What a module-level statement refers to.

    ``ignore`` tells decorators that only define a pipeline. ``entry``: the statement is the
    function of a step, so the annotations of its parameters count (they say how data arrives).
    """
    visitor = _References(ignore, statement if entry else None)
    visitor.visit(statement)
    return visitor.usage


def annotations_count(decorators: list[ast.expr]) -> bool:
    """Whether one of the decorators may look at annotations (such as ``singledispatch``)."""
    for decorator in decorators:
        chain = chain_of(decorator.func if isinstance(decorator, ast.Call) else decorator)
        plain = chain is not None and (
            chain[-1] in PLAIN_DECORATORS or chain[-1] in {"setter", "getter", "deleter"}
        )
        if not plain:
            return True
    return False


def unquoted(annotation: ast.expr) -> ast.expr:
    """An annotation that is written as a text, read."""
    text = _text(annotation)
    if text is None:
        return annotation
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return annotation


def _root_chain(node: ast.expr) -> tuple[str, ...] | None:
    return chain_of(root_of(node))


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _arguments(arguments: ast.arguments) -> Iterator[ast.arg]:
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from filter(None, (arguments.vararg, arguments.kwarg))


def _defaults(arguments: ast.arguments) -> Iterator[ast.expr]:
    yield from arguments.defaults
    yield from filter(None, arguments.kw_defaults)
