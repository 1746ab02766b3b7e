"""Trainings and imported models with packages of their own: trained, judged and asked there.

Needs uv and a package index (as uv and pip are set to); a test that lacks one is skipped.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer

from clew.base.errors import ClewError
from clew.base.records.exports import TrainJobWish
from clew.base.settings import Settings
from clew.cli.images import write_context
from clew.places import Environments
from clew.sdk.versions import load_version
from clew.serving import ServingProcess
from clew.workspace import open_workspace
from clew.workspace.rooms import serving_settings

OTHER = "1.5.2"
PIPELINE = """
import clew
import polars as pl

p = clew.Pipeline("p")
rows = p.source("rows")
asked = p.source("asked")
OWN = ["scikit-learn==OTHER"]

@p.train(rows, target="benign", test=clew.holdout(0.3, by="id"), requirements=OWN,
         search=clew.random(trials=2, metric="accuracy", mode="max", max_steps=1),
         space={"C": clew.uniform(0.01, 0.02)})
def model(data: pl.DataFrame, trial: clew.Trial) -> object:
    import sklearn
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = make_pipeline(StandardScaler(), LogisticRegression(**trial.params))
    x, y = data.drop("benign", "id"), data["benign"]
    found.fit(x.to_pandas(), y.to_numpy())
    assert sklearn.__version__ == "OTHER"
    trial.report(1, accuracy=found.score(x.to_pandas(), y.to_numpy()))
    return found

@p.train(rows, target="benign", test=clew.holdout(0.3, by="id"), requirements=OWN, convert=False,
         workers=2)
def plain(data: pl.DataFrame, trial: clew.Trial) -> object:
    import sklearn
    from sklearn.ensemble import RandomForestClassifier

    assert sklearn.__version__ == "OTHER"
    x, y = data.drop("benign", "id"), data["benign"]
    found = RandomForestClassifier(10, random_state=trial.seed).fit(x.to_pandas(), y.to_numpy())
    trial.report(1, accuracy=1.0)
    return found

@p.gate(model)
def good(candidate):
    candidate.at_least("accuracy", 0.9)
    candidate.beats_champion("accuracy")
    candidate.replay()

@p.gate(plain)
def fine(candidate):
    candidate.at_least("accuracy", 0.9)
    candidate.replay()
    candidate.latency(60_000)

