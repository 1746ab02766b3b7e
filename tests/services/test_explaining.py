"""SHAP values of endpoints add up to the answers, and are those that shap itself gives.

In an environment of its own that has shap beside what development needs.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

INSTALL_S = 1200
PACKAGES = ["shap>=0.50,<1", f"numpy=={__import__('numpy').__version__}"]
ROOT = Path(__file__).parents[2]

NUMBERS = """
import json, sys
import numpy as np, polars as pl, shap
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from clew.base.records import Column, Signature
from clew.models.explaining import Explained
from clew.models.loading import LoadedModel, Recipe

def loaded(model, kinds, task, classes, takes="matrix"):
    columns = tuple(Column(name=n, type=k, nullable=True) for n, k in kinds.items())
    told = Signature(frame="polars", inputs=columns, width=len(kinds), task=task,
                     classes=tuple(map(str, classes)))
    gives = "values" if task == "regression" else "proba"
    recipe = Recipe(takes=takes, method="predict", gives=gives, classes=classes)
    return LoadedModel(signature=told, recipe=recipe, model=model)

def look(model, background, rows):
    explained = Explained(model, background)
    found = explained.predict(rows)
    own = model.predict(rows)[str(found["output"][0])]
    sums = found["attributions"].sum(axis=1) + found["base_values"]
    if found["link"][0] == "logit":
        sums = 1 / (1 + np.exp(-sums))
    last = {name: values[-1:] for name, values in rows.items()}
    alone = Explained(model, background).predict(last)
    apart = np.abs(alone["attributions"][0] - found["attributions"][-1]).max()
    return found, float(np.abs(sums - own).max() / max(1, np.abs(own).max())), float(apart)

cancer, sugar, iris = load_breast_cancer(), load_diabetes(), load_iris()
two = cancer.data[:, :6], cancer.target, "binary", (0, 1)
number = sugar.data, sugar.target, "regression", ()
three = iris.data, iris.target, "multiclass", (0, 1, 2)
told = {}
for name, model, (x, y, task, classes) in [
    ("forest", RandomForestClassifier(10, random_state=0), two),
    ("boosting", GradientBoostingClassifier(n_estimators=10, random_state=0), two),
    ("forest of numbers", RandomForestRegressor(10, random_state=0), number),
    ("boosting of numbers", GradientBoostingRegressor(n_estimators=10, random_state=0), number),
    ("logistic", LogisticRegression(max_iter=9000), two),
    ("ridge", Ridge(), number),
    ("neighbours", KNeighborsClassifier(), three),
]:
    model.fit(x, y)
    names = [f"c{i}" for i in range(x.shape[1])]
    background = pl.DataFrame(x, schema=names).sample(60, seed=0)
    rows = {n: x[:4, i] for i, n in enumerate(names)}
    found, off, apart = look(loaded(model, dict.fromkeys(names, "double"), task, classes),
                             background, rows)
    b = background.to_numpy()
    if name == "forest":
        by_hand = shap.TreeExplainer(model, b, feature_perturbation="interventional",
                                     model_output="probability").shap_values(x[:4])[:, :, 1]
    elif name == "boosting of numbers":
        by_hand = shap.TreeExplainer(model, b).shap_values(x[:4])
    elif name == "logistic":
        by_hand = (x[:4] - b.mean(axis=0)) * model.coef_[0]
    elif name == "ridge":
        by_hand = (x[:4] - b.mean(axis=0)) * model.coef_
    else:
        by_hand = found["attributions"]
    told[name] = [str(found["method"][0]), str(found["link"][0]), off, apart,
                  float(np.abs(by_hand - found["attributions"]).max())]
words = pl.DataFrame({"far": [1.0, 25.0, 3.0, 9.0] * 15, "who": ["UA", "AA", None, "DL"] * 15})
model = make_pipeline(
    ColumnTransformer([("n", StandardScaler(), ["far"]),
                       ("w", OneHotEncoder(handle_unknown="ignore"), ["who"])]),
    LogisticRegression(),
).fit(words.to_pandas(), np.array([0, 1, 0, 1] * 15))
kinds = {"far": "double", "who": "string"}
found, off, apart = look(loaded(model, kinds, "binary", (0, 1), "pandas"),
                         words, {"far": [5.0, 1.0], "who": ["ZZ", None]})
