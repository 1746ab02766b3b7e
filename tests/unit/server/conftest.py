"""A real server on a free port over the workspace by hand, for every test of the HTTP doors."""

import importlib.util
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from clew.server import serve


def load_fake():
    name = "clew_tests_fake_verbs"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "fake.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@contextmanager
def served(verbs, **settings):
    """The URL of a server that runs for the length of the block."""
    stop, bound, url, failed = threading.Event(), threading.Event(), [], []

    def ready(where):
        url.append(where)
        bound.set()

    def run():
        try:
            serve(verbs, port=settings.pop("port", 0), ready=ready, stop=stop, **settings)
        except BaseException as error:
            failed.append(error)
            bound.set()

    thread = threading.Thread(target=run)
    thread.start()
    bound.wait()
    try:
        if failed:
            raise failed[0]
        yield url[0]
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="session")
def fake():
    return load_fake()


@pytest.fixture
def verbs(fake):
    return fake.FakeVerbs()


@pytest.fixture
def url(verbs, tmp_path):
    with served(verbs, scratch=tmp_path) as where:
        yield where


@pytest.fixture(scope="session")
def serving():
    return served
