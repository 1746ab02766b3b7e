"""Code fingerprints: a digest of what a function does, with all first-party code it reaches.

Static; runs none of the code. Knows nothing of data or of pipelines, but that a decorator hanging
on a ``clew.Pipeline`` defines a step and is no part of it. See design/0006.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Set
from pathlib import Path, PurePosixPath

from msgspec import Struct

from clew.base.errors import NotFound
from clew.pipelines.canonical import canonical
from clew.pipelines.links import FILE, INERT, ON_IMPORT, ORDER, QUIET, SOURCE, Links
from clew.pipelines.mentions import clocks, named_files
from clew.pipelines.modules import Module, Origin, Project, Statement
from clew.pipelines.syntax import (
    Imported,
    Reference,
    Usage,
    is_definition,
    usage_of,
)
from clew.store import digest, digest_of

_DYNAMIC_BUILTINS = frozenset({"exec", "eval", "globals", "__import__"})
_DYNAMIC_IMPORTS = frozenset(
    {
        ("importlib", "import_module"),
        ("importlib", "reload"),
        ("importlib", "util"),
        ("importlib", "machinery"),
        ("pkgutil", "iter_modules"),
        ("pkgutil", "walk_packages"),
        ("runpy", "run_path"),
        ("runpy", "run_module"),
        ("sys", "modules"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "globals"),
        ("builtins", "__import__"),
    }
)


_NAMESPACES = frozenset({"__globals__", "__subclasses__", "__closure__"})
_SOURCES = frozenset({"inspect.getsource", "inspect.getsourcelines", "__code__"})
_READERS = frozenset(
    {("inspect", "getsource"), ("inspect", "getsourcelines"), ("inspect", "getdoc")}
    | {("inspect", "signature"), ("inspect", "get_annotations"), ("inspect", "getfullargspec")}
    | {("typing", "get_type_hints"), ("typing_extensions", "get_type_hints")}
)
"""Functions through which code looks at code."""

Piece = tuple[Module, Statement, bool]
"""A statement that counts, its module, and whether it is the step itself."""


class Fingerprint(Struct, frozen=True, kw_only=True):
    """What a function is made of.

    ``parts`` maps ``file:name`` to the digest of that piece of code, ``imports`` are the
    third-party modules (top-level names, sorted) that the pieces use, ``widened`` says in
    sentences where more was counted in than could be followed. ``clocks`` are functions that say
    what time it is, with where they are used: ``datetime.date.today in a.py:clean``.
    """

    digest: str
    parts: dict[str, str]
    imports: tuple[str, ...]
    widened: tuple[str, ...]
    clocks: tuple[str, ...] = ()


def fingerprint(project_dir: Path, file: str, name: str) -> Fingerprint:
    """The fingerprint of the module-level function ``name`` in ``file`` of a project.

    Equal for equal meaning: comments, docstrings, type hints, formatting and code that is not
    reached do not count. Follows helpers, constants, classes and their bases, decorators, default
    arguments, first-party imports (also lazy ones) and module-level statements that alter a name
    that is used. Files of the project that the code names count with their
    content.

    Raises:
        NotFound: ``code.file``, ``code.function``.
        Invalid: ``code.syntax``.
    """
    path = PurePosixPath(file.lstrip("/")).as_posix()
    project = Project(project_dir)
    module = project.module(path)
    if module is None:
        raise NotFound(
            "code.file",
            f"There is no file {path!r} in the project.",
            hint="Name a file by its path below the project's directory.",
        )
    if not module.binders.get(name):
        raise NotFound(
            "code.function",
            f"There is no {name!r} in {path!r}.",
            hint="Define it at the top level of the file.",
        )
    walk = _Walk(project, _home(project, module, name))
    walk.start(module)
    return walk.result()


def _home(project: Project, module: Module, name: str) -> Origin:
    """Where a function is defined; a step may be one that was imported."""
    origins = project.origins(module, name)
    return origins.pop() if len(origins) == 1 else (module.path, name)


def changed_parts(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Names of the pieces that differ between the parts of two fingerprints, sorted."""
    return sorted(part for part in old.keys() | new.keys() if old.get(part) != new.get(part))