told["words"] = [str(found["method"][0]), str(found["link"][0]), off, apart, 0.0]
print(json.dumps(told))
"""

FILE = """
import clew
import polars as pl
from sklearn.ensemble import RandomForestClassifier

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.5))
def model(data, trial):
    trees = RandomForestClassifier(10, random_state=0)
    return trees.fit(data.select("x", "z").to_pandas(), data["y"].to_numpy())

def half(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(x=pl.col("twice") / 2, z=pl.col("z"))

p.endpoint("plain", model)
p.endpoint("half", model, preprocess=half, inputs={"twice": float, "z": int})
"""
SERVED = """
import io, json, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen
import numpy as np, polars as pl
from clew.base.settings import Settings
from clew.serving import ServingProcess
from clew.workspace import open_workspace, serving_settings

home = Path(sys.argv[1])

def served(name, rows):
    workspace = open_workspace(Settings(home=home / ".clew", workers=2), create=True)
    workspace.apply(home / "p.py")
    workspace.put("p/rows", {name: rows})
    workspace.wait()
    return workspace, ServingProcess.start(serving_settings(workspace.rooms.settings))

def ask(name, verb, rows):
    body = json.dumps({"instances": rows}).encode()
    try:
        with urlopen(Request(f"{process.url}/v1/models/{name}:{verb}", body), timeout=90) as reply:
            return reply.status, json.load(reply)
    except HTTPError as refused:
        return refused.code, json.load(refused)["error"]
"""
WHOLE = (
    SERVED
    + """
rows = b"x,z,y\\n" + b"".join(b"%d,%d,%d\\n" % (n, n % 7, n > 50) for n in range(100))
workspace, process = served("/rows.csv", rows)
try:
    asked = [{"x": 70, "z": 3}, {"x": 20, "z": 1}]
    found = workspace.explain("plain", asked)
    right = workspace.predict("plain", asked).outputs["probability"]
    other = workspace.explain("half", [{"twice": 140.0, "z": 3}])
    _, old = ask("plain", "explain", asked[:1])
    workspace.rooms.serving.collect(force=True)
    logged = workspace.rooms.serving.find_prediction(found.prediction_id)
    made = workspace.predict("half", [{"twice": 40.0, "z": 1}, {"twice": 140.0, "z": 3}])
    again = workspace.explain_prediction(made.prediction_id, row=1)
finally:
    process.stop()
    workspace.close()
sums = [sum(each.values()) + base for each, base in zip(found.attributions, found.base_values)]
print(json.dumps({
    "method": found.method, "features": found.features, "sums": sums, "right": right,
    "first": found.attributions[0], "half": other.attributions[0],
    "v1": old["explanations"][0]["attributions"], "arm": logged.arm,
    "again": again.attributions[0], "same": again.revision == made.revision,
    "inputs": logged.inputs, "values": found.values, "logged": logged.outputs["values"],
}))
"""
)

MANY = """
import clew
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.5))
def trees(data, trial):
    found = RandomForestClassifier(10, random_state=0)
    return found.fit(data.select("x").to_pandas(), data["y"].to_numpy())

@p.train(rows, target="y", test=clew.holdout(0.5))
def words(data: pd.DataFrame, trial):
    columns = ColumnTransformer([
        ("n", StandardScaler(), ["x"]),
        ("w", OneHotEncoder(handle_unknown="ignore"), ["who", "kind"]),
    ])
    return make_pipeline(columns, LogisticRegression()).fit(data, data.pop("y"))

p.endpoint("apart", trees, isolate=True)
p.endpoint("words", words, isolate=True)
p.graph("both", clew.ensemble("apart", "words"))
"""
ASKED = (
    SERVED
    + """
draw = np.random.default_rng(0)
who = draw.choice(["UA", "AA", "DL"], 200).tolist()
frame = pl.DataFrame({
    "x": draw.normal(size=200),
    "who": [None if at % 17 == 0 else one for at, one in enumerate(who)],
    "kind": pl.Series(draw.choice(["a", "b"], 200).tolist()).cast(pl.Categorical),
})
frame = frame.with_columns(y=((pl.col("x") > 0) | (pl.col("who") == "AA")).fill_null(False)
                           .cast(pl.Int64))
sink = io.BytesIO()
frame.write_parquet(sink)
workspace, process = served("/rows.parquet", sink.getvalue())

