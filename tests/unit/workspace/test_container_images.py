"""A model as the build context of an image, and the server that runs in it."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from typer.testing import CliRunner

from clew.base.errors import ClewError
from clew.base.records.exports import ImageEndpoint, ImageWish
from clew.cli.app import tree
from clew.cli.images import write_context
from clew.workspace.container_images import Served, _all_needed, _common_python, _lock

from .conftest import alone

ASKED = [{"x": 60}, {"x": 100}]


@pytest.fixture(scope="module")
def context(shop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("image") / "context"
    write_context(shop, shop.export_image("late_shop"), place)
    return place


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data=data), timeout=30) as reply:
        content = reply.read()
        return content.decode() if url.endswith("metrics") else json.loads(content)


def infer(url: str, rows: list[dict[str, int]]) -> Any:
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [2], "data": [row[name] for row in rows]}
        for name in ("x",)
    ]
    return ask(f"{url}/v2/models/late_shop/infer", {"inputs": inputs})


def test_the_server_of_an_image_answers_as_the_endpoint_does(context: Path, shop: Any) -> None:
    live = shop.predict("late_shop", ASKED)
    served = alone(context)
    assert served.stdout is not None
    url = "http://" + served.stdout.readline().rsplit(" ", 1)[-1].strip()
    try:
        told = infer(url, ASKED)
        assert {one["name"]: one["data"] for one in told["outputs"]} == live.outputs
        assert told["parameters"]["clew-revision"] == live.revision
        assert told["parameters"]["clew-global-id"] == live.global_id
        assert told["model_version"] == "1"
        assert ask(f"{url}/v2/health/ready")["ready"] is True
        assert 'clew_requests_total{endpoint="late_shop"' in ask(f"{url}/metrics")
        assert ask(f"{url}/v2/models/late_shop/stats")["model_stats"][0]["inference_count"] == 2
        with pytest.raises(HTTPError) as refused:
            ask(f"{url}/v2/repository/models/late_shop/unload", {})
        assert refused.value.code == 403
        refused.value.close()
    finally:
        served.send_signal(signal.SIGTERM)
        said = served.communicate(timeout=60)
    assert served.returncode == 0, said


def test_the_same_version_gives_the_same_bytes(context: Path, shop: Any, tmp_path: Path) -> None:
    again = tmp_path / "again"
    first = write_context(shop, shop.export_image("late_shop"), again)
    assert write_context(shop, shop.export_image("late_shop"), again) == first
    files = {one.relative_to(again): one.read_bytes() for one in again.rglob("*") if one.is_file()}
    for path, content in files.items():
        assert (context / path).read_bytes() == content, path


def test_an_image_runs_as_nobody_checks_itself_and_holds_no_secret(context: Path) -> None:
    recipe = (context / "Containerfile").read_text()
    assert "\nUSER 10001:10001\n" in recipe
    assert recipe.index("/model --check") < recipe.index("USER 10001") < recipe.index("HEALTHCHECK")
    lock = (context / "requirements.lock").read_text().splitlines()
    names = [line.partition("==")[0] for line in lock if not line.startswith("#")]
    assert {"scikit-learn", "numpy", "httptools"} <= set(names)
    assert not {"mlflow", "clew", "pytest"} & set(names)
    assert names == sorted(set(names))


def test_a_file_that_has_changed_is_not_served(shop: Any, tmp_path: Path) -> None:
    place = tmp_path / "context"
    write_context(shop, shop.export_image("shop/model@champion"), place)
    changed = place / "model" / "files" / "model.pkl"
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")
    served = alone(place)
    _, said = served.communicate(timeout=60)
    assert served.returncode == 1
    assert "image.damaged" in said
    assert "/model.pkl" in said


def test_what_is_not_blessed_or_nothing_makes_no_image(shop: Any) -> None:
    for subject, code in (
        ("shop/poor@1", "model.not_blessed"),
        ("empty", "endpoint.empty"),
        ("none", "endpoint.unknown"),
        ("shop/model@9", "model.unknown"),
    ):
        with pytest.raises(ClewError) as refused:
            shop.export_image(subject)
        assert refused.value.code == code, subject
    for wish, code in (({"port": 0}, "export.port"), ({"name": "!"}, "export.name")):
        with pytest.raises(ClewError) as refused:
            shop.export_image("late_shop", ImageWish(**wish))
        assert refused.value.code == code


def test_the_command_leaves_the_context_and_touches_nothing_else(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLEW_HOME", str(shop.rooms.settings.home))
    words = ["image", "late_shop", "--out", "mine"]
    ended = CliRunner().invoke(tree(words), [*words, "--json"])
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)
    assert told["context"] == "mine"
    assert (tmp_path / "mine" / "Containerfile").is_file()
    (tmp_path / "mine" / "Containerfile").write_text("FROM scratch")
    ended = CliRunner().invoke(tree(words), [*words, "--json"])
    assert isinstance(ended.exception, ClewError)
    assert ended.exception.code == "image.exists"
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["image", "late_shop", "--out", "other", "--build"]
    ended = CliRunner().invoke(tree(words), [*words, "--json"])
    assert isinstance(ended.exception, ClewError)
    assert ended.exception.code == "image.no_buildah"
    assert (tmp_path / "other" / "model" / "image.json").is_file()


def test_the_versions_of_the_model_come_before_those_that_are_installed() -> None:
    lock, remarks = _lock({"polars": "0.0.1", "no-such-thing": "3"})
    assert lock["polars"] == "0.0.1"
    assert lock["no-such-thing"] == "3"
    assert any(one.startswith("polars 0.0.1: ") for one in remarks)
    assert "no-such-thing 3: none is installed here" in remarks


def served(contents: dict[str, bytes], version: Any = None, endpoint: str = "late") -> Served:
    about = ImageEndpoint(
        endpoint=endpoint, revision="", number=0, model="", model_version="", version="",
        commit="", global_id="", files=(),
    )  # fmt: skip
    return Served(about=about, contents=contents, version=version)


def needed(contents: dict[str, bytes]) -> dict[str, str]:
    return _all_needed([served(contents)])


def own_python(*contents: dict[str, bytes]) -> str:
    return _common_python([served(one, "a version", f"e{at}") for at, one in enumerate(contents)])


def test_models_that_need_other_versions_make_no_image_together():
    old, new = ({"/requirements.txt": b"scikit-learn==%d\n" % n} for n in (1, 2))
    assert _all_needed([served(old), served(old, endpoint="early")]) == {"scikit-learn": "1"}
    with pytest.raises(ClewError, match=r"early.*2") as refused:
        _all_needed([served(old), served(new, endpoint="early")])
    assert refused.value.code == "export.packages"


def test_an_image_holds_what_the_functions_around_a_model_need():
    packages = {"Rich": "14.0", "scikit-learn": "9", "python": "3.11"}
    about = {"code": "c", "gets": "pandas", "packages": packages}
    contents = {
        "/requirements.txt": b"scikit-learn==0.1\n",
        "/clew/processing.json": json.dumps(about).encode(),
    }
    found = needed(contents)
    assert found["scikit-learn"] == "0.1", "the model's own version comes first"
    assert found["rich"] == "14.0"
    assert set(found) == {"rich", "scikit-learn", "polars", "pandas"}


def test_an_image_holds_the_form_alone_of_a_model_with_an_environment_of_its_own():
    own = {"/clew/environment.json": b"{}", "/requirements.txt": b"scikit-learn==0.1\n"}
    parity = {"serves": "onnx", "why": "", "made_with": {"onnxruntime": "1.0"}}
    contents = {**own, "/clew/formats/onnx/parity.json": json.dumps(parity).encode()}
    found = needed(contents)
    assert found["onnxruntime"]
    assert "scikit-learn" not in found
    assert own_python(contents) == ""


def with_environment(**more: Any) -> dict[str, bytes]:
    told = {"lock": "a==1 --hash=sha256:0\n", "packages": {"a": "1", "python": "3.12"}, **more}
    return {"/clew/environment.json": json.dumps(told).encode()}


def test_an_image_has_the_environment_and_the_python_of_an_original_that_serves():
    assert own_python(with_environment()) == "3.12"
    assert "onnxruntime" not in needed(with_environment())
    wrong = [{"python": "/usr/bin/python3.12"}, {"lock": "a @ file:///home/me/a.whl\n"}]
    for more in (*wrong, {"lock": "./a.whl\n"}):
        with pytest.raises(ClewError) as refused:
            own_python(with_environment(**more))
        assert refused.value.code == "export.environment", more
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    alike = with_environment(packages={"a": "1", "python": ours})
    assert own_python(alike, {}) == ours
    with pytest.raises(ClewError) as refused:
        own_python(with_environment(packages={"a": "1", "python": "3.9"}), {})
    assert refused.value.code == "export.environment"
