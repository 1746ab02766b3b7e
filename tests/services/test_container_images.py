"""A real image of a model, built by buildah; its server answers as the endpoint does.

Official base images may not be had here: the image stands on a directory of this machine's own
Python. Packages come from where pip finds them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from clew.base.settings import Settings
from clew.workspace import open_workspace

LACKS = [name for name in ("buildah", "chroot", "ldconfig") if not shutil.which(name)]
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(LACKS), reason=f"{' and '.join(LACKS)} not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah builds images as root only here"),
    pytest.mark.skipif(
        not Path(f"/usr/lib/{PYTHON}").is_dir(), reason="there is no Python of the system's"
    ),
]
PORT = 18_080
FILE = """
import clew
import polars as pl
from sklearn.linear_model import LogisticRegression

p = clew.Pipeline("shop")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.25))
def model(data, trial):
    return LogisticRegression().fit(data.select("a", "b"), data["y"])

def half(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(a=pl.col("twice") // 2, b=pl.col("b"))

def named(outputs):
    return {**outputs, "word": ["late" if one else "in time" for one in outputs["label"]]}

def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(a=pl.col("a") * 2)

def worse(answers, rows):
    return {"risk": [max(one) for one in zip(*(each["probability"] for each in answers.values()))]}

p.endpoint("late", model)
p.endpoint("twice", model, preprocess=doubled, inputs={"a": int, "b": int})
p.graph("worse", clew.ensemble("late", "twice", combine=worse))
p.endpoint("half", model, preprocess=half, postprocess=named, inputs={"twice": int, "b": int})
"""
ROWS = "a,b,y\n" + "".join(f"{n},{n % 7},{int(n > 60)}\n" for n in range(120))
ASKED = {
    "late": [{"a": 60, "b": 3}, {"a": 100, "b": 0}],
    "half": [{"twice": 121, "b": 3}, {"twice": 200, "b": 0}],
    "worse": [{"a": 60, "b": 3}, {"a": 10, "b": 0}],
}
TITLES = {"worse": (("clew.graph", "worse"), "worse (graph ")}


def tool(*line: str) -> str:
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The image below, in storage of its own for buildah: nothing of the machine is touched."""
    place = tmp_path_factory.mktemp("storage")
    (place / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{place}/graph"\nrunroot = "{place}/run"\n'
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CONTAINERS_STORAGE_CONF", str(place / "storage.conf"))
        patched.setenv("BUILDAH_ISOLATION", "chroot")
        yield base_image(place)
        subprocess.run(["buildah", "rm", "--all"], check=False, capture_output=True)
        subprocess.run(["buildah", "rmi", "--all", "--force"], check=False, capture_output=True)


def base_image(directory: Path) -> str:
    """An image of this machine's shell and Python, with pip."""
    root = directory / "root"
    for place in ("bin", "etc", "tmp", "usr/bin"):
        (root / place).mkdir(parents=True)
    programs = {"/bin/sh": "bin/sh", f"/usr/bin/{PYTHON}": "usr/bin/python3"}
    libraries = set()
    extensions = [str(one) for one in Path(f"/usr/lib/{PYTHON}/lib-dynload").glob("*.so")]
    for program in (*programs, *extensions):
        told = subprocess.run(["ldd", program], check=False, capture_output=True, text=True).stdout
        libraries |= {word for word in told.split() if word.startswith("/")}
    compiled = subprocess.run(
        ["ldconfig", "-p"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    wanted = tuple(
        f"lib{name}.so"
        for name in (
            "stdc++", "gcc_s", "gomp", "z", "rt", "pthread", "dl", "m", "util", "resolv",
            "nss_files", "nss_dns", "ffi", "uuid",
        )
    )  # fmt: skip
    libraries |= {line.rsplit(" ", 1)[-1] for line in compiled if line.strip().startswith(wanted)}
    for program, place in programs.items():
        shutil.copy(program, root / place)
    for library in libraries:
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    shutil.copytree(
        f"/usr/lib/{PYTHON}",
        root / f"usr/lib/{PYTHON}",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    packages = root / f"usr/lib/{PYTHON}/dist-packages"
    shutil.rmtree(packages, ignore_errors=True)
    tool(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(packages), "pip")
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    container = tool("buildah", "from", "scratch")
    tool("buildah", "add", "--quiet", container, str(root), "/")
    paths = f"/usr/lib/{PYTHON}/dist-packages"
    tool(
        "buildah", "config", "--env", "PATH=/usr/bin:/bin", "--env", "PYTHONHOME=/usr",
        "--env", "PIP_BREAK_SYSTEM_PACKAGES=1", "--env", f"PIP_TARGET={paths}", container,
    )  # fmt: skip
    tool("buildah", "commit", "--quiet", container, "localhost/python-base")
    tool("buildah", "rm", container)
    return "localhost/python-base"


def pip_options(directory: Path) -> list[str]:
    """How pip finds packages here, inside of the build: mounted, and not a part of the image."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=False, capture_output=True, text=True
    ).stdout
    settings = dict(
        line.replace("'", "").split("=", 1) for line in told.splitlines() if "=" in line
    )
    names = {name.rpartition(".")[2]: value for name, value in settings.items()}
    conf = directory / "pip.conf"
    mounts = []
    lines = []
    for name in ("index-url", "extra-index-url", "find-links", "cert", "trusted-host"):
        if name in names:
            lines.append(f"{name} = " + names[name].replace("\\n", " "))
            for word in names[name].replace("\\n", " ").split():
                path = Path(word.removeprefix("file://").removesuffix("/simple"))
                if path.is_absolute() and path.exists():
                    mounts.append(f"--buildah=--volume={path}:{path}:ro")
    conf.write_text("[global]\n" + "\n".join(lines) + "\n")
    return [*dict.fromkeys(mounts), f"--buildah=--secret=id=pip.conf,src={conf}"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A workspace whose model serves on two endpoints, and what each answers."""
    home = tmp_path_factory.mktemp("home")
    workspace = open_workspace(Settings(home=home / ".clew", workers=2), create=True)
    try:
        workspace.apply_files({"shop.py": FILE.encode()}, "shop.py")
        workspace.put("shop/rows", {"/rows.csv": ROWS.encode()})
        workspace.wait()
        return home, {name: workspace.predict(name, rows) for name, rows in ASKED.items()}
    finally:
        workspace.close()


@pytest.mark.parametrize("endpoint", ASKED)
def test_the_server_in_a_built_image_answers_as_the_endpoint_does(tmp_path, base, shop, endpoint):
    home, (live, tag) = shop[0], (shop[1][endpoint], f"{endpoint}:1")
    line = [
        sys.executable, "-P", "-m", "clew.cli", "image", endpoint, "--build", "--tag", tag,
        "--base", base, "--port", str(PORT), "--json", "--buildah=--layers",
        *pip_options(tmp_path),
    ]  # fmt: skip
    built = subprocess.run(line, cwd=home, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    told = json.loads(built.stdout)
    about = json.loads(tool("buildah", "inspect", "--type", "image", tag))
    config = about["Docker"]["config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    model = ("clew.model", "shop/model"), f"{endpoint} (shop/model@1) answers"
    of, title = TITLES.get(endpoint, model)
    assert of in config["Labels"].items()
    assert told["image"].removeprefix("sha256:") == about["FromImageID"].removeprefix("sha256:")
    root = Path(tool("buildah", "mount", tool("buildah", "from", "--pull-never", tag)))
    assert not (root / "etc" / "pip.conf").exists() or not (root / "etc/pip.conf").read_text()
    environ = dict(one.split("=", 1) for one in config["Env"])
    served = subprocess.Popen(
        [shutil.which("chroot"), "--userspec=10001:10001", str(root), *config["Entrypoint"]],
        env=environ | {"CLEW_HOST": "127.0.0.1"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert title in served.stdout.readline()
        rows = ASKED[endpoint]
        inputs = [
            {"name": name, "datatype": "INT64", "shape": [2], "data": [row[name] for row in rows]}
            for name in rows[0]
        ]
        request = Request(
            f"http://127.0.0.1:{PORT}/v2/models/{endpoint}/infer",
            data=json.dumps({"inputs": inputs}).encode(),
        )
        with urlopen(request, timeout=60) as reply:
            body = json.load(reply)
        assert {one["name"]: one["data"] for one in body["outputs"]} == live.outputs
        assert body["parameters"]["clew-revision"] == live.revision
        probe = [
            shutil.which("chroot"),
            "--userspec=10001:10001",
            str(root),
            *config["Healthcheck"]["Test"][1:],
        ]
        assert subprocess.run(probe, env=environ, check=False).returncode == 0
    finally:
        served.terminate()
        served.wait(60)
        served.stdout.close()
    assert served.returncode == 0
