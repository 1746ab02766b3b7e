"""Data sets that runs say they used: of pandas, NumPy and Polars; found again by search."""

import mlflow
import mlflow.data
import numpy as np
import pandas as pd
import polars as pl
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

client = mlflow.MlflowClient()


def flow(see):
    experiment = mlflow.get_experiment_by_name("datasets").experiment_id
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [0, 1, 0]})
    frame.to_csv("rows.csv", index=False)
    made = {
        "pandas": lambda: mlflow.data.from_pandas(
            frame, source="rows.csv", name="frame", targets="y"
        ),
        "numpy": lambda: mlflow.data.from_numpy(
            np.arange(6.0).reshape(3, 2), targets=np.array([0, 1, 0]), name="array"
        ),
        "polars": lambda: mlflow.data.from_polars(pl.from_pandas(frame), name="polar", targets="y"),
        "predictions": lambda: mlflow.data.from_pandas(
            frame.assign(p=[0, 1, 1]), targets="y", predictions="p", name="predicted"
        ),
    }
    for name, make in made.items():
        with mlflow.start_run(run_name=name) as run:
            see(
                f"{name} logged",
                lambda make=make: mlflow.log_input(make(), context="training", tags={"k": "v"}),
            )
        see(f"{name} kept", lambda run=run: inputs(run.info.run_id))
    with mlflow.start_run(run_name="several") as run:
        mlflow.log_inputs(
            [made["pandas"](), made["numpy"]()], ["training", "test"], [{"a": "1"}, None]
        )
        mlflow.log_input(made["polars"](), context="validation")
        mlflow.log_input(made["pandas"](), context="training")
    see("several kept", lambda: inputs(run.info.run_id))
    source = client.get_run(run.info.run_id).inputs.dataset_inputs
    see(
        "source",
        lambda: sorted(type(mlflow.data.get_source(one.dataset)).__name__ for one in source),
    )
    digest = made["pandas"]().digest
    for text in (
        "datasets.name = 'frame'",
        "dataset.name LIKE '%r%'",
        "datasets.context = 'test'",
        f"datasets.digest = '{digest}'",
        "datasets.name IN ('array', 'polar') AND attributes.status = 'FINISHED'",
    ):
        see(
            f"runs where {text}",
            lambda text=text: sorted(
                r.info.run_name for r in client.search_runs([experiment], text)
            ),
        )
    see("as the pages ask", lambda: asked(experiment))
    with mlflow.start_run(run_name="measured"):
        data = made["pandas"]()
        see("a metric of a data set", lambda: mlflow.log_metric("auc", 0.9, step=1, dataset=data))
        see("metrics of a data set", lambda: mlflow.log_metrics({"a": 1, "b": 2}, dataset=data))
        see(
            "they are there",
            lambda: dict(
                sorted(mlflow.get_run(mlflow.active_run().info.run_id).data.metrics.items())
            ),
        )
    see("what is none", lambda: mlflow.log_input("rows.csv"))


def asked(experiment):
    answer = http_request(
        get_default_host_creds(mlflow.get_tracking_uri()),
        "/ajax-api/2.0/mlflow/experiments/search-datasets",
        "POST",
        json={"experiment_ids": [experiment]},
    )
    return sorted([one["name"], one.get("context")] for one in answer.json()["dataset_summaries"])


def inputs(rid):
    return sorted(
        [
            one.dataset.name,
            one.dataset.digest,
            one.dataset.source_type,
            one.dataset.schema,
            one.dataset.profile,
            sorted((tag.key, tag.value) for tag in one.tags),
        ]
        for one in client.get_run(rid).inputs.dataset_inputs
    )
