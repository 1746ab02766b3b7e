"""A workspace by hand: every verb, with the records of a believable day. Not a mock of ours: the
protocol is the seam, and this is its smallest keeper."""

import io
import itertools
import math
import random
import threading
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from clew.base.clock import now
from clew.base.errors import Conflict, Denied, Invalid, NotFound, NotReady
from clew.base.records import (
    Applied,
    BranchInfo,
    Change,
    ChangeStatus,
    Check,
    Column,
    ColumnDrift,
    ColumnProfile,
    Commit,
    Datum,
    DriftReport,
    Edge,
    Endpoint,
    Event,
    Experiment,
    ExperimentDetail,
    Explanation,
    FileDiff,
    FileInfo,
    Importance,
    Job,
    JobCount,
    LogEntry,
    LogPage,
    MetricPoint,
    ModelVersion,
    Node,
    PipelineInfo,
    Plan,
    PlannedDatum,
    Prediction,
    PredictResult,
    RepoInfo,
    Revision,
    RowChange,
    Signature,
    Status,
    StepInfo,
    TableDiff,
    TableProfile,
    Tag,
    TextDiff,
    Trial,
    Verdict,
)

NOW = now()
MAY = "c5m2y8e1k3q9w7r4"
JUNE = "9x4t6n2v8b1z3j5k"
BAD = "k7f3h1d9s5a2g8w6"
P = "late-flights"


def ago(**parts):
    return NOW - timedelta(**parts)


def ident(seed):
    rng = random.Random(seed)
    return "".join(rng.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(16))


def commit(repo, gid, minutes, *, files=1, size=1_204_331, message="", parent=None, **more):
    return Commit(
        id=ident(f"commit{repo}{gid}"), repo=repo, branch="main", global_id=gid, parent=parent,
        state=more.pop("state", "finished"), tree=f"node:{ident(repo)}", message=message,
        author="ada", provenance=more.pop("provenance", ()), files=files, size_bytes=size,
        started_at=ago(minutes=minutes), finished_at=ago(minutes=minutes - 0.1), **more,
    )  # fmt: skip


def job(step, kind, gid, minutes, state="done", total=5, done=None, skipped=0, reason="", **more):
    return Job(
        id=ident(f"job{step}{gid}"), pipeline=P, step=step, kind=kind, global_id=gid, state=state,
        reason=reason, inputs=(ident(f"commit{P}/flights{gid}"),),
        output=ident(f"commit{P}/{step}{gid}"), total=total,
        done=total - skipped if done is None else done, skipped=skipped,
        failed=more.pop("failed", 0), created_at=ago(minutes=minutes),
        started_at=ago(minutes=minutes - 0.02),
        finished_at=None if state in ("running", "waiting") else ago(minutes=minutes - 0.4),
        **more,
    )  # fmt: skip


STEPS = (("clean", "step"), ("features", "step"), ("model", "train"), ("better", "gate"))


