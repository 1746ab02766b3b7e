"""What is blessed here as InferenceServices of KServe, in both of its modes."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from clew.base.errors import ClewError
from clew.base.records.exports import InferenceServiceWish
from clew.cli.app import tree
from clew.cli.cluster import apply
from clew.workspace.inference_services import Arm, rendered


def exported(workspace: Any, subject: str, **wish: Any) -> list[dict[str, Any]]:
    return list(workspace.export_inference_service(subject, InferenceServiceWish(**wish)).manifests)


def test_a_version_is_served_from_its_own_commit(shop: Any) -> None:
    version = shop.model("shop/model@champion")
    (made,) = exported(
        shop, "shop/model@champion", namespace="team", service_account="clew", max_replicas=3,
        cpu="500m", memory="1Gi",
    )  # fmt: skip
    assert made == {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "shop-model",
            "namespace": "team",
            "labels": {"clew.model": "shop.model", "clew.version": "1"},
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "clew.commit": version.commit,
                "clew.global-id": version.global_id,
                "clew.verdict": version.verdict,
            },
        },
        "spec": {
            "predictor": {
                "serviceAccountName": "clew",
                "minReplicas": 1,
                "maxReplicas": 3,
                "model": {
                    "modelFormat": {"name": "mlflow"},
                    "protocolVersion": "v2",
                    "storageUri": f"s3://{version.commit}.model.shop/",
                    "resources": {
                        "requests": {"cpu": "500m", "memory": "1Gi"},
                        "limits": {"cpu": "500m", "memory": "1Gi"},
                    },
                },
            }
        },
    }


def test_an_endpoint_is_exported_as_it_serves_now(shop: Any) -> None:
    (made,) = exported(shop, "late_shop", mode="knative", min_replicas=0)
    assert made["metadata"]["name"] == "late-shop"
    assert made["metadata"]["labels"]["clew.version"] == "1"
    assert made["spec"]["predictor"]["minReplicas"] == 0
    assert "canaryTrafficPercent" not in made["spec"]["predictor"]


def test_an_image_serves_in_place_of_a_runtime(shop: Any) -> None:
    wish = {"image": "registry.example/shop:1", "cpu": "500m", "mode": "knative"}
    (made,) = exported(shop, "shop/model@1", canary=20, **wish)
    (container,) = made["spec"]["predictor"].pop("containers")
    assert made["spec"]["predictor"] == {"minReplicas": 1, "canaryTrafficPercent": 20}
    assert (container["name"], container["image"]) == ("kserve-container", wish["image"])
    assert {"name": "PROTOCOL", "value": "v2"} in container["env"]
    assert {"name": "CLEW_PORT", "value": "8080"} in container["env"]
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": 8080}
    assert container["resources"]["limits"] == {"cpu": "500m"}
    (whole,) = exported(shop, "late_shop", **wish)
    assert whole["spec"]["predictor"]["containers"] == [container]
    assert whole["metadata"]["annotations"] == made["metadata"]["annotations"]


def test_a_canary_is_a_share_on_knative_and_a_splitter_in_standard_mode(shop: Any) -> None:
    version = shop.model("shop/model@1")
    arms = [
        Arm(version=version, percent=80, revision=3),
        Arm(version=version, percent=20, revision=4),
    ]
    (made,) = rendered("late", arms, InferenceServiceWish(mode="knative"))
    assert made["spec"]["predictor"]["canaryTrafficPercent"] == 20
    (alone,) = exported(shop, "shop/model@1", mode="knative", canary=5)
    assert alone["spec"]["predictor"]["canaryTrafficPercent"] == 5

    old, new, graph = rendered("late", arms, InferenceServiceWish(namespace="team"))
    assert [one["metadata"]["name"] for one in (old, new, graph)] == ["late-r3", "late-r4", "late"]
    assert graph["apiVersion"] == "serving.kserve.io/v1alpha1"
    assert graph["spec"]["nodes"] == {
        "root": {
            "routerType": "Splitter",
            "steps": [
                {"serviceName": "late-r3", "name": "late-r3", "weight": 80},
                {"serviceName": "late-r4", "name": "late-r4", "weight": 20},
            ],
        }
    }
    with pytest.raises(ClewError) as refused:
        rendered("late", [*arms, arms[0]], InferenceServiceWish(mode="knative"))
    assert refused.value.code == "export.canary"


@pytest.mark.parametrize(
    ("subject", "wish", "code"),
    [
        ("shop/poor@1", {}, "model.not_blessed"),
        ("empty", {}, "endpoint.empty"),
        ("nowhere", {}, "endpoint.unknown"),
        ("shop/model@9", {}, "model.unknown"),
        ("late_shop", {"mode": "raw"}, "export.mode"),
        ("late_shop", {"canary": 10}, "export.canary"),
        ("shop/model@1", {"canary": 101}, "export.canary"),
        ("shop/model@1", {"canary": 10}, "export.canary"),
        ("shop/model@1", {"name": "…"}, "export.name"),
        ("shop/model@1", {"min_replicas": 0}, "export.replicas"),
        ("shop/poor@1", {"image": "shop:1"}, "model.not_blessed"),
        ("shop/model@1", {"image": "shop:1", "runtime": "mlserver"}, "export.image"),
        ("shop/model@1", {"image": "shop:1", "storage_uri": "pvc://a/b"}, "export.image"),
        ("shop/model@1", {"min_replicas": 3, "max_replicas": 2}, "export.replicas"),
    ],
)
def test_what_cannot_be_served_is_refused(
    shop: Any, subject: str, wish: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClewError) as refused:
        exported(shop, subject, **wish)
    assert refused.value.code == code


def test_the_command_writes_what_kubectl_reads(
    shop: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEW_HOME", str(shop.rooms.settings.home))
    words = ["export", "inferenceservice", "shop/model@1", "--out", str(tmp_path / "a.yaml")]
    ended = CliRunner().invoke(tree(words), [*words, "--json"])
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)["manifests"]
    assert list(yaml.safe_load_all((tmp_path / "a.yaml").read_text())) == told


def test_without_the_client_of_kubernetes_applying_says_what_to_install(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(ClewError, match=r"not installed") as refused:
        list(apply(exported(shop, "late_shop")))
    assert refused.value.code == "k8s.missing"
    assert "clew[k8s]" in refused.value.hint
