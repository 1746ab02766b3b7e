"""Small programs with an edit each, along the language reference: must the step `f` run again?

The programs are in ``corpus/``, by what they are about; some more are in ``test_fingerprint``.
``COSTS``: the edit cannot change the result, and the step runs all the same. That is allowed, but
for one case in twenty at most; a missed change never is.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from clew.pipelines import Fingerprint, fingerprint
from clew.pipelines.fingerprint import changed_parts

Files = dict[str, str] | str
Compare = Callable[[str], tuple[Fingerprint, Fingerprint]]
RUNS, SAME, COSTS = "runs", "same", "costs"

CORPUS: dict[str, tuple[Files, Files, str]] = {
    f"{file.stem}: {name}": case
    for file in sorted((Path(__file__).parent / "corpus").glob("*.py"))
    for name, case in runpy.run_path(str(file))["CASES"].items()
}


def project(directory: Path, files: Files) -> Path:
    for name, text in ({"a.py": files} if isinstance(files, str) else files).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compare:
    """The fingerprints of both programs of a case, made once."""

    @cache
    def compare(case: str) -> tuple[Fingerprint, Fingerprint]:
        home = tmp_path_factory.mktemp("case")
        old, new = (
            fingerprint(project(home / side, files), "a.py", "f")
            for side, files in zip(("old", "new"), CORPUS[case], strict=False)
        )
        return old, new

    return compare


@pytest.mark.parametrize("case", CORPUS)
def test_an_edit_counts_if_it_can_change_the_result(compared: Compare, case: str) -> None:
    expected = CORPUS[case][2]
    old, new = compared(case)
    assert (old.digest != new.digest) == (expected != SAME)
    if expected != SAME:
        assert changed_parts(old.parts, new.parts)


@pytest.mark.parametrize("case", CORPUS)
def test_a_fingerprint_is_the_same_wherever_the_project_lies(
    tmp_path: Path, compared: Compare, case: str
) -> None:
    assert fingerprint(project(tmp_path, CORPUS[case][0]), "a.py", "f") == compared(case)[0]


def test_no_change_is_missed_and_few_cases_run_needlessly(compared: Compare) -> None:
    """The bar: at least 150 programs, none missed, at most one in twenty needless."""
    runs = {case for case in CORPUS if compared(case)[0].digest != compared(case)[1].digest}
    must = {case for case, (_, _, expected) in CORPUS.items() if expected == RUNS}
    assert len(CORPUS) >= 150
    assert must - runs == set()
    assert len(runs - must) <= 0.05 * len(CORPUS)
