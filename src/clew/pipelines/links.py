"""What imported names stand for, and the identity of code wherever its pieces lie.

Knows names and digests; which code is reached is for ``fingerprint``.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from clew.pipelines.modules import Module, Project
from clew.pipelines.syntax import Imported
from clew.store import digest_of

ON_IMPORT = "(on import)"
SOURCE = "(source)"
ORDER = "(order)"
FILE = "(file)"
_FIXED = frozenset({ON_IMPORT, SOURCE, ORDER, FILE, "*"})
"""Names of parts that are of their file."""

INERT = frozenset({"logging", "warnings", "typing"})
"""Modules that no result depends on, whatever is set in them."""


QUIET = INERT | {"numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn", "duckdb", "matplotlib"}
"""Libraries whose import changes no result of code that does not name them."""


class Links:
    """Which imports the code that is reached makes use of, and what they mean.

    A piece of code keeps its identity where it is moved to another file: its name alone counts
    where no other piece has the same one, and so does an import that only says where it lies.
    """

    def __init__(self) -> None:
        self._targets: dict[tuple[str, str], tuple[str, ...]] = {}

    def add(self, module: Module, alias: str, project: Project) -> None:
        """Note what an imported name of a module means."""
        if (module.path, alias) not in self._targets:
            found = [_target(module, alias, one, project) for one in module.imports[alias]]
            self._targets[module.path, alias] = tuple(dict.fromkeys(sum(found, ())))

    def add_stars(self, module: Module) -> None:
        """Note the star imports of a module, one of which may mean any name."""
        self._targets[module.path, "*"] = tuple(f"{star.module}.*" for star in module.stars)

    def parts(self) -> dict[str, str]:
        """One part for each import that does more than say where a name lies."""
        return {
            f"{path}:import {alias}": digest_of("code", list(targets))
            for (path, alias), targets in self._targets.items()
            if not _is_plain(alias, targets)
        }

    def identity(self, parts: dict[str, str]) -> dict[str, object]:
        """Digests and imports by names that do not change when code is moved."""
        names = Counter(_name_of(part) for part in parts)

        def plain(part: str) -> str:
            name = _name_of(part)
            return name if names[name] == 1 and name not in _FIXED else part

        found: dict[str, object] = {plain(part): one for part, one in parts.items()}
        meanings: dict[str, dict[str, list[str]]] = defaultdict(dict)
        for (path, alias), targets in self._targets.items():
            if not (_is_plain(alias, targets) and names[alias] <= 1):
                meanings[alias][path] = [plain(target) for target in targets]
        for alias, by_path in meanings.items():
            different = {tuple(one) for one in by_path.values()}
            for path, meaning in by_path.items():
                where = "" if len(different) == 1 else f"{path}:"
                found[f"{where}import {alias}"] = meaning
        return found


def _target(module: Module, alias: str, imported: Imported, project: Project) -> tuple[str, ...]:
    """What one import statement gives: first-party places, or the library's own name."""
    package = Imported(imported.module, "", imported.level)
    if project.find(module, package)[1]:
        return tuple(sorted(f"{path}:{name}" for path, name in project.origins(module, alias)))
    return (f"{imported.module}.{imported.name}" if imported.name else imported.module,)


def _is_plain(alias: str, targets: tuple[str, ...]) -> bool:
    """Whether an import only says in which file a name lies."""
    return len(targets) == 1 and ":" in targets[0] and _name_of(targets[0]) == alias


def _name_of(part: str) -> str:
    return part.partition(":")[2]
