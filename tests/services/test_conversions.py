"""Boosters and nets of the real libraries as ONNX: what serves, with the original's numbers.

Each library in a process of its own, with this environment or (where the variable CLEW_TRAINERS
names a Python with Clew's packages) with that one. A library that is missing there is skipped by
name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PYTHON = os.environ.get("CLEW_TRAINERS", sys.executable)
HEAD = """
import json, os, sys, tempfile, warnings
os.environ["KERAS_BACKEND"] = "torch"
warnings.simplefilter("ignore")
from pathlib import Path
import msgspec, numpy as np, polars as pl
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from clew.base.errors import ClewError
from clew.base.records.parity import Parity
from clew.models import conversion
from clew.models.flavours import adapted, dumped
from clew.models.layout import ONNX, PARITY
from clew.models.loading import unpickle
from clew.models.probing import probe
from clew.models.reading_models import read_model

told = {}

def frame_of(load, holes):
    x, y = load(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    if holes:
        x[np.random.default_rng(0).random(x.shape) < 0.03] = np.nan
    names = [str(name).replace(" ", "_") for name in load().feature_names]
    return pl.DataFrame(x, schema=names), y

def look(name, model, frame, y, task="auto"):
    target = pl.Series("y", y)
    few = target.unique().sort()
    classes = tuple(few.to_list()) if len(few) <= 50 else ()
    try:
        content = dumped(adapted(model, frame, classes, task))
        model = unpickle(content)[0]
        loaded = probe(model, frame, target, frame="polars", task=task, pickled=content)
        files = conversion.files_of(loaded, frame, content)
    except ClewError as refused:
        told[name] = ["", "", refused.code, refused.message]
        return None
    report = msgspec.json.decode(files[PARITY], type=Parity)
    assert (ONNX in files) == (report.serves == "onnx")
    told[name] = [loaded.signature.task, loaded.recipe.gives, report.serves, report.why]
    return loaded
"""
XGBOOST = """
import xgboost
two, y2 = frame_of(load_breast_cancer, True)
number, y = frame_of(load_diabetes, True)
three, y3 = frame_of(load_wine, True)

def fit(objective, frame, y, rounds=20, **more):
    names = more.pop("names", frame.columns)
    rows = xgboost.DMatrix(frame.to_numpy(), label=y, feature_names=names)
    return xgboost.train({"objective": objective, "max_depth": 3, **more}, rows, rounds)

logistic = fit("binary:logistic", two, y2)
loaded = look("logistic", logistic, two, y2)
right = logistic.predict(xgboost.DMatrix(two.to_numpy(), feature_names=two.columns))
assert np.abs(loaded.predict(two)["probability"] - right).max() < 1e-7
look("without names", fit("binary:logistic", two, y2, names=None), two, y2)
look("raw scores", fit("binary:logitraw", two, y2), two, y2)
look("hinge", fit("binary:hinge", two, y2), two, y2)
look("texts", logistic, two, np.array(["bad", "good"])[y2])
look("softprob", fit("multi:softprob", three, y3, num_class=3), three, y3)
labels = fit("multi:softmax", three, y3, num_class=3)
loaded = look("softmax", labels, three, y3)
said = labels.predict(xgboost.DMatrix(three.to_numpy(), feature_names=three.columns))
assert (loaded.predict(three)["label"] == said).all()
for name in ("reg:squarederror", "count:poisson", "reg:gamma", "rank:pairwise"):
    look(name, fit(name, number, y), number, y)
look("large", fit("reg:squarederror", number, y * 1e6 + 3e7), number, y * 1e6 + 3e7)
look("quantiles", fit("reg:quantileerror", number, y, quantile_alpha=[0.1, 0.9]), number, y)
look("dart", fit("binary:logistic", two, y2, booster="dart", rate_drop=0.3), two, y2)
look("linear", fit("reg:squarederror", number.fill_nan(0), y, booster="gblinear"), number, y)
look("other columns", logistic, two.drop("mean_area"), y2)
early = xgboost.XGBClassifier(n_estimators=100, max_depth=3, early_stopping_rounds=2)
early.fit(two.to_numpy()[::2], y2[::2], eval_set=[(two.to_numpy()[1::2], y2[1::2])], verbose=False)
look("estimator", early, two, y2)
for ending in ("json", "ubj"):
    with tempfile.TemporaryDirectory() as place:
        early.save_model(Path(place, f"m.{ending}"))
        loaded = look(ending, read_model(Path(place), trust=False).model, two, y2)
        right = early.predict_proba(two.to_numpy())[:, 1]  # of the best rounds alone
        assert np.abs(loaded.predict(two)["probability"] - right).max() < 1e-7
print(json.dumps(told))
"""
LIGHTGBM = """
import lightgbm
two, y2 = frame_of(load_breast_cancer, True)
number, y = frame_of(load_diabetes, True)
three, y3 = frame_of(load_wine, True)

def fit(objective, frame, y, rounds=20, **more):
    given = {name: more.pop(name) for name in ("group", "categorical_feature") if name in more}
    rows = lightgbm.Dataset(frame.to_numpy(), y, feature_name=frame.columns, **given)
    asked = {"objective": objective, "verbose": -1, **more.pop("params", {})}
    return lightgbm.train(asked, rows, rounds, **more)

binary = fit("binary", two, y2)
loaded = look("binary", binary, two, y2)
assert np.abs(loaded.predict(two)["probability"] - binary.predict(two.to_numpy())).max() < 1e-12
look("steep", fit("binary", two, y2, params={"sigmoid": 2.5}), two, y2)
look("multiclass", fit("multiclass", three, y3, params={"num_class": 3}), three, y3)
look("one by one", fit("multiclassova", three, y3, params={"num_class": 3}), three, y3)
for name in ("regression", "quantile", "poisson", "tweedie"):
    look(name, fit(name, number, y), number, y)
look("square root", fit("regression", number, y, params={"reg_sqrt": True}), number, y)
bags = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}
look("forest", fit("binary", two, y2, params=bags), two, y2)
look("linear leaves", fit("regression", number, y, params={"linear_tree": True}), number, y)
whole = number.with_columns(pl.col("bmi").fill_nan(0).round().alias("bmi"))
look("categories", fit("regression", whole, y, categorical_feature=["bmi"]), whole, y)
spaced = two.rename({name: name.replace("_", " ") for name in two.columns})
look("spaces", fit("binary", spaced, y2), spaced, y2)
estimator = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(spaced.to_pandas(), y2)
look("estimator", estimator, spaced, y2)
held = lightgbm.Dataset(two.to_numpy()[::3], y2[::3])
ends = [lightgbm.early_stopping(2, verbose=False)]
early = fit("binary", two, y2, 300, valid_sets=[held], callbacks=ends)  # grows infinite thresholds
with tempfile.TemporaryDirectory() as place:
    early.save_model(Path(place, "m.txt"))
    look("file", read_model(Path(place), trust=False).model, two, y2)
