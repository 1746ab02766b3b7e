"""Cards and comparisons of models that a pipeline has trained, on files and through a server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from clew.base.settings import Settings
from clew.client import RemoteWorkspace
from clew.server import serve
from clew.workspace import open_workspace

PIPELINE = '''
import clew
import polars as pl
from sklearn.linear_model import LogisticRegression

p = clew.Pipeline("p")
rows = p.source("rows")

@p.step(rows)
def clean(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop_nulls()

def fits(params, metrics):
    return metrics["bytes"] - 5

@p.train(
    clean, target="y", test=clew.holdout(0.3, by="x"), feasible=fits,
    search=clew.grid(metric="acc", mode="max", max_steps=1, constraints="bytes <= 6"),
    space={"size": clew.choice(1, 4, 9)},
    card=clew.card(intended_use="WORDS", owners=["ops@example.org"]),
)
def model(data: pl.DataFrame, trial: clew.Trial) -> object:
    """Which side a number is on."""
    x, y = data.select("x", "z"), data["y"]
    found = LogisticRegression(C=trial.params["size"]).fit(x, y)
    trial.report(1, acc=float(found.score(x, y)) + trial.params["size"], bytes=trial.params["size"])
    return found
'''


def table(rows: int, extra: str = "") -> bytes:
    lines = [f"{n},{n % 7},{int(n > rows / 2)}{',1' if extra else ''}" for n in range(rows)]
    return "\n".join([f"x,z,y{extra}", *lines]).encode()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Three versions: of other code, then also of other rows; other words in between."""
    disk = tmp_path_factory.mktemp("cards")
    file = disk / "p.py"
    near = open_workspace(Settings(home=disk / ".clew", workers=1), create=True)
    stop, bound, url = threading.Event(), threading.Event(), []
    server = threading.Thread(
        target=lambda: serve(
            near, port=0, ready=lambda at: (url.append(at), bound.set()), stop=stop
        )
    )
    try:
        file.write_text(PIPELINE)
        near.apply(file)
        near.put("p/rows", {"/a.csv": table(60)})
        near.wait()
        file.write_text(PIPELINE.replace("WORDS", "Teaching."))
        near.apply(file)
        near.wait()
        jobs = [job.id for job in near.jobs() if job.kind == "train" and job.state == "done"]
        words = near.card("p/model@1")
        file.write_text(PIPELINE.replace('params["size"]).fit', 'params["size"] / 2).fit'))
        near.apply(file)
        near.put("p/rows", {"/a.csv": table(50, ",extra")})
        near.wait()
        server.start()
        bound.wait()
        far = RemoteWorkspace(url[0])
        yield {"near": near, "far": far, "trained": jobs, "words": words}
        far.close()
    finally:
        stop.set()
        if server.ident:
            server.join()
        near.close()


def test_other_words_train_nothing_and_are_said_from_now_on(both):
    assert len(both["trained"]) == 1
    assert both["words"].text.intended_use == "Teaching."
    assert both["words"].text_then.intended_use == "WORDS"
    assert both["words"].text.description == "Which side a number is on."
    assert "limits" in both["words"].unsaid


def test_a_card_has_all_sections_and_the_raw_data_behind_it(both):
    card = both["near"].card("p/model@1")
    sections = [line[3:] for line in card.markdown.splitlines() if line.startswith("## ")]
    assert sections[:9] == [
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
        "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
    ]  # fmt: skip
    assert [one.repo for one in card.things.lineage.sources] == ["p/rows"]
    assert card.things.runtime.trials == 3
    assert card.things.configuration.space["size"]["options"] == [1, 4, 9]
    assert card.things.configuration.params == {"size": 4}
    assert card.things.importances.permuted
    assert "ops@example.org" in card.markdown


def test_the_best_keeps_the_rule_and_the_function_and_is_made_again(both):
    near = both["near"]
    version = near.model("p/model@1")
    detail = near.experiment(version.experiment)
    broken = {one.params["size"]: set(one.breaches) for one in detail.trials}
    assert version.params == {"size": 4}
    assert broken == {1: set(), 4: set(), 9: {"bytes <= 6", "infeasibility <= 0"}}
    again = near.reproduce(version.job)
    assert again.verdict in {"identical", "equal"}
    assert {one.name for one in again.metrics} >= {"infeasibility", "bytes"}


def test_versions_differ_in_rows_columns_and_lines_of_code(both):
    found = both["near"].compare_runs(["p/model@1", "p/model@3"])
    features = next(one for one in found.data if one.role == "features")
    table = features.pairs[0].files[0].table
    assert (table.old_rows, table.new_rows) == (60, 50)
    assert [(one.name, one.kind) for one in table.columns] == [("extra", "added")]
    raw = next(one for one in found.data if one.role == "source")
    assert (raw.repo, raw.pairs[0].changed) == ("p/rows", 1)
    code = [cause for cause in found.code[0].causes if cause.kind == "code"]
    assert any('params["size"] / 2' in one.diff for one in code)
    metrics = {row.name: row for row in found.metrics}
    assert metrics["test accuracy"].values[0] is not None
    assert not next(row for row in found.environment if row.name == "scikit-learn").differs


def test_trials_of_one_search_have_the_same_data_and_code(both):
    near = both["near"]
    trials = near.experiment(near.model("p/model@1").experiment).trials
    found = near.compare_runs([one.id for one in trials])
    assert len(found.runs) == 3
    assert [row.name for row in found.parameters if row.differs] in (["size"], [])
    assert not any(one.causes for one in found.code)
    assert not any(pair for one in found.data if one.role == "features" for pair in one.pairs)


def test_a_server_says_the_same(both):
    near, far = both["near"], both["far"]
    asked = ["p/model@1", "p/model@3"]
    assert far.compare_runs(asked) == near.compare_runs(asked)
    cards = [one.card("p/model@3") for one in (near, far)]
    assert cards[0] == replace(cards[1], made_at=cards[0].made_at)
