"""This project's own history, commit by commit: what differs is what git says differs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clew.base.settings import Settings
from clew.workspace import open_workspace

ROOT = Path(__file__).parents[3]
SAMPLE = 25


def git(*words: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=True).stdout


def history() -> list[str]:
    """First parents, oldest first; a skip where there is no whole history."""
    try:
        shallow = git("rev-parse", "--is-shallow-repository").strip() == b"true"
        found = git("rev-list", "--first-parent", "--reverse", "HEAD").decode().split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no clone of git")
    if shallow:
        pytest.skip("the clone is shallow: git clone --no-single-branch, or git fetch --unshallow")
    return found


def changes_of(old: str | None, new: str) -> dict[str, str]:
    """Path to A, M or D, as git tells it; modes alone do not count here."""
    empty = git("hash-object", "-t", "tree", "/dev/null").decode().strip()
    told = git("diff-tree", "-r", "--no-renames", "-z", old or empty, new).decode().split("\0")
    found = {}
    for fields, path in zip(told[0::2], told[1::2], strict=False):
        _, _, before, after, kind = fields.lstrip(":").split()
        if before != after:
            found[f"/{path}"] = "M" if kind == "T" else kind
    return found


class Blobs:
    """Contents of files by their name in git, through one process."""

    def __enter__(self):
        self.process = subprocess.Popen(
            ["git", "-C", str(ROOT), "cat-file", "--batch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def read(self, name: str) -> bytes:
        self.process.stdin.write(f"{name}\n".encode())
        self.process.stdin.flush()
        size = int(self.process.stdout.readline().split()[2])
        data = self.process.stdout.read(size)
        self.process.stdout.read(1)
        return data


@pytest.fixture
def workspace(tmp_path):
    opened = open_workspace(Settings(home=tmp_path / ".clew"), create=True)
    opened.create_repo("p/replay")
    yield opened
    opened.close()


def replay(workspace, commits: list[str]) -> None:
    """Commit each and compare the difference to the one before with git's."""
    letters = {"added": "A", "changed": "M", "deleted": "D"}
    before, last = None, None
    with Blobs() as blobs:
        for name in commits:
            changed = changes_of(before, name)
            there = [path for path, kind in changed.items() if kind != "D"]
            gone = [path for path, kind in changed.items() if kind == "D"]
            if not changed:
                continue
            puts = {path: blobs.read(f"{name}:{path[1:]}") for path in there}
            done = workspace.put("p/replay", puts, delete=gone, message=name)
            if last is not None:
                told = workspace.diff(last.id, done.id)
                assert {c.path: letters[c.kind] for c in told} == changed, name
            before, last = name, done
    names = git("ls-tree", "-r", "-z", "--name-only", before).decode().rstrip("\0").split("\0")
    files = {file.path for file in workspace.ls("p/replay", recursive=True)}
    assert files == {f"/{path}" for path in names}


def test_each_difference_of_a_sample_of_the_history_is_that_of_git(workspace):
    whole = history()
    step = max(1, len(whole) // SAMPLE)
    replay(workspace, [*whole[::step][:SAMPLE], whole[-1]])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_difference_of_the_whole_history_is_that_of_git(workspace):
    replay(workspace, history())
