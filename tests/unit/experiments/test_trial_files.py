"""What a trial keeps: checkpoints that are directories, and the files that it logs."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest

from clew.base.errors import Invalid, NotFound
from clew.experiments import asha, logged, single, uniform

DIRECTORY = """
    import json

    def model(trial):
        found = trial.restore()
        seen = json.loads((found / "deep" / "state.json").read_text()) if found else []
        if found:
            (found / "deep" / "state.json").write_text("mine to spoil")
            assert (found / "weights.bin").stat().st_size == 3 << 20
        for step in trial.steps():
            seen.append(step)
            with trial.checkpoint(kind="files") as folder:
                (folder / "deep").mkdir()
                (folder / "deep" / "state.json").write_text(json.dumps(seen))
                (folder / "weights.bin").write_bytes(bytes(range(256)) * 4096 * 3)
            trial.report(step, loss=trial.number + 1 / step)
        print("seen", seen)
"""


def test_a_directory_is_a_checkpoint_that_a_promoted_trial_gets_back(
    house: Any, inline: Any
) -> None:
    house.write(DIRECTORY)
    definition = asha(metric="loss", trials=4, max_steps=9, sampler="random")
    result = house.search(inline, definition, {"x": uniform(0, 1)})
    experiments = house.experiments(inline)
    assert f"seen {list(range(1, 10))}" in experiments.log(result.trial.id)
    trial = experiments.trial(result.trial.id)
    commit = house.repos.commit_by_id(trial.checkpoint)
    assert [file.path for file in house.repos.entries(commit)] == [
        "/checkpoint/deep/state.json",
        "/checkpoint/weights.bin",
        "/meta.json",
    ]
    assert trial.checkpoint_step == 9
    assert b'"kind": "files"' in house.repos.read(commit, "/meta.json")


def test_what_checkpoints_have_in_common_is_kept_once(house: Any, inline: Any) -> None:
    house.write(DIRECTORY.replace("bytes(range(256)) * 4096 * 3", "WEIGHTS"))
    text = (house.project / "train.py").read_text()
    (house.project / "train.py").write_text(
        "import random\nWEIGHTS = random.Random(1).randbytes(3 << 20)\n" + text
    )
    definition = asha(metric="loss", trials=4, max_steps=9, sampler="random")
    house.search(inline, definition, {"x": uniform(0, 1)})
    commits = house.repos.log("shop/model.checkpoints", None)
    assert len(commits) >= 4
    packs = sum(file.stat().st_size for file in (house.home / "store").rglob("*") if file.is_file())
    assert packs < 2 * (3 << 20)


def test_a_directory_without_files_is_no_checkpoint(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            with trial.checkpoint() as folder:
                (folder / "empty").mkdir()
    """)
    with pytest.raises(Invalid) as refused:
        house.search(inline, single(), {})
    assert refused.value.code == "checkpoint.empty"


