"""The demo: the whole loop on real data, told in a terminal.

A story over the verbs and HTTP, as a user would do it; it knows no room.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from clew.base.errors import Conflict, Unavailable
from clew.base.ids import short
from clew.base.records import ChangeStatus, Commit, Job
from clew.base.running import RunningServer, running_server
from clew.base.settings import Settings
from clew.base.verbs import Verbs
from clew.cli import render
from clew.cli.copying import copy_template
from clew.cli.flights import Year, corrupt, read_year, write_month
from clew.cli.follow import Board
from clew.cli.frame import console
from clew.cli.models import print_verdict
from clew.cli.questions import print_explanation
from clew.cli.traffic import Caller, Load
from clew.sdk import connect, connect_embedded

if TYPE_CHECKING:
    import polars as pl

NAME = "late-flights"
MARK = "demo"
SERVER_START_S = 60.0
DRIFT_WAIT_S = 120.0
GOOD_LINE = '("passthrough", NUMBERS)'
WORSE_LINE = '("passthrough", ["weekday"])'


def run_demo(directory: Path) -> None:
    """Run the story in ``directory`` and leave the workspace there.

    A directory that an earlier demo left is made anew; any other that is not empty is refused.

    Raises:
        Conflict: ``demo.directory``.
        Unavailable: ``demo.data``, ``demo.server``.
    """
    started = time.monotonic()
    out = console()
    story = Story(out, _fresh(directory))
    try:
        story.tell()
    finally:
        story.close()
    out.print(f"\n[green]✓[/] The whole loop in {time.monotonic() - started:.0f} s.", end=" ")
    _say_goodbye(out, directory, story)


def _fresh(directory: Path) -> Path:
    home = directory.absolute() / ".clew"
    if directory.exists() and any(directory.iterdir()):
        if not (home / MARK).exists():
            raise Conflict(
                "demo.directory",
                f"{directory} is not empty, and no demo made it.",
                hint="Name another: clew demo DIRECTORY",
            )
        if running := running_server(home):
            raise Conflict(
                "demo.directory",
                f"A server is running on the demo in {directory} (process {running.pid}).",
                hint="Stop it, or name another directory: clew demo DIRECTORY",
            )
        shutil.rmtree(directory)
    home.mkdir(parents=True)
    (home / MARK).touch()
    return directory.absolute()


class Story:
    """The chapters, in order, on one workspace and its server."""

    def __init__(self, out: Console, directory: Path) -> None:
        self._out = out
        self._directory = directory
        self._settings = Settings(home=directory / ".clew")
        self._process: subprocess.Popen[bytes] | None = None
        self._chapter = 0
        self._clew: Verbs
        self._server: RunningServer
        self._year: Year
        self._file: ModuleType
        self.prediction_id = ""

    def tell(self) -> None:
        """All chapters."""
        self._prepare()
        self._first_months()
        self._next_month()
        self._corrupted_month()
        self._worse_model()
        self._another_season()
        self._why()

    def close(self) -> None:
        """End the server; the workspace stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    # chapters -------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._title("A workspace, a server, and one file")
        connect_embedded(self._settings, create=True).close()
        copy_template("late_flights", self._directory)
        with self._out.status("reading 336,776 flights and starting the server"):
            self._process = self._start_server()
            self._year = read_year()
            for month in range(1, 9):
                write_month(self._year, month, self._directory / "data")
            self._file = _import(self._directory / "flights.py")
            self._server = self._await_server()
        self._clew = connect(self._server.url, token=self._server.token)
        self._say(f"[dim]$ clew server[/]     pages on [cyan]{self._server.url}[/]")
        applied = self._clew.apply(self._directory / "flights.py")[0]
        steps = self._clew.pipelines()[0].steps
        self._say(
            f"[dim]$ clew apply flights.py[/]     {applied.pipeline}, version {applied.version}"
        )
        self._say("  " + " → ".join(step.name for step in steps))

    def _first_months(self) -> None:
        self._title("January and February arrive")
        for month in (1, 2):
            self._put_weather(month)
        commit = self._put_flights(1, 2, message="the first two months")
        jobs = self._follow(commit)
        change = self._clew.change(commit.global_id)
        self._print_search(change)
        self._print_verdicts(change)
        self._need(jobs, "done")
        self._await_live()
        rows = self._rows(3).sample(6, seed=7)
        self._say("\nSix flights of March, asked over HTTP (Open Inference Protocol):")
        caller = Caller(self._serving_url)
        answer = caller.ask(rows)
        caller.close()
        render.table(
            self._out,
            ("from", "to", "carrier", "chance of > 30 min late>", "it was"),
            [
                (
                    r["origin"],
                    r["dest"],
                    r["carrier"],
                    f"{c:.0%}",
                    "late" if r["late"] else "in time",
                )
                for r, c in zip(rows.to_dicts(), answer.chances, strict=True)
            ],
        )
        self.prediction_id = answer.prediction_id
        self._say(f"[dim]prediction[/] [cyan]{answer.prediction_id}[/]")

    def _next_month(self) -> None:
        self._title("March arrives, while a client keeps asking")
        rows = self._rows(1).vstack(self._rows(2)).sample(600, seed=3)
        with Load(url=self._serving_url, rows=rows) as load:
            self._put_weather(3)
            commit = self._put_flights(3, message="March")
            self._follow(commit)
            clean = self._job(commit, "clean")
            self._say("\nOnly the new month was cleaned:")
            render.table(
                self._out,
                ("datum", "", "why"),
                [
                    (d.inputs[0][0], render.state(d.state), d.reason)
                    for d in sorted(self._clew.datums(clean.id), key=lambda d: d.inputs)
                ],
            )
            self._print_verdicts(self._clew.change(commit.global_id))
            self._await_rollout(commit.global_id)
        self._print_endpoint()
        self._print_load(load)

    def _corrupted_month(self) -> None:
        self._title("April arrives corrupted: kilometres, seconds, lost carriers")
        before = self._live_version()
        bad = self._directory / "data" / "flights-2013-04-corrupted.parquet"
        corrupt(self._year.month_of_flights(4)).write_parquet(bad)
        commit = self._clew.put(
            f"{NAME}/flights", {"/2013-04.parquet": bad}, message="April, from the new exporter"
        )
        self._follow(commit)
        clean = self._job(commit, "clean")
        for datum in self._clew.datums(clean.id):
            if datum.state == "refused":
                self._print_evidence(datum.evidence)
        same = self._live_version() == before
        self._say(
            f"{'[green]✓[/]' if same else '[red]✗[/]'} the endpoint is untouched: {short(before)}"
        )
        self._say("[dim]$ clew put … --delete /2013-04.parquet[/]     taken back:")
        self._follow(self._clew.put(f"{NAME}/flights", {}, delete=["/2013-04.parquet"]))

    def _worse_model(self) -> None:
        self._title("Somebody makes the model worse")
        file = self._directory / "flights.py"
        good = file.read_text()
        worse = good.replace(GOOD_LINE, WORSE_LINE)
        if worse == good:
            raise Unavailable("demo.failed", "flights.py is not as this demo knows it.")
        file.write_text(worse)
        self._out.print(Text(f"- {GOOD_LINE.strip()}\n+ {WORSE_LINE.strip()}", style="dim"))
        applied = self._clew.apply(file)[0]
        assert applied.global_id is not None
        self._follow_id(applied.global_id)
        change = self._clew.change(applied.global_id)
        self._print_verdicts(change)
        file.write_text(good)
        back = self._clew.apply(file)[0]
        self._say("\nTaken back: what was made before is found again.")
        if back.global_id:
            self._follow_id(back.global_id)

    def _another_season(self) -> None:
        self._title("July's travellers ask a model that knows only winter")
        for month in (4, 5, 6, 7):
            self._put_weather(month, branch="staging")
        self._put_flights(
            4, 5, 6, 7, branch="staging", message="spring and summer, not yet trained on"
        )
        self._say("[dim]April to July wait on the branch staging[/]")
        caller, rows = Caller(self._serving_url), self._rows(7)
        with self._out.status("asking about 3,000 flights of July"):
            for start in range(0, 3000, 30):
                caller.ask(rows[start : start + 30])
        caller.close()
        seen = len(self._clew.drift(NAME, limit=100))
        report = self._await_drift(seen)
        self._say(
            f"[yellow]drift seen[/] in {report.rows:,} rows  report [cyan]{short(report.id)}[/]"
        )
        drifted = sorted((c for c in report.columns if c.drifted), key=lambda c: -c.value)[:5]
        render.table(
            self._out,
            ("column", "distance>", "threshold>", "what changed"),
            [(c.column, f"{c.value:.2f}", f"{c.threshold:.2f}", c.detail) for c in drifted],
        )
        self._say("The monitor retrains by itself:")
        with Load(url=self._serving_url, rows=rows.head(600)) as load:
            self._await_retrain(report.global_id)
            self._print_verdicts(self._clew.change(report.global_id))
            self._await_rollout(report.global_id)
        self._print_endpoint()
        self._print_load(load)

    def _why(self) -> None:
        self._title("Why was that said? Back to the raw files, and forth again")
        self._say(f"[dim]$ clew why {self.prediction_id}[/]")
        print_explanation(self._clew.why(self.prediction_id))
        address = f"{NAME}/flights@main:/2013-01.parquet"
        self._say(f"\n[dim]$ clew why {address} --down[/]")
        print_explanation(self._clew.why(address, down=True))

    # the server -----------------------------------------------------------------------------

    def _start_server(self) -> subprocess.Popen[bytes]:
        log = (self._settings.home / "server.log").open("wb")
        command = [
            sys.executable,
            "-P",
            "-m",
            "clew.cli",
            "server",
            "--port",
            "0",
            "--serving-port",
            "0",
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CLEW_")}
        environment["CLEW_AUTOLOG"] = "off"  # a hundred runs that nobody looks at in a demo
        with log:
            return subprocess.Popen(
                command, cwd=self._directory, stdout=log, stderr=log, env=environment
            )

    def _await_server(self) -> RunningServer:
        end = time.monotonic() + SERVER_START_S
        while time.monotonic() < end:
            assert self._process is not None
            if (server := running_server(self._settings.home)) and server.pid == self._process.pid:
                return server
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        log = (self._settings.home / "server.log").read_text()[-2000:]
        raise Unavailable("demo.server", f"The server did not start. It said: {log}")

    @property
    def _serving_url(self) -> str:
        return self._clew.endpoint(NAME).url

    # doing ----------------------------------------------------------------------------------

    def _put_weather(self, month: int, *, branch: str = "main") -> None:
        name = f"2013-{month:02}.parquet"
        file = self._directory / "data" / "weather" / name
        commit = self._clew.put(f"{NAME}/weather", {f"/{name}": file}, branch=branch)
        self._clew.wait(commit.global_id)

    def _put_flights(self, *months: int, message: str, branch: str = "main") -> Commit:
        names = [f"2013-{month:02}.parquet" for month in months]
        files = {f"/{name}": self._directory / "data" / "flights" / name for name in names}
        where = f" --branch {branch}" if branch != "main" else ""
        self._say(f"[dim]$ clew put {NAME}/flights {' '.join(names)}{where}[/]")
        commit = self._clew.put(f"{NAME}/flights", files, branch=branch, message=message)
        self._say(
            f"  commit [cyan]{short(commit.id)}[/]  {render.size(commit.size_bytes)}  "
            f"change [cyan]{short(commit.global_id)}[/]"
        )
        return commit

    def _follow(self, commit: Commit) -> list[Job]:
        return self._follow_id(commit.global_id)

    def _follow_id(self, global_id: str) -> list[Job]:
        Board(self._clew, global_id, self._out).run()
        return list(self._clew.change(global_id).jobs)

    def _rows(self, month: int) -> pl.DataFrame:
        """Rows as the endpoint wants them, made by the user's own steps."""
        weather = self._year.weather
        rows: pl.DataFrame = self._file.features(
            self._file.clean(self._year.month_of_flights(month)), weather
        )
        return rows.sample(fraction=1.0, shuffle=True, seed=1)

    def _await_live(self) -> None:
        end = time.monotonic() + SERVER_START_S
        while time.monotonic() < end:
            revisions = self._clew.endpoint(NAME).revisions
            if any(r.state == "live" and r.traffic == 100 for r in revisions):
                return
            time.sleep(0.1)
        raise Unavailable("demo.rollout", f"No revision of {NAME} went live; see clew endpoints.")

    def _await_rollout(self, global_id: str) -> None:
        """Until the revisions of a change have taken over or are gone."""
        end = time.monotonic() + SERVER_START_S
        with self._out.status("canary: 10 → 50 → 100 % of the client's requests"):
            while time.monotonic() < end:
                states = {r.state for r in self._clew.change(global_id).revisions}
                if not states & {"loading", "canary"}:
                    return
                time.sleep(0.1)
        raise Unavailable("demo.rollout", f"The rollout on {NAME} did not end; see clew endpoints.")

    def _await_drift(self, seen: int) -> Any:
        end = time.monotonic() + DRIFT_WAIT_S
        with self._out.status("the monitor looks at the prediction log"):
            while time.monotonic() < end:
                for report in self._clew.drift(NAME, limit=5):
                    if report.drifted:
                        return report
                time.sleep(0.2)
        raise Unavailable("demo.drift", f"No drift was seen after {seen} reports; see clew drift.")

    def _await_retrain(self, global_id: str) -> None:
        end = time.monotonic() + DRIFT_WAIT_S
        while time.monotonic() < end and not self._clew.change(global_id).jobs:
            time.sleep(0.1)
        self._follow_id(global_id)

    # saying ---------------------------------------------------------------------------------

    def _title(self, text: str) -> None:
        self._chapter += 1
        self._out.print()
        self._out.print(
            Rule(Text(f"{self._chapter}  {text}", style="bold"), align="left", style="dim")
        )

    def _say(self, text: str) -> None:
        self._out.print(text)

    def _print_load(self, load: Load) -> None:
        versions = " → ".join(f"[cyan]{short(v)}[/] {n:,}" for v, n in load.by_version.items())
        mark = "[green]✓[/]" if not load.failed else "[red]✗[/]"
        self._say(f"{mark} client: {load.answered:,} answered, {load.failed} failed   {versions}")
        if load.failed:
            raise Unavailable("demo.failed", f"{load.failed} requests failed: {load.errors[:3]}")

    def _job(self, commit: Commit, step: str) -> Job:
        return next(j for j in self._clew.change(commit.global_id).jobs if j.step == step)

    def _need(self, jobs: list[Job], state: str) -> None:
        bad = [j for j in jobs if j.state != state]
        if bad:
            raise Unavailable(
                "demo.failed",
                f"{bad[0].step} ended {bad[0].state}: {bad[0].error or bad[0].reason}",
            )

    def _live_version(self) -> str:
        revisions = self._clew.endpoint(NAME).revisions
        return next(r.model_version for r in revisions if r.state == "live")

    def _print_search(self, change: ChangeStatus) -> None:
        for one in change.experiments:
            detail = self._clew.experiment(one.id)
            best = sorted(detail.trials, key=lambda t: (t.step, t.value or 0), reverse=True)
            self._say(
                f"\nsearch [cyan]{short(one.id)}[/]: {one.trials} trials, halved twice; "
                f"best {one.metric} [bold]{render.number(one.best_value)}[/]"
            )
            render.table(
                self._out,
                ("#>", "trial", "trees>", f"{one.metric}>", "ended", "parameters"),
                [
                    (
                        t.number,
                        render.ident(t.id),
                        10 * t.step,
                        render.number(t.value),
                        render.state(t.state),
                        "  ".join(f"{k}={render.number(v)}" for k, v in t.params.items()),
                    )
                    for t in best[:4]
                ],
            )

    def _print_verdicts(self, change: ChangeStatus) -> None:
        for version in change.model_versions:
            known = "  ".join(f"{k} {v:.3f}" for k, v in sorted(version.metrics.items())[:6])
            self._say(f"\nmodel version {version.version} [cyan]{short(version.id)}[/]  {known}")
        for verdict in change.verdicts:
            print_verdict(verdict)

    def _print_evidence(self, evidence: dict[str, Any]) -> None:
        for result in evidence.get("expectations", []):
            if result["passed"]:
                continue
            self._out.print(Text.assemble(("  ✗ ", "yellow"), result["message"].split(";")[0]))
            columns = result["expectation"]["columns"]
            for row in result["examples"][:2]:
                told = {name: row.get(name) for name in ("origin", "dest", *columns)}
                shown = "  ".join(f"{name}={value}" for name, value in told.items())
                self._out.print(Text(f"      row {row['row']}: {shown}", style="dim"))

    def _print_endpoint(self) -> None:
        render.table(
            self._out,
            ("revision", "model version", "state", "traffic>", "requests>"),
            [
                (
                    r.number,
                    render.ident(r.model_version),
                    render.state(r.state),
                    f"{r.traffic} %",
                    f"{r.requests:,}",
                )
                for r in self._clew.endpoint(NAME).revisions
            ],
        )


def _import(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("flights_of_the_demo", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _say_goodbye(out: Console, directory: Path, story: Story) -> None:
    out.print("Everything is in [bold]" + str(directory) + "[/]. Try:\n")
    for command, what in (
        (f"cd {directory}", ""),
        ("clew status", "what ran, what was refused"),
        (f"clew why {story.prediction_id}", "a prediction, back to its raw files"),
        (f"clew log {NAME}/flights", "the data, version by version"),
        (f"clew models {NAME}/model", "versions, metrics, verdicts"),
        ("clew plan flights.py", "after you changed a line in it"),
        ("clew server", "the pages, the API and the endpoint"),
    ):
        out.print(f"  [bold]{command:<44}[/] [dim]{what}[/]")
