"""What flows of MLflow's client saw, as JSON: ``python runner.py OUT FLOW…``.

Each flow is a file beside this one with a function ``flow(see)``. ``see(name, act)`` keeps what an
act gives, or the error it ends with, without what differs from one server to the next: ids, times.
"""

import json
import math
import os
import re
import runpy
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import mlflow

warnings.simplefilter("ignore")
_IDS = [
    (re.compile(r"\btr-[0-9a-f]{32}\b"), "TRACE"),
    (re.compile(r"\bm-[0-9a-f]{32}\b"), "MODEL"),
    (re.compile(r"\bd-[0-9a-f]{32}\b"), "DATASET"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b"), "UUID"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "RUN"),
    (re.compile(r"\b1[0-9]{12}\b"), "TIME"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "SERVER"),
    (re.compile(r"/tmp/\S*?(?=/|\s|$)"), "PLACE"),
]
_SETS = re.compile(r"\{('[^{}]*')\}")


def main(out: str, *flows: str) -> None:
    found: dict[str, dict[str, object]] = {}
    for name in flows:
        told = found[name] = {}

        def see(key, act, told=told):
            assert key not in told, f"{key} is seen twice"
            try:
                given = act()
            except Exception as error:
                told[key] = f"{type(error).__name__}: {plain(str(error))}"
                return None
            told[key] = plain(given)
            return given

        mlflow.set_experiment(name)
        with tempfile.TemporaryDirectory() as place:
            os.chdir(place)
            flow = runpy.run_path(str(Path(__file__).parent / f"{name}.py"))["flow"]
            see("the end", partial(flow, see))
            while mlflow.active_run():
                mlflow.end_run()
            os.chdir("/")
    Path(out).write_text(json.dumps(found, indent=1, sort_keys=True))


def plain(value):
    """A value as JSON has it, without ids and times."""
    if isinstance(value, dict):
        return {plain(str(key)): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(one) for one in value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return plain(value.item())
    text = str(value)
    for pattern, word in _IDS:
        text = pattern.sub(word, text)
    # Messages show sets, in whatever order these have.
    return _SETS.sub(lambda m: "{" + ", ".join(sorted(m[1].split(", "))) + "}", text)


if __name__ == "__main__":
    main(*sys.argv[1:])
