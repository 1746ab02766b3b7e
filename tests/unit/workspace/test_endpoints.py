"""An endpoint serves the champion of its model, also one that was there before the endpoint."""

import pytest

from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.settings import Settings
from clew.client import RemoteWorkspace
from clew.sdk.loading import load
from clew.workspace import open_workspace

FILE = """
import clew
from sklearn.dummy import DummyClassifier

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.5))
def model(data, trial):
    return DummyClassifier().fit(data.select("x").to_pandas(), data["y"].to_numpy())

p.endpoint("first", model)
"""
ROWS = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(40))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    directory = tmp_path_factory.mktemp("project")
    file = directory / "p.py"
    file.write_text(FILE)
    settings = Settings(home=directory / ".clew", workers=2)
    with_model = open_workspace(settings, create=True)
    with_model.apply(file)
    with_model.put("p/rows", {"/rows.csv": ROWS})
    with_model.wait()
    yield with_model, file
    with_model.close()


def test_an_endpoint_that_comes_later_serves_the_champion_at_once(project):
    workspace, file = project
    champion = workspace.model("p/model@champion")
    file.write_text(FILE + 'p.endpoint("second", model)\n')
    workspace.apply(file)
    for name in ("first", "second"):
        (revision,) = workspace.endpoint(name).revisions
        assert (revision.model_version, revision.state) == (champion.id, "live")
    workspace.apply(file)
    assert len(workspace.endpoint("second").revisions) == 1


def test_a_prediction_is_found_by_the_beginning_of_its_id(project):
    workspace, _ = project
    first, second = (workspace.predict("first", [{"x": 1}]).prediction_id for _ in range(2))
    shared = next(n for n in range(len(first)) if first[:n] != second[:n]) - 1
    assert workspace.why(first[: shared + 1]).subject.id == first
    with pytest.raises(Conflict, match="begin with"):
        workspace.why(first[:shared])


def test_a_monitor_that_left_the_file_goes_and_an_endpoint_stays_and_both_are_told(project):
    workspace, file = project
    text = file.read_text()
    file.write_text(text + 'p.endpoint("third", model)\np.monitor("third", retrain=True)\n')
    assert workspace.plan(file)[0].notes == ()
    workspace.apply(file)
    watched = workspace.rooms.monitoring.list()
    assert [monitor.endpoint for monitor in watched] == ["third"]
    file.write_text(text)
    planned, (applied,) = workspace.plan(file)[0].notes, workspace.apply(file)
    assert planned == applied.notes
    monitor, endpoint = planned
    assert monitor.startswith("The monitor of third is defined no more: it is removed")
    assert endpoint.startswith("The endpoint third is defined no more: it is kept and")
    assert workspace.rooms.monitoring.list() == []
    assert workspace.endpoint("third").revisions[0].state == "live"


LOST = """
hook = p.source("hook", clew.webhook())
p.monitor("first")
p.trigger("fine", when=clew.on_drift("first") | clew.on_commit(rows) | clew.on_webhook(hook)
          | clew.on_commit("p/first.predictions")
          | clew.on_metric("errors", endpoint="first", above=1),
          do=clew.rollback("first"))
p.trigger("lost", when=clew.on_drift("frist") | clew.on_source("hok") | clew.on_commit("p/row")
          | clew.on_metric("errors", endpoint="nobody", above=1),
          do=[clew.rollback("frist"), clew.notify()])
"""


def test_what_a_trigger_would_wait_for_in_vain_is_told(project):
    workspace, file = project
    text = file.read_text()
    file.write_text(text + LOST)
    planned, (applied,) = workspace.plan(file)[0].notes, workspace.apply(file)
    assert planned == applied.notes
    assert tuple(one for one in planned if "trigger" in one) == (
        "The trigger lost waits for drift of frist, and there is no monitor of it. Is first meant?",
        "The trigger lost waits for p/hok, and there is no such source. Is p/hook meant?",
        "The trigger lost waits for commits on p/row, and there is no such repo. Is p/rows meant?",
        "The trigger lost looks at nobody, and there is no such endpoint.",
        "The trigger lost rolls back frist, and there is no such endpoint. Is first meant?",
    )
    file.write_text(text)
    workspace.apply(file)


def test_a_champion_is_made_by_hand_only_with_a_name_and_a_reason(project):
    workspace, _ = project
    champion = workspace.model("p/model@champion")
    with pytest.raises(Invalid, match="who and why"):
        workspace.deploy("first", champion.id, champion=True)
    workspace.deploy(
        "first", champion.id, override_by="ann", override_reason="again", champion=True
    )
    assert workspace.model("p/model@champion").id == champion.id


def test_drift_of_an_endpoint_that_is_none_is_refused(project):
    workspace, _ = project
    with pytest.raises(NotFound):
        workspace.drift("none")


def test_a_model_that_is_none_is_refused_with_names_that_are_near(project):
    workspace, _ = project
    for ask in (workspace.models, workspace.verdicts):
        for name, hint in [
            ("p/modle", "p/model"),
            ("model", "p/model"),
            ("p/model@1", "clew model"),
        ]:
            with pytest.raises(NotFound) as refused:
                ask(name)
            assert refused.value.code == "model.unknown"
            assert hint in refused.value.hint
        assert ask("p/model")


@pytest.mark.parametrize("asked", [{"state": "nope"}, {"pipeline": "nope"}])
def test_jobs_of_what_is_none_are_refused(project, asked):
    workspace, _ = project
    with pytest.raises((NotFound, Invalid)):
        workspace.jobs(**asked)


def test_paths_may_be_text(project, tmp_path):
    workspace, file = project
    assert workspace.plan(str(file))[0].pipeline == "p"
    assert workspace.get("p/rows:/rows.csv", str(tmp_path / "copy")) == [tmp_path / "copy"]


def test_what_a_notebook_shows_is_for_people(project):
    workspace, file = project
    home = file.parent / ".clew"
    assert repr(workspace) == f"<workspace on the files of {home}>"
    assert repr(RemoteWorkspace("http://127.0.0.1:1")) == "<workspace at http://127.0.0.1:1>"
    card = workspace.card("p/model@champion")
    assert card._repr_markdown_() == card.markdown != ""
    why = workspace.why("p/model@champion")
    assert why._repr_markdown_().split("  \n") == list(why.sentences) != []
    with load("first", directory=file.parent) as model:
        assert repr(model) == f"<model of first, version 1, {model.platform}>"
