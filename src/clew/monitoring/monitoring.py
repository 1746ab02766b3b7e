"""The room of monitors: looks at the prediction log, commit by commit, and reports drift.

Knows no endpoint's insides and starts no training; triggers read what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from clew.base import clock
from clew.base.errors import NotFound
from clew.base.ids import new_id
from clew.base.records import ColumnDrift, Commit, DriftReport, Node
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.monitoring import tables
from clew.monitoring.definitions import Around, DriftDefinition, MonitorDefinition
from clew.monitoring.windows import OUT, distances, join, profiles_of, rows_of_commit
from clew.repos import Repos
from clew.store import EMPTY_TREE, Entry, Store

Reference = Callable[[str], Mapping[str, Any]]
"""A model version's id → ``{"inputs": profile, "outputs": profile or None}``."""

Surroundings = Callable[[str], Around]
"""An endpoint → what stands around its model."""

DRIFT_SUFFIX = ".drift"
LOG_SUFFIX = ".predictions"
REPORT_PATH = "/report.json"
BEGINNING_PATH = "/beginning.json"
ANSWERED = "answered"
"""The action of a report on a version that was trained for the very drift that it shows."""
_SOURCES = 100
"""At most so many commits of the log are named as the source of a report, the newest."""


class _Window(Struct, frozen=True, kw_only=True):
    """Rows of one version that wait for a report, and the commits that they are in."""

    model_version: str
    commits: tuple[str, ...]
    counts: tuple[int, ...]
    """Rows in each commit."""

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.counts)

    def behind(self, most: int) -> tuple[str, ...]:
        """Commits before the newest ones that have ``most`` rows together: nothing reads them."""
        kept = 0
        for at in reversed(range(len(self.commits))):
            if kept >= most:
                return self.commits[: at + 1]
            kept += self.counts[at]
        return ()


