"""Code fingerprints: a digest of what a function does, with all first-party code it reaches.

Static; runs none of the code. Knows nothing of data or of pipelines, but that a decorator hanging
on a ``clew.Pipeline`` defines a step and is no part of it. See design/0006.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clew.base.errors import NotFound
from clew.pipelines.modules import Module, Project, Statement
from clew.pipelines.syntax import (
    Imported,
    Reference,
    Usage,
    canonical,
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
    }
)


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a function is made of.

    ``parts`` maps ``file:name`` to the digest of that piece of code, ``imports`` are the
    third-party modules (top-level names, sorted) that the pieces use, ``widened`` says in
    sentences where more was counted in than could be followed.
    """

    digest: str
    parts: dict[str, str]
    imports: tuple[str, ...]
    widened: tuple[str, ...]


def fingerprint(project_dir: Path, file: str, name: str) -> Fingerprint:
    """The fingerprint of the module-level function ``name`` in ``file`` of a project.

    Equal for equal meaning: comments, docstrings, type hints, formatting and code that is not
    reached do not count. Follows helpers, constants, classes and their bases, decorators, default
    arguments, first-party imports (also lazy ones) and module-level statements that alter a name
    that is used. Data files are not followed.

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
    walk = _Walk(project, (path, name))
    walk.name(module, name)
    return walk.result()


def changed_parts(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Names of the pieces that differ between the parts of two fingerprints, sorted."""
    return sorted(part for part in old.keys() | new.keys() if old.get(part) != new.get(part))


class _Walk:
    """Follows references from one function; every name is visited once."""

    def __init__(self, project: Project, entry: tuple[str, str]) -> None:
        self._project = project
        self._entry = entry
        self._seen: set[tuple[str, str]] = set()
        self._whole: set[str] = set()
        self._entered: set[str] = set()
        self._parts: dict[str, str] = {}
        self._imports: set[str] = set()
        self._widened: dict[str, None] = {}
        self._all = False

    def result(self) -> Fingerprint:
        parts = dict(sorted(self._parts.items()))
        return Fingerprint(
            digest=digest_of("code", {"entry": self._entry[1], "parts": parts}),
            parts=parts,
            imports=tuple(sorted(self._imports)),
            widened=tuple(self._widened),
        )

    def name(self, module: Module, name: str) -> None:
        """Count in everything that gives a module-level name its meaning."""
        if (module.path, name) in self._seen or name in module.pipelines:
            return
        self._seen.add((module.path, name))
        self._enter(module)
        statements = [module.statements[at] for at in module.binders.get(name, ())]
        texts = []
        for statement in statements:
            if not statement.is_import:
                texts.append(self._text(module, statement, name))
        if texts:
            self._parts[f"{module.path}:{name}"] = digest("code", "\n".join(texts).encode())
        for statement in statements:
            if not statement.is_import:
                self._follow(module, self._usage(module, statement, name), name)
            if name not in statement.binds and is_definition(statement.node):
                for binding in statement.binds:  # whoever calls it alters the name
                    self.name(module, binding)

    def _text(self, module: Module, statement: Statement, name: str) -> str:
        return canonical(
            statement.node, module.is_definition, entry=(module.path, name) == self._entry
        )

    def _usage(self, module: Module, statement: Statement, name: str) -> Usage:
        if (module.path, name) != self._entry:
            return statement.usage
        return usage_of(statement.node, module.is_definition, entry=True)

    def _enter(self, module: Module) -> None:
        """What comes with importing a module at all: imports that are there for their effect."""
        if module.path in self._entered:
            return
        self._entered.add(module.path)
        for imported in module.unused:
            found, first_party = self._project.find(module, imported)
            if found is not None:
                self._whole_module(found)
            elif not first_party:
                self._third_party(imported)

    def _follow(self, module: Module, usage: Usage, by: str) -> None:
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
        for imported in module.imports.get(first, ()):
            self._imported(module, imported, reference, tuple(rest), by)
        if module.binders.get(first):
            self.name(module, first)
        elif not self._from_star(module, first) and first in _DYNAMIC_BUILTINS:
            self._dynamic(module, reference, by)

    def _from_star(self, module: Module, name: str) -> bool:
        for star in module.stars:
            found, first_party = self._project.find(module, Imported(star.module, "", star.level))
            if found is not None and (found.binds(name) or self._from_star(found, name)):
                self._attribute(found, Reference((name,)), (name,), name)
                return True
            if not first_party:
                self._third_party(star)
        return False

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
        package = Imported(imported.module, "", imported.level)
        found, first_party = self._project.find(module, package)
        chain = (imported.name, *rest) if imported.name and imported.name != "*" else rest
        if not first_party:
            self._third_party(imported)
            if (imported.module.split(".")[0], *imported.module.split(".")[1:], *chain)[
                :2
            ] in _DYNAMIC_IMPORTS:
                self._dynamic(module, reference, by)
            return
        if found is not None:
            self._enter(found)
        if chain:
            inner = self._project.submodule(module, package, chain[0])
            if found is not None and (found.binds(chain[0]) or inner is None):
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
            elif not chain[0].startswith("__"):
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
        if call in {"exec", "eval", "globals"}:
            self._widen(f"{module.path}:{by} uses {call}(): all of {module.path} counts.")
            self._whole_module(module)
        elif argument is not None and not argument.startswith("."):
            self._imported(module, Imported(argument), None, (), by)
        else:
            self._widen(f"{module.path}:{by} uses {call}: all Python files of the project count.")
            self._whole_project()

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
        texts = [canonical(statement.node, module.is_definition) for statement in living]
        self._parts[f"{module.path}:*"] = digest("code", "\n".join(filter(None, texts)).encode())
        for statement in living:
            self._follow(module, statement.usage, "*")
            for imported in statement.imports:
                self._imported(module, imported, None, (), "*", bare=False)


def _defines(module: Module, statement: Statement) -> bool:
    """Whether a statement only speaks to a pipeline (``late.endpoint(...)``)."""
    value = getattr(statement.node, "value", None)
    if statement.binds & module.pipelines:
        return True
    return value is not None and not statement.binds and module.is_definition(value)
