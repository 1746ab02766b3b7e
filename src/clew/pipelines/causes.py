"""Why a job ran, down to the piece of code: its definition and data beside those of the job before.

Reads rows, trees and snapshots of code; changes nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from difflib import unified_diff
from typing import Any

from clew.base.records.knowing import Cause
from clew.pipelines import tables
from clew.pipelines.cutting import matching
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.fingerprint import changed_parts
from clew.pipelines.pinning import Tools, cut_of
from clew.store import EMPTY_TREE, Store

FILES = 50
"""So many files are named one by one."""

_SHORT = 80
_LINES = 200


def causes_of(tools: Tools, job_id: str) -> list[Cause]:
    """What is different from the good job of the step before; nothing for the first."""
    with tools.db.read() as tx:
        row = tx.execute(tables.JOB, {"id": job_id}).first()
        if row is None or row.version is None:
            return []
        before = tx.execute(tables.JOB, {"id": row.base}).first() if row.base else None
        before = (
            before
            or tx.execute(
                tables.LAST_DONE.where(tables.jobs.c.number < row.number),
                {"pipeline": row.pipeline, "step": row.step},
            ).first()
        )
    return _between(tools, before, row)


def between(tools: Tools, old_job: str, new_job: str) -> list[Cause] | None:
    """What is different in a job from another, also of another step; None where either's data or
    definition is not known any more.
    """
    with tools.db.read() as tx:
        old, new = (tx.execute(tables.JOB, {"id": one}).first() for one in (old_job, new_job))
    if any(row is None or row.version is None or cut_of(tools, row) is None for row in (old, new)):
        return None
    return _between(tools, old, new)


def _between(tools: Tools, before: Any, row: Any) -> list[Cause]:
    new, old = cut_of(tools, row), cut_of(tools, before) if before is not None else None
    if new is None or old is None:
        return []
    found = list(_definitions(tools.store, old.step, new.step))
    if row.forced:
        found.append(Cause(kind="run", name=row.reason))
    return found + list(_data(tools.store, old.step, new.step, dict(old.trees), dict(new.trees)))


def _definitions(store: Store, old: StepDefinition, new: StepDefinition) -> Iterator[Cause]:
    if new.accepted and new.accepted != old.accepted:
        told = f"{new.accepted.get('by', '')}: {new.accepted.get('reason', '')}"
        yield Cause(kind="accepted", name="a change of code that changes no result", new=told)
    if old.version != new.version:
        yield Cause(kind="version", name="version", old=old.version, new=new.version)
    elif old.fingerprint != new.fingerprint:
        for part in changed_parts(old.parts, new.parts):
            yield _code(store, part, old.function.snapshot, new.function.snapshot)
    for name in changed_parts(old.packages, new.packages):
        yield Cause(
            kind="package",
            name=name,
            old=old.packages.get(name, ""),
            new=new.packages.get(name, ""),
        )
    for kind, before, after in (
        ("parameter", old.parameters, new.parameters),
        ("option", old.options, new.options),
        ("depends", old.depends, new.depends),
    ):
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                yield Cause(kind=kind, name=name, old=_said(before, name), new=_said(after, name))
    if old.expectations != new.expectations:
        yield Cause(kind="expectation", name="expectations")
    if old.reads() != new.reads():
        yield Cause(kind="input", name="which files make which datums")


def _said(values: dict[str, Any], name: str) -> str:
    return repr(values[name])[:_LINES] if name in values else ""


def _data(
    store: Store,
    old: StepDefinition,
    new: StepDefinition,
    before: dict[str, str],
    after: dict[str, str],
) -> Iterator[Cause]:
    """Files that were added, changed or removed among those that the step reads."""
    known = {one.name: one for one in old.inputs}
    for one in new.inputs:
        left, right = before.get(one.name, EMPTY_TREE), after.get(one.name, EMPTY_TREE)
        if one.kind != "data" or left == right or one.name not in known:
            continue
        count = 0
        wanted = {e.path for tree in (left, right) for e in matching(store, one, tree)}
        for change in store.diff(left, right):
            if change.path in wanted:
                count += 1
                if count <= FILES:
                    yield Cause(
                        kind="file",
                        name=f"{one.repo}:{change.path}",
                        old=change.old.digest if change.old else "",
                        new=change.new.digest if change.new else "",
                    )
        if count > FILES:
            yield Cause(kind="file", name=f"{one.repo}: {count - FILES:,} files more")


# code ---------------------------------------------------------------------------------------


def _code(store: Store, part: str, old: str, new: str) -> Cause:
    """What became of a piece of code: old and new value of a constant, else a diff."""
    file, _, name = part.partition(":")
    before, after = (_source(store, snapshot, file) for snapshot in (old, new))
    left, right = piece(before, name), piece(after, name)
    if all(len(side) <= _SHORT and "\n" not in side for side in (left, right)):
        return Cause(kind="code", name=part, old=left, new=right)
    lines = unified_diff(left.splitlines(), right.splitlines(), "then", "now", lineterm="")
    return Cause(kind="code", name=part, diff="\n".join(list(lines)[:_LINES]))


def _source(store: Store, snapshot: str, file: str) -> str:
    """A file of a snapshot; '' where it has none."""
    try:
        entry = store.get(snapshot, f"/{file}")
    except Exception:  # noqa: BLE001 - a snapshot that is gone explains nothing, and breaks nothing
        return ""
    return store.read(entry.digest).decode("utf-8", "replace") if entry else ""


def piece(source: str, name: str) -> str:
    """The statements of a file that give a name its meaning; all of it where none does."""
    if name.startswith(("(", "*", "import ")):
        return "" if name.startswith("import ") else source
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return source
    found = [node for node in tree.body if name in _bound(node)]
    return "\n".join(filter(None, (_segment(source, node) for node in found)))


def _segment(source: str, node: ast.stmt) -> str:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(one.lineno for one in decorators)])
    return "\n".join(source.splitlines()[first - 1 : node.end_lineno])


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    return {
        inner.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Load)
    }
