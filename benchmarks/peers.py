"""Make a virtual environment for each peer that benchmarks compare with.

`make bench-peers`. They never share Clew's environment: some of them hold protobuf or pandas back.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
VENVS = HERE / "peers" / ".venvs"
UV = Path(sys.executable).parent / "uv"

PEERS = {
    "metaflow": ["metaflow==2.19.*"],
    "dvc": ["dvc==3.*"],
    "snakemake": ["snakemake==9.*"],
    "prefect": ["prefect==3.*", "fastapi<0.125", "starlette<1"],
    "dagster": ["dagster==1.*"],
    "optuna": ["optuna==5.*", "scikit-learn==1.7.2"],
    "raytune": ["ray[tune]==2.60.*", "scikit-learn==1.7.2"],
    "kserve": ["kserve==0.21.*", "scikit-learn==1.7.2"],
    "mlserver": ["mlserver==1.7.*", "mlserver-sklearn==1.7.*", "scikit-learn==1.7.2"],
    "bentoml": ["bentoml>=1.4", "scikit-learn==1.7.2"],
    "litserve": ["litserve>=0.2.10", "scikit-learn==1.7.2"],
    "rayserve": ["ray[serve]==2.60.*", "scikit-learn==1.7.2"],
    "mlflow": ["mlflow>=3.17,<4", "scikit-learn==1.7.2"],
}


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment.

    Raises:
        SystemExit: it has not been made.
    """
    python = VENVS / peer / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"The environment of {peer} is missing: run `make bench-peers` first.")
    return python


def main() -> None:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_COMPILE_BYTECODE": "1"}
    for peer, packages in PEERS.items():
        place = VENVS / peer
        if (place / "made").exists():
            print(f"= {peer}")
            continue
        print(f"▸ {peer}: {' '.join(packages)}", flush=True)
        subprocess.run(
            [UV, "venv", "--quiet", "--clear", "--python", sys.executable, place], check=True
        )
        subprocess.run(
            [UV, "pip", "install", "--quiet", *packages],
            check=True,
            env={**environment, "VIRTUAL_ENV": str(place)},
        )
        (place / "made").touch()


if __name__ == "__main__":
    main()
