"""What is exported for KServe is what KServe's own client, storage initializer and Kubernetes take.

By the real packages in an environment of their own. No cluster can be had here: what a cluster
answers to the client of Kubernetes is said by a server of this test (discovery, and a patch).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

INSTALL_S = 1200
CLEW = [sys.executable, "-m", "clew.cli"]
PACKAGES = ["kserve==0.21.*", "kserve-storage==0.21.*", "kubernetes", "typer", "msgspec"]
TOKEN = "a-long-random-text"
FILE = """
import clew
from sklearn.linear_model import LogisticRegression

p = clew.Pipeline("shop")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.25))
def model(data, trial):
    return LogisticRegression().fit(data.select("a", "b").to_pandas(), data["y"].to_numpy())

p.endpoint("late", model)
p.endpoint("early", model)
p.graph("path", clew.sequence("late", clew.node("early", required=False, data="request")))
p.graph("several", clew.ensemble("late", "early", combine="all"))
p.graph("by-size", clew.switch(("a > 60", "late"), ("b == 2", "several"), default="early"))
p.graph("shared", clew.splitter((70, "late"), (30, clew.ensemble("early", combine="all"))))
p.graph("mean", clew.ensemble("late", "early"))
"""
ROWS = "a,b,y\n" + "".join(f"{n},{n % 7},{int(n > 60)}\n" for n in range(120))

# Reads manifests into the classes of KServe's client: a field that its schema lacks, or a value of
# another type, is an error.
STRICT = """
import json, sys
import kserve.models as models, kubernetes.client.models as own
SCALARS = {"str": str, "int": int, "bool": bool}
def read(value, name):
    if name[:5] in {"dict(", "Dict["}:
        return {k: read(v, name[:-1].split(", ", 1)[1]) for k, v in value.items()}
    if name[:5] in {"list[", "List["}:
        return [read(v, name[5:-1]) for v in value]
    if name in SCALARS:
        assert type(value) is SCALARS[name], (name, value)
        return value
    if name == "object":
        return value
    found = getattr(models, name, None) or getattr(own, name)
    known = {wire: field for field, wire in found.attribute_map.items()}
    assert not set(value) - set(known), (name, set(value) - set(known))
    return found(**{known[k]: read(v, found.openapi_types[known[k]]) for k, v in value.items()})
kinds = {"InferenceService": "V1beta1InferenceService", "InferenceGraph": "V1alpha1InferenceGraph"}
for one in json.load(sys.stdin):
    made = read(one, kinds[one["kind"]])
    assert made.metadata.name == one["metadata"]["name"]
"""
DOWNLOAD = """
import sys
from kserve_storage import Storage
print(Storage.download(sys.argv[1], sys.argv[2]))
"""
ASK = """
import json, sys, mlflow.pyfunc, pandas as pd
loaded = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(loaded.predict(pd.DataFrame(json.loads(sys.argv[2]))).tolist()))
"""


@pytest.fixture(scope="module")
def python(homes: Any) -> Path:
    """The interpreter of an environment with KServe's packages."""
    found: Path = homes.environment("kserve", PACKAGES)
    return found