def test_what_was_being_written_when_it_failed_is_no_checkpoint(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            for step in trial.steps():
                with trial.checkpoint() as folder:
                    (folder / "good").write_text(str(step))
                try:
                    with trial.checkpoint() as folder:
                        (folder / "half").write_text("")
                        raise OSError("disk")
                except OSError:
                    pass
                trial.report(step, loss=1.0)
    """)
    result = house.search(inline, single(metric="loss", max_steps=2), {})
    commit = house.repos.commit_by_id(result.trial.checkpoint)
    assert house.repos.read(commit, "/checkpoint/good") == b"2"
    with pytest.raises(NotFound):
        house.repos.read(commit, "/checkpoint/half")


LOGGING = """
    import numpy, pyarrow
    from pathlib import Path

    class Figure:
        def savefig(self, file, format, bbox_inches):
            file.write(b"drawn as " + format.encode())

    def model(trial):
        for step in trial.steps():
            trial.log_text("notes.md", f"# step {step}")
            trial.log_image("maps/first", numpy.zeros((4, 6, 3)))
            trial.progress(step / 3, "half way")
            trial.report(step, loss=1 / step)
        trial.log_text("notes.md", "# the last word", step=3)
        trial.log_table("rows", {"a": [1, 2], "b": ["x", "y"]}, step=0)
        trial.log_figure("roc", Figure())
"""


def test_what_a_trial_logs_is_kept_as_files_one_for_each_name_and_step(
    house: Any, inline: Any
) -> None:
    house.write(LOGGING)
    result = house.search(inline, single(metric="loss", max_steps=3), {})
    experiments = house.experiments(inline)
    detail = experiments.detail(result.trial.id)
    assert [(file.path, file.kind, file.step) for file in detail.files] == [
        ("maps/first/1.png", "image", 1),
        ("maps/first/2.png", "image", 2),
        ("maps/first/3.png", "image", 3),
        ("notes/1.md", "text", 1),
        ("notes/2.md", "text", 2),
        ("notes/3.md", "text", 3),
        ("roc/3.png", "figure", 3),
        ("rows/0.parquet", "table", 0),
    ]
    assert experiments.file(result.trial.id[:8], "notes/3.md") == b"# the last word"
    assert experiments.file(result.trial.id, "/roc/3.png") == b"drawn as png"
    rows = pyarrow.parquet.read_table(
        io.BytesIO(experiments.file(result.trial.id, "rows/0.parquet"))
    )
    assert rows.to_pydict() == {"a": [1, 2], "b": ["x", "y"]}
    assert (detail.trial.progress, detail.trial.note) == (1.0, "half way")
    with pytest.raises(NotFound) as unknown:
        experiments.file(result.trial.id, "notes/9.md")
    assert unknown.value.code == "trial.no_file"


def test_garbage_collection_leaves_what_trials_logged(house: Any, inline: Any) -> None:
    house.write(LOGGING)
    result = house.search(inline, single(metric="loss", max_steps=3), {})
    experiments = house.experiments(inline)
    house.repos.collect([experiments.roots], thorough=True, wait_s=30)
    assert experiments.file(result.trial.id, "notes/1.md") == b"# step 1"


@pytest.mark.parametrize(
    ("values", "colour", "pixels"),
    [
        (numpy.array([[0.0, 1.0]]), 0, bytes([0, 0, 255])),
        (numpy.array([[False, True]]), 0, bytes([0, 0, 255])),
        (numpy.array([[[1, 2, 3], [300, -1, 5]]]), 2, bytes([0, 1, 2, 3, 255, 0, 5])),
        (numpy.array([[[1, 2, 3, 4]]], dtype="uint8"), 6, bytes([0, 1, 2, 3, 4])),
        (numpy.array([[[7]]]), 0, bytes([0, 7])),
    ],
)
def test_an_array_is_kept_as_png(values: Any, colour: int, pixels: bytes) -> None:
    content = logged.image("one", values, 1).content
    assert isinstance(content, bytes)
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[25] == colour
    start = content.index(b"IDAT") + 4
    assert zlib.decompressobj().decompress(content[start:]) == pixels


@pytest.mark.parametrize(
    "make",
    [
        lambda: logged.image("one", numpy.zeros((2, 2, 2)), 1),
        lambda: logged.image("one", b"no png", 1),
        lambda: logged.table("one", 7, 1),
        lambda: logged.figure("one", object(), 1),
        lambda: logged.figure("one", Path("/nowhere.png"), 1),
        lambda: logged.text("../up", "text", 1),
        lambda: logged.text("", "text", 1),
        lambda: logged.text("/a", "text", 1),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(make: Any) -> None:
    with pytest.raises(Invalid) as refused:
        make()
    assert refused.value.code == "trial.log"


def test_tables_of_every_kind_are_kept() -> None:
    frame = {"a": [1, 2]}
    for rows in (
        frame,
        [{"a": 1}, {"a": 2}],
        pandas.DataFrame(frame),
        polars.DataFrame(frame),
        polars.LazyFrame(frame),
        pyarrow.table(frame),
    ):
        content = logged.table("t", rows, 1).content
        assert isinstance(content, bytes)
        assert pyarrow.parquet.read_table(io.BytesIO(content)).to_pydict() == frame
