"""What the tests of the store share: a fresh store, and bytes that do not compress."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.store import Store


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(home: Path) -> Store:
    return Store.open(home)
