"""Experiment configurations of Determined: what they mean here, what is refused, what is told.

The numbers of rungs and brackets are those of Determined's own tests and sources
(``master/pkg/searcher/adaptive_asha.go``, ``asha_stopping.go``, ``grid.go``).
"""

import pytest

from clew.base.errors import Invalid
from clew.determined import OPEN_END, determined_of, project_of, projects, read_config
from clew.determined.hyperparameters import values_of
from clew.experiments.brackets import brackets_of
from clew.experiments.spaces import grid_points

SINGLE = {"name": "single", "metric": "loss"}


def of(**fields):
    return determined_of({"entrypoint": "python3 train.py", "searcher": SINGLE, **fields})


def searched(space=None, **searcher):
    fields = {"metric": "loss", **searcher}
    return of(searcher=fields, hyperparameters=space or {})


def rungs(found):
    return [(one.trials, one.rungs) for one in brackets_of(found.search, found.search.trials)]


def test_a_single_trial_ends_when_its_program_does_whatever_the_length_says():
    found = of(searcher={**SINGLE, "max_length": {"batches": 100}})
    assert (found.search.searcher, found.search.max_steps) == ("single", OPEN_END)
    assert not found.task.halves


def test_the_best_is_the_smallest_unless_told_otherwise():
    assert searched(name="single").search.mode == "min"
    assert searched(name="single", smaller_is_better=False).search.mode == "max"


def test_hyperparameters_become_a_space_and_what_is_the_same_in_all_trials():
    found = of(
        hyperparameters={
            "batch": 64,
            "depth": {"type": "int", "minval": 2, "maxval": 8},
            "dropout": {"type": "double", "minval": 0.1, "maxval": 0.5},
            "optimizer": {
                "kind": {"type": "categorical", "vals": ["sgd", "adam"]},
                "rate": {"type": "log", "base": 10, "minval": -4, "maxval": -2},
                "betas": {"type": "const", "val": [0.9, 0.99]},
            },
        }
    )
    assert found.task.fixed == {"batch": 64, "optimizer.betas": [0.9, 0.99]}
    kinds = {name: (one.kind, one.low, one.high) for name, one in found.space.items()}
    assert kinds["depth"] == ("randint", 2, 8)
    assert kinds["dropout"] == ("uniform", 0.1, 0.5)
    assert kinds["optimizer.rate"] == ("loguniform", pytest.approx(1e-4), pytest.approx(1e-2))
    assert found.space["optimizer.kind"].options == ("sgd", "adam")


def test_a_trial_gets_its_hyperparameters_nested_as_they_were_written():
    found = of(
        hyperparameters={
            "batch": 64,
            "net": {"layers": {"type": "categorical", "vals": [[8, 8], [16]]}},
        }
    )
    chosen = {"net.layers": found.space["net.layers"].options[1]}
    assert values_of(chosen, found.task.fixed, found.task.labels) == {
        "batch": 64,
        "net": {"layers": [16]},
    }


@pytest.mark.parametrize(
    ("one", "points"),
    [
        ({"type": "int", "minval": 1, "maxval": 10, "count": 4}, [1, 4, 7, 10]),
        ({"type": "int", "minval": 1, "maxval": 2, "count": 5}, [1, 2]),
        ({"type": "int", "minval": 1, "maxval": 4, "count": 1}, [3]),
        ({"type": "double", "minval": 0.0, "maxval": 1.0, "count": 3}, [0.0, 0.5, 1.0]),
        ({"type": "log", "minval": -2, "maxval": 0, "count": 3}, [0.01, 0.1, 1.0]),
        ({"type": "log", "base": 2, "minval": 2, "maxval": 4, "count": 1}, [8.0]),
        ({"type": "categorical", "vals": ["a", "b"]}, ["a", "b"]),
    ],
)
def test_the_points_of_a_grid_are_those_of_determined(one, points):
    found = searched({"x": one}, name="grid")
    assert [point["x"] for point in grid_points(found.space)] == pytest.approx(points)


def test_a_range_of_a_grid_needs_a_number_of_points():
    with pytest.raises(Invalid, match=r"hyperparameters\.x\.count"):
        searched({"x": {"type": "double", "minval": 0, "maxval": 1}}, name="grid")


@pytest.mark.parametrize(
    ("mode", "rounds"),
    [
        ("aggressive", [(1, 4, 16, 64, 256)]),
        ("standard", [(1, 4, 16, 64, 256), (4, 16, 64, 256), (16, 64, 256)]),
        (
            "conservative",
            [(1, 4, 16, 64, 256), (4, 16, 64, 256), (16, 64, 256), (64, 256), (256,)],
        ),
    ],
)
def test_the_brackets_of_adaptive_asha_follow_its_mode(mode, rounds):
    found = searched(
        name="adaptive_asha", mode=mode, max_trials=1000, time_metric="batches", max_time=256
    )
    assert [steps for _, steps in rungs(found)] == rounds


