"""The rooms of one workspace, each made once and handed what it stands on.

The only place that wires; what the rooms do is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from clew.base.errors import Conflict, NotFound, Unavailable
from clew.base.settings import Settings, shown
from clew.base.tracking import Tracking
from clew.compute import Compute, ProcessPool
from clew.db import Database
from clew.experiments import Experiments
from clew.lineage import Lineage
from clew.models import Models
from clew.monitoring import Monitoring
from clew.pipelines import Pipelines
from clew.places import Environments
from clew.repos import Repos
from clew.serving import Serving, ServingSettings
from clew.sources import Sources
from clew.store import Store
from clew.triggers import Triggers
from clew.workspace.borrowing import DeterminedRunner
from clew.workspace.exempting import Exempt
from clew.workspace.lending import DatabaseLock
from clew.workspace.references import Secrets
from clew.workspace.runners import GateRunner, TrainRunner
from clew.workspace.snapshots import Snapshots

ANSWER = "clew.serving.replaying:answer"
"""What an endpoint makes of a request; a gate's worker asks it, which must not know serving."""

QUERIES = 2
"""So many queries run at a time in a server."""


class Rooms(Struct, frozen=True, kw_only=True):
    """Everything below the workspace, open."""

    settings: Settings
    db: Database
    store: Store
    lineage: Lineage
    repos: Repos
    snapshots: Snapshots
    compute: Compute
    queries: ProcessPool
    """For queries that a server is asked: they do not wait behind jobs."""
    environments: Environments
    pipelines: Pipelines
    experiments: Experiments
    models: Models
    serving: Serving
    monitoring: Monitoring
    triggers: Triggers
    sources: Sources
    tracking: Tracking
    """Where user code logs its runs; nowhere without a server."""
    secret: Callable[[str], str]
    """The text behind ``env:NAME`` or ``file:PATH``."""

    def close(self) -> None:
        """End the workers and let go of the files."""
        self.sources.close()
        self.compute.close()
        self.queries.close()
        with suppress(Unavailable):  # a full or read-only disk: the next one tells it
            self.repos.settle()
        self.db.close()


def wire(settings: Settings, compute: Compute, *, create: bool) -> Rooms:
    """Open the rooms over ``settings.home``; make what is missing where ``create`` says so.

    The rooms own ``compute`` from then on.

    Raises:
        NotFound: ``workspace.missing``.
        Conflict: ``workspace.other`` where the database is that of another workspace.
        Unavailable: ``workspace.read_only``, ``disk.full``, ``db.unreachable``.
    """
    home = settings.home
    if not create and not settings.made:
        raise NotFound(
            "workspace.missing",
            f"There is no workspace at {home}.",
            hint="Run `clew init` in the directory of your project.",
        )
    home.mkdir(parents=True, exist_ok=True)
    db = Database.open(settings.database_url)
    try:
        store = Store.open(
            settings.store_address, exclusive=DatabaseLock(db), cache=home / "cache" / "store"
        )
        if settings.db and not create:
            _check_identity(db, settings)
        made = db.create(store=settings.store)
        if create and settings.db and not made:
            raise _taken(settings)
    except BaseException:
        db.close()
        raise
    secret = Secrets(home.parent).text
    lineage = Lineage(db)
    repos = Repos(db, store)
    snapshots = Snapshots(store, home / "code")
    triggers = Triggers(db)
    experiments = Experiments(db, repos, store, lineage, compute)
    environments = Environments(settings.environments_path)
    models = Models(db, repos, store, lineage, compute, serving=ANSWER, environments=environments)
    monitoring = Monitoring(db, repos, store, lineage)
    serving = Serving(
        db, repos, store, lineage, home / "spool", drifted=monitoring.last_has_drifted
    )
    experiments.holders = Exempt(models, serving)
    tracking = Tracking()
    pipelines = Pipelines(
        db,
        repos,
        store,
        lineage,
        compute,
        snapshots.directory,
        {
            "train": TrainRunner(experiments, models, triggers.warm, tracking),
            "gate": GateRunner(repos, models, serving),
            "determined": DeterminedRunner(experiments, environments, store, tracking),
        },
        remembered={"train"},
        log_dir=home / "logs",
        max_jobs=settings.jobs,
        environments=environments,
        tracking=tracking,
    )
    return Rooms(
        settings=settings,
        db=db,
        store=store,
        lineage=lineage,
        repos=repos,
        snapshots=snapshots,
        compute=compute,
        queries=ProcessPool(QUERIES, home / "scratch", home / "logs"),
        environments=environments,
        pipelines=pipelines,
        experiments=experiments,
        models=models,
        serving=serving,
        monitoring=monitoring,
        triggers=triggers,
        sources=Sources(db, repos, home / "scratch", root=home.parent, secret=secret),
        tracking=tracking,
        secret=secret,
    )


def _taken(settings: Settings) -> Conflict:
    return Conflict(
        "workspace.taken",
        f"{shown(settings.db)} holds another workspace already.",
        hint="Work on that one with --join, or name another database or schema.",
    )


def _check_identity(db: Database, settings: Settings) -> None:
    """A server may hold many databases: work on none that is not meant."""
    found = db.identity()
    if found is None:
        raise NotFound(
            "workspace.missing",
            f"There is no workspace in {shown(settings.db)}.",
            hint="Make one: clew init --db URL",
        )
    if settings.workspace and found.id != settings.workspace:
        raise Conflict(
            "workspace.other",
            f"{shown(settings.db)} holds the workspace {found.id}, and {settings.home} belongs to "
            f"{settings.workspace}.",
            hint="Mend `db` in config.toml of that directory, or join: clew init --join --db URL",
        )


def serving_settings(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    grpc_port: int | None = None,
    unix_path: Path | None = None,
    processes: int = 1,
    max_models: int = 0,
    model_idle_s: float = 0.0,
    grpc_connections: int = 1000,
    clustered: bool = False,
) -> ServingSettings:
    """What serving processes of this workspace are told.

    ``clustered``: endpoints are where ``settings.serving`` says, else here. Raises Invalid
    ``serving.address``, Denied ``server.no_auth``.
    """
    told = settings.serving if clustered else ""
    return ServingSettings(
        database_url=settings.database_url,
        store_address=settings.store_address,
        spool_dir=settings.home / "spool",
        log_file=settings.home / "logs" / "serving.log",
        host=host,
        port=port,
        grpc_port=grpc_port,
        unix_path=unix_path,
        processes=processes,
        max_models=max_models,
        model_idle_s=model_idle_s,
        grpc_connections=grpc_connections,
        token=settings.token,
        json_logs=settings.json_logs,
        traces=settings.traces,
        environments=settings.environments_path,
        tls_certificate=settings.tls_certificate,
        tls_key=settings.tls_key,
        cluster=ServingSettings.place(told, settings.compute, settings.token),
    )