p.endpoint("quick", model=model)
p.endpoint("slow", model=plain)
p.batch(asked, plain, name="answers")
""".replace("OTHER", OTHER)
HAS_UV = bool(importlib.util.find_spec("uv") or shutil.which("uv"))
pytestmark = pytest.mark.skipif(not HAS_UV, reason="uv is not installed")


def rows() -> pl.DataFrame:
    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    frame = pl.DataFrame(dict(zip(names, data.data.T, strict=True)))
    return frame.with_columns(benign=pl.Series(data.target), id=pl.int_range(pl.len()))


def open_in(directory: Path) -> Any:
    return open_workspace(Settings(home=directory / ".clew", workers=2), create=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    directory = tmp_path_factory.mktemp("project")
    file = directory / "p.py"
    file.write_text(PIPELINE)
    near = open_in(directory)
    try:
        try:
            near.apply(file)
        except ClewError as error:
            if error.code == "environment.offline":
                pytest.skip(error.message)
            raise
        near.put("p/asked", {"/a.csv": rows().drop("benign").head(20).write_csv().encode()})
        near.put("p/rows", {"/rows.csv": rows().write_csv().encode()})
        near.wait()
        yield near, file
    finally:
        near.close()


def told(near: Any, ref: str, path: str) -> Any:
    version = near.model(ref)
    return near.read(f"{version.model}@{version.commit}:{path}").decode()


def environments_of(near: Any) -> Path:
    found: Path = near.rooms.settings.environments_path
    return found


def test_the_model_is_trained_judged_and_packaged_with_its_own_packages(place):
    near, _ = place
    failed = [(job.step, job.reason) for job in near.jobs() if job.state in {"failed", "refused"}]
    assert not failed
    assert importlib.metadata.version("scikit-learn") != OTHER
    for ref in ("p/model@champion", "p/plain@champion"):
        own = json.loads(told(near, ref, "/clew/environment.json"))
        assert own["packages"]["scikit-learn"] == OTHER
        assert own["requirements"] == [f"scikit-learn=={OTHER}"]
        assert f"scikit-learn=={OTHER}" in told(near, ref, "/requirements.txt")
        assert f"scikit-learn=={OTHER}" in told(near, ref, "/conda.yaml")
        card = near.card(ref)
        assert card.things.configuration.environment["scikit-learn"] == OTHER
        assert card.things.learned.by in {"linear", "trees"}
        assert card.things.importances.permuted
    assert len(near.experiment(near.model("p/model@champion").experiment).trials) == 2
    reads = [one for job in near.jobs() for one in near.job(job.id).undeclared]
    assert not reads, "who asks a model in its own process reads nothing undeclared"


def test_the_form_serves_in_the_server_and_the_original_in_a_process_of_its_own(place):
    near, _ = place
    report = json.loads(told(near, "p/model@champion", "/clew/formats/onnx/parity.json"))
    assert report["serves"] == "onnx", report
    given = rows().drop("benign", "id").head(5).to_dicts()
    process = ServingProcess.start(serving_settings(near.rooms.settings))
    try:
        quick = near.predict("quick", given)
        slow = near.predict("slow", given)
    finally:
        process.stop()
    _, original = load_version(near, "p/plain@champion")
    assert (original.apart, original.pid is not None) == (True, True)
    answers = original.predict(pl.DataFrame(given))
    assert np.allclose(answers["probability"], slow.outputs["probability"])
    assert list(answers["label"]) == slow.outputs["label"] == quick.outputs["label"]


def test_batches_ask_the_original_where_it_can_be_loaded(place):
    near, _ = place
    name = next(one.path for one in near.ls("p/answers", recursive=True) if "a" in one.path)
    found = pl.read_parquet(near.read(f"p/answers:{name}"))
    _, original = load_version(near, "p/plain@champion")
    again = original.predict(rows().drop("benign", "id").head(20))
    assert np.allclose(found["probability"], again["probability"])


def test_an_environment_that_was_deleted_is_built_again_from_its_lock(place):
    near, file = place
    for one in environments_of(near).glob("env-*"):
        if one.is_dir():
            shutil.rmtree(one)
    _, original = load_version(near, "p/plain@champion")
    assert len(original.predict(rows().drop("benign", "id").head(3))["label"]) == 3
    text = file.read_text()
    file.write_text(text.replace("RandomForestClassifier(10", "RandomForestClassifier(11"))
    near.apply(file)
    near.wait()
    assert near.model("p/plain@champion").version == 2


def test_a_training_is_repeated_with_the_packages_of_then(place):
    near, _ = place
    found = near.reproduce(near.model("p/model@1").job)
    assert found.verdict in {"identical", "equal"}, found


def test_other_packages_train_anew_and_the_same_do_not(place):
    near, file = place
    before = {job.id for job in near.jobs()}
    near.apply(file)
    near.wait()
    assert {job.id for job in near.jobs()} == before
    (plan,) = near.plan(file, packages={"scikit-learn": "1.5.1"})
    assert ("model", "run") in {(one.step, one.action) for one in plan.datums}, plan


def test_packages_that_fit_nobody_are_said_when_the_file_is_applied(place, tmp_path):
    near, file = place
    for wish, code in (
        ('["scikit-learn==1.5.2", "scikit-learn==1.5.1"]', "environment.unsatisfiable"),
        ('["no such package at all"]', "environment.requirements"),
        ('["clew-that-nobody-has-ever-published==1"]', "environment.unsatisfiable"),
    ):
        wrong = file.with_name("wrong.py")
        text = file.read_text().replace(f'["scikit-learn=={OTHER}"]', wish)
        wrong.write_text(text.replace('Pipeline("p")', 'Pipeline("wrong")'))
        with pytest.raises(ClewError) as refused:
            near.apply(wrong)
        assert refused.value.code == code, refused.value
    wrong.write_text(
        file.read_text()
        .replace('Pipeline("p")', 'Pipeline("wrong")')
        .replace("requirements=OWN", 'requirements=OWN, python="3.99"')
    )
    with pytest.raises(ClewError) as refused:
        near.apply(wrong)
    assert refused.value.code == "environment.python"


def test_a_model_of_an_mlflow_client_comes_in_with_what_it_says_it_needs(place, tmp_path):
    near, file = place
    environments = Environments(environments_of(near))
    own = near.rooms.models.resolve([f"scikit-learn=={OTHER}"], "", tmp_path)
    python = environments.worker(own.lock, own.python)[0]
    made = tmp_path / "model"
    program = f"""
import mlflow, numpy
from sklearn.linear_model import LogisticRegression
x = numpy.random.default_rng(0).normal(size=(50, 2))
model = LogisticRegression().fit(x, x[:, 0] > 0)
mlflow.sklearn.save_model(model, {str(made)!r}, input_example=x[:3],
    serialization_format="cloudpickle",
    pip_requirements=["scikit-learn=={OTHER}", "mlflow-skinny", "pandas", "cloudpickle"])