def test_the_trials_of_brackets_are_shared_out_as_determined_does():
    found = searched(
        name="adaptive_asha", max_trials=128, divisor=4, max_rungs=3, max_length=64, mode="standard"
    )
    assert rungs(found) == [(94, (4, 16, 64)), (34, (16, 64))]


def test_few_trials_or_a_short_length_mean_fewer_rungs():
    few = searched(name="adaptive_asha", max_trials=10, time_metric="batches", max_time=100)
    assert rungs(few) == [(7, (25, 100)), (3, (100,))]
    short = searched(name="async_halving", max_trials=10, time_metric="epochs", max_time=3)
    assert rungs(short) == [(10, (3,))]


def test_lengths_that_do_not_divide_are_cut_down():
    found = searched(name="async_halving", num_rungs=3, max_trials=9, divisor=3, max_length=100)
    assert rungs(found) == [(9, (11, 33, 100))]


@pytest.mark.parametrize(
    ("fields", "searcher", "time"),
    [
        ({"max_time": 8, "time_metric": "epochs"}, "hyperband-stopping", "epochs"),
        ({"max_length": {"epochs": 8}}, "hyperband", "epochs"),
        ({"max_length": 8}, "hyperband", ""),
        ({"max_length": 8, "stop_once": True}, "hyperband-stopping", ""),
    ],
)
def test_trials_are_stopped_since_0_38_and_promoted_before(fields, searcher, time):
    found = searched(name="async_halving", max_trials=4, **fields)
    assert (found.search.searcher, found.task.time_metric) == (searcher, time)
    assert found.task.halves


@pytest.mark.parametrize(
    ("slots", "module"),
    [(0, "determined.exec.harness"), (2, "determined.launch.torch_distributed")],
)
def test_the_class_of_a_trial_is_started_as_determined_starts_one(slots, module):
    found = of(entrypoint="model_def:MyTrial", resources={"slots_per_trial": slots}).task
    assert found.entrypoint[:3] == ("python3", "-m", module)
    assert (found.entrypoint[-1], found.shell) == ("model_def:MyTrial", False)


def test_a_search_that_halves_needs_to_know_how_long():
    with pytest.raises(Invalid, match=r"searcher\.max_time") as caught:
        searched(name="adaptive_asha", max_trials=4)
    assert caught.value.code == "determined.config"


@pytest.mark.parametrize("name", ["pbt", "custom", "adaptive_simple", None])
def test_other_searchers_are_refused_by_name(name):
    with pytest.raises(Invalid, match=r"searcher\.name") as caught:
        searched(name=name)
    assert caught.value.code == "determined.unsupported"


@pytest.mark.parametrize(
    ("field", "config"),
    [
        ("bind_mounts", {"bind_mounts": [{"host_path": "/a", "container_path": "/b"}]}),
        ("environment.pod_spec", {"environment": {"pod_spec": {"spec": {}}}}),
        ("resources.devices", {"resources": {"devices": [{"host_path": "/dev/x"}]}}),
        ("slurm", {"slurm": {"slots_per_node": 1}}),
        ("log_policies.action", {"log_policies": [{"pattern": "x", "action": "exclude_node"}]}),
    ],
)
def test_what_clew_does_not_carry_out_is_refused_by_its_field(field, config):
    with pytest.raises(Invalid, match=field.replace(".", r"\.")) as caught:
        of(**config)
    assert caught.value.code == "determined.unsupported"


@pytest.mark.parametrize(
    ("field", "config"),
    [
        ("entrypoint", {"entrypoint": None}),
        ("searcher", {"searcher": None}),
        ("searcher.metric", {"searcher": {"name": "single"}}),
        ("max_restarts", {"max_restarts": -1}),
        ("resources.slots_per_trial", {"resources": {"slots_per_trial": "two"}}),
        ("hyperparameters.x.type", {"hyperparameters": {"x": {"type": "normal"}}}),
        ("hyperparameters.x.minval", {"hyperparameters": {"x": {"type": "int", "maxval": 1}}}),
        (
            "hyperparameters.x",
            {"hyperparameters": {"x": {"type": "int", "minval": 2, "maxval": 1}}},
        ),
    ],
)
def test_a_field_that_means_nothing_is_named(field, config):
    with pytest.raises(Invalid, match=field.replace(".", r"\.")) as caught:
        of(**config)
    assert caught.value.code == "determined.config"


