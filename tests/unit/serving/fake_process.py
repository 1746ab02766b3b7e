"""A serving process whose models are small and told by a JSON file in the tree.

Everything else is the real process: only ``clew.models`` is left out.
"""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path

import msgspec
import numpy as np

from clew.base.records import Column, Signature


class FakeModel:
    """scale · (sum of the row): its law is in the file, so a test knows every answer."""

    def __init__(self, law: dict) -> None:
        self.signature = msgspec.convert(law["signature"], Signature)
        self.law = law
        self.platform = f"clew_{self.signature.frame}"
        self.estimator = pickle.loads(bytes.fromhex(law["pickle"])) if "pickle" in law else None

    def predict(self, data):
        law = self.law
        if law.get("touch"):
            Path(law["touch"]).touch()
        if "begun" in law:
            Path(law["begun"]).touch()
            while not Path(law["let_go"]).exists():
                time.sleep(0.005)
        if law.get("sleep_s"):
            time.sleep(law["sleep_s"])
        if self.estimator is not None:
            scores = self.estimator.predict_proba(data)
            return {"label": scores.argmax(axis=1), "probability": scores[:, 1]}
        if law.get("echo"):  # text in, its length and itself out
            words = [str(word) for word in data["word"]]
            return {"length": np.array([len(each) for each in words]), "word": np.array(words)}
        if law.get("moments"):  # as a frame is made of them: minutes, and what it cost
            from clew.models.frames import to_polars  # noqa: PLC0415 - few need Polars here

            frame = to_polars(data, self.signature.inputs)
            return {"minutes": frame["lasted"].dt.total_minutes().fill_null(0).to_numpy(),
                    "price": frame["price"].to_numpy().astype(float)}  # fmt: skip
        matrix = self._matrix(data)
        if law.get("half"):
            return {"half": matrix.sum(axis=1).astype(np.float16)}
        sums = matrix.sum(axis=1)
        if "fail_above" in law and (sums > law["fail_above"]).any():
            raise RuntimeError("the model broke")
        if "refuse_above" in law and (sums > law["refuse_above"]).any():
            raise ValueError("a sum is too large")
        if law.get("nan"):
            sums = sums * float("nan")
        if classes := self.signature.classes:
            scores = np.full((len(sums), len(classes)), 1 / len(classes))
            return {"label": np.array(classes)[scores.argmax(axis=1)], "probabilities": scores}
        if law.get("wide"):
            return {"pair": np.stack([sums, -sums], axis=1), "name": np.array(["a"] * len(sums))}
        return {"prediction": sums * law.get("scale", 1.0)}

    def _matrix(self, data):
        if isinstance(data, np.ndarray):
            return data
        numbers = [column.name for column in self.signature.inputs if column.type != "string"]
        columns = [[0.0 if v is None else v for v in data[name]] for name in numbers]
        return np.column_stack([np.asarray(column, dtype=float) for column in columns])


def matrix(width: int = 3, **law) -> dict:
    signature = Signature(frame="numpy", inputs=(), width=width, task="regression")
    return {"signature": msgspec.to_builtins(signature), **law}


def grapes(**law) -> dict:
    signature = Signature(
        frame="numpy", inputs=(), width=3, task="multiclass", classes=("barbera", "barolo", "c")
    )
    return {"signature": msgspec.to_builtins(signature), **law}


def columns(**law) -> dict:
    inputs = (
        Column(name="distance", type="double"),
        Column(name="delay", type="double", nullable=True),
        Column(name="stops", type="int32"),
        Column(name="carrier", type="string"),
    )
    signature = Signature(frame="polars", inputs=inputs, width=4, task="regression")
    return {"signature": msgspec.to_builtins(signature), **law}


def text(**law) -> dict:
    signature = Signature(
        frame="polars", inputs=(Column(name="word", type="string"),), width=1, task="regression"
    )
    return {"signature": msgspec.to_builtins(signature), "echo": True, **law}


def moments(**law) -> dict:
    inputs = (
        Column(name="lasted", type="duration[us]", nullable=True),
        Column(name="at", type="time64[ns]"),
        Column(name="day", type="date32[day]"),
        Column(name="price", type="decimal128(12, 2)"),
    )
    signature = Signature(frame="polars", inputs=inputs, width=4, task="regression")
    return {"signature": msgspec.to_builtins(signature), "moments": True, **law}


def half(**law) -> dict:
    inputs = (Column(name="x", type="halffloat"),)
    signature = Signature(frame="numpy", inputs=inputs, width=2, task="regression")
    return {"signature": msgspec.to_builtins(signature), "half": True, **law}


class FakeExplainer(FakeModel):
    """Each input did as much as it is; ``why`` in the law is that of its questions alone."""

    def __init__(self, law: dict) -> None:
        super().__init__({**law, **law.get("why", {})})

    def predict(self, data):
        values = super().predict(data)["prediction"]
        matrix = self._matrix(data)
        told = {"features": [f"x{at}" for at in range(matrix.shape[1])], "method": ["fake"]}
        told |= {"link": ["identity"], "output": ["prediction"]}
        found = {"attributions": matrix, "base_values": values * 0, "values": values}
        return found | {name: np.array(words) for name, words in told.items()}


def load_model(store, tree: str) -> FakeModel:
    if tree.startswith("explain:"):
        return FakeExplainer(json.loads(store.read(store.get(tree[8:], "/fake.json").digest)))
    law = json.loads(store.read(store.get(tree, "/fake.json").digest))
    if law.get("load_s"):
        time.sleep(law["load_s"])
    if law.get("unloadable") or Path(law.get("unloadable_if", "/nowhere")).exists():
        raise RuntimeError("no such weights")
    if law.get("deadly"):
        os._exit(9)
    return FakeModel(law)


if __name__ == "__main__":
    from clew.serving.worker import serve

    serve(load_model, check=lambda: None)  # what explains here is small, and no extra