"""
    subprocess.run([python, "-c", program], check=True, cwd=tmp_path, capture_output=True)
    with pytest.raises(ClewError) as refused:
        near.import_model(made, name="bought/model", trust=True, requirements=["pandas>=2,<2"])
    assert refused.value.code == "environment.unsatisfiable"
    found = near.import_model(made, name="bought/model", trust=True, own_environment=True)
    assert (
        json.loads(told(near, found.id, "/clew/environment.json"))["packages"]["scikit-learn"]
        == OTHER
    )
    _, loaded = load_version(near, found.id)
    assert loaded.predict(np.array([[2.0, 0.0], [-2.0, 0.0]]))["label"].tolist() == [True, False]
    bare = file.with_name("bare.txt")
    bare.write_text("x")
    with pytest.raises(ClewError) as refused:
        near.import_model(bare, name="bought/other", own_environment=True)
    assert refused.value.code == "import.environment"


def test_an_image_of_an_original_has_its_environment_and_serves_from_it(place, tmp_path):
    near, _ = place
    context = tmp_path / "context"
    write_context(near, near.export_image("slow"), context)
    assert "/model --environment" in (context / "Containerfile").read_text()
    asked = rows().drop("benign", "id").head(3).to_dicts()
    right = near.predict("slow", asked).outputs
    told = {"CLEW_ENVIRONMENTS": str(tmp_path / "environments"), "CLEW_PORT": "0"}
    told |= {"CLEW_HOST": "127.0.0.1", "PYTHONPATH": str(context / "src")}
    line = [sys.executable, "-P", "-m", "clew.serving.alone", str(context / "model")]
    environ = {name: one for name, one in os.environ.items() if name != "CLEW_HOME"} | told
    subprocess.run([*line, "--environment"], env=environ, cwd=tmp_path, check=True)
    environ["PATH"] = ""  # there is no uv, and nothing is built any more
    for one in (tmp_path / "environments").iterdir():
        one.chmod(0o555)
    with subprocess.Popen(
        line, env=environ, cwd=tmp_path, text=True, stdout=subprocess.PIPE
    ) as served:
        try:
            url = "http://" + served.stdout.readline().rsplit(" ", 1)[-1].strip()
            body = json.dumps({"instances": asked}).encode()
            request = Request(f"{url}/v1/models/slow:predict", data=body)
            with urlopen(request, timeout=60) as reply:
                found = json.load(reply)
        finally:
            served.terminate()
    assert [one["label"] for one in found["predictions"]] == right["label"]


def test_a_trainjob_brings_its_packages_along(place, tmp_path):
    near, _ = place
    wish = TrainJobWish(store=str(near.rooms.settings.store_path), nodes=1)
    manifest: Any = near.export_trainjob("p/model", wish).manifest
    env = {one["name"]: one["value"] for one in manifest["spec"]["trainer"]["env"]}
    told = {"CLEW_TRAINING": env["CLEW_TRAINING"].replace("$$", "$")}
    told |= {"CLEW_ENVIRONMENTS": str(tmp_path / "there"), "CLEW_OUTPUT": str(tmp_path / "out")}
    assert OTHER not in told["CLEW_TRAINING"], "the lock is read from the store: it may be long"
    subprocess.run(
        [sys.executable, "-m", "clew.experiments.alone"], env={**os.environ, **told}, check=True,
        cwd=tmp_path,
    )  # fmt: skip
    assert (tmp_path / "out" / "model.pkl").is_file()
    assert len(list((tmp_path / "there").glob("env-*/bin/python"))) == 1


TEAM = """
from importlib.util import find_spec

import sklearn
from sklearn.dummy import DummyClassifier

class Usual(DummyClassifier):
    def predict(self, rows):
        assert (sklearn.__version__, find_spec("of_server")) == ("OTHER", None)
        return super().predict(rows)
""".replace("OTHER", OTHER)
OF_TEAM = """
import clew

p = clew.Pipeline("team")
rows = p.source("rows")

@p.train(rows, target="benign", test=clew.holdout(0.3, by="id"), convert=False,
         requirements=["scikit-learn==OTHER"])
def model(data, trial):
    from usual_of_team import Usual

    return Usual().fit(data.drop("benign", "id").to_pandas(), data["benign"].to_numpy())
""".replace("OTHER", OTHER)


def test_own_code_beside_the_project_is_there_too_and_the_servers_packages_are_not(
    place, tmp_path, monkeypatch
):
    code, installed = tmp_path / "code", tmp_path / "site-packages"
    code.mkdir()
    installed.mkdir()
    (code / "usual_of_team.py").write_text(TEAM)
    (installed / "of_server.py").touch()
    paths = [os.environ.get("PYTHONPATH", ""), str(code), str(installed)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    (tmp_path / "project").mkdir()
    file = tmp_path / "project" / "team.py"
    file.write_text(OF_TEAM)
    near = open_in(tmp_path / "project")
    try:
        near.apply(file)
        near.put("team/rows", {"/rows.csv": rows().write_csv().encode()})
        near.wait()
        failed = [(job.step, job.reason, job.error) for job in near.jobs() if job.state != "done"]
        assert not failed
        (code / "usual_of_team.py").unlink()
        _, original = load_version(near, "team/model@champion")
        assert original.apart
        assert len(original.predict(rows().drop("benign", "id").head(3))["label"]) == 3
    finally:
        near.close()
