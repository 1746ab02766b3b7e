"""The first-party modules of a project: which file an import means, what binds and alters a name.

Knows syntax trees only and imports nothing; what a step reaches is for ``fingerprint``.
"""

from __future__ import annotations

import ast
import bisect
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

from msgspec import Struct, field

from clew.base.errors import Invalid
from clew.pipelines.syntax import (
    MUTATORS,
    Imported,
    Usage,
    bindings,
    chain_of,
    handed_on,
    imports_of,
    is_definition,
    named_in,
    root_of,
    usage_of,
)

Chain = tuple[str, ...]
Origin = tuple[str, str]
"""Path of a file and a name in it; '' for the module itself."""

_DEEP = 20
"""So many re-exports, or classes above each other, are followed."""

_QUIET = frozenset(
    {"clew", "numba", "attr", "attrs", "pydantic", "torch", "jax", "tensorflow", "keras"}
    | {"numpy", "tenacity", "joblib", "cachetools", "beartype", "typeguard", "typing_extensions"}
)
"""Libraries whose decorators keep no list of what they decorate."""

_SKIPPED_DIRECTORIES = frozenset({"__pycache__", "node_modules", "site-packages"})


class Statement(Struct):
    """A statement at module level. ``binds`` names, ``alters`` what other names stand for."""

    at: int
    node: ast.stmt
    binds: set[str]
    alters: set[str]
    remakes: set[str]
    """What it alters of the names that it binds itself, such as the variable of a loop."""
    calls: set[Chain]
    """What it calls or decorates with as it runs."""
    acts: set[Chain]
    """What it calls for the effect alone, and stores into."""
    imports: list[Imported]
    is_import: bool
    usage: Usage


class Module(Struct):
    """One file, as far as names go. ``path`` is POSIX, relative to the project."""

    path: str
    package: tuple[str, ...]
    """The package that relative imports start from."""
    tree: ast.Module
    source: bytes
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

    def defines(self, name: str) -> bool:
        """Whether ``name`` is a function or a class of this file."""
        return any(
            is_definition(self.statements[at].node) and name in self.statements[at].binds
            for at in self.binders.get(name, ())
        )

    def is_contested(self, name: str) -> bool:
        """Whether several statements, an import among them, give ``name`` different meanings."""
        binding = [self.statements[at] for at in self.binders.get(name, ())]
        imports = {one.is_import for one in binding if name in one.binds}
        return len(set(self.imports.get(name, ()))) > 1 or len(imports) > 1

    def is_definition(self, expression: ast.expr) -> bool:
        """Whether an expression hangs on a pipeline object: it defines, and is no step's code."""
        root = root_of(expression)
        return isinstance(root, ast.Name) and root.id in self.pipelines


