"""How files of a user's project become functions."""

import pickle
import sys

import pytest

from clew.base.errors import Invalid, NotFound
from clew.compute import load_function, load_module
from clew.compute.snapshots import bind


@pytest.fixture(autouse=True)
def _unbound():
    yield
    bind("")


@pytest.fixture
def snapshot(tmp_path):
    def write(name, **files):
        for file, text in files.items():
            path = tmp_path / name / (file.replace("__in__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(tmp_path / name)

    return write


def test_a_file_is_imported_once_per_snapshot(snapshot):
    directory = snapshot("a", steps="def f():\n    return 1\n")
    assert load_module(directory, "steps.py") is load_module(directory, "/steps.py")


def test_a_changed_file_in_a_new_snapshot_is_a_new_function(snapshot):
    text = "from helpers import x\ndef f():\n    return x\n"
    one = snapshot("one", steps=text, helpers="x = 1\n")
    two = snapshot("two", steps=text, helpers="x = 2\n")
    assert [load_function(d, "steps.py", "f")() for d in (one, two, one)] == [1, 2, 1]


def test_nothing_of_a_snapshot_is_left_when_it_is_unbound(snapshot):
    directory = snapshot("a", steps="import pkg.deep\ndef f(): ...\n", pkg__in__deep="x = 1\n")
    before = set(sys.modules), list(sys.path)
    load_function(directory, "steps.py", "f")
    bind("")
    assert (set(sys.modules), list(sys.path)) == before


def test_objects_of_the_project_can_be_pickled_by_name(snapshot):
    directory = snapshot("a", pkg__in__models="class Model:\n    x = 3\n", pkg__in____init__="")
    model = load_function(directory, "pkg/models.py", "Model")()
    assert type(model).__module__ == "pkg.models"
    assert pickle.loads(pickle.dumps(model)).x == 3


def test_relative_imports_work_inside_a_package(snapshot):
    directory = snapshot(
        "a",
        pkg__in____init__="",
        pkg__in__helpers="x = 4\n",
        pkg__in__steps="from .helpers import x\ndef f():\n    return x\n",
    )
    assert load_function(directory, "pkg/steps.py", "f")() == 4


@pytest.mark.parametrize("name", ["json", "pytest", "clew", "not-a-name"])
def test_a_file_may_be_called_as_another_module(snapshot, name):
    directory = snapshot("a", **{name: "def f():\n    return 'mine'\n"})
    before = sys.modules.get(name)
    assert load_function(directory, f"{name}.py", "f")() == "mine"
    assert sys.modules.get(name) is before


def test_a_directory_may_be_called_as_an_installed_module(snapshot):
    directory = snapshot("a", pickle__in__steps="def f():\n    return 'mine'\n")
    assert load_function(directory, "pickle/steps.py", "f")() == "mine"


def test_a_file_that_is_not_there_is_not_found(snapshot):
    with pytest.raises(NotFound) as caught:
        load_function(snapshot("a", steps=""), "stepz.py", "f")
    assert caught.value.code == "code.file"


def test_a_name_that_is_not_there_suggests_near_ones(snapshot):
    with pytest.raises(NotFound, match="Did you mean 'clean'") as caught:
        load_function(snapshot("a", steps="def clean(): ..."), "steps.py", "claen")
    assert caught.value.code == "code.function"


def test_what_is_no_function_is_refused(snapshot):
    with pytest.raises(Invalid) as caught:
        load_function(snapshot("a", steps="x = 3"), "steps.py", "x")
    assert caught.value.code == "code.function"


def test_errors_of_the_import_are_raised_and_not_kept(snapshot):
    directory = snapshot("a", steps="import no_such_module_at_all\n")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
            load_module(directory, "steps.py")
    package = snapshot("b", pkg__in____init__="import no_such_module_at_all", pkg__in__x="")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        load_module(package, "pkg/x.py")
    odd = snapshot("c", **{"odd-name": "1 / 0"})
    with pytest.raises(ZeroDivisionError):
        load_module(odd, "odd-name.py")


def test_decorators_of_clew_come_off_and_those_of_the_user_stay(snapshot):
    text = """
import functools

class Node:
    def __init__(self, function):
        self.__wrapped__ = function

Node.__module__ = "clew.authoring.nodes"

def twice(function):
    @functools.wraps(function)
    def inner(x):
        return function(function(x))
    return inner

@Node
@Node
@twice
def step(x):
    return x + 1
"""
    assert load_function(snapshot("a", steps=text), "steps.py", "step")(0) == 2