print(json.dumps(told))
"""
TORCH = """
import torch
from torch import nn
torch.manual_seed(0)
two, y2 = frame_of(load_breast_cancer, False)
number, y = frame_of(load_diabetes, False)
mixed = number.select(amount="age", size="bmi").with_columns(
    city=pl.Series(np.random.default_rng(0).integers(0, 5, len(number)))
)
training = nn.Sequential(
    nn.Linear(30, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1)
).train()  # as a training leaves it
loaded = look("logit", training, two, y2)
first = loaded.predict(two[:1])["probability"][0]
assert abs(first - loaded.predict(two)["probability"][0]) < 1e-6, "a row answers for itself"
look("score", nn.Sequential(nn.Linear(30, 1), nn.Sigmoid()), two, y2)
large = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
with torch.no_grad():
    large[2].weight *= 1e7
    large[2].bias += 3e8
look("large", large, number, y * 1e6)
look("float64", nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 1)).double(), number, y)
look("several numbers", nn.Linear(10, 3), number, y, "regression")
script = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 1))
look("script", torch.jit.script(script), number, y)

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.places, self.last = nn.Embedding(6, 4), nn.Linear(6, 1)
    def forward(self, amount, city, size):
        return self.last(torch.cat([amount, size, self.places(city).squeeze(1)], 1))

