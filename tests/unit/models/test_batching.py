"""Whole frames are asked piece by piece, and answers stand behind the rows that they are for."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from clew.base.errors import Invalid, NotReady
from clew.base.records import Column, Signature
from clew.models import LoadedModel, batching
from clew.models.loading import Recipe


class Three:
    def predict_proba(self, rows):
        rows = np.asarray(rows, dtype=float)
        return np.column_stack([rows[:, 0], rows[:, 0] * 2, 1 - rows[:, 0] * 3])

    def predict(self, rows):
        return self.predict_proba(rows).argmax(axis=1)


@pytest.fixture
def three(monkeypatch):
    """A model of three classes, asked in pieces of seven rows."""
    model = LoadedModel(
        signature=Signature(
            frame="polars",
            inputs=(Column(name="x", type="double", nullable=True),),
            width=1,
            task="multiclass",
            classes=("a", "b", "c"),
        ),
        recipe=Recipe(takes="matrix", method="predict", gives="proba", classes=("a", "b", "c")),
        model=Three(),
    )
    monkeypatch.setattr(batching, "PIECE_ROWS", 7)
    monkeypatch.setattr(batching, "_loaded", lambda files: model)
    return [object()]


@pytest.fixture(autouse=True)
def plain_keys(monkeypatch):
    monkeypatch.setattr(batching, "_Key", lambda file: file)


def rows(count: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(count), "x": np.linspace(0, 0.3, count)})


@pytest.mark.parametrize("count", [1, 7, 8, 50])
def test_answers_stand_behind_their_rows_however_many_pieces_there_are(three, count):
    found = batching.predict(rows(count), three)
    assert found.columns == ["id", "x", "label", "probability_a", "probability_b", "probability_c"]
    assert found["probability_b"].to_numpy() == pytest.approx(rows(count)["x"].to_numpy() * 2)
    assert set(found["label"]) <= {"a", "b", "c"}


def test_columns_to_keep_and_names_of_answers_are_chosen(three):
    found = batching.predict(rows(3), three, keep=["id"], prefix="said_")
    assert found.columns[:2] == ["id", "said_label"]
    with pytest.raises(Invalid) as caught:
        batching.predict(rows(3), three, keep=["none"])
    assert caught.value.code == "batch.columns"


def test_a_column_of_the_rows_is_never_written_over(three):
    with pytest.raises(Invalid) as caught:
        batching.predict(rows(3).with_columns(label=1), three)
    assert caught.value.code == "batch.columns"


def test_without_a_version_nothing_is_predicted():
    with pytest.raises(NotReady) as caught:
        batching.predict(rows(3), [])
    assert caught.value.code == "batch.no_model"
