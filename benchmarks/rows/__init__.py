"""Rows of the benchmarks, a file for each group."""