class Project:
    """The Python files of a directory, read when they are needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._modules: dict[str, Module | None] = {}
        self._anywhere = False
        """Whether code changes ``sys.path``: then a module may lie in any directory."""

    def module(self, path: str) -> Module | None:
        """The module at a POSIX path in the project; None where there is no such file."""
        if path not in self._modules:
            file = self.directory / path
            self._modules[path] = None
            if file.is_file():
                self._modules[path] = self._read(path, file)
        return self._modules[path]

    def all(self) -> Iterator[Module]:
        """Every module of the project, by path; virtual environments and hidden ones left out."""
        for path in sorted(self._python_files(self.directory)):
            module = self.module(path.relative_to(self.directory).as_posix())
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
            if parts and (self.directory / place).is_dir() and self._has_python(place):
                return None, True
            if imported.level and (self.directory / place).is_dir():
                return None, True
        return None, False

    def submodule(self, importer: Module, imported: Imported, name: str) -> Imported | None:
        """``name`` as a module inside a first-party package; None where there is none."""
        dotted = f"{imported.module}.{name}" if imported.module else name
        inner = Imported(dotted, "", imported.level)
        _, first_party = self.find(importer, inner)
        return inner if first_party else None

    def origins(self, module: Module, name: str, depth: int = 0) -> set[Origin]:
        """Where the first-party meaning of a name is bound: path and name, '' for a module."""
        found = (
            {(module.path, name)} if module.binds(name) and name not in module.imports else set()
        )
        for imported in module.imports.get(name, ()) if depth < _DEEP else ():
            package = Imported(imported.module, "", imported.level)
            other, _ = self.find(module, package)
            inner = self.submodule(module, package, imported.name) if imported.name else package
            if (
                other is not None
                and other is not module
                and imported.name
                and self._has(other, imported.name)
            ):
                found |= self.origins(other, imported.name, depth + 1)
            elif inner is not None and (leaf := self.find(module, inner)[0]) is not None:
                found.add((leaf.path, ""))
        for star in module.stars if not found and depth < _DEEP else ():
            other, _ = self.find(module, Imported(star.module, "", star.level))
            if other is not None and self._has(other, name):
                found |= self.origins(other, name, depth + 1)
        return found

    def executed(self, module: Module, imported: Imported) -> Iterator[Module]:
        """The first-party files that an import statement runs: packages above, then the module."""
        parts = [part for part in imported.module.split(".") if part]
        names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)] or [""]
        if imported.name and imported.name != "*":
            names.append(f"{imported.module}.{imported.name}" if parts else imported.name)
        for name in names:
            found, _ = self.find(module, Imported(name, "", imported.level))
            if found is not None:
                yield found

    def _has(self, module: Module, name: str) -> bool:
        return module.binds(name) or name in module.imports or bool(module.stars)

    def _roots(self, importer: Module, imported: Imported) -> Iterable[PurePosixPath]:
        if imported.level:
            up = len(importer.package) - (imported.level - 1)
            return [PurePosixPath(*importer.package[: max(up, 0)])]
        beside = PurePosixPath(importer.path).parent
        usual = dict.fromkeys((PurePosixPath(), beside, PurePosixPath("src")))
        return [*usual, *self._places] if self._anywhere else usual

    @cached_property
    def _places(self) -> list[PurePosixPath]:
        files = self._python_files(self.directory)
        return sorted(
            {PurePosixPath(one.relative_to(self.directory).as_posix()).parent for one in files}
        )

    def _has_python(self, place: PurePosixPath) -> bool:
        return next(self._python_files(self.directory / place), None) is not None

    def _python_files(self, directory: Path) -> Iterator[Path]:
        for path in sorted(directory.iterdir()):
            if path.name.startswith(".") or path.name in _SKIPPED_DIRECTORIES:
                continue
            if path.is_dir() and not (path / "pyvenv.cfg").exists():
                yield from self._python_files(path)
            elif path.suffix == ".py":
                yield path

    def _read(self, path: str, file: Path) -> Module:
        source = file.read_bytes()
        try:
            tree = _parse(source)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            raise Invalid(
                "code.syntax",
                f"{path}{f':{line}' if line else ''} is not valid Python: {error}.",
                hint="Mend the file, then apply again.",
            ) from error
        package = PurePosixPath(path).parent.parts
        module = Module(path=path, package=package, tree=tree, source=source)
        self._modules[path] = module  # circles of imports end here
        self._find_pipelines(module)
        self._anywhere |= _moves_path(tree)
        for node in _living(tree.body):
            self._index(module, node)
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
            if not isinstance(value, ast.Call):
                continue
            chain = chain_of(value.func)
            if _is_pipeline_class(chain, known) or _is_slot(chain, module.pipelines):
                module.pipelines |= bindings([node])[0]

    def _index(self, module: Module, node: ast.stmt) -> None:
        names, _ = bindings([node])
        names.discard("*")
        imports = [pair for one in _module_level(node) for pair in _imported(one)]
        module.stars += [imported for name, imported in imports if name == "*"]
        for name, found in imports:
            if name != "*":
                module.imports[name].append(found)
        usage = usage_of(node, module.is_definition)
        effects = _Effects(self, module, node)
        alters = effects.alters | usage.global_stores
        at = len(module.statements)
        module.statements.append(
            Statement(
                at=at,
                node=node,
                binds=names,
                alters=alters - names,
                remakes=alters & names,
                calls=effects.calls,
                acts=effects.acts,
                imports=[imported for _, imported in imports],
                is_import=isinstance(node, ast.Import | ast.ImportFrom),
                usage=usage,
            )
        )
        for name in names | alters:
            module.binders[name].append(at)

    def is_module(self, module: Module, name: str) -> bool:
        """Whether an imported name stands for a module, as far as can be seen."""
        return any(
            not imported.name
            or self.submodule(module, Imported(imported.module, "", imported.level), imported.name)
            is not None
            for imported in module.imports.get(name, ())
        )

    def registers(self, module: Module, base: ast.expr, depth: int = 0) -> bool:
        """Whether making a subclass of ``base`` may run code of its own.

        So it is for a class with ``__init_subclass__`` or a metaclass, and for one whose bases
        cannot be seen; not for a library's own class, which first-party code does not ask.
        """
        chain = chain_of(base)
        if chain is None or depth > _DEEP:
            return depth > 0
        for path, name in self.origins(module, chain[0]):
            home = self.module(path)
            wanted = name or chain[-1]
            for node in home.tree.body if home is not None else ():
                if isinstance(node, ast.ClassDef) and node.name == wanted:
                    return _has_hooks(node) or any(
                        self.registers(home, one, depth + 1) for one in node.bases if home
                    )
        return depth > 0 and not _is_plain_base(module, chain)


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


def _is_slot(chain: Chain | None, pipelines: set[str]) -> bool:
    """Whether a call gives an object that only defines, as the pipeline itself."""
    if chain is None or chain[0] not in pipelines:
        return False
    return chain[1:] in {("slot",), ("parameter",)}


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


def _index_mutations(module: Module) -> None:
    """Functions that alter a variable of the module, themselves or by calling one that does,
    belong to what the variable means.
    """
    own = [
        statement.usage.mutated | statement.usage.global_stores for statement in module.statements
    ]
    makers = {
        name: at
        for at, statement in enumerate(module.statements)
        if is_definition(statement.node)
        for name in statement.binds
    }
    _spread_over_aliases(module, own)
    moved = True
    while moved:
        moved = False
        for at, statement in enumerate(module.statements):
            for reference in statement.usage.references if at in makers.values() else ():
                called = makers.get(reference.chain[0])
                if called is not None and not own[called] <= own[at]:
                    own[at] = own[at] | own[called]
                    moved = True
    for at, statement in enumerate(module.statements):
        for name in own[at] - statement.binds - statement.alters:
            if name not in module.imports and name not in module.pipelines:
                statement.alters.add(name)
                bisect.insort(module.binders[name], at)


def _spread_over_aliases(module: Module, own: list[set[str]]) -> None:
    """What is done to ``b`` after ``b = a`` is done to ``a``; a call of ``a.append`` under another
    name may alter ``a``.
    """
    aliases: dict[str, set[str]] = defaultdict(set)
    methods: set[str] = set()
    for statement in module.statements:
        value = handed_on(statement.node)
        for name in statement.binds if value is not None else ():
            aliases[name] |= named_in(value)
            if isinstance(value, ast.Attribute):
                methods.add(name)
    for at, statement in enumerate(module.statements) if aliases else ():
        called = {chain[0] for chain in statement.calls if len(chain) == 1} & methods
        altered = statement.alters | statement.remakes | own[at] | called
        todo = list(altered)
        while todo:
            for name in aliases.get(todo.pop(), set()) - altered:
                altered = altered | {name}
                todo.append(name)
        own[at] = own[at] | (altered - statement.alters - statement.remakes - called)


def _module_level(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and what runs with it: all inside but the bodies of functions and classes."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
        return
    for child in ast.iter_child_nodes(node):
        yield from _module_level(child)


class _Effects:
    """What a module-level statement does to others as it runs.

    A function that is merely called, or decorates, is not altered by that: if it changes a
    variable, that variable is, and whoever calls the function is found through ``calls``.
    """

    def __init__(self, project: Project, module: Module, node: ast.stmt) -> None:
        self.alters: set[str] = set()
        self.calls: set[Chain] = set()
        self.acts: set[Chain] = set()
        self._project = project
        self._module = module
        if not (isinstance(node, ast.Expr) and module.is_definition(node.value)):
            self._statement(node)
        self.alters -= module.pipelines | module.own

    def _statement(self, node: ast.stmt) -> None:
        is_assignment = isinstance(node, ast.Assign | ast.AnnAssign)
        for inner in _module_level(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._definition(inner)
            elif isinstance(inner, ast.Call) and not self._module.is_definition(inner):
                self._call(inner, quiet=is_assignment)
            elif isinstance(inner, ast.Attribute | ast.Subscript) and not isinstance(
                inner.ctx, ast.Load
            ):
                self._store(inner)
            elif isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Call):
                chain = chain_of(inner.value.func)
                outer = chain and chain[0] not in self._module.pipelines
                self.acts |= (
                    {chain} if chain and outer and not self._is_codec(inner.value) else set()
                )

    def _store(self, target: ast.expr) -> None:
        root = root_of(target)
        if isinstance(root, ast.Name):
            self.alters.add(root.id)
            self.acts.add((root.id,))

    def _call(self, call: ast.Call, *, quiet: bool) -> None:
        """``quiet``: only methods that are known to alter their object do."""
        chain = chain_of(call.func)
        if chain is not None:
            self._run(chain, alters=not quiet or chain[-1] in MUTATORS)
        elif not quiet and isinstance(root := root_of(call.func), ast.Name):
            self.alters.add(root.id)
        if not quiet:
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            names = [one.value if isinstance(one, ast.Starred) else one for one in given]
            self.alters |= {one.id for one in names if isinstance(one, ast.Name)}

    def _run(self, chain: Chain, *, alters: bool) -> None:
        self.calls.add(chain)
        if alters and len(chain) > 1 and not self._project.is_module(self._module, chain[0]):
            self.alters.add(chain[0])

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """A decorator may register what it decorates; so may a metaclass or the base of a class."""
        for decorator in node.decorator_list:
            if self._module.is_definition(decorator):
                continue
            chain = chain_of(decorator.func if isinstance(decorator, ast.Call) else decorator)
            if chain is not None:
                self._run(chain, alters=True)
                acts = self._is_foreign(chain) and not self._is_codec(decorator)
                self.acts |= {chain} if acts else set()
            elif isinstance(root := root_of(decorator), ast.Name):
                self.alters.add(root.id)
            if isinstance(decorator, ast.Call):
                self._call(decorator, quiet=False)
        if isinstance(node, ast.ClassDef):
            bases = [one for one in node.bases if self._project.registers(self._module, one)]
            for one in (*bases, *(word.value for word in node.keywords if word.arg == "metaclass")):
                if isinstance(root := root_of(one), ast.Name):
                    self.alters.add(root.id)

    def _is_codec(self, node: ast.expr) -> bool:
        """Whether this is ``clew.codec(Type, ...)`` of a first-party type: it alters that alone.

        The type of a library is not followed: its codec may serve every step.
        """
        chain = chain_of(node.func) if isinstance(node, ast.Call) else None
        if not isinstance(node, ast.Call) or chain is None or not node.args:
            return False
        found = self._module.imports.get(chain[0], ())
        names = {".".join(filter(None, (one.module, one.name, *chain[1:]))) for one in found}
        kind = node.args[0]
        return (
            names == {"clew.codec"}
            and isinstance(kind, ast.Name)
            and bool(self._project.origins(self._module, kind.id))
        )

    def _is_foreign(self, chain: Chain) -> bool:
        """Whether a decorator is of a library that may remember what it decorates."""
        return any(
            not imported.level
            and (top := imported.module.partition(".")[0]) not in sys.stdlib_module_names
            and top not in _QUIET
            and not self._project.find(self._module, Imported(imported.module))[1]
            for imported in self._module.imports.get(chain[0], ())
        )


def _has_hooks(node: ast.ClassDef) -> bool:
    hooks = {"__init_subclass__"} & {getattr(one, "name", "") for one in node.body}
    plain = {"ABCMeta", "EnumMeta", "EnumType", "type"}
    return bool(hooks) or any(
        keyword.arg == "metaclass" and (chain_of(keyword.value) or ("",))[-1] not in plain
        for keyword in node.keywords
    )


def _is_plain_base(module: Module, chain: Chain) -> bool:
    """Whether a base is a builtin or of the standard library."""
    tops = {imported.module.partition(".")[0] for imported in module.imports.get(chain[0], ())}
    return tops <= sys.stdlib_module_names


def _moves_path(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.Attribute) and chain_of(node) == ("sys", "path")
        for node in ast.walk(tree)
    )


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