def off(name, rows):
    _, said = ask(name, "predict", rows)
    _, why = ask(name, "explain", rows)
    return max(abs(sum(one["attributions"].values()) + one["base_value"] - right["probability"])
               for one, right in zip(why["explanations"], said["predictions"], strict=True))

row, word = {"x": 0.4}, {"x": 0.4, "who": "UA", "kind": "b"}
told = {}
try:
    told["apart"] = off("apart", [row])
    told["words"] = off("words", [word, {**word, "who": None}, {**word, "kind": "never"}])
    told["graph"] = ask("both", "explain", [word])
    told["wrong"] = [ask("words", "explain", rows)[0]
                     for rows in ([], "no", [row], [{**word, "x": "a"}], [word] * 101)]
    with ThreadPoolExecutor(16) as pool:
        many = list(pool.map(lambda _: ask("words", "explain", [word]), range(48)))
    told["many"] = sorted({json.dumps([status, said["explanations"]]) for status, said in many})
    file = home / "p.py"
    file.write_text(file.read_text().replace("Classifier(10", "Classifier(11"))
    over, seen = threading.Event(), []
    def go_on():
        while not over.is_set():
            seen.append(ask("apart", "explain", [row])[0])
    asker = threading.Thread(target=go_on)
    asker.start()
    workspace.apply(home / "p.py")
    workspace.wait()
    version = workspace.model("p/trees@champion").id
    while ask("apart", "predict", [row])[1]["parameters"]["clew-model-version"] != version:
        pass
    over.set()
    asker.join()
    told["swap"] = [sorted(set(seen)), off("apart", [row])]
finally:
    process.stop()
    workspace.close()
print(json.dumps(told))
"""
)


@pytest.fixture(scope="module")
def python(homes: Any) -> Path:
    """The interpreter of an environment with shap beside what development needs."""
    found: Path = homes.environment("explain", PACKAGES, beside=True)
    return found


def said(python: Path, script: str, *words: object) -> dict:
    ended = subprocess.run(
        [python, "-W", "ignore", "-c", script, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(INSTALL_S + 300)
def test_values_add_up_and_are_those_of_shap_by_hand(python: Path) -> None:
    told = said(python, NUMBERS)
    exact = {"forest", "boosting", "boosting of numbers"}  # a forest of numbers: as shap adds up
    by_tree = {name for name, each in told.items() if each[0] == "tree"}
    assert by_tree - {"forest of numbers"} == exact
    assert {name for name, each in told.items() if each[0] == "linear"} == {"logistic", "ridge"}
    assert {name for name, each in told.items() if each[1] == "logit"} == {"logistic"}
    for name, (_, _, off, apart, by_hand) in told.items():
        assert off < 1e-6, f"{name} does not add up"
        assert apart < 1e-12, f"a row of {name} depends on those beside it"
        assert by_hand < 1e-9, f"{name} is not what shap says"


@pytest.mark.timeout(INSTALL_S + 300)
def test_an_endpoint_explains_its_answers_in_a_process_beside(python: Path, tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(FILE)
    told = said(python, WHOLE, tmp_path)
    assert (told["method"], told["features"]) == ("tree", ["x", "z"])
    assert told["sums"] == pytest.approx(told["right"], abs=1e-6)
    assert told["half"] == pytest.approx(told["first"]), "behind its function, by the same rows"
    assert told["v1"] == pytest.approx(told["first"])
    assert told["again"] == pytest.approx(told["first"]), "a logged prediction, by its id"
    assert told["same"], "by the revision that made it"
    assert (told["arm"], told["inputs"]) == ("explain", {"x": [70, 20], "z": [3, 1]})
    assert told["logged"] == pytest.approx(told["values"])


@pytest.mark.timeout(INSTALL_S + 300)
def test_whatever_the_model_and_however_it_is_asked(python: Path, tmp_path: Path) -> None:
    """Apart, of text and categories, in a graph, wrongly, many at once, and over a swap."""
    (tmp_path / "p.py").write_text(MANY)
    told = said(python, ASKED, tmp_path)
    assert told["apart"] < 1e-6
    assert told["words"] < 1e-6
    status, why = told["graph"]
    assert (status, "is a graph; ask for explanations of apart, words" in why) == (400, True)
    assert told["wrong"] == [400] * 5
    assert len(told["many"]) == 1
    assert told["many"][0].startswith("[200,"), told["many"]
    statuses, apart = told["swap"]
    assert statuses == [200]
    assert apart < 1e-6, "the new model is explained"