class FakeVerbs:
    """Keeps `Verbs` and the two verbs of a server; remembers what it was asked to do."""

    def __init__(self, empty=False):
        self.empty = empty
        self.asked = []
        self.store = {}
        self.busy = threading.Event()  # set: there is work left
        self.lock = threading.Lock()
        self.log_of_events = []
        if not empty:
            self._fill()

    # the records of the day -----------------------------------------------------------------
    def _fill(self):
        self.repo_list = [
            RepoInfo(
                name=f"{P}/{name}", kind=kind, description=text, created_at=ago(days=3),
                branches={"main": ident(f"commit{P}/{name}{JUNE}")},
            )
            for name, kind, text in (
                ("better", "report", "Evaluation reports"), ("clean", "output", ""),
                ("features", "output", ""), ("flights", "source", "Flights out of New York"),
                ("model", "model", ""), ("weather", "source", "Hourly weather by airport"),
            )
        ]  # fmt: skip
        self.repo_list.append(
            RepoInfo(
                name=f"{P}/taxi",
                kind="source",
                description="",
                created_at=ago(minutes=3),
                branches={"main": None},
            )
        )
        self.commits = []
        for gid, minutes in ((MAY, 200), (JUNE, 44)):
            parent = self.commits[0].id if self.commits else None
            for name in ("flights", "clean", "features", "model"):
                sources = () if name == "flights" else (ident(f"commit{P}/flights{gid}"),)
                message = "June 2013" if gid == JUNE and name == "flights" else "May 2013"
                self.commits.append(
                    commit(f"{P}/{name}", gid, minutes, files=6 if gid == JUNE else 5,
                           message=message, parent=parent, provenance=sources)
                )  # fmt: skip
        self.commits.append(
            commit(f"{P}/clean", BAD, 12, state="aborted", message="",
                   error="2 expectations failed in /2013-07.parquet")
        )  # fmt: skip
        self.job_list = [
            job("features", "step", BAD, 12, "blocked", 0, reason="clean was refused"),
            job("clean", "step", BAD, 12, "refused", 7, done=0, skipped=6, failed=1,
                reason="2 expectations failed in /2013-07.parquet: dep_delay outside -120..2000 "
                "in 812 rows; carrier is null in 40 rows",
                error=""),
            *[job(step, kind, JUNE, 44 - i, "done", 6 if i == 0 else 1, skipped=5 if i == 0 else 0,
                  reason="/2013-06.parquet is new; 5 files are as before" if i == 0
                  else "its input changed")
              for i, (step, kind) in reversed(list(enumerate(STEPS)))],
            *[job(step, kind, MAY, 200 - i, "done", 5 if i == 0 else 1, reason="first run")
              for i, (step, kind) in reversed(list(enumerate(STEPS)))],
        ]  # fmt: skip
        self.job_list.insert(
            0,
            job("model", "train", ident("now"), 0.6, "running", 16, done=7,
                reason="retrain: drift in dep_hour, temp"),
        )  # fmt: skip
        self.job_list.insert(
            0,
            job("better", "gate", ident("now"), 0.6, "waiting", 0, reason="waits for model"),
        )
        self._fill_experiment()
        self._fill_models()
        self._fill_endpoint()
        self.log_of_events = [
            Event(seq=i + 1, at=ago(minutes=44 - i / 4), kind=kind, global_id=JUNE, subject=subject,
                  data=data)
            for i, (kind, subject, data) in enumerate((
                ("commit.finished", ident(f"commit{P}/flights{JUNE}"),
                 {"repo": f"{P}/flights", "branch": "main"}),
                ("job.created", ident(f"jobclean{JUNE}"), {"step": "clean", "state": "waiting"}),
                ("job.ended", ident(f"jobclean{JUNE}"), {"step": "clean", "state": "done"}),
                ("experiment.started", self.experiment_list[0].id, {}),
                ("model.created", self.versions[0].id, {"model": f"{P}/model", "version": 3}),
                ("verdict.given", self.verdict_list[0].id, {"blessed": True}),
                ("revision.created", self.endpoint_list[0].revisions[0].id, {"traffic": 50}),
            ))
        ]  # fmt: skip

    def _fill_experiment(self):
        rng = random.Random(7)
        trials, points = [], []
        eid = ident("experiment")
        for number in range(16):
            params = {
                "learning_rate": round(10 ** rng.uniform(-3, -0.5), 5),
                "max_depth": rng.randint(2, 10),
                "loss": rng.choice(["log", "exp"]),
            }
            skill = 0.75 - abs(math.log10(params["learning_rate"]) + 1.2) * 0.06 + rng.random() / 90
            last = 27 if number in (3, 9) else 9 if number in (1, 6, 9, 12, 14) else 3
            value = None
            for step in range(1, last + 1):
                value = skill - 0.12 * math.exp(-step / 5) + rng.random() / 400
                points.append(
                    MetricPoint(trial=ident(f"trial{number}"), step=step, at=ago(minutes=43),
                                metrics={"roc_auc": value, "loss": 1 - value})
                )  # fmt: skip
            state = {27: "done", 9: "stopped", 3: "stopped"}[last]
            trials.append(
                Trial(id=ident(f"trial{number}"), experiment=eid, number=number + 1,
                      global_id=JUNE, params=params, state=state, step=last, value=value,
                      rung={27: 2, 9: 1, 3: 0}[last], checkpoint=ident(f"cp{number}"), seed=number)
            )  # fmt: skip
        trials.append(
            Trial(id=ident("trial-nan"), experiment=eid, number=17, global_id=JUNE,
                  params={"learning_rate": 0.9, "max_depth": 10, "loss": "exp"}, state="failed",
                  step=1, value=math.inf, rung=0, checkpoint=None, seed=17,
                  error="ValueError: Input contains infinity")
        )  # fmt: skip
        best = max(trials[:-1], key=lambda t: t.value)
        points.append(
            MetricPoint(trial=ident("trial-nan"), step=1, metrics={"roc_auc": math.inf},
                        at=ago(minutes=43))
        )  # fmt: skip
        experiment = Experiment(
            id=eid, job=ident(f"jobmodel{JUNE}"), pipeline=P, step="model", global_id=JUNE,
            state="done", searcher="asha", metric="roc_auc", mode="max", trials=17,
            best_trial=best.id, best_value=best.value, created_at=ago(minutes=43),
            finished_at=ago(minutes=42),
        )  # fmt: skip
        self.detail = ExperimentDetail(
            experiment=experiment, trials=tuple(trials), points=tuple(points)
        )
        self.experiment_list = [experiment]

    def _fill_models(self):
        signature = Signature(
            frame="polars",
            inputs=(Column(name="distance", type="int64"), Column(name="carrier", type="string"),
                    Column(name="temp", type="double", nullable=True)),
            width=3, task="binary", classes=("False", "True"),
        )  # fmt: skip
        rows = (("refused", (), 0.691, ident("gidbad2")), ("blessed", ("champion",), 0.742, JUNE),
                ("blessed", (), 0.729, MAY))  # fmt: skip
        self.versions, self.verdict_list = [], []
        for index, (state, aliases, auc, gid) in enumerate(rows):
            number = len(rows) - index
            version = ModelVersion(
                id=ident(f"version{number}"), model=f"{P}/model", version=number, global_id=gid,
                commit=ident(f"commit{P}/model{gid}"), job=ident(f"jobmodel{gid}"),
                experiment=ident("experiment"), trial=self.detail.experiment.best_trial,
                params={"learning_rate": 0.0631, "max_depth": 6, "loss": "log"},
                signature=signature, state=state,
                metrics={"roc_auc": auc, "log_loss": 0.41 + number / 100, "accuracy": 0.81},
                aliases=aliases, test_commit=ident("test"), verdict=ident(f"verdict{number}"),
                created_at=ago(minutes=10 + 60 * index),
            )  # fmt: skip
            blessed = state == "blessed"
            checks = (
                Check(name="roc_auc at least 0.65", passed=True, observed=auc, required="≥ 0.65",
                      reason=f"roc_auc is {auc}"),
                Check(name="beats champion on roc_auc", passed=blessed, observed=auc,
                      required="≥ champion",
                      reason="better by 0.013 (95 % interval 0.008 to 0.018)" if blessed
                      else "worse than the champion by 0.051 (95 % interval -0.058 to -0.044)"),
                Check(name="worst carrier within 0.10", passed=blessed, observed=0.043,
                      required="gap ≤ 0.10",
                      reason="HA is furthest, 0.043 below all" if blessed
                      else "OO is 0.164 below all over 1,204 rows",
                      evidence={"slices": [{"carrier": "HA", "roc_auc": 0.699, "rows": 342},
                                           {"carrier": "UA", "roc_auc": 0.748, "rows": 58_665}]}),
            )  # fmt: skip
            self.verdict_list.append(
                Verdict(id=version.verdict, model_version=version.id, global_id=gid,
                        blessed=blessed, checks=checks, metrics=version.metrics,
                        champion=ident("version1") if number > 1 else None,
                        champion_metrics={"roc_auc": 0.729, "log_loss": 0.42}
                        if number > 1 else {},
                        test_commit=ident("test"), commit=ident("report"),
                        digest="verdict:8b1f0c", created_at=version.created_at)
            )  # fmt: skip
            self.versions.append(version)

    def _fill_endpoint(self):
        def revision(number, state, traffic, reason, requests):
            return Revision(
                id=ident(f"rev{number}"), endpoint=P, number=number,
                model_version=self.versions[3 - number - 1 if number < 3 else 0].id,
                global_id=JUNE, state=state, traffic=traffic, reason=reason,
                created_at=ago(minutes=90 - 30 * number), requests=requests, errors=number - 1,
            )  # fmt: skip

        self.endpoint_list = [
            Endpoint(
                name=P, pipeline=P, model=f"{P}/model", rollout="canary 10 → 50 → 100 %",
                url=f"http://127.0.0.1:8687/v2/models/{P}",
                revisions=(revision(2, "canary", 30, "blessed: better by 0.013", 1_204),
                           revision(1, "live", 70, "first blessed version", 48_211)),
                requests=49_415, errors=1, p50_ms=0.84, p99_ms=3.1,
            )
        ]  # fmt: skip
        self.prediction_list = [
            Prediction(
                id=f"p{ident(f'prediction{i}')}", endpoint=P, revision=ident("rev2"),
                model_version=self.versions[1].id, global_id=JUNE, at=ago(seconds=9 * i + 2),
                latency_ms=0.6 + i / 9,
                inputs={"distance": [1400 + i], "carrier": ["UA"],
                        "temp": [math.nan if i else 71.2]},
                outputs={"probability": [0.1 + i / 20], "late": [i > 8]},
            )
            for i in range(12)
        ]  # fmt: skip
        self.drift_list = [
            DriftReport(
                id=ident("drift"), endpoint=P, model_version=self.versions[1].id,
                global_id=ident("now"), rows=5_000, drifted=True,
                columns=(
                    ColumnDrift(column="dep_hour", statistic="psi", value=0.41, threshold=0.2,
                                drifted=True, detail="evening flights 2.3 times as many"),
                    ColumnDrift(column="temp", statistic="psi", value=0.27, threshold=0.2,
                                drifted=True, detail="median 84 instead of 61"),
                    ColumnDrift(column="distance", statistic="psi", value=0.02, threshold=0.2,
                                drifted=False),
                ),
                commit=ident("driftcommit"), action="retrain", created_at=ago(minutes=1),
            )
        ]  # fmt: skip

    # data -----------------------------------------------------------------------------------
    def create_repo(self, name, *, description=""):
        if name.endswith("/flights"):
            raise Conflict("repo.exists", f"There is a repo {name} already.", hint="Use it.")
        self.asked.append(("create_repo", name, description))
        return RepoInfo(name=name, kind="source", description=description, created_at=NOW)

    def repos(self):
        return [] if self.empty else self.repo_list

    def put(self, repo, files, *, branch="main", message="", delete=(), replace=False, meta=None):
        if repo == f"{P}/nothing":
            raise NotFound("repo.unknown", f"There is no repo {repo}.", hint="See `clew ls`.")
        held = {
            path: data if isinstance(data, bytes)
            else data.read_bytes() if isinstance(data, Path) else data.read()
            for path, data in files.items()
        }  # fmt: skip
        self.store.update(held)
        self.asked.append(("put", repo, branch, message, sorted(delete), replace))
        return commit(repo, JUNE, 1, files=len(held), message=message)

    def read(self, address):
        repo, _, path = address.partition(":")
        if path not in self.store:
            raise NotFound("file.unknown", f"There is no {path} in {repo}.", hint="See `clew ls`.")
        return self.store[path]

    def open_file(self, address):
        return io.BytesIO(self.read(address))

    def get(self, address, target, *, progress=None):
        path = address.partition(":")[2] or "/"
        if path in self.store:
            place = target / path.rpartition("/")[2] if target.is_dir() else target
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.store[path])
            return [place]
        written = []
        for name, data in sorted(self.store.items()):
            if name.startswith(path):
                place = target / name[len(path) :].lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
                written.append(place)
        if not written:
            raise NotFound("file.unknown", f"There is nothing at {address}.", hint="See `clew ls`.")
        return written

    def ls(self, address, *, recursive=False):
        path = address.partition(":")[2] or "/"
        found = [
            FileInfo(path=name, kind="file", digest=f"file:{ident(name)}", size_bytes=len(data))
            for name, data in sorted(self.store.items())
            if name == path or name.startswith(path.rstrip("/") + "/")
        ]
        if not found:
            raise NotFound("file.unknown", f"There is nothing at {address}.", hint="See `clew ls`.")
        return found

    def branches(self, repo):
        heads = next(info.branches for info in self.repos() if info.name == repo)
        found = {c.id: c for c in self.commits}
        readers = (f"{P}/clean",) if repo.endswith("/flights") else ()
        return [
            BranchInfo(repo=repo, name=name, head=found.get(head), read_by=readers)
            for name, head in heads.items()
        ]

    def tags(self, repo):
        return [
            Tag(repo=repo, name="v1", commit=c.id, at=NOW, message="what the paper used")
            for c in self.commits[:1]
            if c.repo == repo
        ]

    def profile(self, address):
        columns = (
            ColumnProfile(name="dep_delay", type="int64", nulls=3, low="-40", high="1301",
                          distinct=527),
            ColumnProfile(name="carrier", type="string", low="9E", high="YV"),
        )  # fmt: skip
        return TableProfile(
            path=address.partition(":")[2],
            digest="file:00",
            size_bytes=9,
            format="CSV",
            rows=28_243,
            columns=columns,
        )

    def log(self, repo, *, branch="main", limit=50, **_):
        if repo not in {info.name for info in self.repos()}:
            raise NotFound("repo.unknown", f"There is no repo {repo}.", hint="See `clew ls`.")
        return sorted(
            (c for c in self.commits if c.repo == repo), key=lambda c: c.started_at, reverse=True
        )[:limit]

    def commit(self, ref):
        for c in self.commits:
            if c.id.startswith(ref) or ref in {f"{c.repo}@main", f"{c.repo}@{c.id}"}:
                return c
        raise NotFound("commit.unknown", f"There is no commit {ref}.", hint="See `clew log REPO`.")

    def sql(self, query, *, attach=None):
        raise NotImplementedError("the server asks for a file")

    def sql_file(self, query, target):
        if query != "select 1":
            raise Invalid("sql.syntax", f"{query} is no SQL.", hint="Write a SELECT.")
        table = pa.table({"one": [1, 2]})
        with pa.ipc.new_stream(target, table.schema) as stream:
            stream.write_table(table)

    def sql_into(self, query, address, *, attach=None, message=""):
        self.asked.append(("sql_into", query, address, message))
        return self.commits[0]

    def compare(self, old, new, *, paths=(), key=(), limit=10, files=100):
        self.asked.append(("compare", list(paths), list(key), limit, files))
        table = TableDiff(
            old_rows=2, new_rows=3, added=1, removed=0, changed=1, key=tuple(key), columns=(),
            cells={"delay": 1}, numbers=(),
            sample=(
                RowChange(kind="changed", key={"id": 1}, old={"delay": None}, new={"delay": 2.5}),
            ),
        )  # fmt: skip
        text = TextDiff(
            added=1, removed=0, text="--- a\n+++ b\n@@ -1 +1,2 @@\n a\n+<b>\n", cut=False
        )
        info = FileInfo(path="/x.parquet", kind="file", digest="file:a", size_bytes=3)
        return [
            FileDiff(path="/x.parquet", kind="changed", old=info, new=info, table=table),
            FileDiff(path="/notes.txt", kind="changed", old=info, new=info, text=text),
        ]

    def diff(self, old, new):
        if old == "corrupt":
            raise Invalid("address.invalid", "No such address.")
        before = FileInfo(path="/x.parquet", kind="file", digest="file:a", size_bytes=3)
        after = FileInfo(
            path="/2013-06.parquet", kind="file", digest="file:b", size_bytes=1_310_220
        )
        return [
            Change(path="/2013-06.parquet", kind="added", old=None, new=after),
            Change(path="/x.parquet", kind="deleted", old=before, new=None),
        ]

    # work -----------------------------------------------------------------------------------
    def apply(self, file, **_):
        raise AssertionError("a server is asked apply_files")

    def plan(self, file, **_):
        raise AssertionError("a server is asked plan_files")

    def job_counts(self):
        def key(job):
            return job.pipeline, job.step, job.state

        return [
            JobCount(
                pipeline=of[0][0], step=of[0][1], state=of[0][2], jobs=len(of[1]),
                done=sum(job.done for job in of[1]),
                skipped=sum(job.skipped for job in of[1]),
                failed=sum(job.failed for job in of[1]),
            )
            for name, jobs in itertools.groupby(sorted(self.job_list, key=key), key)
            for of in [(name, list(jobs))]
        ]  # fmt: skip

    def apply_files(self, files, entry, *, message="", parameters=None, branch="main"):
        self.asked.append(("apply_files", dict(files), entry, message))
        return [Applied(pipeline=P, version=3, changed=True, global_id=JUNE, notes=("widened",))]

    def plan_files(
        self, files, entry, *, parameters=None, branch="main", put=None, delete=(), packages=None
    ):
        supposed = {place: one.read() for place, one in (put or {}).items()}
        self.asked.append(("plan_files", dict(files), supposed, list(delete), packages or {}))
        datum = PlannedDatum(step="clean", action="skip", inputs=("/a",), reason="as before")
        return [Plan(pipeline=P, new_version=True, datums=(datum,), unknown=("features",))]

    def wait(self, global_id=None, *, watch=None, timeout_s=0):
        if global_id == "nowhere":
            raise NotFound("change.unknown", "No such change.", hint="See `clew status`.")
        end = time.monotonic() + (timeout_s or 60)
        while self.busy.is_set():
            if time.monotonic() > end:
                raise NotReady("wait.timeout", "There is work left.", hint="Wait longer.")
            time.sleep(0.005)

    def happen(self, kind, subject, **data):
        """Record an event, as work in a server does."""
        with self.lock:
            self.log_of_events.append(
                Event(seq=len(self.log_of_events) + 1, at=now(), kind=kind, global_id=JUNE,
                      subject=subject, data=data)
            )  # fmt: skip

    def pipelines(self):
        if self.empty:
            return []
        steps = [
            StepInfo(name=name, kind="source", repo=f"{P}/{name}", inputs=())
            for name in ("flights", "weather")
        ]
        inputs = {"clean": (f"{P}/flights",), "features": (f"{P}/clean", f"{P}/weather"),
                  "model": (f"{P}/features",), "better": (f"{P}/model",)}  # fmt: skip
        steps += [
            StepInfo(name=name, kind=kind, repo=f"{P}/{name}", inputs=inputs[name],
                     per="file" if name == "clean" else "repo", function=f"flights.py:{name}",
                     fingerprint=f"code:{ident(name)}")
            for name, kind in STEPS
        ]  # fmt: skip
        return [PipelineInfo(name=P, version=3, snapshot="node:abc", file="flights.py",
                             steps=tuple(steps), endpoints=(P,), created_at=ago(days=1),
                             global_id=MAY)]  # fmt: skip

    def jobs(self, *, pipeline=None, state=None, limit=100):
        if self.empty:
            return []
        return [
            j for j in self.job_list
            if (pipeline is None or j.pipeline == pipeline) and (state is None or j.state == state)
        ][:limit]  # fmt: skip

    def job(self, job_id):
        return self._one(self.jobs(), job_id, "job")

    def datums(self, job_id, *, limit=1000):
        found = self.job(job_id)
        months = [f"/2013-0{i + 1}.parquet" for i in range(found.total)]
        datums = [
            Datum(id=ident(f"datum{job_id}{m}"), job=job_id, key=f"datum:{ident(m)}",
                  state="done" if found.kind != "step" else "skipped",
                  reason="same input, code and environment as in an earlier job",
                  inputs=((f"{P}/flights:{m}", f"file:{ident(m)}"),), duration_s=0.31,
                  made_by=ident(f"jobclean{MAY}"))
            for m in months
        ]  # fmt: skip
        if found.state == "refused":
            evidence = {
                "expectations": [
                    {"expectation": "expect_column_values_to_be_between", "column": "dep_delay",
                     "failed_rows": 812, "total": 28_000,
                     "examples": [{"row": 17, "dep_delay": 90_210.0, "carrier": "UA"},
                                  {"row": 91, "dep_delay": None, "carrier": "<b>B6</b>"}]},
                    {"expectation": "expect_column_values_to_not_be_null", "column": "carrier",
                     "failed_rows": 40, "total": 28_000,
                     "examples": [{"row": 3, "dep_delay": 2.0, "carrier": None}]},
                ]
            }  # fmt: skip
            datums[-1] = Datum(
                id=ident("bad"), job=job_id, key="datum:bad", state="refused",
                reason="2 expectations failed", inputs=datums[-1].inputs, duration_s=0.2,
                error="dep_delay outside -120..2000 in 812 rows", evidence=evidence,
            )  # fmt: skip
        return datums[:limit]

    def job_log(self, job_id):
        self.job(job_id)
        return "reading 28,243 rows\ndone in 0.3 s\n"

    def run(self, pipeline, step=None, *, reason="", priority=None, parameters=None):
        self.asked.append(("run", pipeline, step, reason))
        return JUNE

    def _acted(self, act, subject):
        self.asked.append((act, subject))
        return [self.job(subject)]

    def cancel_all(self, subject):
        return self._acted("cancel_all", subject)

    def pause(self, subject):
        return self._acted("pause", subject)

    def resume(self, subject):
        return self._acted("resume", subject)

    def retry(self, subject, *, priority=None):
        return self._acted("retry", subject)

    def restart(self, datum_id):
        self.asked.append(("restart", datum_id))
        return self.job_list[0]

    def logs(self, job_id, *, datum="", after=0, limit=1000, wait_s=0):
        entry = LogEntry(at=ago(minutes=1), datum=datum, text=self.job_log(job_id))
        return LogPage(entries=(entry,), next=after + 1, ended=True)

    def cancel(self, job_id):
        self.asked.append(("cancel", job_id))
        return self.job(job_id)

    def experiments(self, *, limit=50):
        return [] if self.empty else self.experiment_list[:limit]

    def importances(self, experiment_id):
        self._one(self.experiments(), experiment_id, "experiment")
        shares = {"learning_rate": 0.72, "max_depth": 0.21, "loss": 0.07}
        return [Importance(parameter=name, share=share) for name, share in shares.items()]

    def experiment(self, experiment_id):
        self._one(self.experiments(), experiment_id, "experiment")
        return self.detail

    # models and endpoints -------------------------------------------------------------------
    def models(self, model=None):
        return [] if self.empty else [v for v in self.versions if model in (None, v.model)]

    def model(self, ref):
        for v in self.models():
            if v.id.startswith(ref) or ref in (f"{v.model}@{v.version}",
                                               *(f"{v.model}@{a}" for a in v.aliases)):  # fmt: skip
                return v
        raise NotFound("model.unknown", f"There is no model version {ref}.", hint="`clew ls`.")

    def verdict(self, verdict_id):
        return self._one(self.verdicts(), verdict_id, "verdict")

    def verdicts(self, model=None):
        return [] if self.empty else self.verdict_list

    def endpoints(self):
        return [] if self.empty else self.endpoint_list

    def endpoint(self, name):
        for e in self.endpoints():
            if e.name == name:
                return e
        raise NotFound("endpoint.unknown", f"There is no endpoint {name}.", hint="`clew status`.")

    def deploy(
        self, endpoint, model_version, *, override_by="", override_reason="", champion=False
    ):
        version = self.model(model_version)
        if version.state == "refused" and not (override_by and override_reason):
            raise Denied("model.not_blessed", f"{model_version} was refused by its gate.",
                         hint="Deploy it with --override-by and --reason.")  # fmt: skip
        self.asked.append(("deploy", endpoint, model_version, override_by, override_reason))
        return self.endpoint_list[0].revisions[0]

    def rollback(self, endpoint, *, reason=""):
        self.asked.append(("rollback", endpoint, reason))
        return self.endpoint_list[0].revisions[1]

    def predict(self, endpoint, rows):
        self.endpoint(endpoint)
        self.asked.append(("predict", list(rows)))
        return PredictResult(
            prediction_id="p" + ident("one"), global_id=JUNE, endpoint=endpoint,
            revision=ident("rev1"), model_version=self.versions[1].id,
            outputs={"probability": [0.25] * len(rows)},
        )  # fmt: skip

    def predictions(self, endpoint, *, limit=20):
        return self.prediction_list[:limit]

    def drift(self, endpoint=None, *, limit=20):
        return [] if self.empty else self.drift_list[:limit]

    # questions ------------------------------------------------------------------------------
    def status(self):
        jobs = self.jobs()
        return Status(
            workspace="~/flights/.clew",
            running=tuple(j for j in jobs if j.state == "running"),
            waiting=tuple(j for j in jobs if j.state == "waiting"),
            recent=tuple(j for j in jobs if j.state == "done")[:8],
            refused=tuple(j for j in jobs if j.state == "refused"),
            endpoints=tuple(self.endpoints()), drift=tuple(self.drift()),
            global_ids=() if self.empty else (ident("now"), BAD, JUNE, MAY),
        )  # fmt: skip

    def change(self, global_id):
        known = {ident("now"), BAD, JUNE, MAY}
        found = next((g for g in known if g.startswith(global_id)), None)
        if found is None or self.empty:
            raise NotFound(
                "change.unknown", f"There is no change {global_id}.", hint="`clew status`."
            )

        def mine(things):
            return tuple(t for t in things if t.global_id == found)

        return ChangeStatus(
            global_id=found, commits=mine(self.commits), jobs=mine(self.job_list),
            experiments=mine(self.experiment_list), trials=mine(self.detail.trials),
            model_versions=mine(self.versions), verdicts=mine(self.verdict_list),
            revisions=mine(self.endpoint_list[0].revisions), drift_reports=mine(self.drift_list),
            predictions=49_415 if found == JUNE else 0, events=mine(self.log_of_events),
        )  # fmt: skip

    def why(self, subject, *, down=False):
        nodes, edges = self._lineage()
        node = next((n for n in nodes if subject and n.id.startswith(subject)), None)
        if node is None:
            raise NotFound("subject.unknown", f"Nothing is known by {subject!r}.",
                           hint="Give at least four characters of an id.")  # fmt: skip
        return Explanation(
            subject=node, direction="down" if down else "up", nodes=tuple(nodes),
            edges=tuple(edges),
            sentences=(
                f"Prediction {nodes[0].id[:8]} was answered by revision 2 of {P}.",
                "Revision 2 serves version 2 of late-flights/model, blessed: better by 0.013.",
                "It is trial 4 of a search over 17, trained on 6 months of flights.",
            ),
        )  # fmt: skip

    def _lineage(self):
        def node(kind, seed, title, **detail):
            return Node(kind=kind, id=seed, title=title, global_id=JUNE, detail=detail)

        flights = ident(f"commit{P}/flights{JUNE}")
        clean, features = ident(f"commit{P}/clean{JUNE}"), ident(f"commit{P}/features{JUNE}")
        trial, version = self.detail.experiment.best_trial, self.versions[1].id
        months = [
            node("file", f"file:{ident(f'm{i}')}", f"/2013-0{i}.parquet") for i in range(1, 7)
        ]
        datums = [node("datum", ident(f"d{i}"), f"clean 2013-0{i}") for i in range(1, 7)]
        nodes = [
            node("prediction", self.prediction_list[0].id, "late: no (0.10)"),
            node("revision", ident("rev2"), f"{P} revision 2"),
            node("model_version", version, f"{P}/model@2", roc_auc=0.742),
            node("verdict", ident("verdict2"), "blessed"),
            node("trial", trial, "trial 4 of 17", learning_rate=0.0631, max_depth=6),
            node("experiment", ident("experiment"), "asha over 17 trials"),
            node("commit", features, f"{P}/features@main"),
            node("commit", ident(f"commit{P}/weather{MAY}"), f"{P}/weather@main"),
            node("commit", clean, f"{P}/clean@main"),
            *datums,
            node("code", "code:8f2a91c0d4", "flights.py:clean"),
            node("commit", flights, f"{P}/flights@main"),
            *months,
        ]
        edges = [
            Edge(source=ident("rev2"), target=nodes[0].id, label="answered"),
            Edge(source=version, target=ident("rev2"), label="serves"),
            Edge(source=ident("verdict2"), target=ident("rev2"), label="allowed"),
            Edge(source=version, target=ident("verdict2"), label="judged"),
            Edge(source=trial, target=version, label="made"),
            Edge(source=ident("experiment"), target=trial, label="searched"),
            Edge(source=features, target=ident("experiment"), label="read"),
            Edge(source=clean, target=features, label="read"),
            Edge(source=ident(f"commit{P}/weather{MAY}"), target=features, label="read"),
        ]
        for month, datum in zip(months, datums, strict=True):
            edges += [Edge(source=datum.id, target=clean, label="made"),
                      Edge(source="code:8f2a91c0d4", target=datum.id, label="ran"),
                      Edge(source=month.id, target=datum.id, label="read"),
                      Edge(source=flights, target=month.id, label="holds")]  # fmt: skip
        return nodes, edges

    def events(self, *, after=0, limit=1000):
        with self.lock:
            return iter(self.log_of_events[after : after + limit])

    def close(self):
        self.asked.append(("close",))

    def _one(self, things, given, what):
        for thing in things:
            if given and thing.id.startswith(given):
                return thing
        raise NotFound(f"{what}.unknown", f"There is no {what} {given}.", hint="See `clew status`.")
