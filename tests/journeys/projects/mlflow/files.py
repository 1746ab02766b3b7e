"""Artifacts: files, directories, texts, tables, images and figures, up and down and away again."""

import io
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.artifacts import download_artifacts, list_artifacts, load_dict, load_image, load_text

client = mlflow.MlflowClient()


def flow(see):
    with mlflow.start_run(run_name="files") as run:
        rid = run.info.run_id
        write(see)
    see("at the top", lambda: listed(rid))
    for path in ("notes", "deep", "deep/er", "nowhere", "notes/a.txt", "images"):
        see(f"below {path}", lambda path=path: listed(rid, path))
    see("above", lambda: refused(lambda: listed(rid, "../..")))
    see("text", lambda: load_text(f"runs:/{rid}/notes/a.txt"))
    see("dict", lambda: load_dict(f"runs:/{rid}/notes/d.json"))
    see("yaml", lambda: load_dict(f"runs:/{rid}/notes/d.yaml"))
    see("image", lambda: load_image(f"runs:/{rid}/images/i.png").size)
    see("table", lambda: mlflow.load_table("t.json", run_ids=[rid]).to_dict("list"))
    see(
        "table with columns",
        lambda: mlflow.load_table("t.json", run_ids=[rid], extra_columns=["run_id"]).shape,
    )
    see("down", lambda: content(download_artifacts(run_id=rid, artifact_path="deep")))
    see(
        "a file down",
        lambda: content(download_artifacts(f"runs:/{rid}/odd names/größe 100% #1.txt")),
    )
    uri = client.get_run(rid).info.artifact_uri
    see("by its address", lambda: content(download_artifacts(f"{uri}/notes")))
    see("its address", lambda: uri.partition(":")[0])
    see("all of it", lambda: content(download_artifacts(run_id=rid, artifact_path="")))
    see("to a place", lambda: content(client.download_artifacts(rid, "deep/er", Path.cwd())))
    see(
        "what is not there",
        lambda: (
            download_artifacts(run_id=rid, artifact_path="none.txt", dst_path=Path.cwd())
            and "found"
        ),
    )
    see("an unknown run", lambda: listed("0" * 32))
    client.log_text(rid, "second", "notes/a.txt")
    see("written again", lambda: load_text(f"runs:/{rid}/notes/a.txt"))
    repository = mlflow.store.artifact.artifact_repository_registry.get_artifact_repository(uri)
    see("a directory goes", lambda: repository.delete_artifacts("deep"))
    see("it is gone", lambda: listed(rid, "deep"))
    see("a file goes", lambda: repository.delete_artifacts("notes/a.txt"))
    see("the others are there", lambda: listed(rid, "notes"))
    see("outside", lambda: client.log_text(rid, "x", "../../escape.txt"))
    see("list by function", lambda: sorted(f.path for f in list_artifacts(run_id=rid)))


def listed(rid, path=None):
    return sorted([one.path, one.is_dir, one.file_size] for one in client.list_artifacts(rid, path))


def content(path):
    path = Path(path)
    if path.is_file():
        return [path.name, path.stat().st_size]
    files = [one for one in path.rglob("*") if one.is_file() and one.parent.name != "images"]
    return sorted([str(one.relative_to(path)), one.stat().st_size] for one in files)


def refused(act):
    """Whether it ends with an answer of 400, however this is worded."""
    try:
        act()
    except Exception as error:
        return "400 Client Error" in str(error)
    return False


def write(see):
    place = Path("here")
    (place / "er").mkdir(parents=True)
    (place / "a.bin").write_bytes(bytes(range(256)) * 1000)
    (place / "er" / "b.txt").write_text("b")
    (place / "empty").write_bytes(b"")
    mlflow.log_artifacts(str(place), "deep")
    mlflow.log_artifact(str(place / "a.bin"))
    mlflow.log_artifact(str(place / "er"), "copies")
    mlflow.log_text("first", "notes/a.txt")
    mlflow.log_text("<p>hello</p>", "notes/p.html")
    mlflow.log_text("x", "odd names/größe 100% #1.txt")
    mlflow.log_dict({"a": [1, 2.5, None]}, "notes/d.json")
    mlflow.log_dict({"a": {"b": 1}}, "notes/d.yaml")
    mlflow.log_table({"q": ["a", "b"], "n": [1, 2]}, "t.json")
    mlflow.log_table(pd.DataFrame({"q": ["c"], "n": [3]}), "t.json")
    mlflow.log_image(np.zeros((8, 6, 3), dtype=np.uint8), "images/i.png")
    see("an image of a step", lambda: mlflow.log_image(np.ones((4, 4)), key="steps", step=3))
    figure = Figure()
    figure.subplots().plot([1, 2])
    mlflow.log_figure(figure, "images/f.svg")
    see("a stream", lambda: mlflow.log_stream(io.BytesIO(b"streamed"), "notes/s.bin"))
    see("what no file is", lambda: mlflow.log_artifact("nowhere.txt"))
    see("its uri", lambda: mlflow.get_artifact_uri("notes/a.txt").partition(":")[0])