def test_what_has_no_effect_and_what_nobody_knows_is_told():
    found = of(
        environment={"image": "determinedai/pytorch", "flavour": 1},
        checkpoint_storage={"type": "shared_fs", "host_path": "/tmp"},
        colour="red",
    )
    told = " ".join(found.notes)
    for name in ("environment.image", "environment.flavour", "checkpoint_storage.type", "colour"):
        assert name in told, name
    assert not of(description="d", data={"url": "x"}, records_per_epoch=10).notes


def test_policies_of_checkpoints_and_restarts_are_those_of_the_configuration():
    found = of(
        max_restarts=2,
        checkpoint_storage={"save_experiment_best": 3, "save_trial_best": 0},
        log_policies=[{"pattern": "out of memory", "action": "cancel_retries"}],
    )
    assert (found.policy.restarts, found.policy.keep.best) == (2, 3)
    assert (found.policy.keep.trial_best, found.policy.keep.trial_latest) == (0, 1)
    assert found.policy.on_log[-1].pattern == "out of memory"
    assert of().policy.restarts == 5


def test_the_harness_gets_the_configuration_with_what_determined_would_fill_in():
    config = of(data={"url": "x"}).task.config
    assert config["data"] == {"url": "x"}
    assert config["min_checkpoint_period"] == {"batches": 0}
    assert config["resources"]["slots_per_trial"] == 1
    assert config["searcher"]["smaller_is_better"] is True


def test_variables_may_depend_on_the_device():
    both = of(environment={"environment_variables": ["A=1", "B=x=y"]}).task.variables
    assert both["cpu"] == both["cuda"] == {"A": "1", "B": "x=y"}
    found = of(environment={"environment_variables": {"cpu": ["A=1"], "gpu": ["A=2"]}})
    assert found.task.variables == {"cpu": {"A": "1"}, "cuda": {"A": "2"}}


def test_so_many_trials_run_at_once_as_slots_and_searcher_allow():
    assert searched(name="random", max_trials=9).task.at_most == 16
    assert searched(name="random", max_trials=9, max_concurrent_trials=2).task.at_most == 2
    found = of(
        searcher={"name": "random", "metric": "x", "max_trials": 9},
        resources={"slots_per_trial": 2, "max_slots": 6},
    )
    assert (found.task.slots, found.task.at_most) == (2, 3)


def test_a_lower_number_of_determined_is_a_higher_priority():
    assert of().priority == 0
    assert of(resources={"priority": 1}).priority > of(resources={"priority": 99}).priority


def test_a_name_becomes_one_that_addresses_can_have():
    assert of(name="My first: experiment!").name == "my-first-experiment"


def test_changes_of_the_command_line_take_the_place_of_fields(tmp_path):
    file = tmp_path / "experiment.yaml"
    file.write_text("name: a\nsearcher:\n  name: single\n")
    found = read_config(file, ["searcher.metric=loss", "resources.slots_per_trial=2"])
    assert found["searcher"] == {"name": "single", "metric": "loss"}
    assert found["resources"] == {"slots_per_trial": 2}


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n"])
def test_what_is_no_configuration_is_refused(tmp_path, text):
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    with pytest.raises(Invalid) as caught:
        read_config(file)
    assert caught.value.code == "determined.config"


def test_a_project_is_the_context_directory_without_what_detignore_names(tmp_path):
    code = tmp_path / "code"
    for name in ("train.py", "lib/net.py", "data/big.bin", "notes.md", ".git/HEAD", "keep.bin"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(name)
    (code / ".detignore").write_text("# large\ndata/\n*.bin\n!keep.bin\n/notes.md\n")
    (code / "requirements.txt").write_text("numpy\n")
    (tmp_path / "experiment.yaml").write_text(
        "name: digits\nentrypoint: python3 train.py\nsearcher: {name: single, metric: loss}\n"
    )
    found = project_of(tmp_path / "experiment.yaml", code, requirements=["polars"])
    assert set(found.files.content) == {
        ".detignore", "clew_experiment.json", "clew_experiment.py", "keep.bin", "lib/net.py",
        "requirements.txt", "train.py",
    }  # fmt: skip
    entry = found.files.content[found.files.entry].decode()
    assert "['determined==0.38.1', '-r requirements.txt', 'polars']" in entry
    again = project_of(tmp_path / "experiment.yaml", code)
    assert again.files.content[again.files.entry] != found.files.content[found.files.entry]


def test_a_context_directory_may_not_be_too_large(tmp_path, monkeypatch):
    (tmp_path / "experiment.yaml").write_text(
        "entrypoint: python3 train.py\nsearcher: {name: single, metric: loss}\n"
    )
    monkeypatch.setattr(projects, "MOST_BYTES", 10)
    with pytest.raises(Invalid) as caught:
        project_of(tmp_path / "experiment.yaml", tmp_path)
    assert caught.value.code == "determined.context"
