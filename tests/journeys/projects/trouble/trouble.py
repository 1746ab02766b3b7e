"""A step that does what its input says, so that everything that can go wrong does."""

import ctypes
import os
import time

import polars as pl

import clew

trouble = clew.Pipeline("trouble")
orders = trouble.source("orders")
tables = trouble.source("tables")


@trouble.step(orders.glob("/*.txt"), per="file", timeout_s=5.0, memory_bytes=400_000_000)
def work(order: str) -> bytes:
    word = order.strip()
    if word == "raise":
        raise ValueError("this order cannot be done")
    if word == "hang":
        time.sleep(3600)
    if word == "eat":
        return str(len([b"x" * 10_000_000 + bytes([n]) for n in range(200)])).encode()
    if word == "exit":
        os._exit(3)
    if word == "crash":
        ctypes.string_at(0)
    if word == "big":
        return os.urandom(6_000_000)
    return word.upper().encode()


@trouble.step(tables.glob("/*.parquet"), per="file")
def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("x") * 2)


@trouble.step(tables.glob("/*.csv"), per="file")
def plain(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


@trouble.expect(plain)
def complete(t: clew.Table) -> None:
    t.column("y").not_null()
