"""MLflow beside pipelines: what steps and trials train is logged by itself, gates decide on
aliases, and what was acknowledged is there after the server was killed."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from contextlib import suppress
from http.client import HTTPException

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROJECT = """
import polars as pl
from sklearn.linear_model import LogisticRegression

import clew

auto = clew.Pipeline("auto")
rows = auto.source("rows")

@auto.step(rows.glob("/*.csv"), per="file")
def fit(part: pl.DataFrame) -> pl.DataFrame:
    model = LogisticRegression().fit(part.select("x").to_numpy(), part["y"].to_numpy())
    return pl.DataFrame({"c": [float(model.coef_[0][0])]})

@auto.train(rows, target="y", test=clew.holdout(0.3))
def model(data: pl.DataFrame, trial: clew.Trial):
    return LogisticRegression().fit(data.select("x").to_numpy(), data["y"].to_numpy())

@auto.gate(model)
def good(candidate: clew.Candidate):
    candidate.at_least("accuracy", LEAST)

auto.endpoint("auto", model)
"""

CLIENT = """
import json, sys
import mlflow
from mlflow.exceptions import MlflowException

client, told = mlflow.MlflowClient(), {}
def asked(name, act, *args):
    try:
        act(*args)
        told[name] = "done"
    except MlflowException as error:
        told[name] = f"{error.error_code}: {error.message}"

experiments = {one.experiment_id: one.name for one in client.search_experiments()}
told["runs"] = [
    [experiments[run.info.experiment_id], run.info.status,
     run.data.tags.get("clew.context"), run.data.tags.get("clew.global_id"),
     run.data.tags.get("mlflow.autologging"), "training_accuracy_score" in run.data.metrics]
    for run in client.search_runs(list(experiments))]
told["versions"] = {one.version: one.tags["clew.state"]
                    for one in client.search_model_versions("name='auto.model'")}
asked("champion on refused", client.set_registered_model_alias, "auto.model", "champion", "2")
asked("challenger on refused", client.set_registered_model_alias, "auto.model", "challenger", "2")
asked("champion on blessed", client.set_registered_model_alias, "auto.model", "champion", "1")
asked("take away", client.delete_registered_model_alias, "auto.model", "champion")
asked("put beside", client.create_model_version, "auto.model", "mlflow-artifacts:/x")
asked("stage", client.transition_model_version_stage, "auto.model", "2", "Production")
asked("delete", client.delete_registered_model, "auto.model")
import pandas as pd
loaded = mlflow.pyfunc.load_model("models:/auto.model@champion")
told["answers"] = [int(one) for one in loaded.predict(pd.DataFrame({"x": [-0.9, 0.9]}))]
json.dump(told, open(sys.argv[1], "w"))
"""


def rows_of(first):
    lines = [f"{x / 100},{int(x + (x * first) % 7 > 3)}" for x in range(-100, 100)]
    return "\n".join(["x,y", *lines]) + "\n"


def run_client(place, server, text):
    told = place.directory / "told.json"
    program = place.write("client.py", text)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CLEW_")}
    environ |= {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", program, told],
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(told.read_text())


def post(url, path, body):
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_what_steps_and_trials_train_is_logged_and_gates_decide_on_aliases(place_at, tmp_path):
    place = place_at(tmp_path / "here", CLEW_AUTOLOG="on")
    try:
        place.clew("init", "--bare", ".")
        place.write("p.py", PROJECT.replace("LEAST", "0.8"))
        place.write("a.csv", rows_of(1))
        place.write("b.csv", rows_of(2))
        server = place.server()
        place.clew("apply", "p.py")
        place.clew("put", "auto/rows", "a.csv", "b.csv")
        place.edit("p.py", 'numpy(), data["y"]', 'numpy(), 1 - data["y"]')  # all wrong
        place.clew("apply", "p.py", exits=1)
        told = run_client(place, server, CLIENT)
        jobs = {job["id"]: job for job in place.json("jobs")}
    finally:
        place.close()
    by_step = {"auto.fit": 0, "auto.model": 0}
    for experiment, status, context, global_id, library, measured in told["runs"]:
        assert (status, library, measured) == ("FINISHED", "sklearn", True)
        by_step[experiment] += 1
        if experiment == "auto.fit":
            assert jobs[context]["global_id"] == global_id
        else:
            assert context
            assert global_id in {job["global_id"] for job in jobs.values()}
    assert by_step["auto.fit"] == 2
    assert by_step["auto.model"] >= 2
    assert told["versions"] == {"1": "blessed", "2": "refused"}
    for refused in ("champion on refused", "stage"):
        assert "PERMISSION_DENIED: auto/model version 2 is refused, not blessed" in told[refused]
        assert "clew deploy" in told[refused]
    assert told["champion on blessed"] == told["challenger on refused"] == "done"
    for refused in ("take away", "put beside", "delete"):
        assert told[refused].startswith("PERMISSION_DENIED"), told[refused]
    assert told["answers"] == [0, 1]


def test_a_metric_that_was_acknowledged_is_there_after_a_kill_and_only_once(place_at, tmp_path):
    place = place_at(tmp_path / "here")
    try:
        place.clew("init", "--bare", ".")
        known = set()
        run = ""
        for _ in range(3):
            server = place.server()
            base = "/api/2.0/mlflow/runs"
            if not run:
                body = {"experiment_id": "0", "start_time": 1}
                run = post(server.url, f"{base}/create", body)["run"]["info"]["run_id"]
            begin = threading.Barrier(5)

            def log(first, url=server.url, begin=begin, base=base, run=run):
                begin.wait()
                with suppress(OSError, HTTPException):  # until the server is killed
                    for step in range(first, first + 100_000, 4):
                        body = {"run_id": run, "key": "loss", "value": step, "timestamp": 1}
                        post(url, f"{base}/log-metric", body | {"step": step})
                        known.add(step)

            start = max(known, default=-4) // 4 * 4 + 4
            threads = [threading.Thread(target=log, args=(start + n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            begin.wait()
            enough = len(known) + 200
            while len(known) < enough:
                threads[0].join(0.01)
                assert any(thread.is_alive() for thread in threads)
            server.kill()
            for thread in threads:
                thread.join()
        server = place.server()
        found, token = [], ""
        while True:
            query = f"run_id={run}&metric_key=loss&max_results=25000&page_token={token}"
            with urllib.request.urlopen(
                f"{server.url}/api/2.0/mlflow/metrics/get-history?{query}"
            ) as answer:
                page = json.load(answer)
            found += [one["step"] for one in page.get("metrics", [])]
            token = page.get("next_page_token", "")
            if not token:
                break
    finally:
        place.close()
    assert len(found) == len(set(found))
    assert known <= set(found)
