"""What a path of MLflow's asks for, and what is fenced."""

import pytest

from clew.base.errors import Invalid, NotFound
from clew.server.mlflow.asked import is_mlflow, read_path


@pytest.mark.parametrize("prefix", ["", "/mlflow", "/mlflow/in/abcdefgh"])
@pytest.mark.parametrize("api", ["api", "ajax-api"])
def test_a_call_is_the_same_below_every_prefix(prefix, api):
    asked = read_path(f"{prefix}/{api}/2.0/mlflow/runs/create")
    assert (asked.kind, asked.call) == ("call", "runs/create")
    assert asked.path == f"/mlflow/{api}/2.0/mlflow/runs/create"
    assert asked.context == ("abcdefgh" if "/in/" in prefix else "")


def test_artifacts_have_the_path_of_their_file():
    asked = read_path("/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/a b.txt")
    assert (asked.kind, asked.artifact) == ("artifact", "1/run/artifacts/a b.txt")
    assert read_path("/api/2.0/mlflow-artifacts/artifacts").artifact == ""


@pytest.mark.parametrize(
    "path",
    [
        "/api/3.0/mlflow/gateway/secrets/list",
        "/ajax-api/3.0/mlflow/jobs/1",
        "/ajax-api/3.0/mlflow/assistant/chat",
        "/api/3.0/mlflow/mcp-servers",
        "/api/2.0/mlflow/webhooks",
        "/api/2.0/mlflow/runs/create-promptlab-run",
        "/ajax-api/3.0/mlflow/scorer/invoke",
        "/ajax-api/3.0/mlflow/issues/invoke",
        "/ajax-api/3.0/mlflow/scorers/online-config",
        "/api/3.0/mlflow/prompt-optimization/jobs",
        "/api/2.0/mlflow-artifacts/mpu/create/a",
        "/api/2.0/mlflow-artifacts/presigned/a",
        "/mlflow/gateway/x/mlflow/invocations",
        "/api/2.0/mlflow/something-new",
    ],
)
def test_families_that_are_not_carried_are_fenced(path):
    assert is_mlflow(path)
    with pytest.raises(Invalid) as caught:
        read_path(path)
    assert caught.value.code == "mlflow.fenced"


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/repos", "/static/clew.css", "/v1/models", "/models"]
)
def test_paths_of_clew_are_not_mlflows(path):
    assert not is_mlflow(path)


@pytest.mark.parametrize("path", ["/version", "/v1/traces"])
def test_a_client_finds_at_the_root_what_it_asks_for_there(path):
    assert is_mlflow(path)
    assert read_path(path).path == f"/mlflow{path}"


@pytest.mark.parametrize("call", ["scorers/register", "issues/search", "review-queues/list"])
def test_what_only_keeps_rows_is_carried(call):
    assert read_path(f"/api/3.0/mlflow/{call}").call == call


def test_the_pages_ask_for_a_gateway_that_is_empty():
    """MLflow answers so without one to pass requests to, and the environment names none."""
    assert read_path("/ajax-api/2.0/mlflow/gateway-proxy").call == "gateway-proxy"


def test_an_unknown_page_is_none():
    with pytest.raises(NotFound):
        read_path("/mlflow/elsewhere")