class _Walk:
    """Follows references from one function; every name is visited once."""

    def __init__(self, project: Project, entry: tuple[str, str]) -> None:
        self._project = project
        self._entry = entry
        self._seen: set[Origin] = set()
        self._called: set[Origin] = set()
        self._followed: set[tuple[object, ...]] = set()
        self._starred: dict[tuple[str, Imported, str], bool] = {}
        self._whole: set[str] = set()
        self._entered: dict[str, None] = {}
        self._altering: set[str] = set()
        """Files that alter, as they are imported, what is counted."""
        self._pieces: dict[str, dict[int, Piece]] = {}
        self._links = Links()
        self._alterers: dict[Origin, list[tuple[Module, str]]] = defaultdict(list)
        self._callers: dict[Origin, list[tuple[Module, Statement]]] = defaultdict(list)
        self._imports: set[str] = set()
        self._widened: dict[str, None] = {}
        self._all = False
        self._dressed = False
        self._by_source = False

    def start(self, module: Module) -> None:
        """Follow the function, which was asked for in ``module``."""
        self._enter(module)
        home = self._project.module(self._entry[0])
        assert home is not None
        self.name(home, self._entry[1])

    def result(self) -> Fingerprint:
        """The fingerprint of all that was reached."""
        parts = {
            name: digest("code", "\n".join(filter(None, map(self._text, pieces.values()))).encode())
            for name, pieces in self._pieces.items()
        }
        for module in self._reached():
            if order := self._order(module):
                parts[f"{module.path}:{ORDER}"] = digest_of("code", order)
            if self._by_source:
                parts[f"{module.path}:{SOURCE}"] = digest("code", module.source)
        parts |= self._named_files()
        if len(self._altering) > 1:
            order = [path for path in self._entered if path in self._altering]
            parts[f"{self._entry[0]}:{ORDER}"] = digest_of("code", order)
        identity = self._links.identity(parts)
        parts |= self._links.parts()
        return Fingerprint(
            digest=digest_of("code", {"entry": self._entry[1], "parts": identity}),
            parts=dict(sorted(parts.items())),
            imports=tuple(sorted(self._imports)),
            widened=tuple(self._widened),
            clocks=tuple(sorted(set(self._clocks()))),
        )

    def _named_files(self) -> dict[str, str]:
        """Files of the project that the code names: what is in them counts."""
        found: dict[str, str] = {}
        for part, pieces in self._pieces.items():
            for module, statement, _ in pieces.values():
                files = named_files(
                    self._project.directory, module, statement.node, module.is_definition
                )
                for path in sorted(files.keys() - found.keys()):
                    self._widen(f"{part} names {path}: what is in it counts.")
                found |= files
        return {f"{path}:{FILE}": one for path, one in found.items()}

    def _clocks(self) -> Iterator[str]:
        for part, pieces in self._pieces.items():
            for module, statement, _ in pieces.values():
                yield from (
                    f"{one} in {part}" for one in clocks(module, statement.usage.references)
                )

    def _text(self, piece: Piece) -> str:
        module, statement, entry = piece
        return canonical(statement.node, module.is_definition, entry=entry, dressed=self._dressed)

    def _reached(self) -> list[Module]:
        pieces = (piece for one in self._pieces.values() for piece in one.values())
        return list({module.path: module for module, _, _ in pieces}.values())

    def _order(self, module: Module) -> list[str]:
        """The order of what runs on import, where a name has more than one meaning in a file."""
        here = [one for name, one in self._pieces.items() if name.startswith(f"{module.path}:")]
        if all(len(pieces) == 1 for pieces in here):
            return []
        running = {
            piece[1].at: piece
            for pieces in here
            for piece in pieces.values()
            if len(pieces) > 1 or not is_definition(piece[1].node)
        }
        return [self._text(running[at]) for at in sorted(running)]

    def _count(
        self, module: Module, statement: Statement, label: str, *, entry: bool = False
    ) -> None:
        if not statement.is_import or module.is_contested(label):
            pieces = self._pieces.setdefault(f"{module.path}:{label}", {})
            pieces.setdefault(statement.at, (module, statement, entry))

    def name(self, module: Module, name: str) -> None:
        """Count in everything that gives a module-level name its meaning."""
        if (module.path, name) in self._seen or name in module.pipelines:
            return
        self._seen.add((module.path, name))
        self._enter(module)
        is_entry = (module.path, name) == self._entry
        statements = [module.statements[at] for at in module.binders.get(name, ())]
        for statement in statements:
            self._count(module, statement, name, entry=is_entry)
        for statement in statements:
            if not statement.is_import:
                usage = statement.usage
                if is_entry:
                    usage = usage_of(statement.node, module.is_definition, entry=True)
                self._follow(module, usage, name)
            if name not in statement.binds and is_definition(statement.node):
                for binding in statement.binds:  # whoever calls it alters the name
                    self._with_callers(module, binding)
        for origin in ((module.path, name), (module.path, "")):
            for other, alias in self._alterers[origin]:
                self._alter(other, alias)

    def _with_callers(self, module: Module, name: str) -> None:
        """Count in a function that alters something, and what runs it on import."""
        self.name(module, name)
        origin = (module.path, name)
        if origin not in self._called:
            self._called.add(origin)
            for other, statement in self._callers[origin]:
                self._run(other, statement)

    def _alter(self, module: Module, alias: str) -> None:
        """Count in what a file does to a name that it imports."""
        self._altering.add(module.path)
        self.name(module, alias)

    def _run(self, module: Module, statement: Statement) -> None:
        """Count in a statement that runs on import."""
        self._altering.add(module.path)
        for binding in statement.binds if is_definition(statement.node) else ():
            self.name(module, binding)
        if not is_definition(statement.node):
            self._count(module, statement, ON_IMPORT)
            self._follow(module, statement.usage, ON_IMPORT)

    def _enter(self, module: Module) -> None:
        """What comes with importing a module at all: what that runs, and what that alters."""
        if module.path in self._entered:
            return
        self._entered[module.path] = None
        for statement in module.statements:
            for imported in statement.imports:
                for run in self._project.executed(module, imported):
                    self._enter(run)
        for imported in module.unused:
            found, first_party = self._project.find(module, imported)
            if found is not None:
                self._whole_module(found)
            elif not first_party and imported.module not in QUIET:
                self._third_party(imported)  # it may be there for its effect
        for statement in module.statements:
            self._note_effects(module, statement)

    def _note_effects(self, module: Module, statement: Statement) -> None:
        for alias in statement.alters & module.imports.keys():
            for origin in self._project.origins(module, alias):
                self._alterers[origin].append((module, alias))
                if origin in self._seen or (not origin[1] and self._uses(origin[0])):
                    self._alter(module, alias)
        for chain in statement.calls:
            for origin in self._targets(module, chain):
                self._callers[origin].append((module, statement))
                if origin in self._called:
                    self._run(module, statement)
        if any(self._acts(module, chain) for chain in statement.acts):
            self._run(module, statement)

    def _uses(self, path: str) -> bool:
        return any(seen == path for seen, _ in self._seen)

    def _targets(self, module: Module, chain: tuple[str, ...]) -> Iterator[Origin]:
        """The first-party functions that a call may mean."""
        for path, name in self._project.origins(module, chain[0]):
            if name:
                yield path, name
            elif len(chain) > 1 and (inner := self._project.module(path)) is not None:
                yield from self._project.origins(inner, chain[1])

    def _acts(self, module: Module, chain: tuple[str, ...]) -> bool:
        """Whether a call or a store at module level may change how the process works.

        So does what is done to a library (options, seeds, the environment), and a call of a
        function of one's own that uses a library. Logs and warnings change no result.
        """
        imports = module.imports.get(chain[0], ())
        for imported in imports:
            _, first_party = self._project.find(
                module, Imported(imported.module, "", imported.level)
            )
            if not first_party and imported.module.partition(".")[0] not in INERT:
                return True
        if not imports and not module.binders.get(chain[0]):
            return chain[0] in _DYNAMIC_BUILTINS
        return any(
            (home := self._project.module(path)) is not None
            and home.defines(name)
            and any(self._reaches_out(home, home.statements[at]) for at in home.binders[name])
            for path, name in self._targets(module, chain)
        )

    def _reaches_out(self, module: Module, statement: Statement) -> bool:
        usage = statement.usage
        return bool(usage.imports) or any(
            one.imported is not None
            or one.chain[0] in module.imports
            or one.chain[0] in _DYNAMIC_BUILTINS
            or (module.defines(one.chain[0]) and one.chain[0] not in statement.binds)
            for one in usage.references
        )

    def _follow(self, module: Module, usage: Usage, by: str) -> None:
        if usage.mirrors:
            self._mirror(module, usage.mirrors, by)
        for reference in usage.references:
            if reference.imported is not None:
                self._imported(module, reference.imported, reference, reference.chain[1:], by)
            else:
                self._global(module, reference, by)
        named = {reference.imported for reference in usage.references}
        for imported in usage.imports - named:
            self._imported(module, imported, None, (), by, bare=False)

    def _global(self, module: Module, reference: Reference, by: str) -> None:
        first, *rest = reference.chain
        if first in module.imports:
            self._links.add(module, first, self._project)
        for imported in module.imports.get(first, ()):
            self._imported(module, imported, reference, tuple(rest), by)
        if module.binders.get(first):
            self.name(module, first)
            if module.stars:
                self._hidden_by_star(module, first)
        elif not self._from_star(module, first) and first in _DYNAMIC_BUILTINS:
            self._dynamic(module, reference, by)

    def _hidden_by_star(self, module: Module, name: str) -> None:
        """Count in a star import that stands below a binding of a name, and may bind it again."""
        first = module.binders[name][0]
        for statement in module.statements[first + 1 :]:
            stars = [star for star in statement.imports if star.name == "*"]
            if any(self._gives(module, star, name) for star in stars):
                self._count_import(module, statement, name)

    def _count_import(self, module: Module, statement: Statement, name: str) -> None:
        pieces = self._pieces.setdefault(f"{module.path}:{name}", {})
        pieces.setdefault(statement.at, (module, statement, False))

    def _from_star(self, module: Module, name: str) -> bool:
        """Count in all star imports that may bind a name; whether there are any."""
        giving = [star for star in module.stars if self._gives(module, star, name)]
        for statement in module.statements if len(giving) > 1 else ():
            if not set(giving).isdisjoint(
                statement.imports
            ):  # the last one wins: their order counts
                self._count_import(module, statement, name)
        return bool(giving)

    def _gives(self, module: Module, star: Imported, name: str) -> bool:
        """Whether a star import may bind a name; if so, what it means is counted in."""
        step = (module.path, star, name)
        if step in self._starred:  # modules may import each other's names in a circle
            return self._starred[step]
        self._starred[step] = False
        found, first_party = self._project.find(module, Imported(star.module, "", star.level))
        if found is not None and (found.binds(name) or self._from_star(found, name)):
            self._starred[step] = True
            if found.binders.get("__all__"):  # it says whether the name is given at all
                self.name(found, "__all__")
            self._attribute(found, Reference((name,)), (name,), name)
        elif not first_party:
            self._third_party(star)
            self._links.add_stars(module)
        return self._starred[step]

    def _imported(
        self,
        module: Module,
        imported: Imported,
        reference: Reference | None,
        rest: tuple[str, ...],
        by: str,
        *,
        bare: bool = True,
    ) -> None:
        """Follow what an import binds, and the attributes taken from it."""
        argument = reference.argument if reference else None
        step = (module.path, imported, rest, argument, bare)
        if step in self._followed:  # imports may lead in a circle
            return
        self._followed.add(step)
        package = Imported(imported.module, "", imported.level)
        found, first_party = self._project.find(module, package)
        chain = (imported.name, *rest) if imported.name and imported.name != "*" else rest
        if not first_party:
            self._third_party(imported)
            called = (*imported.module.split("."), *chain)[:2]
            if called in _DYNAMIC_IMPORTS:
                self._dynamic(module, reference, by)
            elif called in _READERS:
                self._mirror(module, {".".join(called)}, by)
            return
        if found is not None:
            self._enter(found)
        if chain:
            inner = self._project.submodule(module, package, chain[0])
            own = found is module and inner is not None  # a package imports its own module
            if found is not None and not own and (found.binds(chain[0]) or inner is None):
                self._attribute(found, reference, chain, by)
            if inner is not None:
                self._imported(module, inner, reference, chain[1:], by, bare=bare)
        elif found is not None and bare:
            self._widen(f"{module.path}:{by} uses {found.path} as a whole: all of it counts.")
            self._whole_module(found)

    def _attribute(
        self, module: Module, reference: Reference | None, chain: tuple[str, ...], by: str
    ) -> None:
        """Follow ``chain`` from inside a module."""
        argument = reference.argument if reference else None
        if module.binders.get(chain[0]) or module.imports.get(chain[0]):
            self._global(module, Reference(chain, None, argument), by)
        elif not self._from_star(module, chain[0]):
            if module.binders.get("__getattr__"):
                self.name(module, "__getattr__")
            elif not chain[0].startswith("__") or chain[0] == "__dict__":
                self._widen(f"{module.path} has no visible {chain[0]!r}: all of it counts.")
                self._whole_module(module)

    def _third_party(self, imported: Imported) -> None:
        top = imported.module.partition(".")[0]
        if top and not imported.level:
            self._imports.add(top)

    # widening -------------------------------------------------------------------------------

    def _dynamic(self, module: Module, reference: Reference | None, by: str) -> None:
        """Code that cannot be followed: count in all that it could mean."""
        call = ".".join(reference.chain) if reference else "a dynamic import"
        argument = reference.argument if reference else None
        if call.rpartition(".")[2] in {"exec", "eval", "globals"}:
            self._widen(f"{module.path}:{by} uses {call}(): all of {module.path} counts.")
            self._whole_module(module)
        elif argument is not None and not argument.startswith("."):
            self._imported(module, Imported(argument), None, (), by)
        else:
            self._widen(f"{module.path}:{by} uses {call}: all Python files of the project count.")
            self._whole_project()

    def _mirror(self, module: Module, seen: Set[str], by: str) -> None:
        """Code that looks at code: count in what it may see."""
        what = ", ".join(sorted(seen))
        if seen & _NAMESPACES:
            self._widen(f"{module.path}:{by} uses {what}: all Python files of the project count.")
            self._whole_project()
        elif seen & _SOURCES:
            self._by_source = self._dressed = True
            self._widen(f"{module.path}:{by} uses {what}: the text of the files counts.")
        else:
            self._dressed = True
            self._widen(f"{module.path}:{by} uses {what}: docstrings and type hints count.")

    def _widen(self, sentence: str) -> None:
        self._widened[sentence] = None

    def _whole_project(self) -> None:
        if not self._all:
            self._all = True
            for module in self._project.all():
                self._whole_module(module)

    def _whole_module(self, module: Module) -> None:
        if module.path in self._whole:
            return
        self._whole.add(module.path)
        self._enter(module)
        living = [one for one in module.statements if not _defines(module, one)]
        for statement in living:
            self._count(module, statement, "*")
            self._follow(module, statement.usage, "*")
            for imported in statement.imports:
                self._imported(module, imported, None, (), "*", bare=False)


def _defines(module: Module, statement: Statement) -> bool:
    """Whether a statement only speaks to a pipeline (``late.endpoint(...)``)."""
    value = getattr(statement.node, "value", None)
    if statement.binds & module.pipelines:
        return True
    return value is not None and not statement.binds and module.is_definition(value)
