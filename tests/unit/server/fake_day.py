"""The records of a believable day, by hand: what the fake of the verbs has to tell."""

import math
import random
from datetime import timedelta

from clew.base.clock import now
from clew.base.records import (
    Check,
    Column,
    ColumnDrift,
    Commit,
    DriftReport,
    Edge,
    Endpoint,
    Event,
    Experiment,
    ExperimentDetail,
    Job,
    MetricPoint,
    ModelVersion,
    Node,
    Prediction,
    RepoInfo,
    Revision,
    Signature,
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


class Day:
    """Fills what a workspace by hand keeps: repos, jobs, an experiment, models, an endpoint."""

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