@pytest.fixture(scope="module")
def shop(homes: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project that a `clew server` with a token serves, with a model on an endpoint."""
    home = homes.Home(tmp_path_factory.mktemp("shop"), more={"CLEW_TOKEN": TOKEN})
    files = {"shop.py": FILE, "rows.csv": ROWS}
    home.make(files, pipeline="shop.py", puts={"shop/rows": "rows.csv"})
    home.start()
    yield home.directory
    home.stop()


def environ(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "AWS_", "MLFLOW_"))}
    return {**kept, "CLEW_TOKEN": TOKEN, **more}


def exported(home: Path, *words: str) -> list[dict[str, Any]]:
    ended = subprocess.run(
        [*CLEW, "export", "inferenceservice", *words, "--json"],
        cwd=home, env=environ(), check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(ended.stdout)["manifests"]
    return found


@pytest.mark.timeout(INSTALL_S + 300)
def test_kserves_own_schema_knows_every_field(python: Path, shop: Path) -> None:
    made = [
        *exported(shop, "late", "--namespace", "team", "--service-account", "clew"),
        *exported(shop, "late", "--mode", "knative", "--min-replicas", "0", "--max-replicas", "4"),
        *exported(shop, "late", "--image", "registry.example/late:1", "--memory", "1Gi"),
        *exported(shop, "shop/model@1", "--mode", "knative", "--canary", "10", "--cpu", "1",
                  "--memory", "1Gi", "--runtime", "kserve-mlserver"),
    ]  # fmt: skip
    graphs = [exported(shop, name) for name in ("path", "several", "by-size", "shared")]
    ended = subprocess.run(
        [python, "-c", STRICT],
        input=json.dumps([*made, *(one for each in graphs for one in each)]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    check_graphs(graphs)
    wrong = json.loads(json.dumps(made[:1]))
    wrong[0]["spec"]["predictor"]["model"]["modelVersion"] = "1"
    refused = subprocess.run(
        [python, "-c", STRICT], input=json.dumps(wrong), capture_output=True, text=True, check=False
    )
    assert "modelVersion" in refused.stderr, "the check sees a field that KServe does not know"


def check_graphs(exports: list[list[dict[str, Any]]]) -> None:
    """Each brings the services that it names, and its root routes as the pipeline says."""
    roots = []
    for made in exports:
        *services, graph = made
        nodes = graph["spec"]["nodes"]
        steps = [step for node in nodes.values() for step in node["steps"]]
        names = {one["metadata"]["name"] for one in services}
        assert names == {step["serviceName"] for step in steps if "serviceName" in step}
        assert {step["nodeName"] for step in steps if "nodeName" in step} == set(nodes) - {"root"}
        roots.append(nodes["root"])
    path, several, by_size, shared = roots
    assert path == {"routerType": "Sequence", "steps": [
        {"serviceName": "late", "name": "late", "dependency": "Hard"},
        {"serviceName": "early", "name": "early", "data": "$request", "dependency": "Soft"},
    ]}  # fmt: skip
    assert several["routerType"] == "Ensemble"
    assert [step["condition"] for step in by_size["steps"]] == [
        'inputs.#(name=="a")#|#(data.0>60)', 'inputs.#(name=="b")#|#(data.0==2)', "inputs",
    ]  # fmt: skip
    assert [step["weight"] for step in shared["steps"]] == [70, 30]


@pytest.mark.timeout(INSTALL_S + 300)
def test_what_means_something_else_to_kserve_is_refused_by_name(shop: Path) -> None:
    ended = subprocess.run(
        [*CLEW, "export", "inferenceservice", "mean", "--json"],
        cwd=shop, env=environ(), check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert json.loads(ended.stderr)["error"]["code"] == "export.graph"


@pytest.mark.timeout(INSTALL_S + 300)
def test_kserves_storage_initializer_gets_the_model_and_it_answers_as_the_endpoint(
    python: Path, shop: Path, tmp_path: Path
) -> None:
    (made,) = exported(shop, "late")
    address = made["spec"]["predictor"]["model"]["storageUri"]
    url = json.loads((shop / ".clew" / "server.json").read_text())["url"]
    ended = subprocess.run(
        [python, "-c", DOWNLOAD, address, tmp_path / "model"],
        env=environ(AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="clew", AWS_SECRET_ACCESS_KEY=TOKEN,
                    AWS_DEFAULT_REGION="us-east-1", S3_USE_HTTPS="0"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    asked = [{"a": 3, "b": 1}, {"a": 100, "b": 2}, {"a": 61, "b": 5}]
    answer = subprocess.run(
        [*CLEW, "predict", "late", json.dumps(asked), "--json"],
        cwd=shop, env=environ(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-c", ASK, tmp_path / "model", json.dumps(asked)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    outputs = json.loads(answer.stdout)["outputs"]
    assert json.loads(found.stdout) in [list(values) for values in outputs.values()], outputs


class _Cluster(BaseHTTPRequestHandler):
    """Discovery of KServe's group, and objects that a server-side apply sends."""

    def do_GET(self) -> None:
        resource = {
            "name": "inferenceservices", "kind": "InferenceService", "namespaced": True,
            "singularName": "inferenceservice", "verbs": ["get", "patch"],
        }  # fmt: skip
        version = {"groupVersion": "serving.kserve.io/v1beta1", "version": "v1beta1"}
        group = {"name": "serving.kserve.io", "versions": [version], "preferredVersion": version}
        said = {
            "/version": {"major": "1", "minor": "33"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "groups": [group]},
            "/apis/serving.kserve.io/v1beta1": {
                "kind": "APIResourceList", "groupVersion": version["groupVersion"],
                "resources": [resource],
            },
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
        }  # fmt: skip
        self._say(200, said[self.path]) if self.path in said else self._say(404, {})

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        place, _, query = self.path.partition("?")
        if "/namespaces/forbidden/" in place:
            self._say(403, {"kind": "Status", "message": "no rights in forbidden", "code": 403})
            return
        self.server.seen.append((place, query, self.headers["Content-Type"], body))
        self._say(200, json.loads(body))

    def _say(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


APPLY = """
import json, sys
from clew.cli.cluster import apply
from clew.base.errors import ClewError
try:
    print(*apply(json.load(sys.stdin)))
except ClewError as error:
    print(error.kind, error.code, error.message)
"""


@pytest.mark.timeout(INSTALL_S + 300)
def test_applying_is_a_server_side_apply_and_a_refusal_is_told(
    python: Path, shop: Path, tmp_path: Path
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Cluster)
    server.seen = seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here",
                      "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "here",
                      "context": {"cluster": "here", "user": "me", "namespace": "team"}}],
    }  # fmt: skip
    (tmp_path / "config").write_text(json.dumps(config))
    source = Path(__file__).parents[2] / "src"

    def applied(manifests: list[dict[str, Any]], kubeconfig: Path) -> str:
        ended = subprocess.run(
            [python, "-c", APPLY], input=json.dumps(manifests), capture_output=True, text=True,
            env=environ(KUBECONFIG=str(kubeconfig), PYTHONPATH=str(source), HOME=str(tmp_path)),
            check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr[-3000:]
        return ended.stdout

    made = exported(shop, "late")
    try:
        assert applied(made, tmp_path / "config").strip() == "InferenceService/late"
        ((place, query, kind, body),) = seen
        assert place == "/apis/serving.kserve.io/v1beta1/namespaces/team/inferenceservices/late"
        assert "fieldManager=clew" in query
        assert kind == "application/apply-patch+yaml"
        assert json.loads(body) == made[0]
        made[0]["metadata"]["namespace"] = "forbidden"
        assert applied(made, tmp_path / "config").startswith("denied k8s.refused")
        unknown = {**made[0], "kind": "InferenceGraph"}
        assert applied([unknown], tmp_path / "config").startswith("not_found k8s.refused")
    finally:
        server.shutdown()
        server.server_close()
    assert applied(made, tmp_path / "config").startswith("unavailable k8s.unreachable")
    assert applied(made, tmp_path / "none").startswith("unavailable k8s.unreachable")
