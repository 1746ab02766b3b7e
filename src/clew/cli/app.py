"""The command tree, and what happens to errors at the end of a command.

Knows which commands there are; what they do stands in the other files of this room.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import getdoc
from typing import NoReturn

import typer

from clew.base.errors import ClewError, Invalid, Unavailable
from clew.cli.frame import EXIT_CODES, report_error
from clew.cli.helping import Sections

DAILY = "Every day"
DATA = "Data"
WORK = "Work"
MODELS = "Models and endpoints"

_HELP = {"-h", "--help"}
INTERRUPTED = 130
_PATIENT = (200_000, 20, 20)
"""Thresholds of the garbage collector: loading libraries makes many objects and no garbage."""

COMMANDS = {
    "init": (DAILY, "project.init"),
    "apply": (DAILY, "work.apply"),
    "put": (DAILY, "files.put"),
    "get": (DAILY, "files.get"),
    "ls": (DAILY, "data.ls"),
    "log": (DAILY, "history.log"),
    "diff": (DAILY, "differing.diff"),
    "sql": (DAILY, "querying.sql"),
    "status": (DAILY, "questions.status"),
    "plan": (DAILY, "planning.plan"),
    "why": (DAILY, "questions.why"),
    "predict": (DAILY, "models.predict"),
    "explain": (DAILY, "explaining.explain"),
    "deploy": (DAILY, "models.deploy"),
    "rollback": (DAILY, "models.rollback"),
    "server": (DAILY, "project.server"),
    "demo": (DAILY, "project.demo"),
    "doctor": (DAILY, "project.doctor"),
    "upgrade": (DAILY, "project.upgrade"),
    "repos": (DATA, "data.repos"),
    "create": (DATA, "data.create"),
    "show": (DATA, "history.show"),
    "tree": (DATA, "versions.tree"),
    "cat": (DATA, "versions.cat"),
    "find": (DATA, "versions.find"),
    "profile": (DATA, "versions.profile"),
    "merge": (DATA, "versions.merge"),
    "append": (DATA, "commits.append"),
    "cp": (DATA, "commits.copy"),
    "rm": (DATA, "commits.remove"),
    "squash": (DATA, "versions.squash"),
    "drop": (DATA, "versions.drop"),
    "delete": (DATA, "versions.delete"),
    "gc": (DATA, "keeping.gc"),
    "fsck": (DATA, "keeping.fsck"),
    "du": (DATA, "keeping.du"),
    "rebuild": (DATA, "keeping.rebuild"),
    "run": (WORK, "work.run"),
    "retire": (WORK, "work.retire"),
    "wait": (WORK, "work.wait"),
    "jobs": (WORK, "work.jobs"),
    "job": (WORK, "work.job"),
    "logs": (WORK, "control.logs"),
    "cancel": (WORK, "control.cancel"),
    "pause": (WORK, "control.pause"),
    "resume": (WORK, "control.resume"),
    "retry": (WORK, "control.retry"),
    "restart": (WORK, "control.restart"),
    "sources": (WORK, "feeds.sources"),
    "source": (WORK, "feeds.source"),
    "triggers": (WORK, "triggers.triggers"),
    "trigger": (WORK, "triggers.trigger"),
    "backtest": (WORK, "triggers.backtest"),
    "accept": (WORK, "knowing.accept"),
    "verify": (WORK, "knowing.verify"),
    "reproduce": (WORK, "knowing.reproduce"),
    "experiments": (WORK, "work.experiments"),
    "experiment": (WORK, "work.experiment"),
    "trial": (WORK, "trials.trial"),
    "checkpoints": (WORK, "trials.checkpoints"),
    "prune": (WORK, "trials.prune"),
    "fork": (WORK, "trials.fork"),
    "continue": (WORK, "trials.continue_"),
    "pools": (WORK, "pools.pools"),
    "model": (MODELS, "models.model"),
    "alias": (MODELS, "naming.alias"),
    "card": (MODELS, "cards.card"),
    "compare": (MODELS, "cards.compare"),
    "endpoints": (MODELS, "models.endpoints"),
    "traffic": (MODELS, "serving.traffic"),
    "feedback": (MODELS, "serving.feedback"),
    "predictions": (MODELS, "models.predictions"),
    "drift": (MODELS, "models.drift"),
    "image": (MODELS, "images.image"),
    "det": (WORK, "det.det"),
    "export": (MODELS, "exporting.export"),
    "models": (MODELS, "importing.models"),
    "commit": (DATA, "commits.commit"),
    "branch": (DATA, "versions.branch"),
    "tag": (DATA, "versions.tag"),
}
"""Of each command the panel of the help that it stands in, and where in this room it is written."""


def tree(words: Sequence[str] | None = None) -> typer.Typer:
    """The commands; with the ``words`` of a call, no more of them than that call asks for."""
    app = typer.Typer(
        name="clew",
        help="Follow the thread: data → pipeline → model → endpoint → prediction, and back.",
        callback=_all,
        no_args_is_help=True,
        cls=Sections,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    asked = words[0] if words else ""
    for name in (asked,) if asked in COMMANDS else COMMANDS:
        panel, place = COMMANDS[name]
        file, _, attribute = place.partition(".")
        command = getattr(import_module(f"clew.cli.{file}"), attribute)
        if words is not None and (not asked or asked in _HELP):
            app.command(name=name, help=_said(command), rich_help_panel=panel)(_all)
        elif isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name=name, rich_help_panel=panel)(command)
    return app


def _all() -> None:
    """What has no options of its own: all of Clew, and a command of which only the name is told."""


def _said(command: Callable[..., None] | typer.Typer) -> str:
    return str(command.info.help if isinstance(command, typer.Typer) else getdoc(command))


def main() -> None:
    """Run one command and exit: 0 done, 1 the work failed, 2 and up see ``EXIT_CODES``."""
    gc.set_threshold(*_PATIENT)
    try:
        app = tree(None if "_CLEW_COMPLETE" in os.environ else sys.argv[1:])
        if "--json" in sys.argv:
            _run_for_programs(app)
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


def _run_for_programs(app: typer.Typer) -> NoReturn:
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