class Monitoring:
    """Monitors and their reports. Thread-safe; the log is read by one thread at a time."""

    def __init__(self, db: Database, repos: Repos, store: Store, lineage: Lineage) -> None:
        self._db = db
        self._repos = repos
        self._store = store
        self._lineage = lineage

    def define(self, tx: Tx, definition: MonitorDefinition) -> None:
        """Watch an endpoint, or watch it otherwise from now on. What was looked at stays so."""
        row = {
            "endpoint": definition.endpoint,
            "pipeline": definition.pipeline,
            "definition": definition,
            "cursor": "",
            "defined_us": clock.to_us(clock.now()),
        }
        tx.upsert(tables.monitors, [row], key=["endpoint"], refresh=["pipeline", "definition"])
        name = f"{definition.pipeline}/{definition.endpoint}{DRIFT_SUFFIX}"
        self._repos.create(name, kind="drift", tx=tx, exist_ok=True)

    def remove(self, tx: Tx, endpoint: str) -> None:
        """Watch an endpoint no longer; its reports stay."""
        tx.execute(tables.monitors.delete().where(tables.monitors.c.endpoint == endpoint))

    def list(self) -> Sequence[MonitorDefinition]:
        """All monitors, by endpoint."""
        with self._db.read() as tx:
            return [definition for definition, _ in _monitors(tx)]

    def tick(
        self, reference: Reference, around: Surroundings = lambda _: Around()
    ) -> Sequence[DriftReport]:
        """Look at what the logs have gained since the last time; the reports that came of it.

        Each commit of a log is counted once, whenever the process dies. Rows wait, by model
        version, until there are ``min_rows`` of them. ``reference`` may raise NotFound for a
        version that it does not know: then its rows wait, of which the newest are kept. Answers of
        graphs have no version and are not counted: their nodes' are, at endpoints of their own.
        What ``around`` says cannot be held against what the model learned from is held against the
        first report on the version, or left out.
        """
        with self._db.read() as tx:
            found = _monitors(tx)
        reports: list[DriftReport] = []
        for definition, cursor in found:
            self._look(definition, cursor)
            reports += self._report(definition, reference, around)
        return reports

    def observe(
        self,
        endpoint: str,
        *,
        model_version: str,
        rows: Any,
        reference: Mapping[str, Any],
        commits: Sequence[str],
        global_id: str | None = None,
        hidden: Collection[str] = (),
        beginning: Mapping[str, Any] | None = None,
        again: Collection[str] = (),
        answered: Collection[str] = (),
    ) -> DriftReport | None:
        """Report on rows of a log (a Polars frame with ``in.`` and ``out.`` columns).

        Row, commit, event and lineage appear in one transaction. ``drift.seen`` is emitted for a
        version once, and again only after a report that was clear; ``drift.clear`` with every
        report that is. Columns that are ``hidden`` are left out; ``beginning`` is kept, for later
        reports to be held against; ``again``: columns in which another version, that learned from
        the same rows, was last seen to have drifted; ``answered``: columns whose drift this version
        was trained for, which is told but trains nothing. The report begins a change of its own
        unless ``global_id`` is given.
        None where the commits were reported on already.

        Raises:
            NotFound: ``monitor.unknown``.
        """
        definition = self._definition(endpoint)
        threshold = definition.drift.threshold
        found = distances(reference, rows, hidden)
        columns = tuple(
            ColumnDrift(
                column=one.column,
                statistic=one.statistic,
                value=one.value,
                threshold=max(threshold, one.chance),
                drifted=one.value > max(threshold, one.chance),
                detail=one.detail,
            )
            for one in found
        )
        report = DriftReport(
            id=new_id(),
            endpoint=endpoint,
            model_version=model_version,
            global_id=global_id or new_id(),
            rows=len(rows),
            drifted=any(column.drifted for column in columns),
            columns=columns,
            commit=None,
            action="",
            created_at=clock.now(),
        )
        return self._keep(definition, report, commits, beginning, again=again, answered=answered)

    def reports(self, endpoint: str | None = None, *, limit: int = 20) -> Sequence[DriftReport]:
        """Reports, newest first, on one endpoint or all."""
        query = tables.REPORTS.limit(limit)
        if endpoint is not None:
            query = query.where(tables.reports.c.endpoint == endpoint)
        return self._read(query)

    def newest(self) -> Sequence[DriftReport]:
        """The newest report on each endpoint that is watched, by endpoint."""
        return [report for one in self.list() for report in self.reports(one.endpoint, limit=1)]

    def of_change(self, global_id: str) -> Sequence[DriftReport]:
        """Reports of one change."""
        return self._read(tables.REPORTS.where(tables.reports.c.global_id == global_id))

    def last_has_drifted(self, tx: Tx, endpoint: str, model_version: str) -> bool:
        """Whether a version is asked at an endpoint what it has not learned from: so says the last
        report, on inputs, and it was not trained for that. Without a report, False.
        """
        key = {"endpoint": endpoint, "model_version": model_version}
        last = tx.execute(tables.LAST_OF_VERSION, key).first()
        if last is None or last.action == ANSWERED:
            return False
        return any(not column.startswith(OUT) for column in _drifted(tables.report_of(last)))

    def get(self, report_id: str) -> DriftReport:
        """One report, by its id or the beginning of it. Raises NotFound ``drift.unknown``."""
        prefix = tables.reports.c.id.startswith(report_id, autoescape=True)
        found = self._read(tables.REPORTS.where(prefix).limit(2))
        if len(found) != 1 or len(report_id) < 4:
            raise NotFound(
                "drift.unknown",
                f"{report_id!r} is not the id of {'one' if found else 'a'} drift report.",
                hint="List them: clew drift",
            )
        return found[0]

    # ----------------------------------------------------------------------------------------

    def _look(self, definition: MonitorDefinition, cursor: str) -> None:
        """Count the rows of the commits after the cursor, each in a transaction that moves it."""
        for commit in self._after(definition, cursor):
            by_version = rows_of_commit(self._repos, self._store, commit)
            with self._db.begin() as tx:
                moved = tx.execute(
                    tables.MOVE,
                    {"endpoint_": definition.endpoint, "old_": cursor, "new_": commit.id},
                )
                if not moved.rowcount:
                    return  # another process looked first
                rows = [
                    {
                        "endpoint": definition.endpoint,
                        "commit": commit.id,
                        "model_version": version,
                        "rows": sum(map(len, parts)),
                        "report": "",
                    }
                    for version, parts in by_version.items()
                    if version
                ]
                if rows:
                    tx.execute(tables.windows.insert(), rows)
            cursor = commit.id

    def _after(self, definition: MonitorDefinition, cursor: str) -> Sequence[Commit]:
        """Commits of the log behind the cursor, oldest first."""
        name = f"{definition.pipeline}/{definition.endpoint}{LOG_SUFFIX}"
        try:
            commit = self._repos.head(name)
        except NotFound:
            return []  # nothing was asked yet
        found: list[Commit] = []
        while commit is not None and commit.id != cursor:
            found.append(commit)
            commit = self._repos.commit_by_id(commit.parent) if commit.parent else None
        return found[::-1]

    def _report(
        self, definition: MonitorDefinition, reference: Reference, around: Surroundings
    ) -> Iterator[DriftReport]:
        for window in self._waiting(definition.endpoint):
            if not window.model_version:  # a graph's, counted before they were left out
                self._let_go(definition.endpoint, window, window.commits)
                continue
            if window.rows < definition.drift.min_rows:
                continue
            try:
                profiles = reference(window.model_version)
            except NotFound:
                most = definition.drift.window_rows
                self._let_go(definition.endpoint, window, window.behind(most))
                continue
            rows, partly = self._rows(window, definition.drift)
            stands = around(definition.endpoint)
            known, begins = self._known(definition.endpoint, window.model_version, stands)
            report = self.observe(
                definition.endpoint,
                model_version=window.model_version,
                rows=rows,
                reference={**profiles, **known},
                commits=window.commits,
                hidden={*stands.hidden, *partly},
                beginning=profiles_of(rows, stands) if begins else None,
                again=self._told_of_another(definition.endpoint, window, profiles, reference),
                answered=self._answered(definition.endpoint, profiles),
            )
            if report is not None:
                yield report

    def _let_go(self, endpoint: str, window: _Window, commits: Sequence[str]) -> None:
        """Count the rows of these commits no more."""
        if not commits:
            return
        with self._db.begin() as tx:
            for commit in commits:
                key = {"endpoint_": endpoint, "version_": window.model_version, "commit_": commit}
                tx.execute(tables.LET_GO, key)

    def _waiting(self, endpoint: str) -> Sequence[_Window]:
        with self._db.read() as tx:
            rows = tx.execute(tables.WAITING, {"endpoint": endpoint}).all()
        by_version: dict[str, list[Any]] = {}
        for row in rows:
            by_version.setdefault(row.model_version, []).append(row)
        return [
            _Window(
                model_version=version,
                commits=tuple(row.commit for row in mine),
                counts=tuple(row.rows for row in mine),
            )
            for version, mine in by_version.items()
        ]

    def _known(self, endpoint: str, version: str, around: Around) -> tuple[dict[str, Any], bool]:
        """What takes the place of profiles that functions around the model make useless, and
        whether that is to begin: with the first report on the version that has those functions.
        """
        if not around.apart:
            return {}, False
        key = {"endpoint": endpoint, "model_version": version}
        with self._db.read() as tx:
            commits = [row.commit for row in tx.execute(tables.OF_VERSION, key)]
        for commit in filter(None, commits):
            tree = self._repos.commit_by_id(commit).tree
            entry = self._store.get(tree, BEGINNING_PATH)
            kept = msgspec.json.decode(self._store.read(entry.digest)) if entry else {}
            if kept.get("code") == around.code:
                return {name: kept[name] for name in around.apart}, False
        return dict.fromkeys(around.apart), True

    def _told_of_another(
        self, endpoint: str, window: _Window, profiles: Mapping[str, Any], reference: Reference
    ) -> Sequence[str]:
        """Drifted columns of the last report on the endpoint, if it was on another version that had
        learned from the same rows: a training that had nothing new to learn ends no alarm.
        """
        last = next(iter(self.reports(endpoint, limit=1)), None)
        if last is None or last.model_version == window.model_version or not last.drifted:
            return ()
        try:
            before = reference(last.model_version)
        except NotFound:
            return ()
        inputs = profiles.get("inputs")
        if inputs is None or before.get("inputs") != inputs:
            return ()
        return [one.column for one in last.columns if one.drifted]

    def _answered(self, endpoint: str, profiles: Mapping[str, Any]) -> Sequence[str]:
        """Columns of the last alarm on the endpoint, if a version was trained in its change: it has
        learned all that there was to learn.
        """
        with self._db.read() as tx:
            row = tx.execute(tables.LAST_ALARM, {"endpoint": endpoint}).first()
        training = profiles.get("training") or {}
        if row is None or training.get("global_id") != row.global_id:
            return ()
        return [one.column for one in tables.report_of(row).columns if one.drifted]

    def _rows(self, window: _Window, drift: DriftDefinition) -> tuple[Any, set[str]]:
        """The newest rows of a window, oldest first, and columns that some of them lack; no more
        commits are read than needed.
        """
        parts: list[Any] = []
        for commit_id in reversed(window.commits):
            commit = self._repos.commit_by_id(commit_id)
            by_version = rows_of_commit(self._repos, self._store, commit)
            parts = [*by_version[window.model_version], *parts]
            if sum(map(len, parts)) >= drift.window_rows:
                break
        rows, partly = join(parts)
        return rows.tail(drift.window_rows), partly

    def _keep(
        self,
        definition: MonitorDefinition,
        report: DriftReport,
        commits: Sequence[str],
        beginning: Mapping[str, Any] | None,
        *,
        again: Collection[str],
        answered: Collection[str],
    ) -> DriftReport | None:
        tree = self._write(definition, report, commits, beginning)
        with self._db.begin() as tx:
            taken = [
                tx.execute(
                    tables.TAKEN,
                    {
                        "endpoint_": report.endpoint,
                        "version_": report.model_version,
                        "commit_": commit,
                        "report_": report.id,
                    },
                ).rowcount
                for commit in commits
            ]
            if not any(taken) and self._counted(tx, report, commits):
                return None
            fires = report.drifted and not self._drifted_before(tx, report, again)
            action = "retrain" if fires and definition.retrain else ""
            if report.drifted and _drifted(report) <= set(answered):
                action = ANSWERED
            report = replace(report, action=action)
            report = replace(report, commit=self._commit(tx, definition, report, tree, commits))
            tx.execute(tables.reports.insert(), _row(report))
            self._tell(tx, definition, report, commits, fires=fires)
        return report

    def _write(
        self,
        definition: MonitorDefinition,
        report: DriftReport,
        commits: Sequence[str],
        beginning: Mapping[str, Any] | None,
    ) -> str:
        """The report as a file, durable before its row; beside it what begins with it."""
        plain = msgspec.to_builtins(report)
        kept = {name: value for name, value in plain.items() if name not in {"commit", "action"}}
        kept |= {"pipeline": definition.pipeline, "log_commits": list(commits)}
        files = {REPORT_PATH: msgspec.json.encode(kept, order="deterministic")}
        if beginning is not None:  # in the order of its columns
            files[BEGINNING_PATH] = msgspec.json.encode(beginning)
        with self._store.writer() as writer:
            entries = []
            for path, data in files.items():
                digest, size = writer.put(data)
                entries.append(Entry(path=path, digest=digest, size_bytes=size))
            return writer.tree(EMPTY_TREE, entries)

    def _counted(self, tx: Tx, report: DriftReport, commits: Sequence[str]) -> bool:
        """Whether the log's commits were counted at all (a caller may bring rows of its own)."""
        table = tables.windows
        query = table.select().where(
            table.c.endpoint == report.endpoint,
            table.c.model_version == report.model_version,
            table.c.commit.in_(list(commits)),
        )
        return tx.execute(query.limit(1)).first() is not None

    def _drifted_before(self, tx: Tx, report: DriftReport, again: Collection[str]) -> bool:
        key = {"endpoint": report.endpoint, "model_version": report.model_version}
        last = tx.execute(tables.LAST_OF_VERSION, key).first()
        if last is None:
            return _drifted(report) <= set(again)
        return bool(last.drifted)

    def _commit(
        self,
        tx: Tx,
        definition: MonitorDefinition,
        report: DriftReport,
        tree: str,
        commits: Sequence[str],
    ) -> str:
        worst = [column.column for column in report.columns if column.drifted]
        opened = self._repos.open_commit(
            f"{definition.pipeline}/{definition.endpoint}{DRIFT_SUFFIX}",
            global_id=report.global_id,
            provenance=tuple(commits[-_SOURCES:]),
            message=f"drift: {', '.join(worst)}" if worst else "no drift",
            tx=tx,
        )
        return self._repos.finish(opened.id, tree, tx=tx).id

    def _tell(
        self,
        tx: Tx,
        definition: MonitorDefinition,
        report: DriftReport,
        commits: Sequence[str],
        *,
        fires: bool,
    ) -> None:
        drifted = [column.column for column in report.columns if column.drifted]
        said = f"drift in {', '.join(drifted)}" if drifted else "no drift"
        node = Node(
            kind="drift_report",
            id=report.id,
            title=f"{report.endpoint}: {said}",
            global_id=report.global_id,
            detail={"endpoint": report.endpoint, "rows": report.rows, "drifted": drifted},
        )
        sources = [(commit, "observed") for commit in commits[-_SOURCES:]]
        self._lineage.add(tx, node, [*sources, (report.model_version, "compared with")])
        data = {
            "pipeline": definition.pipeline,
            "endpoint": report.endpoint,
            "model": definition.model,
            "model_version": report.model_version,
            "rows": report.rows,
            "columns": drifted,
            "value": max((column.value for column in report.columns), default=0.0),
        }
        tx.emit("drift.reported", subject=report.id, global_id=report.global_id, data=data)
        if report.drifted and not fires:
            return
        tx.emit(
            "drift.seen" if fires else "drift.clear",
            subject=report.id,
            global_id=report.global_id,
            data={**data, "action": report.action},
        )

    def _definition(self, endpoint: str) -> MonitorDefinition:
        for definition in self.list():
            if definition.endpoint == endpoint:
                return definition
        raise NotFound(
            "monitor.unknown",
            f"Nothing watches the endpoint {endpoint!r}.",
            hint="Add pipeline.monitor(...) to the file and apply it.",
        )

    def _read(self, query: tables.Rows) -> Sequence[DriftReport]:
        with self._db.read() as tx:
            return [tables.report_of(row) for row in tx.execute(query)]


def _monitors(tx: Tx) -> list[tuple[MonitorDefinition, str]]:
    rows = tx.execute(tables.monitors.select().order_by(tables.monitors.c.endpoint))
    return [(msgspec.convert(row.definition, MonitorDefinition), row.cursor) for row in rows]


def _drifted(report: DriftReport) -> set[str]:
    return {one.column for one in report.columns if one.drifted}


def _row(report: DriftReport) -> dict[str, Any]:
    row = asdict(report)
    return {**row, "created_us": clock.to_us(row.pop("created_at"))}
