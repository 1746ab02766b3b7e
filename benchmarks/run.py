"""`make bench`: measure every row (or ONLY=name), print a table, leave benchmarks/results.json.

A row measured alone takes the place of its old figure; the others are kept.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import measure
from rows import (
    batch,
    commit,
    datums,
    engine,
    files,
    isolated,
    many_models,
    million,
    mlflow,
    overload,
    predict,
    ranges,
    rollouts,
    search,
    serving,
    serving_grpc,
    trivial,
)

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"

ROWS = {
    "trivial_pipeline": trivial.measure_rows,
    "thousand_datums": datums.measure_rows,
    "commit_small_files": commit.measure_rows,
    "many_files": files.measure_rows,
    "large_file": files.measure_large,
    "ten_in_a_million": million.measure_rows,
    "random_reads_of_4_gb": ranges.measure_rows,
    "engine_datums": engine.measure_datums,
    "engine_many": engine.measure_many,
    "engine_latency": engine.measure_latency,
    "search_quarter": search.measure_digits,
    "trivial_trials": search.measure_trivial,
    "predict": predict.measure_rows,
    "rollouts": rollouts.measure_rows,
    "serving": serving.measure_rows,
    "serving_grpc": serving_grpc.measure_rows,
    "overload": overload.measure_rows,
    "isolated": isolated.measure_rows,
    "many_models": many_models.measure_rows,
    "batch_predict": batch.measure_rows,
    "mlflow": mlflow.measure_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(ROWS), help="measure one group of rows")
    only = parser.parse_args().only
    print(measure.machine())
    rows: list[measure.Row] = []
    for name, measure_rows in ROWS.items():
        if only in (None, name):
            print(f"▸ {name}", flush=True)
            rows += measure_rows()
    keep(rows)
    show(rows)


def keep(rows: list[measure.Row]) -> None:
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    new = {(row.name, row.against): {**asdict(row), "machine": measure.machine()} for row in rows}
    kept = [row for row in old if (row["name"], row["against"]) not in new]
    everything = sorted([*kept, *new.values()], key=lambda row: (row["name"], row["against"]))
    RESULTS.write_text(json.dumps(everything, indent=1) + "\n")


def show(rows: list[measure.Row]) -> None:
    line = "{:<28} {:>12} {:<6} {:<24} {:>12} {:>8} {:>3}  {:<34} {}"
    print(line.format("row", "ours", "unit", "against", "theirs", "ratio", "n", "bar", "holds"))
    for row in rows:
        print(
            line.format(
                row.name,
                f"{row.ours:,.3f}",
                row.unit,
                row.against,
                f"{row.theirs:,.3f}",
                f"{row.ratio:.2f}×",
                row.rounds,
                row.bar,
                "yes" if row.holds else "NO",
            )
        )


if __name__ == "__main__":
    main()
