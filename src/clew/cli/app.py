"""The command tree, and what happens to errors at the end of a command.

Knows which commands there are; what they do stands in the other files of this room.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

import typer

from clew.base.errors import ClewError, Invalid, Unavailable
from clew.cli import (
    commits,
    control,
    data,
    differing,
    feeds,
    files,
    history,
    keeping,
    knowing,
    models,
    planning,
    project,
    querying,
    questions,
    trials,
    triggers,
    versions,
    work,
)
from clew.cli.frame import EXIT_CODES, report_error

DAILY = "Every day"
DATA = "Data"
WORK = "Work"
MODELS = "Models and endpoints"

INTERRUPTED = 130
_PATIENT = (200_000, 20, 20)
"""Thresholds of the garbage collector: loading libraries makes many objects and no garbage."""

app = typer.Typer(
    name="clew",
    help="Follow the thread: data → pipeline → model → endpoint → prediction, and back.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for panel, name, command in (
    (DAILY, "init", project.init),
    (DAILY, "apply", work.apply),
    (DAILY, "put", files.put),
    (DAILY, "get", files.get),
    (DAILY, "ls", data.ls),
    (DAILY, "log", history.log),
    (DAILY, "diff", differing.diff),
    (DAILY, "sql", querying.sql),
    (DAILY, "status", questions.status),
    (DAILY, "plan", planning.plan),
    (DAILY, "why", questions.why),
    (DAILY, "predict", models.predict),
    (DAILY, "deploy", models.deploy),
    (DAILY, "rollback", models.rollback),
    (DAILY, "server", project.server),
    (DAILY, "demo", project.demo),
    (DAILY, "doctor", project.doctor),
    (DAILY, "upgrade", project.upgrade),
    (DATA, "repos", data.repos),
    (DATA, "create", data.create),
    (DATA, "show", history.show),
    (DATA, "tree", versions.tree),
    (DATA, "cat", versions.cat),
    (DATA, "find", versions.find),
    (DATA, "profile", versions.profile),
    (DATA, "merge", versions.merge),
    (DATA, "append", commits.append),
    (DATA, "cp", commits.copy),
    (DATA, "rm", commits.remove),
    (DATA, "squash", versions.squash),
    (DATA, "drop", versions.drop),
    (DATA, "delete", versions.delete),
    (DATA, "gc", keeping.gc),
    (DATA, "fsck", keeping.fsck),
    (DATA, "du", keeping.du),
    (DATA, "rebuild", keeping.rebuild),
    (WORK, "run", work.run),
    (WORK, "wait", work.wait),
    (WORK, "jobs", work.jobs),
    (WORK, "job", work.job),
    (WORK, "logs", control.logs),
    (WORK, "cancel", control.cancel),
    (WORK, "pause", control.pause),
    (WORK, "resume", control.resume),
    (WORK, "retry", control.retry),
    (WORK, "restart", control.restart),
    (WORK, "sources", feeds.sources),
    (WORK, "source", feeds.source),
    (WORK, "triggers", triggers.triggers),
    (WORK, "trigger", triggers.trigger),
    (WORK, "backtest", triggers.backtest),
    (WORK, "accept", knowing.accept),
    (WORK, "verify", knowing.verify),
    (WORK, "reproduce", knowing.reproduce),
    (WORK, "experiments", work.experiments),
    (WORK, "experiment", work.experiment),
    (WORK, "trial", trials.trial),
    (WORK, "checkpoints", trials.checkpoints),
    (WORK, "prune", trials.prune),
    (WORK, "fork", trials.fork),
    (WORK, "continue", trials.continue_),
    (MODELS, "models", models.models),
    (MODELS, "model", models.model),
    (MODELS, "endpoints", models.endpoints),
    (MODELS, "predictions", models.predictions),
    (MODELS, "drift", models.drift),
):
    app.command(name=name, rich_help_panel=panel)(command)

for group_name, group in (
    ("commit", commits.commit),
    ("branch", versions.branch),
    ("tag", versions.tag),
):
    app.add_typer(group, name=group_name, rich_help_panel=DATA)


def main() -> None:
    """Run one command and exit: 0 done, 1 the work failed, 2 and up see ``EXIT_CODES``."""
    gc.set_threshold(*_PATIENT)
    try:
        if "--json" in sys.argv:
            _run_for_programs()
        app()
    except ClewError as error:
        _end(error)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # Typer has caught the Ctrl-C
            sys.stderr.write(
                "Stopped. What was committed stays; `clew wait` goes on with the rest.\n"
            )
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        _end(_of_system(error))
    finally:
        if "duckdb" not in sys.modules:  # at the end it complains of what is still there
            gc.freeze()  # the process ends: what is loaded need not be searched for garbage


def _run_for_programs() -> NoReturn:
    """Run one command; a wrong call is told as any other error, and not drawn for people."""
    try:
        sys.exit(app(prog_name="clew", standalone_mode=False))
    except typer.TyperException as error:
        place = getattr(error, "ctx", None)
        command = place.command_path if place else "clew"
        _end(Invalid("command.usage", error.format_message(), hint=f"See {command} --help"))


def _end(error: ClewError) -> NoReturn:
    report_error(error, as_json="--json" in sys.argv)
    sys.exit(EXIT_CODES.get(error.kind, 1))


def _of_system(error: OSError) -> ClewError:
    """What the system refused, where nobody below could say more of it."""
    place = f" ({error.filename})" if error.filename else ""
    return Unavailable(
        "system.refused",
        f"{error.strerror or error}{place}.",
        hint="Check that path: what is there, whose it is, and whether its disk has room.",
    )
