"""The first-party modules of a project: which file an import means, what binds and alters a name.

Knows syntax trees only and imports nothing; what a step reaches is for ``fingerprint``.
"""

from __future__ import annotations

import ast
import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from clew.base.errors import Invalid
from clew.pipelines.syntax import (
    MUTATORS,
    Imported,
    Usage,
    bindings,
    chain_of,
    imports_of,
    root_of,
    usage_of,
)

_SKIPPED_DIRECTORIES = frozenset({"__pycache__", "node_modules", "site-packages"})


@dataclass
class Statement:
    """A statement at module level. ``binds`` names, ``alters`` what other names stand for."""

    node: ast.stmt
    binds: set[str]
    alters: set[str]
    imports: list[Imported]
    is_import: bool
    usage: Usage


@dataclass
class Module:
    """One file, as far as names go. ``path`` is POSIX, relative to the project."""

    path: str
    package: tuple[str, ...]
    """The package that relative imports start from."""
    tree: ast.Module
    statements: list[Statement] = field(default_factory=list)
    imports: dict[str, list[Imported]] = field(default_factory=lambda: defaultdict(list))
    stars: list[Imported] = field(default_factory=list)
    pipelines: set[str] = field(default_factory=set)
    """Names of module-level pipeline objects."""
    own: set[str] = field(default_factory=set)
    """Names imported from Clew itself: nothing alters what they stand for."""
    binders: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Name to the statements that bind or alter it, in order."""
    unused: list[Imported] = field(default_factory=list)
    """What is imported and never named again: imported for its effect."""

    def binds(self, name: str) -> bool:
        """Whether the module itself gives ``name`` a meaning."""
        return any(name in self.statements[at].binds for at in self.binders.get(name, ()))

    def is_definition(self, expression: ast.expr) -> bool:
        """Whether an expression hangs on a pipeline object: it defines, and is no step's code."""
        root = root_of(expression)
        return isinstance(root, ast.Name) and root.id in self.pipelines


class Project:
    """The Python files of a directory, read when they are needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._modules: dict[str, Module | None] = {}

    def module(self, path: str) -> Module | None:
        """The module at a POSIX path in the project; None where there is no such file."""
        if path not in self._modules:
            file = self._directory / path
            self._modules[path] = None
            if file.is_file():
                self._modules[path] = self._read(path, file)
        return self._modules[path]

    def all(self) -> Iterator[Module]:
        """Every module of the project, by path; virtual environments and hidden ones left out."""
        for path in sorted(self._python_files(self._directory)):
            module = self.module(path.relative_to(self._directory).as_posix())
            if module is not None:
                yield module

    def find(self, importer: Module, imported: Imported) -> tuple[Module | None, bool]:
        """The file of a dotted module name, and whether the name is first-party at all.

        A package without ``__init__`` is first-party and has no file.
        """
        for root in self._roots(importer, imported):
            parts = [part for part in imported.module.split(".") if part]
            place = root.joinpath(*parts)
            for candidate in (place / "__init__.py", place.with_suffix(".py") if parts else None):
                if candidate is not None and (module := self.module(candidate.as_posix())):
                    return module, True
            if parts and (self._directory / place).is_dir() and self._has_python(place):
                return None, True
            if imported.level and (self._directory / place).is_dir():
                return None, True
        return None, False

    def submodule(self, importer: Module, imported: Imported, name: str) -> Imported | None:
        """``name`` as a module inside a first-party package; None where there is none."""
        dotted = f"{imported.module}.{name}" if imported.module else name
        inner = Imported(dotted, "", imported.level)
        _, first_party = self.find(importer, inner)
        return inner if first_party else None

    def _roots(self, importer: Module, imported: Imported) -> Iterable[PurePosixPath]:
        if imported.level:
            up = len(importer.package) - (imported.level - 1)
            return [PurePosixPath(*importer.package[: max(up, 0)])]
        beside = PurePosixPath(importer.path).parent
        return dict.fromkeys((PurePosixPath(), beside, PurePosixPath("src")))

    def _has_python(self, place: PurePosixPath) -> bool:
        return next(self._python_files(self._directory / place), None) is not None

    def _python_files(self, directory: Path) -> Iterator[Path]:
        for path in sorted(directory.iterdir()):
            if path.name.startswith(".") or path.name in _SKIPPED_DIRECTORIES:
                continue
            if path.is_dir() and not (path / "pyvenv.cfg").exists():
                yield from self._python_files(path)
            elif path.suffix == ".py":
                yield path

    def _read(self, path: str, file: Path) -> Module:
        try:
            tree = _parse(file.read_bytes())
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            raise Invalid(
                "code.syntax",
                f"{path}{f':{line}' if line else ''} is not valid Python: {error}.",
                hint="Mend the file, then apply again.",
            ) from error
        module = Module(path=path, package=PurePosixPath(path).parent.parts, tree=tree)
        self._modules[path] = module  # circles of imports end here
        self._find_pipelines(module)
        for node in _living(tree.body):
            _index(module, node)
        _index_mutations(module)
        module.unused = list(_unused(module))
        return module

    def _find_pipelines(self, module: Module) -> None:
        """Names of a ``clew.Pipeline``, made here or imported from a first-party file."""
        known = {name: imported for node in module.tree.body for name, imported in _imported(node)}
        for name, imported in known.items():
            if not imported.level and imported.module.partition(".")[0] == "clew":
                module.own.add(name)
            elif imported.name:
                other, _ = self.find(module, Imported(imported.module, "", imported.level))
                if other is not None and imported.name in other.pipelines:
                    module.pipelines.add(name)
        for node in module.tree.body:
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if isinstance(value, ast.Call) and _is_pipeline_class(chain_of(value.func), known):
                module.pipelines |= bindings([node])[0]


@lru_cache(maxsize=512)
def _parse(source: bytes) -> ast.Module:
    return ast.parse(source)


def _imported(node: ast.AST) -> Iterator[tuple[str, Imported]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from imports_of(node)


def _is_pipeline_class(chain: tuple[str, ...] | None, known: dict[str, Imported]) -> bool:
    imported = known.get(chain[0]) if chain else None
    if chain is None or imported is None or imported.module.partition(".")[0] != "clew":
        return False
    return (chain[-1] if len(chain) > 1 else imported.name) == "Pipeline"


def _living(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Module-level statements that run on import."""
    for node in body:
        if isinstance(node, ast.If) and _never(node.test):
            yield from _living(node.orelse)
        elif not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            yield node


