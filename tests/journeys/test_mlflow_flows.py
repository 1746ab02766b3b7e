"""What MLflow's guides show, done by the real client twice: with us, and with stock MLflow.

Whatever the client sees there it has to see here, errors and their words included. What differs on
purpose is listed, with what it is here.
"""

import importlib.util
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FLOWS = Path(__file__).parent / "projects" / "mlflow"
NAMES = sorted(file.stem for file in FLOWS.glob("*.py") if file.stem not in {"runner", "sides"})
LEAST = 8
"""A flow sees at least so many things."""

OTHERWISE: dict[tuple[str, str], object] = {
    # An empty file has a size: MLflow's own server leaves out what is zero.
    ("files", "below deep"): [
        ["deep/a.bin", False, 256000],
        ["deep/empty", False, 0],
        ["deep/er", True, None],
    ],
}
"""What a client sees here instead."""


def load(name):
    spec = importlib.util.spec_from_file_location(f"mlflow_{name}", FLOWS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    sides, place = load("sides"), tmp_path_factory.mktemp("stock")
    with sides.stock(place / "server") as url:
        return sides.flows(url, place, NAMES)


@pytest.fixture(scope="module")
def ours(place_at, tmp_path_factory):
    place = place_at(tmp_path_factory.mktemp("ours") / "here")
    place.clew("init", "--bare", ".")
    try:
        return load("sides").flows(place.server().url, place.directory / "client", NAMES)
    finally:
        place.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_client_sees_what_it_sees_with_mlflows_own_server(name, ours, theirs):
    assert len(theirs[name]) >= LEAST
    assert theirs[name]["the end"] is None, "the flow runs through"
    expected = {key: OTHERWISE.get((name, key), seen) for key, seen in theirs[name].items()}
    assert ours[name] == expected
