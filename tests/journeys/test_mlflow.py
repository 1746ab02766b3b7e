"""An unmodified MLflow client against `clew server`: the flows that MLflow's own guides show."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

TOKEN = "a-long-random-token"

CLIENT = """
import json, sys, tempfile, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import mlflow
from mlflow.exceptions import MlflowException

told, client = {}, mlflow.MlflowClient()
def refused(act, *args, **kwargs):
    try:
        act(*args, **kwargs)
    except MlflowException as error:
        return f"{error.error_code}: {error.message}"
    return ""

mlflow.set_experiment("flights")
with mlflow.start_run(run_name="first") as run:
    mlflow.log_params({"lr": 0.1, "depth": 3})
    for step in range(20):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"accuracy": 0.9, "odd": float("nan")}, step=19)
    mlflow.set_tag("team", "delays")
    mlflow.log_text("hello", "notes/hello.txt")
    mlflow.log_dict({"a": [1, 2]}, "notes/a.json")
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "deep").mkdir()
        (Path(place) / "deep" / "b.bin").write_bytes(bytes(range(256)) * 5000)
        mlflow.log_artifacts(place, "files")
    import pandas as pd
    from mlflow.models import infer_signature
    rows = pd.DataFrame({"distance": [1.5, 2.5], "carrier": ["AA", "ÄB"]})
    mlflow.log_input(mlflow.data.from_pandas(rows, name="flights of May"), context="training")
    class Rule(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input["distance"] > 2
    mlflow.pyfunc.log_model(name="rule", python_model=Rule(), pip_requirements=["numpy==1.26.4"],
        signature=infer_signature(rows, rows["distance"] > 2), registered_model_name="ruled")
with mlflow.start_run(run_name="second"):
    mlflow.log_param("lr", 0.5)
    mlflow.log_metric("accuracy", 0.4)

first = run.info.run_id
found = client.get_run(first)
told["run"] = first
told["params"] = found.data.params
told["metrics"] = {k: str(v) for k, v in found.data.metrics.items()}
told["tags"] = {k: v for k, v in found.data.tags.items() if not k.startswith("mlflow.s")}
told["history"] = [m.step for m in client.get_metric_history(first, "loss")]
told["better"] = [r.info.run_name for r in client.search_runs(
    ["1"], "metrics.accuracy > 0.5 and params.depth = '3' and tags.team ILIKE 'DEL%'")]
told["ordered"] = [r.info.run_name for r in client.search_runs(
    ["1"], order_by=["metrics.accuracy ASC"], max_results=1)]
told["listed"] = sorted(f.path for f in client.list_artifacts(first, "notes"))
told["text"] = mlflow.artifacts.load_text(found.info.artifact_uri + "/notes/hello.txt")
local = mlflow.artifacts.download_artifacts(run_id=first, artifact_path="files")
told["bytes"] = (Path(local) / "deep" / "b.bin").stat().st_size
told["other_value"] = refused(client.log_param, first, "lr", "7")
told["our_tag"] = refused(client.set_tag, first, "clew.global_id", "mine")

@mlflow.trace(name="asked")
def asked():
    return mlflow.get_current_active_span().trace_id

trace = asked()
mlflow.flush_trace_async_logging()
told["spans"] = [one.info.trace_id for one in client.search_traces(["1"], "span.name = 'asked'")]
told["trace"] = trace

client.update_registered_model("ruled", "Which flights are late, by a rule.")
client.set_registered_model_alias("ruled", "champion", "1")
client.create_registered_model("free")
version = client.create_model_version("free", f"runs:/{first}/files", run_id=first)
client.set_registered_model_alias("free", "champion", version.version)
told["free"] = client.get_model_version_by_alias("free", "champion").version
told["version_tags"] = version.tags
told["our_tag_of_a_version"] = refused(
    client.set_model_version_tag, "free", version.version, "clew.global_id", "mine")
json.dump(told, open(sys.argv[1], "w"))
"""


@pytest.fixture(scope="module")
def place(place_at, tmp_path_factory):
    place = place_at(tmp_path_factory.mktemp("mlflow") / "here", CLEW_TOKEN=TOKEN)
    place.clew("init", "--bare", ".")
    yield place
    place.close()


@pytest.fixture(scope="module")
def server(place):
    return place.server()


def environ_of(server, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "MLFLOW_"))}
    return {
        **kept,
        "MLFLOW_TRACKING_URI": server.url,
        "MLFLOW_TRACKING_TOKEN": TOKEN,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        **more,
    }


def run_client(place, server, text, name):
    """What a program with the real client told; it runs where nothing of Clew's is on the path."""
    program, told = place.directory / f"{name}.py", place.directory / f"{name}.json"
    program.write_text(text)
    done = subprocess.run(
        [sys.executable, "-I", program, told],
        env=environ_of(server),
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(told.read_text())


@pytest.fixture(scope="module")
def told(place, server):
    return run_client(place, server, CLIENT, "client")


def ask(server, path, body=None, token=TOKEN):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_what_a_client_logs_is_what_it_reads(told):
    assert told["params"] == {"lr": "0.1", "depth": "3"}
    assert told["metrics"] == {"loss": "0.05", "accuracy": "0.9", "odd": "nan"}
    assert told["history"] == list(range(20))
    assert told["better"] == ["first"]
    assert told["ordered"] == ["second"]


def test_artifacts_go_through_the_server_alone(told, place):
    assert told["listed"] == ["notes/a.json", "notes/hello.txt"]
    assert told["text"] == "hello"
    assert told["bytes"] == 1_280_000
    kept = place.json("ls", f"mlflow:/1/{told['run']}/artifacts/notes")
    assert [one["path"].rpartition("/")[2] for one in kept] == ["a.json", "hello.txt"]


def test_spans_are_found_by_what_they_are(told):
    assert told["spans"] == [told["trace"]]


def test_errors_are_mlflows_own_or_say_what_clew_keeps(told):
    assert "INVALID_PARAMETER_VALUE: Changing param values" in told["other_value"]
    for what in ("our_tag", "our_tag_of_a_version"):
        assert "PERMISSION_DENIED: The tag 'clew.global_id' is kept" in told[what]


def test_a_run_is_in_lineage_under_its_global_id(told, place):
    global_id = told["tags"]["clew.global_id"]
    found = place.json("why", told["run"])
    assert (found["subject"]["kind"], found["subject"]["title"]) == ("run", "first")
    assert found["subject"]["global_id"] == global_id
    commits = place.json("log", "mlflow")
    mine = {one["global_id"] for one in commits if told["run"] in one["message"]}
    assert mine == {global_id}, "its artifacts are of its change"


def test_a_model_of_mlflows_own_is_free_and_in_lineage(told, place):
    assert int(told["free"]) == 1
    assert told["version_tags"]["clew.global_id"] == told["tags"]["clew.global_id"]
    below = place.json("why", told["run"], "--down")["nodes"]
    assert {"registered_version", "alias"} <= {node["kind"] for node in below}


def test_a_version_that_a_client_registers_has_a_card_of_what_it_has_told(told, place):
    card = place.json("card", "models:/ruled@champion")
    assert (card["subject"], card["aliases"], card["run"]) == (
        "models:/ruled/1", ["champion"], told["run"],
    )  # fmt: skip
    assert card["params"] == {"lr": "0.1", "depth": "3"}
    assert card["metrics"] == {"loss": 0.05, "accuracy": 0.9, "odd": None}
    (data,) = card["datasets"]
    assert (data["name"], data["context"], data["rows"]) == ("flights of May", "training", 2)
    assert dict(data["columns"])["distance"] == "double"
    assert [one["name"] for one in card["logged"]["inputs"]] == ["distance", "carrier"]
    assert card["logged"]["outputs"][0]["type"] == "boolean"
    assert "numpy==1.26.4" in card["logged"]["requirements"]
    assert card["tags"] == {"team": "delays"}
    assert [act["what"] for act in card["history"]] == [
        "version 1 was registered", "champion moved to version 1",
    ]  # fmt: skip
    assert card["global_id"] == told["tags"]["clew.global_id"]
    text = place.clew("card", "models:/ruled/1").out
    for said in ("Which flights are late, by a rule.", "| loss | 0.05 |", "| odd | – |",
                 "flights of May", "numpy==1.26.4", "no gate of Clew has judged it"):  # fmt: skip
        assert said in text


def test_what_a_client_has_not_told_is_said_to_be_unknown(told, place, server):
    card = place.json("card", "models:/free@champion")
    unknown = " ".join(card["unknown"])
    assert "without one" not in unknown, "its run is known"
    assert "its files are not among the artifacts" in unknown, "no MLmodel is among them"
    second = next(one for one in ask(server, "/api/2.0/mlflow/runs/search",
                                     {"experiment_ids": ["1"]})[1]["runs"]
                  if one["info"]["run_name"] == "second")  # fmt: skip
    card = place.json("card", f"runs:/{second['info']['run_id']}")
    unknown = " ".join(card["unknown"])
    for one in ("no dataset was logged", "its files are not among", "it has no description"):
        assert one in unknown
    missing = place.clew("card", "models:/ruled/7", exits=3)
    assert "model.unknown" in missing.err


def test_runs_of_clients_stand_side_by_side(told, place, server):
    found = place.json("compare", f"runs:/{told['run']}", "models:/ruled/1")
    assert {row["name"] for row in found["parameters"]} == {"lr", "depth"}
    first, rule = found["runs"]
    assert (first["kind"], rule["title"]) == ("run", "ruled version 1")
    assert any(row["name"] == "dataset training flights of May" for row in found["configuration"])
    page = ask_page(server, "/cards/models:/ruled/1")
    assert "flights of May" in page
    assert "ruled version 1" in ask_page(
        server, f"/compare?run=runs:/{told['run']}&run=models:/ruled/1"
    )


def ask_page(server, path):
    request = urllib.request.Request(server.url + path)
    request.add_header("Authorization", f"Bearer {TOKEN}")
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


def test_mlflow_asks_for_the_same_login(server):
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert ask(server, path, token="")[0] == 401
    assert ask(server, path, token="wrong")[0] == 401
    assert ask(server, path)[0] == 200


def test_what_is_not_carried_says_so(server):
    for path in ("/api/3.0/mlflow/gateway/secrets/list", "/ajax-api/3.0/mlflow/jobs/1"):
        status, body = ask(server, path)
        assert (status, body["error_code"]) == (501, "NOT_IMPLEMENTED")
        assert "does not carry" in body["message"]
