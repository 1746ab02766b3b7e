"""Models: logged in several flavours, with signatures and examples, loaded, measured and found."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

client = mlflow.MlflowClient()
ROWS = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [0.5, 0.1, 0.9, 0.2]})
Y = [0, 1, 0, 1]


class Adds(mlflow.pyfunc.PythonModel):
    """A model of the user's own."""

    def load_context(self, context):
        self.number = int(Path(context.artifacts["number"]).read_text())

    def predict(self, context, model_input, params=None):
        return model_input["a"] + self.number + (params or {}).get("more", 0)


def double(model_input: list[str]) -> list[str]:
    """A model that is a function."""
    return [one * 2 for one in model_input]


def flow(see):
    experiment = mlflow.get_experiment_by_name("models").experiment_id
    fitted = LogisticRegression().fit(ROWS, Y)
    with mlflow.start_run(run_name="sklearn") as run:
        logged = see_model(
            see,
            "sklearn",
            lambda: mlflow.sklearn.log_model(
                fitted, name="model", input_example=ROWS[:2], params={"c": 1}
            ),
        )
        mlflow.log_metric(
            "accuracy",
            0.75,
            model_id=logged.model_id,
            dataset=mlflow.data.from_pandas(ROWS, name="rows"),
        )
        mlflow.log_metrics({"f1": 0.5}, step=2, model_id=logged.model_id)
    load(see, "sklearn", logged, ROWS)
    see(
        "by the run",
        lambda: mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(ROWS).tolist(),
    )
    see("native", lambda: type(mlflow.sklearn.load_model(logged.model_uri)).__name__)
    see("wrong columns", lambda: mlflow.pyfunc.load_model(logged.model_uri).predict(ROWS[["a"]]))
    see("outputs of the run", lambda: len(client.get_run(run.info.run_id).outputs.model_outputs))
    see(
        "files of the model",
        lambda: sorted(f.path for f in client.list_logged_model_artifacts(logged.model_id)),
    )
    see("info", lambda: sorted(mlflow.models.get_model_info(logged.model_uri).flavors))
    see("requirements", lambda: bool(mlflow.pyfunc.get_model_dependencies(logged.model_uri)))
    with mlflow.start_run(run_name="others"):
        pipe = make_pipeline(StandardScaler(), LinearRegression()).fit(ROWS, Y)
        kind = infer_signature(ROWS, pipe.predict(ROWS))
        piped = see_model(
            see, "pipeline", lambda: mlflow.sklearn.log_model(pipe, name="pipe", signature=kind)
        )
        Path("number.txt").write_text("10")
        adds = see_model(
            see,
            "pyfunc",
            lambda: mlflow.pyfunc.log_model(
                name="adds",
                python_model=Adds(),
                artifacts={"number": "number.txt"},
                signature=infer_signature(ROWS, pd.Series([1.0]), params={"more": 1}),
                pip_requirements=["mlflow"],
            ),
        )
        doubles = see_model(
            see,
            "function",
            lambda: mlflow.pyfunc.log_model(
                name="double", python_model=double, pip_requirements=["mlflow"]
            ),
        )
        Path("code.py").write_text(CODE)
        coded = see_model(
            see,
            "code",
            lambda: mlflow.pyfunc.log_model(
                name="coded", python_model="code.py", pip_requirements=["mlflow"]
            ),
        )
    load(see, "pipeline", piped, ROWS)
    load(see, "pyfunc", adds, ROWS)
    see(
        "with params",
        lambda: mlflow.pyfunc.load_model(adds.model_uri).predict(ROWS, params={"more": 5}).tolist(),
    )
    load(see, "function", doubles, ["a", "b"])
    load(see, "code", coded, ROWS)
    onnx(see, fitted)
    logged_models(see, experiment, logged)
    saved(see, fitted)


CODE = """
import mlflow
class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return model_input["a"].tolist()
mlflow.models.set_model(Model())
"""


def see_model(see, name, act):
    kept = []
    see(f"{name} logged", lambda: kept.append(act()) or sorted(kept[0].flavors))
    return kept[0] if kept else None


