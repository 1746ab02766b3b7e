"""Predictions for whole files by a batch step, against the same model asked for a frame in memory.

An id and 30 float features; logistic regression and a random forest of 100 trees; Parquet files of
100,000 rows. Ours reads each file, predicts in the form that serves, and commits ids with answers,
with lineage, in the workers that Clew starts by itself. Theirs has all rows as one Polars frame in
memory and asks the same form of the same version once; it reads and keeps nothing.

A further row keeps all 31 columns beside the answers, 240 MB: there the other side does that work
too. It reads each Parquet file, asks the model, and writes the columns with the answers as Parquet
that is synced to the disk, file by file in one process with all threads of Polars.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from measure import Row, more_is_better, paired

from clew.base.settings import Settings
from clew.models import load_model
from clew.workspace import open_workspace

ROUNDS = 3
FILES = 10
ROWS_OF_A_FILE = 100_000

PIPELINE = """
import polars as pl
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import clew

p = clew.Pipeline("bench")
rows = p.source("rows")
asked = p.source("asked")

@p.train(rows, target="y", test=clew.holdout(0.2))
def model(data: pl.DataFrame, trial: clew.Trial):
    return ESTIMATOR.fit(data.drop("y", "id"), data["y"])

p.batch(asked, model, keep=KEEP)
"""
ESTIMATORS = {
    "logistic": "LogisticRegression(max_iter=2000)",
    "forest": "RandomForestClassifier(100, max_depth=8, random_state=1)",
}


def measure_rows() -> list[Row]:
    found = [_measure(name, estimator) for name, estimator in ESTIMATORS.items()]
    return [*found, _measure("logistic", ESTIMATORS["logistic"], whole=True)]


def _table(rows: int, seed: int) -> pl.DataFrame:
    values = np.random.default_rng(seed).normal(size=(rows, 30))
    frame = pl.DataFrame(values, schema=[f"f{n}" for n in range(30)])
    return frame.with_row_index("id")


def _measure(name: str, estimator: str, *, whole: bool = False) -> Row:
    kept = "None" if whole else '["id"]'
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        clew = open_workspace(Settings(home=place / ".clew"), create=True)
        try:
            (place / "p.py").write_text(
                PIPELINE.replace("ESTIMATOR", estimator).replace("KEEP", kept)
            )
            clew.apply(place / "p.py")
            train = _table(3000, 0)
            truth = (train["f0"] + train["f1"] * train["f2"] > 0).cast(pl.Int64).alias("y")
            train.with_columns(truth).write_parquet(place / "rows.parquet")
            clew.put("bench/rows", {"/rows.parquet": place / "rows.parquet"})
            clew.wait()
            frames = [_table(ROWS_OF_A_FILE, seed + 1) for seed in range(FILES)]
            files = {}
            for number, frame in enumerate(frames):
                file = place / f"{number}.parquet"
                frame.write_parquet(file)
                files[f"/{number}.parquet"] = file
            clew.put("bench/asked", files)
            clew.wait()
            version = clew.model("bench/model@champion")
            tree = clew.rooms.repos.commit_by_id(version.commit).tree
            loaded = load_model(clew.rooms.store, tree, served=True)
            together = pl.concat(frames)
            loaded.predict(together.head(1000))
            paths = [place / f"{number}.parquet" for number in range(FILES)]
            ours, theirs = paired(
                ROUNDS,
                lambda: _ours(clew),
                lambda: _files(loaded, paths) if whole else _theirs(loaded, together),
            )
        finally:
            clew.close()
    return more_is_better(
        f"batch_predict_{name}{'_all_columns' * whole}",
        ours,
        "rows/s",
        "the model between Polars' reading and writing of the files"
        if whole
        else "the model on a frame in memory",
        theirs,
        rounds=ROUNDS,
        bar="at least 60 % of it",
        holds=lambda _, ratio: ratio >= 0.6,
    )


def _ours(clew) -> float:
    clew.run("bench", "predictions")
    begun_s = time.perf_counter()
    clew.wait()
    took_s = time.perf_counter() - begun_s
    job = next(one for one in clew.jobs() if one.step == "predictions")
    if job.state != "done":
        raise RuntimeError(f"the batch is {job.state}: {job.reason}")
    return FILES * ROWS_OF_A_FILE / took_s


def _theirs(loaded, whole: pl.DataFrame) -> float:
    begun_s = time.perf_counter()
    loaded.predict(whole)
    return whole.height / (time.perf_counter() - begun_s)


def _files(loaded, paths: list[Path]) -> float:
    begun_s = time.perf_counter()
    for path in paths:
        frame = pl.read_parquet(path)
        found = loaded.predict(frame)
        kept = frame.with_columns(pl.Series(name, values) for name, values in found.items())
        with path.with_suffix(".answers").open("wb") as file:
            kept.write_parquet(file)
            file.flush()
            os.fsync(file.fileno())
    return FILES * ROWS_OF_A_FILE / (time.perf_counter() - begun_s)
