"""Rows to predict for arrive as people hold them, and leave as plain values."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from clew.base.archive import check_sources
from clew.base.errors import Invalid
from clew.base.rows import plain_rows

NAMED = [{"a": 1, "b": 0.5}, {"a": 2, "b": 1.5}]


@pytest.mark.parametrize(
    "rows",
    [
        NAMED,
        tuple(NAMED),
        iter(NAMED),
        pl.DataFrame(NAMED),
        pd.DataFrame(NAMED),
        [{"a": np.int64(row["a"]), "b": np.float32(row["b"])} for row in NAMED],
    ],
)
def test_rows_with_names_are_the_same_however_they_are_held(rows):
    found = plain_rows(rows)
    assert found == NAMED
    assert {type(value) for row in found for value in row.values()} == {int, float}


@pytest.mark.parametrize("rows", [[[1.0, 2.0]], np.array([[1.0, 2.0]]), [np.array([1.0, 2.0])]])
def test_rows_without_names_are_lists_of_numbers(rows):
    found = plain_rows(rows)
    assert found == [[1.0, 2.0]]
    assert type(found[0][0]) is float


@pytest.mark.parametrize(
    "rows", [[], 5, "text", {"a": 1}, [5], ["text"], [None], [{"a": 1}, [1.0]], pl.DataFrame()]
)
def test_what_is_no_rows_is_refused(rows):
    with pytest.raises(Invalid) as raised:
        plain_rows(rows)
    assert raised.value.code == "predict.rows"


@pytest.mark.parametrize("content", ["text", None, 5, {"a": 1}])
def test_what_is_no_content_of_a_file_is_refused_by_name(content):
    with pytest.raises(Invalid, match=r"/a\.txt") as raised:
        check_sources({"/a.txt": content})
    assert raised.value.code == "put.content"
