"""``mlflow.models.evaluate``: measures, figures and tables of classifiers and regressors."""

import mlflow
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression

client = mlflow.MlflowClient()


def flow(see):
    data = load_breast_cancer(as_frame=True).frame[:200]
    few = data[["mean radius", "mean texture", "target"]]
    fitted = LogisticRegression().fit(few.drop(columns="target"), few["target"])
    with mlflow.start_run(run_name="classifier") as run:
        logged = mlflow.sklearn.log_model(
            fitted, name="model", input_example=few[:3].drop(columns="target")
        )
        see(
            "classified",
            lambda: judged(
                mlflow.models.evaluate(
                    logged.model_uri,
                    few,
                    targets="target",
                    model_type="classifier",
                    evaluator_config={"log_explainer": False, "log_model_explainability": False},
                )
            ),
        )
    see("files", lambda: sorted(one.path for one in client.list_artifacts(run.info.run_id)))
    see("its metrics", lambda: sorted(client.get_run(run.info.run_id).data.metrics))
    see(
        "inputs",
        lambda: [
            one.dataset.source_type for one in client.get_run(run.info.run_id).inputs.dataset_inputs
        ],
    )
    rows = load_diabetes(as_frame=True).frame[:100]
    line = LinearRegression().fit(rows.drop(columns="target"), rows["target"])
    with mlflow.start_run(run_name="regressor"):
        found = see(
            "a frame",
            lambda: judged(
                mlflow.models.evaluate(
                    data=pd.DataFrame(
                        {"y": rows["target"], "p": line.predict(rows.drop(columns="target"))}
                    ),
                    targets="y",
                    predictions="p",
                    model_type="regressor",
                )
            ),
        )
        assert found
    with mlflow.start_run(run_name="own"):
        metric = mlflow.metrics.make_metric(
            eval_fn=lambda predictions, targets: float((predictions - targets).abs().max()),
            greater_is_better=False,
            name="worst",
        )
        see(
            "a metric of one's own",
            lambda: judged(
                mlflow.models.evaluate(
                    data=pd.DataFrame({"y": [1.0, 2.0], "p": [1.0, 4.0]}),
                    targets="y",
                    predictions="p",
                    extra_metrics=[metric],
                )
            ),
        )
        see(
            "what it should reach",
            lambda: mlflow.validate_evaluation_results(
                candidate_result=mlflow.models.evaluate(
                    data=pd.DataFrame({"y": [1.0, 2.0], "p": [1.0, 4.0]}),
                    targets="y",
                    predictions="p",
                    model_type="regressor",
                ),
                validation_thresholds={
                    "mean_absolute_error": mlflow.models.MetricThreshold(
                        threshold=0.1, greater_is_better=False
                    )
                },
            ),
        )


def judged(result):
    return [
        {k: round(float(v), 4) for k, v in sorted(result.metrics.items())},
        sorted(result.artifacts),
    ]
