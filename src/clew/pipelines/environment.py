"""Environment fingerprints: the versions of the distributions that a function's code uses.

Reads metadata of installed distributions and imports none of them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from msgspec import Struct

from clew.pipelines.fingerprint import Fingerprint
from clew.store import digest_of

_OWN = "clew"
"""Upgrading Clew does not run everything anew; where its meaning changes, KEY_FORMAT does."""

_KNOWN = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "cv2": "opencv-python",
    "yaml": "PyYAML",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
}
"""Usual modules whose distribution has another name: saves reading all metadata."""

_RECORD_LINE = re.compile(r"([A-Za-z_]\w*)(?:/|\.(?:py|so|cpython)|\.[^/,]*\.so)")


class Environment(Struct, frozen=True, kw_only=True):
    """Versions by distribution (``python`` among them), and the digest of them all."""

    digest: str
    packages: dict[str, str]


def environment_of(fingerprint: Fingerprint) -> Environment:
    """The environment that this process gives to a function of that fingerprint.

    Python counts as major.minor. Modules of the standard library count with Python, those without
    a distribution not at all.
    """
    packages = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    packages.update(versions_of(fingerprint.imports))
    return environment_from(packages)


def environment_now(packages: Mapping[str, str]) -> Environment:
    """The same distributions in the versions that are installed now; those that are gone left out.

    Versions are asked anew each time: an upgrade may have come since the last.
    """
    now = {name: _version_now(name) for name in packages}
    return environment_from({name: version for name, version in now.items() if version})


def _version_now(name: str) -> str:
    if name == "python":
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def environment_from(packages: Mapping[str, str]) -> Environment:
    """The environment that has these versions of distributions."""
    ordered = dict(sorted(packages.items()))
    return Environment(digest=digest_of("env", ordered), packages=ordered)


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """Version by distribution of these third-party top-level modules."""
    found: dict[str, str] = {}
    for module in modules:
        if module not in sys.stdlib_module_names and module != _OWN:
            found.update(_distributions(module))
    return found


def changed_packages(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Differences of two environments in words: ``polars 2.0 → 2.1``."""
    return [
        f"{name} {old.get(name, 'absent')} → {new.get(name, 'absent')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


@cache
def _distributions(module: str) -> tuple[tuple[str, str], ...]:
    """Names and versions of the distributions that bring a module (more than one: namespaces)."""
    names = (
        _by_name(module, module)
        or _by_name(module, _KNOWN.get(module, ""))
        or _names().get(module, ())
    )
    return tuple((name, metadata.version(name)) for name in sorted(set(names)))


def _by_name(module: str, name: str) -> tuple[str, ...]:
    """The usual case, without reading the metadata of everything that is installed."""
    if not name:
        return ()
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return ()
    tops = (distribution.read_text("top_level.txt") or "").split()
    if (tops and module not in tops) or not Path(str(distribution.locate_file(module))).exists():
        return ()
    return (name,)


@cache
def _names() -> dict[str, list[str]]:
    """Top-level module to distributions."""
    found: dict[str, list[str]] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        for top in _top_levels(distribution):
            found.setdefault(top, []).append(name)
    return found


def _top_levels(distribution: metadata.Distribution) -> set[str]:
    declared = (distribution.read_text("top_level.txt") or "").split()
    if declared:
        return set(declared)
    record = distribution.read_text("RECORD") or ""
    matches = (_RECORD_LINE.match(line) for line in record.splitlines())
    return {match[1] for match in matches if match}
