"""Columns of floats that do not shrink are kept as they are, all others small."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from clew.codecs.arrow import write_table


@pytest.mark.parametrize("rows", [100, 10_000])
def test_what_shrinks_is_compressed_and_all_comes_back(rows):
    draw = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "measured": draw.normal(size=rows),
            "rounded": draw.normal(size=rows).round(1),
            "missing": [None if n % 3 else 1.5 for n in range(rows)],
            "whole": range(rows),
            "text": ["a"] * rows,
        }
    )
    content = write_table(frame.to_arrow(), ".parquet")
    assert pl.read_parquet(BytesIO(content)).equals(frame)
    group = pq.ParquetFile(BytesIO(content)).metadata.row_group(0)
    codecs = [group.column(at).compression for at in range(group.num_columns)]
    measured = "ZSTD" if rows == 100 else "UNCOMPRESSED"
    assert codecs == [measured, "ZSTD", "ZSTD", "ZSTD", "ZSTD"]


def test_a_column_without_a_value_is_written():
    frame = pl.DataFrame({"x": [None] * 5000}, schema={"x": pl.Float64})
    assert pl.read_parquet(BytesIO(write_table(frame.to_arrow(), ".parquet"))).equals(frame)
