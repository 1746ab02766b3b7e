"""A `clew server` with TLS and a token, asked by clients that know nothing of Clew.

They are MLflow's, boto3, curl, tritonclient and gRPC's own health client.

The authority is one of our own: each is told of it as its documents say. Clients that may not stand
beside Clew have environments of their own, as in ``test_protocol_clients.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

for needed in ("h2", "google.protobuf"):
    pytest.importorskip(needed)
make_certificate = pytest.importorskip("clew.testing.certificates").make_certificate

TOKEN = "a-long-random-text"
INSTALL_S, RUN_S = 900, 300
pytestmark = pytest.mark.timeout(INSTALL_S + RUN_S)
HEALTH = ["grpcio-health-checking"]
TRITON = ["tritonclient[http,grpc]>=2.60", "numpy>=2"]
FILE = """
import clew
from sklearn.linear_model import LogisticRegression

p = clew.Pipeline("shop")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.25))
def model(data, trial):
    return LogisticRegression().fit(data.select("a", "b"), data["y"])

p.endpoint("late", model)
"""
ROWS = "a,b,y\n" + "".join(f"{n},{n % 7},{int(n > 60)}\n" for n in range(120))
ASKED = {
    "inputs": [
        {"name": name, "datatype": "INT64", "shape": [2], "data": data}
        for name, data in {"a": [60, 100], "b": [3, 0]}.items()
    ]
}
MLFLOW = """
import sys, tempfile
from pathlib import Path
import mlflow
mlflow.set_experiment("over-tls")
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.5, step=1)
    mlflow.log_param("depth", 3)
    mlflow.log_text("as it was", "notes/said.txt")
client = mlflow.MlflowClient()
assert client.get_run(run.info.run_id).data.metrics == {"loss": 0.5}
with tempfile.TemporaryDirectory() as place:
    found = client.download_artifacts(run.info.run_id, "notes/said.txt", place)
    assert Path(found).read_text() == "as it was"
print("passed")
"""
BOTO = """
import sys
import boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
s3.put_object(Bucket="main.files.shop", Key="one.txt", Body=b"over tls")
assert s3.get_object(Bucket="main.files.shop", Key="one.txt")["Body"].read() == b"over tls"
print("passed")
"""
TRITON_TLS = """
import ssl, sys
import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http
http_at, grpc_at, authority, token = sys.argv[1:]
headers = {"authorization": f"Bearer {token}"}  # copied: the client over HTTP writes into it

def inputs(module):
    for name, values in {"a": [60, 100], "b": [3, 0]}.items():
        found = module.InferInput(name, [2], "INT64")
        yield found.set_data_from_numpy(np.array(values))

trust = lambda: ssl.create_default_context(cafile=authority)
with http.InferenceServerClient(http_at, ssl=True, ssl_context_factory=trust) as client:
    assert client.is_server_ready()
    first = client.infer("late", list(inputs(http)), headers=dict(headers)).as_numpy("probability")
with grpc.InferenceServerClient(grpc_at, ssl=True, root_certificates=authority) as client:
    assert client.is_server_ready()
    second = client.infer("late", list(inputs(grpc)), headers=dict(headers)).as_numpy("probability")
assert first.shape == (2,) and (first == second).all()
print("passed")
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """The directory of an authority and of the certificate that it has signed."""
    place = tmp_path_factory.mktemp("certificates")
    make_certificate(place, "server", signer=make_certificate(place, "authority"))
    return place


@pytest.fixture(scope="module")
def served(homes, authority, tmp_path_factory):
    """A server with TLS on all its ports, which serves a model."""
    home = homes.Home(tmp_path_factory.mktemp("home"), more={"CLEW_TOKEN": TOKEN})
    home.make(
        {"shop.py": FILE, "rows.csv": ROWS}, pipeline="shop.py", puts={"shop/rows": "rows.csv"}
    )
    home.clew("create", "shop/files")
    home.start(
        "--grpc-port", "0", "--tls-certificate", str(authority / "server.pem"),
        "--tls-key", str(authority / "server.key"),
    )  # fmt: skip
    home.verbs.wait(timeout_s=RUN_S)
    yield home
    home.stop()


