"""What MLflow logs by itself: scikit-learn's fits, searches over parameters, system metrics."""

from pathlib import Path

import mlflow
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV

client = mlflow.MlflowClient()

PROJECT = """
name: job
entry_points:
  main:
    parameters:
      n: {type: int, default: 1}
    command: python main.py {n}
"""
MAIN = """
import sys, mlflow
with mlflow.start_run():
    mlflow.log_metric("n", int(sys.argv[1]))
"""


def flow(see):
    experiment = mlflow.get_experiment_by_name("automatic").experiment_id
    x, y = load_iris(return_X_y=True)
    mlflow.sklearn.autolog(silent=True)
    with mlflow.start_run(run_name="forest") as run:
        forest = RandomForestClassifier(n_estimators=4, random_state=0).fit(x, y)
        forest.score(x, y)
    told(see, "forest", run.info.run_id)
    with mlflow.start_run(run_name="grid") as run:
        GridSearchCV(
            RandomForestClassifier(n_estimators=3, random_state=0), {"max_depth": [1, 2]}, cv=2
        ).fit(x, y)
    told(see, "grid", run.info.run_id)
    see(
        "below it",
        lambda: len(
            client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
        ),
    )
    see("without a run", lambda: LinearRegression().fit(x, y).coef_.shape)
    last = mlflow.last_active_run().info.run_id
    told(see, "line", last)
    mlflow.sklearn.autolog(disable=True)
    system(see)
    project(see)


def told(see, name, rid):
    run = client.get_run(rid)
    see(f"{name} params", lambda: run.data.params)
    see(f"{name} metrics", lambda: {k: round(v, 5) for k, v in run.data.metrics.items()})
    see(f"{name} files", lambda: sorted(f.path for f in client.list_artifacts(rid)))
    see(f"{name} models", lambda: len(run.outputs.model_outputs))
    see(f"{name} data", lambda: sorted(one.dataset.name for one in run.inputs.dataset_inputs))


def system(see):
    mlflow.set_system_metrics_sampling_interval(0.05)
    mlflow.set_system_metrics_samples_before_logging(1)
    with mlflow.start_run(log_system_metrics=True) as run:
        while not any(
            k.startswith("system/") for k in client.get_run(run.info.run_id).data.metrics
        ):
            pass
    found = client.get_run(run.info.run_id).data.metrics
    see(
        "system metrics",
        lambda: (
            {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"}
            <= set(found)
        ),
    )


def project(see):
    Path("job").mkdir()
    Path("job/MLproject").write_text(PROJECT)
    Path("job/main.py").write_text(MAIN)
    done = mlflow.projects.run(
        "job", parameters={"n": 5}, env_manager="local", experiment_name="automatic"
    )
    run = client.get_run(done.run_id)
    see(
        "a project",
        lambda: [
            run.info.status,
            run.data.metrics,
            run.data.params,
            run.data.tags["mlflow.project.env"],
        ],
    )
