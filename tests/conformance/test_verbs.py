"""The same wrong call has the same error, whether the workspace is embedded or behind a server.

To add a verb: give each way to call it wrongly a ``wrong(...)`` line below, with the code that is
documented for it; what cannot be wrong (it takes nothing) is named in ``TAKE_NOTHING``. A lambda
gets the workspace and a ``World`` with what is there. A verb without either fails the first test.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clew.base.errors import ClewError, Unavailable
from clew.base.records.traffic import Feedback
from clew.base.settings import Settings
from clew.base.verbs import Verbs
from clew.client import RemoteWorkspace
from clew.server import serve
from clew.workspace import open_workspace

PIPELINE = """
import clew
from sklearn.dummy import DummyClassifier

p = clew.Pipeline("p")
rows = p.source("rows")

@p.step(rows)
def copy(rows: bytes) -> bytes:
    return rows

@p.train(rows, target="y", test=clew.holdout(0.5))
def model(data, trial):
    return DummyClassifier().fit(data.select("x").to_pandas(), data["y"].to_numpy())

@p.gate(model)
def strict(candidate):
    candidate.at_least("accuracy", 2)

p.endpoint("e", model)
"""
ROWS = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(40))
NOBODY = "00000000zzzzzzzz"
"""An id that nothing has."""

MANY = "abcdefghijklmnopqrstuvwxyz"
FOREIGN = ["runs:/nobody", "models:/nobody/1"]
VOID = {"polars": ""}
MADE = {"p/copy:/a": b"1"}
NOWHERE = {"p/none:/a": b"1"}
NO_FILE = {"p/rows:/a": Path("none.csv")}


@dataclass(frozen=True)
class World:
    """What there is: files on disk, and ids of the workspace."""

    disk: Path
    url: str
    version: str
    job: str

    @property
    def file(self) -> Path:
        """The file that is applied."""
        return self.disk / "good" / "p.py"


@dataclass(frozen=True)
class Wrong:
    """A wrong call of a verb, and the error that it must have."""

    verb: str
    kind: str
    code: str
    call: Callable[[Any, World], object]


def step(w: Any) -> str:
    """A job that trains nothing."""
    found: str = next(job.id for job in w.jobs() if job.kind == "step")
    return found


def wrong(verb: str, kind: str, code: str, call: Callable[[Any, World], object]) -> Wrong:
    return Wrong(verb, kind, code, call)


CALLS = [
    wrong("create_repo", "conflict", "repo.exists", lambda w, _: w.create_repo("p/rows")),
    wrong("create_repo", "invalid", "repo.name", lambda w, _: w.create_repo("a/b/c")),
    wrong("create_repo", "invalid", "repo.name", lambda w, _: w.create_repo("")),
    wrong("put", "not_found", "repo.unknown", lambda w, _: w.put("p/none", {"/a": b""})),
    wrong("put", "denied", "repo.derived", lambda w, _: w.put("p/copy", {"/a": b""})),
    wrong("put", "invalid", "put.nothing", lambda w, _: w.put("p/rows", {})),
    wrong("put", "invalid", "put.content", lambda w, _: w.put("p/rows", {"/a": "text"})),
    wrong("put", "invalid", "path.invalid", lambda w, _: w.put("p/rows", {"/a/../b": b""})),
    wrong("put", "invalid", "path.invalid", lambda w, _: w.put("p/rows", {}, delete=["/a\n"])),
    wrong("put", "invalid", "branch.name", lambda w, _: w.put("p/rows", {"/a": b""}, branch="?")),
    wrong("put", "not_found", "file.unknown", lambda w, d: w.put("p/rows", {"/a": d.disk / "no"})),
    wrong("put", "invalid", "file.special", lambda w, d: w.put("p/rows", {"/a": d.disk})),
    wrong("put", "invalid", "file.special", lambda w, d: w.put("p/rows", {"/a": d.disk / "pipe"})),
    wrong("put", "not_found", "file.unknown", lambda w, d: w.put("p/no", {"/a": d.disk / "no"})),
    wrong("sql", "not_found", "sql.table_unknown", lambda w, _: w.sql('select * from "p/no"')),
    wrong("sql", "denied", "sql.function", lambda w, _: w.sql("select * from read_csv('/x')")),
    wrong("sql_into", "not_found", "repo.unknown", lambda w, _: w.sql_into("select 1", "no:/a")),
    wrong("compare", "not_found", "repo.unknown", lambda w, _: w.compare("p/no", "p/rows")),
    wrong("trigger", "not_found", "trigger.unknown", lambda w, _: w.trigger("p/no")),
    wrong("firings", "not_found", "trigger.unknown", lambda w, _: w.firings("no")),
    wrong("pause_trigger", "not_found", "trigger.unknown", lambda w, _: w.pause_trigger("no")),
    wrong("fire_trigger", "not_found", "trigger.unknown", lambda w, _: w.fire_trigger("no")),
    wrong("backtest", "not_found", "trigger.unknown", lambda w, _: w.backtest("no")),
    wrong("backtest_file", "not_found", "file.unknown", lambda w, d: w.backtest_file(d.disk / "x")),
    wrong("card", "not_found", "model.unknown", lambda w, _: w.card("p/model@9")),
    wrong("card", "not_found", "model.unknown", lambda w, _: w.card(NOBODY)),
    wrong("run_card", "not_found", "run.unknown", lambda w, _: w.run_card(f"runs:/{NOBODY}")),
    wrong("run_card", "not_found", "model.unknown", lambda w, _: w.run_card("models:/nobody/1")),
    wrong("run_card", "invalid", "card.subject", lambda w, _: w.run_card("p/model@9")),
    wrong("compare_runs", "not_found", "run.unknown", lambda w, _: w.compare_runs(FOREIGN)),
    wrong("compare_runs", "invalid", "compare.few", lambda w, _: w.compare_runs([])),
    wrong("compare_runs", "invalid", "compare.few", lambda w, d: w.compare_runs([d.version] * 2)),
    wrong("compare_runs", "invalid", "compare.kind", lambda w, d: w.compare_runs([d.job, step(w)])),
    wrong("compare_runs", "not_found", "model.unknown", lambda w, _: w.compare_runs(["p@1", "y"])),
    wrong("compare_runs", "not_found", "why.unknown", lambda w, d: w.compare_runs([d.job, NOBODY])),
    wrong("compare_runs", "invalid", "compare.many", lambda w, _: w.compare_runs(list(MANY))),
    wrong("source", "not_found", "source.unknown", lambda w, _: w.source("p/rows")),
    wrong("pause_source", "not_found", "source.unknown", lambda w, _: w.pause_source("no")),
    wrong("poll_source", "not_found", "source.unknown", lambda w, _: w.poll_source("no/no")),
    wrong("du", "not_found", "repo.unknown", lambda w, _: w.du("p/no")),
    wrong("read", "not_found", "file.unknown", lambda w, _: w.read("p/rows:/none.csv")),
    wrong("read", "conflict", "file.directory", lambda w, _: w.read("p/rows:/deep")),
    wrong("read", "conflict", "file.directory", lambda w, _: w.read("p/rows:/")),
    wrong("read", "not_found", "file.unknown", lambda w, _: w.read("p/rows:/rows.csv/below")),
    wrong("read", "not_found", "repo.unknown", lambda w, _: w.read("p/none:/a")),
    wrong("read", "not_found", "ref.unknown", lambda w, _: w.read("p/rows@none:/a")),
    wrong("read", "invalid", "address.invalid", lambda w, _: w.read("p/rows@^^:/a")),
    wrong("open_file", "not_found", "file.unknown", lambda w, _: w.open_file("p/rows:/none")),
    wrong("open_file", "conflict", "file.directory", lambda w, _: w.open_file("p/rows:/deep")),
    wrong("get", "not_found", "file.unknown", lambda w, d: w.get("p/rows:/none", d.disk / "to")),
    wrong("get", "not_found", "repo.unknown", lambda w, d: w.get("p/none", d.disk / "to")),
    wrong("ls", "not_found", "file.unknown", lambda w, _: w.ls("p/rows:/none")),
    wrong("ls", "not_found", "repo.unknown", lambda w, _: w.ls("p/none")),
    wrong("ls", "not_found", "ref.unknown", lambda w, _: w.ls("p/rows@none")),
    wrong("log", "not_found", "repo.unknown", lambda w, _: w.log("p/none")),
    wrong("log", "not_found", "ref.unknown", lambda w, _: w.log("p/rows", branch="none")),
    wrong("commit", "not_found", "commit.unknown", lambda w, _: w.commit(NOBODY)),
    wrong("commit", "not_found", "ref.unknown", lambda w, _: w.commit("p/rows@none")),
    wrong("commit", "not_found", "ref.no_ancestor", lambda w, _: w.commit("p/rows@main^9")),
    wrong("diff", "not_found", "commit.unknown", lambda w, _: w.diff(NOBODY, NOBODY)),
    wrong("apply", "not_found", "file.unknown", lambda w, d: w.apply(d.disk / "none.py")),
    wrong("apply", "invalid", "pipeline.import", lambda w, d: w.apply(d.disk / "bad" / "p.py")),
    wrong("plan", "not_found", "file.unknown", lambda w, d: w.plan(d.disk / "none.py")),
    wrong("plan", "invalid", "pipeline.none", lambda w, d: w.plan(d.disk / "empty" / "p.py")),
    wrong("plan", "invalid", "plan.place", lambda w, d: w.plan(d.file, delete=["p/rows"])),
    wrong("plan", "invalid", "plan.package", lambda w, d: w.plan(d.file, packages=VOID)),
    wrong("plan", "denied", "repo.derived", lambda w, d: w.plan(d.file, put=MADE)),
    wrong("plan", "not_found", "repo.unknown", lambda w, d: w.plan(d.file, put=NOWHERE)),
    wrong("plan", "not_found", "file.unknown", lambda w, d: w.plan(d.file, put=NO_FILE)),
    wrong("wait", "not_found", "change.unknown", lambda w, _: w.wait(NOBODY)),
    wrong("jobs", "not_found", "pipeline.unknown", lambda w, _: w.jobs(pipeline="none")),
    wrong("jobs", "invalid", "job.state", lambda w, _: w.jobs(state="none")),
    wrong("job", "not_found", "job.unknown", lambda w, _: w.job(NOBODY)),
    wrong("datums", "not_found", "job.unknown", lambda w, _: w.datums(NOBODY)),
    wrong("job_log", "not_found", "job.unknown", lambda w, _: w.job_log(NOBODY)),
    wrong("retire", "not_found", "pipeline.unknown", lambda w, _: w.retire("none")),
    wrong("run", "not_found", "pipeline.unknown", lambda w, _: w.run("none")),
    wrong("run", "not_found", "step.unknown", lambda w, _: w.run("p", "none")),
    wrong("accept", "not_found", "pipeline.unknown", lambda w, _: w.accept("no", reason="x")),
    wrong("accept", "not_found", "step.unknown", lambda w, _: w.accept("p", "no", reason="x")),
    wrong("accept", "invalid", "accept.reason", lambda w, _: w.accept("p", reason="")),
    wrong("accept", "conflict", "accept.nothing", lambda w, _: w.accept("p", reason="x")),
    wrong("verify", "not_found", "pipeline.unknown", lambda w, _: w.verify("nothing")),
    wrong("verify", "not_found", "step.unknown", lambda w, _: w.verify("p", "nothing")),
    wrong("verify", "invalid", "verify.sample", lambda w, _: w.verify("p", sample=0)),
    wrong("verify", "invalid", "verify.kind", lambda w, _: w.verify("p", "model")),
    wrong("reproduce", "not_found", "commit.unknown", lambda w, _: w.reproduce(NOBODY)),
    wrong("reproduce", "invalid", "reproduce.source", lambda w, _: w.reproduce("p/rows@main")),
    wrong("cancel", "not_found", "job.unknown", lambda w, _: w.cancel(NOBODY)),
    wrong("cancel", "conflict", "job.ended", lambda w, d: w.cancel(d.job)),
    wrong("cancel_all", "not_found", "work.unknown", lambda w, _: w.cancel_all("none")),
    wrong("cancel_all", "conflict", "work.ended", lambda w, d: w.cancel_all(d.job)),
    wrong("pause", "not_found", "work.unknown", lambda w, _: w.pause("none")),
    wrong("pause", "conflict", "work.ended", lambda w, d: w.pause(d.job)),
    wrong("resume", "not_found", "work.unknown", lambda w, _: w.resume("p/none")),
    wrong("resume", "conflict", "work.not_paused", lambda w, _: w.resume("p")),
    wrong("retry", "not_found", "work.unknown", lambda w, _: w.retry(NOBODY)),
    wrong("retry", "invalid", "work.subject", lambda w, _: w.retry("p/copy")),
    wrong("retry", "conflict", "job.not_failed", lambda w, d: w.retry(d.job)),
    wrong("restart", "not_found", "datum.unknown", lambda w, _: w.restart(NOBODY)),
    wrong("logs", "not_found", "job.unknown", lambda w, _: w.logs(NOBODY)),
    wrong("logs", "invalid", "request.invalid", lambda w, d: w.logs(d.job, after=-1)),
    wrong("logs", "invalid", "request.invalid", lambda w, d: w.logs(d.job, limit=0)),
    wrong("experiment", "not_found", "experiment.unknown", lambda w, _: w.experiment(NOBODY)),
    wrong("importances", "not_found", "experiment.unknown", lambda w, _: w.importances(NOBODY)),
    wrong("trial", "not_found", "trial.unknown", lambda w, _: w.trial(NOBODY)),
    wrong("trial_file", "not_found", "trial.unknown", lambda w, _: w.trial_file(NOBODY, "a")),
    wrong("fork", "not_found", "experiment.unknown", lambda w, _: w.fork(NOBODY)),
    wrong(
        "continue_trial", "not_found", "trial.unknown",
        lambda w, _: w.continue_trial(NOBODY, steps=9),
    ),
    wrong("checkpoints", "not_found", "trial.unknown", lambda w, _: w.checkpoints(NOBODY)),
    wrong("export_trainjob", "not_found", "model.unknown", lambda w, _: w.export_trainjob("x/y")),
    wrong(
        "export_inference_service", "not_found", "endpoint.unknown",
        lambda w, _: w.export_inference_service("none"),
    ),
    wrong("export_image", "not_found", "endpoint.unknown", lambda w, _: w.export_image("none")),
    wrong("restore_slot", "not_found", "slot.not_excluded", lambda w, _: w.restore_slot("a/b")),
    wrong("prune", "not_found", "experiment.unknown", lambda w, _: w.prune(NOBODY)),
    wrong("models", "not_found", "model.unknown", lambda w, _: w.models("p/none")),
    wrong("model", "not_found", "model.unknown", lambda w, _: w.model("p/model@99")),
    wrong("models", "invalid", "model.where", lambda w, _: w.models(where="metrics >")),
    wrong(
        "import_model", "not_found", "file.missing", lambda w, _: w.import_model("no", name="i/m")
    ),
    wrong(
        "import_model", "denied", "import.trained",
        lambda w, d: w.import_model(d.file, name="p/model"),
    ),
    wrong(
        "import_model", "invalid", "import.kind", lambda w, d: w.import_model(d.file, name="i/m")
    ),
    wrong("report", "not_found", "model.unknown", lambda w, _: w.report("p/model@99")),
    wrong("alias_history", "not_found", "model.unknown", lambda w, _: w.alias_history("none")),
    wrong("set_alias", "not_found", "model.unknown", lambda w, _: w.set_alias("none", "a", "1")),
    wrong(
        "set_alias", "denied", "model.not_blessed",
        lambda w, _: w.set_alias("p/model", "champion", "1"),
    ),
    wrong(
        "rollback_alias", "not_found", "alias.unknown",
        lambda w, _: w.rollback_alias("p/model", "x"),
    ),
    wrong("verdict", "not_found", "verdict.unknown", lambda w, _: w.verdict(NOBODY)),
    wrong("verdicts", "not_found", "model.unknown", lambda w, _: w.verdicts("none")),
    wrong("endpoint", "not_found", "endpoint.unknown", lambda w, _: w.endpoint("none")),
    wrong("deploy", "not_found", "endpoint.unknown", lambda w, d: w.deploy("none", d.version)),
    wrong("deploy", "not_found", "model.unknown", lambda w, _: w.deploy("e", NOBODY)),
    wrong("deploy", "denied", "model.not_blessed", lambda w, d: w.deploy("e", d.version)),
    wrong(
        "deploy", "invalid", "override.incomplete",
        lambda w, d: w.deploy("e", d.version, override_by="ann"),
    ),
    wrong(
        "deploy", "invalid", "override.incomplete",
        lambda w, d: w.deploy("e", d.version, champion=True),
    ),
    wrong(
        "deploy", "invalid", "rollout.definition",
        lambda w, d: w.deploy("e", d.version, rollout={"kind": "lottery"}),
    ),
    wrong("deploy", "invalid", "endpoint.no_graph", lambda w, _: w.deploy("e", "graph:e")),
    wrong(
        "deploy_arms", "not_found", "endpoint.unknown",
        lambda w, d: w.deploy_arms("none", [d.version]),
    ),
    wrong("deploy_arms", "invalid", "rollout.arms", lambda w, _: w.deploy_arms("e", [])),
    wrong(
        "deploy_arms", "invalid", "traffic.weights",
        lambda w, d: w.deploy_arms("e", {d.version: 60, "other": 40}),
    ),
    wrong(
        "deploy_arms", "invalid", "rollout.definition",
        lambda w, d: w.deploy_arms("e", [d.version], rollout={"kind": "lottery"}),
    ),
    wrong(
        "deploy_arms", "conflict", "endpoint.no_live", lambda w, d: w.deploy_arms("e", [d.version])
    ),
    wrong("prediction", "not_found", "prediction.unknown", lambda w, _: w.prediction("p" * 17)),
    wrong(
        "explain_prediction", "not_found", "prediction.unknown",
        lambda w, _: w.explain_prediction("p" * 17),
    ),
    wrong("traffic", "not_found", "endpoint.unknown", lambda w, _: w.traffic("none")),
    wrong("set_traffic", "not_found", "endpoint.unknown", lambda w, _: w.set_traffic("none")),
    wrong(
        "set_traffic", "not_found", "revision.unknown",
        lambda w, _: w.set_traffic("e", weights={"7": 5}),
    ),
    wrong(
        "set_traffic", "not_found", "revision.unknown", lambda w, _: w.set_traffic("e", promote="7")
    ),
    wrong(
        "feedback", "not_found", "endpoint.unknown",
        lambda w, _: w.feedback([Feedback(id=NOBODY, reward=1)], endpoint="none"),
    ),
    wrong("feedback", "invalid", "feedback.value", lambda w, _: w.feedback([Feedback(id=NOBODY)])),
    wrong("feedback", "invalid", "feedback.value", lambda w, _: w.feedback([{"id": 1}])),
    wrong(
        "feedback", "invalid", "feedback.value",
        lambda w, _: w.feedback([{"id": NOBODY, "reward": float("nan")}]),
    ),
    wrong(
        "feedback", "invalid", "feedback.many",
        lambda w, _: w.feedback([Feedback(id=NOBODY, reward=1)] * 10_001),
    ),
    wrong("outcome", "not_found", "prediction.unknown", lambda w, _: w.outcome(NOBODY)),
    wrong("rollback", "not_found", "endpoint.unknown", lambda w, _: w.rollback("none")),
    wrong("rollback", "conflict", "endpoint.no_previous", lambda w, _: w.rollback("e")),
    wrong("predict", "not_found", "endpoint.unknown", lambda w, _: w.predict("none", [{"x": 1}])),
    wrong("predict", "not_ready", "endpoint.empty", lambda w, _: w.predict("e", [{"x": 1}])),
    wrong("predict", "invalid", "predict.rows", lambda w, _: w.predict("e", [])),
    wrong("predict", "invalid", "predict.rows", lambda w, _: w.predict("e", "text")),
    wrong("explain", "not_found", "endpoint.unknown", lambda w, _: w.explain("none", [{"x": 1}])),
    wrong("explain", "not_ready", "endpoint.empty", lambda w, _: w.explain("e", [{"x": 1}])),
    wrong("explain", "invalid", "predict.rows", lambda w, _: w.explain("e", [])),
    wrong("predictions", "not_found", "endpoint.unknown", lambda w, _: w.predictions("none")),
    wrong("drift", "not_found", "endpoint.unknown", lambda w, _: w.drift("none")),
    wrong("change", "not_found", "change.unknown", lambda w, _: w.change(NOBODY)),
    wrong("why", "not_found", "why.unknown", lambda w, _: w.why(NOBODY)),
    wrong("why", "not_found", "file.unknown", lambda w, _: w.why("p/rows:/none")),
    wrong("events", "invalid", "request.invalid", lambda w, _: w.events(after=-1)),
    wrong("events", "invalid", "request.invalid", lambda w, _: w.events(after=2**63)),
    wrong("events", "invalid", "request.invalid", lambda w, _: w.events(limit=0)),
    wrong("log", "invalid", "request.invalid", lambda w, _: w.log("p/rows", limit=0)),
    wrong("jobs", "invalid", "request.invalid", lambda w, _: w.jobs(limit=-1)),
    wrong("datums", "invalid", "request.invalid", lambda w, d: w.datums(d.job, limit=0)),
    wrong("experiments", "invalid", "request.invalid", lambda w, _: w.experiments(limit=0)),
    wrong("predictions", "invalid", "request.invalid", lambda w, _: w.predictions("e", limit=0)),
    wrong("drift", "invalid", "request.invalid", lambda w, _: w.drift(limit=-1)),
]  # fmt: skip
TAKE_NOTHING = {
    "sources",
    "triggers",
    "repos",
    "pipelines",
    "endpoints",
    "status",
    "close",
    "gc",
    "fsck",
    "pools",
}
NOT_YET = {
    "abort",
    "append",
    "branches",
    "copy",
    "create_branch",
    "delete_branch",
    "delete_repo",
    "delete_tag",
    "drop",
    "find",
    "finish",
    "merge",
    "move_branch",
    "open_commit",
    "profile",
    "put_into",
    "put_many",
    "squash",
    "tag",
    "tags",
    "transaction",
}
"""Verbs whose wrong calls nobody has written down here yet: take one out, and give it its lines."""
NAMES = [name for name, _ in inspect.getmembers(Verbs, inspect.isfunction) if name[0] != "_"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], World]]:
    """One workspace, embedded and through a server in a thread, and what is in it."""
    disk = tmp_path_factory.mktemp("verbs")
    for name, code in {"good": PIPELINE, "bad": "1/0", "empty": ""}.items():
        (disk / name).mkdir()
        (disk / name / "p.py").write_text(code)
    os.mkfifo(disk / "pipe")
    near = open_workspace(Settings(home=disk / ".clew", workers=2), create=True)
    stop, bound, url = threading.Event(), threading.Event(), []

    def ready(where: str) -> None:
        url.append(where)
        bound.set()

    def run() -> None:
        serve(near, port=0, ready=ready, stop=stop)

    server = threading.Thread(target=run)
    try:
        near.apply(disk / "good" / "p.py")
        near.put("p/rows", {"/rows.csv": ROWS, "/deep/rows.csv": ROWS})
        near.wait()
        version = near.model("p/model@1")
        server.start()
        bound.wait()
        far = RemoteWorkspace(url[0])
        yield {"near": near, "far": far}, World(disk, url[0], version.id, version.job)
        far.close()
    finally:
        stop.set()
        if server.is_alive():
            server.join()
        near.close()


def test_every_verb_has_its_wrong_calls() -> None:
    asked = {one.verb for one in CALLS}
    assert asked | TAKE_NOTHING >= set(NAMES) - NOT_YET
    assert not asked & NOT_YET
    assert not asked & TAKE_NOTHING


@pytest.mark.parametrize("one", CALLS, ids=lambda one: f"{one.verb}-{one.code}")
def test_a_wrong_call_has_the_same_error_near_and_far(
    both: tuple[dict[str, Any], World], one: Wrong
) -> None:
    workspaces, world = both
    said = {}
    for place, workspace in workspaces.items():
        with pytest.raises(ClewError) as refused:
            one.call(workspace, world)
        said[place] = (refused.value.kind, refused.value.code)
    assert said == dict.fromkeys(workspaces, (one.kind, one.code))


CLOSED: list[Callable[[Any, World], object]] = [
    lambda w, _: w.repos(),
    lambda w, _: w.put("p/rows", {"/a": b""}),
    lambda w, _: w.read("p/rows:/rows.csv"),
    lambda w, d: w.get("p/rows", d.disk / "to"),
    lambda w, _: w.log("p/rows"),
    lambda w, d: w.apply(d.disk / "good" / "p.py"),
    lambda w, _: w.wait(),
    lambda w, _: w.wait(watch=print),
    lambda w, _: w.jobs(),
    lambda w, d: w.model(d.version),
    lambda w, _: w.predict("e", [{"x": 1}]),
    lambda w, _: w.status(),
    lambda w, _: w.why("p/rows:/rows.csv"),
    lambda w, _: w.events(),
]


def test_after_close_every_verb_says_so_and_closing_again_is_nothing(
    both: tuple[dict[str, Any], World],
) -> None:
    _, world = both
    for workspace in (
        RemoteWorkspace(world.url),
        open_workspace(Settings(home=world.disk / ".clew", workers=2)),
    ):
        workspace.close()
        workspace.close()
        for number, call in enumerate(CLOSED):
            with pytest.raises(Unavailable) as refused:
                call(workspace, world)
            assert refused.value.code == "workspace.closed", number


def test_wrong_calls_leave_nothing_behind(both: tuple[dict[str, Any], World]) -> None:
    workspaces, world = both
    near = workspaces["near"]
    assert len(near.log("p/rows")) == 1
    assert near.endpoint("e").revisions == ()
    assert not (world.disk / "to").exists()