def _never(test: ast.expr) -> bool:
    """``TYPE_CHECKING`` and ``__name__ == "__main__"`` do not hold in a worker."""
    chain = chain_of(test)
    if chain is not None:
        return chain[-1] == "TYPE_CHECKING"
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name)
        and test.left.id == "__name__"
        and isinstance(test.ops[0], ast.Eq)
        and isinstance(test.comparators[0], ast.Constant)
        and test.comparators[0].value == "__main__"
    )


def _index(module: Module, node: ast.stmt) -> None:
    names, _ = bindings([node])
    names.discard("*")
    imports = [pair for one in _module_level(node) for pair in _imported(one)]
    module.stars += [imported for name, imported in imports if name == "*"]
    for name, found in imports:
        if name != "*":
            module.imports[name].append(found)
    usage = usage_of(node, module.is_definition)
    alters = _alters(module, node) | usage.global_stores
    at = len(module.statements)
    module.statements.append(
        Statement(
            node=node,
            binds=names,
            alters=alters - names,
            imports=[imported for _, imported in imports],
            is_import=isinstance(node, ast.Import | ast.ImportFrom),
            usage=usage,
        )
    )
    for name in names | alters:
        module.binders[name].append(at)


def _index_mutations(module: Module) -> None:
    """Functions that alter a variable of the module belong to what the variable means."""
    for at, statement in enumerate(module.statements):
        for name in statement.usage.mutated - statement.binds - statement.alters:
            if name not in module.imports and name not in module.pipelines:
                statement.alters.add(name)
                bisect.insort(module.binders[name], at)


def _module_level(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and what runs with it: all inside but the bodies of functions and classes."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
        return
    for child in ast.iter_child_nodes(node):
        yield from _module_level(child)


def _alters(module: Module, node: ast.stmt) -> set[str]:
    """Names whose meaning a statement may change without binding them."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return _altered_by_definition(module, node)
    if isinstance(node, ast.Expr) and module.is_definition(node.value):
        return set()
    found: set[str] = set()
    is_assignment = isinstance(node, ast.Assign | ast.AnnAssign)
    for inner in _module_level(node):
        if isinstance(inner, ast.Call) and not module.is_definition(inner):
            chain = chain_of(inner.func)
            mutates = chain is not None and len(chain) > 1 and chain[-1] in MUTATORS
            if not is_assignment:
                found |= _named_in_call(inner)
            elif mutates and chain:
                found.add(chain[0])
        elif isinstance(inner, ast.Attribute | ast.Subscript) and not isinstance(
            inner.ctx, ast.Load
        ):
            root = root_of(inner)
            if isinstance(root, ast.Name):
                found.add(root.id)
        elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found |= _altered_by_definition(module, inner)
    return found - module.pipelines - module.own


def _named_in_call(call: ast.Call) -> set[str]:
    """The names that a call may alter: what it is called on and what is given to it."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    roots = [root_of(call.func)]
    roots += [one.value if isinstance(one, ast.Starred) else one for one in given]
    return {root.id for root in roots if isinstance(root, ast.Name)}


def _altered_by_definition(
    module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
) -> set[str]:
    """A decorator may register what it decorates; so may the base of a class."""
    expressions = [one for one in node.decorator_list if not module.is_definition(one)]
    if isinstance(node, ast.ClassDef):
        expressions += [base for base in node.bases if _registers(module, base)]
    found: set[str] = set()
    for expression in expressions:
        root = root_of(expression)
        if isinstance(root, ast.Name):
            found.add(root.id)
        if isinstance(expression, ast.Call):
            found |= _named_in_call(expression)
    return found


def _registers(module: Module, base: ast.expr) -> bool:
    """Whether making a subclass of ``base`` (a class of this file) runs code of its own."""
    if not isinstance(base, ast.Name):
        return False
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef) and node.name == base.id:
            hooks = {"__init_subclass__"} & {getattr(one, "name", "") for one in node.body}
            return bool(hooks) or any(keyword.arg == "metaclass" for keyword in node.keywords)
    return False


def _unused(module: Module) -> Iterator[Imported]:
    if module.path.endswith("__init__.py"):
        return
    named = {node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name)}
    named |= {
        node.value
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 100
    }
    for statement in module.statements:
        if isinstance(statement.node, ast.Import):
            for alias in statement.node.names:
                if (alias.asname or alias.name.partition(".")[0]) not in named:
                    yield Imported(alias.name)