class Flat(Wide):
    def forward(self, amount, city, size):
        return self.last(torch.cat([amount[:, None], size[:, None], self.places(city)], 1))

look("several inputs", Wide(), mixed, y)
look("flat inputs", Flat(), mixed, y)

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 1), nn.Linear(10, 1)
    def forward(self, x):
        return self.a(x) if float(x.sum()) > 0 else self.b(x)

class Pair(nn.Module):
    def forward(self, x):
        return x[:, :1], x[:, 1:]

class Masked(nn.Module):
    def forward(self, x, mask):
        return x * mask

look("branches", Branches(), number, y)
look("pair", Pair(), number, y)
look("other columns", Masked(), number, y)
print(json.dumps(told))
"""
KERAS = """
import keras
from keras import layers
keras.utils.set_random_seed(0)
two, y2 = frame_of(load_breast_cancer, False)
number, y = frame_of(load_diabetes, False)
mixed = number.select(amount="age", size="bmi").with_columns(
    city=pl.Series(np.random.default_rng(0).integers(0, 5, len(number)))
)
look("score", keras.Sequential([
    layers.Input((30,)), layers.Dense(8, "relu"), layers.Dropout(0.5),
    layers.BatchNormalization(), layers.Dense(1, "sigmoid"),
]), two, y2)
look("number", keras.Sequential([layers.Input((10,)), layers.Dense(8, "relu"), layers.Dense(1)]),
     number, y)
large = keras.Sequential([layers.Input((10,)), layers.Dense(16, "relu"), layers.Dense(1)])
weights, bias = large.layers[-1].get_weights()
large.layers[-1].set_weights([weights * 1e7, bias + 3e8])
look("large", large, number, y * 1e6)
amount, size = keras.Input((1,), name="amount"), keras.Input((1,), name="size")
city = keras.Input((1,), name="city", dtype="int32")
joined = layers.Concatenate()([amount, size, layers.Flatten()(layers.Embedding(6, 3)(city))])
look("several inputs", keras.Model([amount, size, city], layers.Dense(1)(joined)), mixed, y)
x = keras.Input((10,))
look("pair", keras.Model(x, [layers.Dense(1)(x), layers.Dense(2)(x)]), number, y)
print(json.dumps(told))
"""
OTHERWISE = {
    "xgboost": {"linear": "its booster is 'gblinear'", "other columns": "mean_area"},
    "lightgbm": {
        "linear leaves": "its leaves are linear models", "categories": "splits by categories",
    },
    "torch": {
        "branches": "answers otherwise on", "pair": "not with one tensor", "other columns": "mask",
    },
    "keras": {"pair": "not with one array"},
}  # fmt: skip
"""What does not convert, and what the report (or the refusal) says of it."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("library", "code"),
    [("xgboost", XGBOOST), ("lightgbm", LIGHTGBM), ("torch", TORCH), ("keras", KERAS)],
)
def test_what_answers_the_same_serves_as_onnx_and_the_rest_as_it_is(
    library: str, code: str, tmp_path: Path
) -> None:
    missing = subprocess.run(
        [PYTHON, "-c", f"import {library}, skl2onnx, onnxruntime, polars, msgspec"],
        env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True, check=False,
    ).returncode  # fmt: skip
    if missing:
        pytest.skip(f"{PYTHON} has no {library}: name one that has it in CLEW_TRAINERS")
    script = tmp_path / "script.py"
    script.write_text(HEAD + code)
    done = subprocess.run([PYTHON, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for name, (_, _, serves, why) in told.items():
        if name in OTHERWISE[library]:
            assert serves != "onnx", f"{name}: {why}"
            assert OTHERWISE[library][name] in why, f"{name}: {why}"
        else:  # in ONNX, unless the original happens to be as quick
            assert "The same on all" in why or "answers the same on all" in why, f"{name}: {why}"
    tasks = {name: (task, gives) for name, (task, gives, *_) in told.items()}
    if library == "xgboost":
        assert tasks["softmax"] == ("multiclass", "proba"), "it answers labels, and tells scores"
        assert tasks["quantiles"] == ("regression", "several")
        assert tasks["large"] == ("regression", "values")
    if library == "torch":
        assert tasks["several numbers"] == ("regression", "several")
