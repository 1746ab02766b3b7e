"""Pages of versions: what a workspace knows of branches, tags, merges and tables is on them."""

from __future__ import annotations

import httpx2
import pytest

from clew.base.settings import Settings
from clew.workspace import open_workspace


@pytest.fixture
def workspace(tmp_path):
    opened = open_workspace(Settings(home=tmp_path / ".clew"), create=True)
    yield opened
    opened.close()


def page(url, path):
    answer = httpx2.get(url + path, headers={"Accept": "text/html"}, trust_env=False)
    assert answer.status_code == 200, answer.text[:2000]
    return answer.text


def test_a_repo_shows_branches_and_tags_and_a_commit_its_parents_and_metadata(workspace, serving):
    workspace.create_repo("p/data")
    base = workspace.put("p/data", {"/t.csv": b"n,who\n1,<b>\n"})
    workspace.put("p/data", {"/b": b""}, branch="dev", message="on dev")
    workspace.put("p/data", {"/c": b""})
    merge = workspace.merge("p/data", "dev", meta={"reviewed": "<ada>"}).commit
    workspace.tag(merge.id, "v1", message="what the paper used")
    with serving(workspace) as url:
        repo = page(url, "/repos/p/data")
        assert all(word in repo for word in ("on dev", "v1", "what the paper used"))
        commit = page(url, f"/commits/{merge.id}")
        assert all(f"/commits/{parent}" in commit for parent in (merge.parent, merge.merged))
        assert "reviewed=&lt;ada&gt;" in commit
        assert ">v1<" in commit
        table = page(url, f"/commits/{base.id}?path=/t.csv")
        assert "Columns" in table
        assert "int64" in table
        assert "<b>" not in table
        opened = workspace.open_commit("p/data")
        assert opened.id in page(url, f"/commits/{opened.id}")