def said(home, name):
    """An address that the server said when it started."""
    line = next(one for one in home.said.splitlines() if one.strip().startswith(name))
    return line.strip()[len(name) :].split()[0]


@pytest.fixture
def pages(served):
    return said(served, "pages and API")


@pytest.fixture
def endpoints(served):
    return said(served, "endpoints").removesuffix("/v2/models")


def passes(python, program, *arguments, **variables):
    environ = {
        k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "MLFLOW_", "AWS_"))
    }
    words = [program] if isinstance(program, Path) else ["-c", program]
    told = subprocess.run(
        [python, *words, *map(str, arguments)], env=environ | variables,
        capture_output=True, text=True, timeout=RUN_S, check=False,
    )  # fmt: skip
    assert told.stdout.endswith("passed\n"), told.stdout[-2000:] + told.stderr[-4000:]


def refuses(python, program, why, *arguments, **variables):
    with pytest.raises(AssertionError, match=why):
        passes(python, program, *arguments, **variables)


def test_mlflows_client_logs_over_tls_with_the_authority_that_it_is_told(pages, authority):
    assert pages.startswith("https://")
    trusted = str(authority / "authority.pem")
    here = {
        "MLFLOW_TRACKING_URI": pages,
        "MLFLOW_TRACKING_TOKEN": TOKEN,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    passes(sys.executable, MLFLOW, **here, MLFLOW_TRACKING_SERVER_CERT_PATH=trusted)
    passes(sys.executable, MLFLOW, **here, REQUESTS_CA_BUNDLE=trusted)
    refuses(sys.executable, MLFLOW, "CERTIFICATE_VERIFY_FAILED", **here)


def test_boto3_reads_and_writes_over_tls(pages, authority):
    keys = {"AWS_ACCESS_KEY_ID": "clew", "AWS_SECRET_ACCESS_KEY": TOKEN}
    trusted = str(authority / "authority.pem")
    passes(sys.executable, BOTO, pages, **keys, AWS_CA_BUNDLE=trusted)
    refuses(sys.executable, BOTO, "CERTIFICATE_VERIFY_FAILED", pages, **keys)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_is_answered_over_tls_and_over_nothing_less(endpoints, authority):
    line = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60"]
    trust = ["--cacert", str(authority / "authority.pem")]
    asked = ["--header", f"Authorization: Bearer {TOKEN}", "--data", json.dumps(ASKED)]
    url = f"{endpoints}/v2/models/late/infer"

    def curl(*more):
        return subprocess.run([*line, *more], capture_output=True, text=True, check=False)

    answer = curl(*trust, *asked, url)
    assert answer.returncode == 0, answer.stderr
    assert {one["name"] for one in json.loads(answer.stdout)["outputs"]} >= {"probability"}
    assert curl(*trust, "--data", json.dumps(ASKED), url).returncode == 22  # 401: without the token
    assert curl(*asked, url).returncode == 60  # an authority that curl does not know
    assert curl(*trust, "--tls-max", "1.1", *asked, url).returncode == 35
    assert curl(*trust, *asked, url.replace("https", "http", 1)).returncode != 0


def test_tritonclient_is_answered_over_tls_by_http_and_grpc_alike(
    homes, served, endpoints, authority
):
    passes(
        homes.environment("triton", TRITON), TRITON_TLS, endpoints.removeprefix("https://"),
        served.grpc, authority / "authority.pem", TOKEN,
    )  # fmt: skip


def test_grpcs_own_health_client_needs_no_token_with_tls_and_without(
    homes, served, authority, tmp_path
):
    python = homes.environment("health", HEALTH)
    program = Path(__file__).with_name("clients") / "health_check.py"
    passes(python, program, served.grpc, authority / "authority.pem", "late")
    refuses(python, program, "UNAVAILABLE", served.grpc, "", "late")
    plain = homes.Home(tmp_path, more={"CLEW_TOKEN": TOKEN})
    plain.make(
        {"shop.py": FILE, "rows.csv": ROWS}, pipeline="shop.py", puts={"shop/rows": "rows.csv"}
    )
    plain.start("--grpc-port", "0")
    try:
        plain.verbs.wait(timeout_s=RUN_S)
        passes(python, program, plain.grpc, "", "late")
    finally:
        plain.stop()