def load(see, name, logged, rows):
    see(
        f"{name} answers",
        lambda: [
            round(float(x), 6) if not isinstance(x, str) else x
            for x in np.asarray(mlflow.pyfunc.load_model(logged.model_uri).predict(rows))
            .ravel()
            .tolist()
        ],
    )


def onnx(see, fitted):
    with mlflow.start_run(run_name="onnx"):
        made = to_onnx(fitted, ROWS.to_numpy().astype("float32"), options={"zipmap": False})
        logged = see_model(see, "onnx", lambda: mlflow.onnx.log_model(made, name="onnx"))
    see(
        "onnx answers",
        lambda: sorted(
            mlflow.pyfunc.load_model(logged.model_uri).predict(ROWS.to_numpy().astype("float32"))
        ),
    )


def logged_models(see, experiment, logged):
    found = client.get_logged_model(logged.model_id)
    see("logged model", lambda: [found.name, found.model_type, str(found.status), found.params])
    see(
        "its metrics",
        lambda: sorted([m.key, m.value, m.step, m.dataset_name] for m in found.metrics),
    )
    see(
        "tags set", lambda: client.set_logged_model_tags(found.model_id, {"stage": "dev", "x": "1"})
    )
    see("tag gone", lambda: client.delete_logged_model_tag(found.model_id, "x"))
    see(
        "its tags",
        lambda: {
            k: v
            for k, v in client.get_logged_model(found.model_id).tags.items()
            if not k.startswith("mlflow.")
        },
    )
    see("params logged", lambda: mlflow.log_model_params({"depth": 3}, model_id=found.model_id))
    see("its params", lambda: client.get_logged_model(found.model_id).params)
    made = mlflow.initialize_logged_model(name="begun", params={"p": "1"}, tags={"stage": "raw"})
    see("begun", lambda: str(client.get_logged_model(made.model_id).status))
    see("ended", lambda: str(mlflow.finalize_logged_model(made.model_id, "READY").status))
    outside = mlflow.create_external_model(name="outside", params={"where": "there"})
    see("outside", lambda: str(client.get_logged_model(outside.model_id).status))
    see("active", lambda: mlflow.set_active_model(name="agent").name)
    mlflow.clear_active_model()
    for text in (
        "name = 'model'",
        "name LIKE 'p%'",
        "tags.stage = 'dev'",
        "params.depth = '3'",
        "metrics.accuracy > 0.7",
        "metrics.accuracy > 0.8",
        "attributes.status = 'READY' AND name != 'model'",
        "nonsense ~ 1",
    ):
        see(
            f"models where {text}",
            lambda text=text: sorted(
                m.name for m in client.search_logged_models([experiment], text)
            ),
        )
    see(
        "with data",
        lambda: [
            m.name
            for m in client.search_logged_models(
                [experiment], "metrics.accuracy > 0.1", datasets=[{"dataset_name": "rows"}]
            )
        ],
    )
    see(
        "in order",
        lambda: [
            m.name
            for m in client.search_logged_models(
                [experiment],
                order_by=[{"field_name": "metrics.accuracy", "ascending": False}],
                max_results=1,
            )
        ],
    )
    see("as a table", lambda: mlflow.search_logged_models(experiment_ids=[experiment]).shape[0])
    pages = client.search_logged_models([experiment], max_results=2)
    see("pages of models", lambda: [len(pages), bool(pages.token)])
    see("a model goes", lambda: client.delete_logged_model(made.model_id))
    see("it is gone", lambda: client.get_logged_model(made.model_id))
    see("unknown model", lambda: client.get_logged_model("m-" + "0" * 32))


def saved(see, fitted):
    mlflow.sklearn.save_model(fitted, "saved")
    with mlflow.start_run(run_name="saved") as run:
        mlflow.log_artifacts("saved", "saved")
    see(
        "saved and loaded",
        lambda: mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/saved").predict(ROWS).tolist(),
    )
