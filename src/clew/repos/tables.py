"""Tables of repos, branches, tags, commits and the ref log, and the statements over them.

Knows nothing of bytes.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    literal,
    or_,
    select,
)

from clew.db import Json, metadata

Rows = Select[*tuple[Any, ...]]
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")

repos = Table(
    "repos",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

# at_us is when a commit came to its state. It orders them: a child is later than all its parents.
# ``tree`` of an open commit is what was put so far; '' where a job will bring it. ``merged`` is the
# second parent of a merge. ``depth`` (commits before it along the first parents) and ``jump`` (an
# ancestor some way up) make ``^N`` cheap; NULL: not known yet, see ``skipping.py``.
commits = Table(
    "commits",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("repo", ForeignKey("repos.name", ondelete="CASCADE"), nullable=False),
    Column("branch", Text, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("parent", Text),
    Column("state", Text, nullable=False),
    Column("tree", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("provenance", Json, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger),
    Column("at_us", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("merged", Text),
    Column("meta", Json, nullable=False, server_default="{}"),
    Column("depth", BigInteger),
    Column("jump", Text),
    Index("commits_by_parent", "parent"),
    Index("commits_by_repo", "repo", "at_us", "seq"),
    Index("commits_by_state", "repo", "branch", "state"),
    Index("commits_by_id", "repo", "id"),
    Index("commits_by_change", "global_id"),
    Index("commits_by_change_in_repo", "repo", "global_id"),
    sqlite_autoincrement=True,
)

branches = Table(
    "branches",
    metadata,
    Column("repo", ForeignKey("repos.name", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("head", ForeignKey("commits.id", ondelete="CASCADE")),
)

# Names that stay with a commit.
tags = Table(
    "tags",
    metadata,
    Column("repo", ForeignKey("repos.name", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("commit", ForeignKey("commits.id"), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("meta", Json, nullable=False),
    Index("tags_by_commit", "commit"),
)

# Commits that are no more, and why; ids that lineage and old notes still name. ``into`` is the
# commit that one was folded into, or that its branch went back to.
gone = Table(
    "gone_commits",
    metadata,
    Column("id", Text, primary_key=True),
    Column("repo", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("how", Text, nullable=False),
    Column("into", Text),
    Column("at_us", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("gone_commits_by_repo", "repo"),
)

# What was found out about a file and is the same wherever it lies: by its digest and the question.
notes = Table(
    "file_notes",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("question", Text, primary_key=True),
    Column("answer", Json, nullable=False),
)

# Every move of every head, never changed; it outlives the repo. Moves of a tag stand under the
# branch ``tags/NAME``: no branch has a slash in its name. Under the branch '' stands what became
# of the repo itself (neither old nor new), of commits that are gone (``new`` is where they went)
# and of those whose object was written anew (``old`` is ``new``): see ``journal.py``.
ref_log = Table(
    "ref_log",
    metadata,
    Column("seq", _SEQUENCE, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("repo", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("old", Text),
    Column("new", Text),
    Column("global_id", Text),
    sqlite_autoincrement=True,
)

REPO: Rows = select(repos).where(repos.c.name == bindparam("name"))
BRANCHES_OF: Rows = select(branches).where(branches.c.repo == bindparam("repo"))

# The head of a branch; no row where there is no such branch or nothing was finished on it.
HEAD: Rows = (
    select(commits)
    .join(branches, branches.c.head == commits.c.id)
    .where(branches.c.repo == bindparam("repo"), branches.c.name == bindparam("branch"))
)

COMMIT: Rows = select(commits).where(commits.c.id == bindparam("id"))
GONE: Rows = select(gone).where(gone.c.id == bindparam("id"))

TAGS_OF: Rows = (
    select(tags).where(tags.c.repo == bindparam("repo")).order_by(tags.c.at_us.desc(), tags.c.name)
)
TAG: Rows = select(tags).where(tags.c.repo == bindparam("repo"), tags.c.name == bindparam("name"))

NOTE: Rows = select(notes.c.answer).where(
    notes.c.digest == bindparam("digest"), notes.c.question == bindparam("question")
)

# Children along the first parent, of any state.
CHILDREN: Rows = select(commits).where(commits.c.parent == bindparam("id"))

_NEWEST = (commits.c.at_us.desc(), commits.c.seq.desc())

# Commits whose id begins with a prefix, of any repo. Newest first.
BY_PREFIX: Rows = (
    select(commits)
    .where(commits.c.id >= bindparam("prefix"), commits.c.id < bindparam("end"))
    .order_by(*_NEWEST)
    .limit(20)
)

# The same in one repo, by their own id and by that of their change. Newest first.
IN_REPO_BY_PREFIX: Rows = BY_PREFIX.where(commits.c.repo == bindparam("repo"))
IN_REPO_BY_CHANGE: Rows = (
    select(commits)
    .where(
        commits.c.repo == bindparam("repo"),
        commits.c.global_id >= bindparam("prefix"),
        commits.c.global_id < bindparam("end"),
    )
    .order_by(*_NEWEST)
    .limit(200)
)

# All commits of a change, in the order in which they came to their state.
OF_CHANGE: Rows = (
    select(commits)
    .where(commits.c.global_id == bindparam("global_id"))
    .order_by(commits.c.at_us, commits.c.seq)
)

# All commits of a repo, newest first.
LOG_OF_REPO: Rows = (
    select(commits)
    .where(commits.c.repo == bindparam("repo"))
    .order_by(*_NEWEST)
    .limit(bindparam("limit"))
)

_start = (
    select(commits.c.id, commits.c.parent, literal(0).label("up"))
    .where(commits.c.id == bindparam("id"))
    .cte("chain", recursive=True)
)
_chain = _start.union_all(
    select(commits.c.id, commits.c.parent, _start.c.up + 1)
    .join(_start, commits.c.id == _start.c.parent)
    .where(_start.c.up < bindparam("most"))
)

# A commit and its ancestors along the first parent, at most ``most`` steps up, nearest first.
CHAIN: Rows = (
    select(commits, _chain.c.up).join(_chain, commits.c.id == _chain.c.id).order_by(_chain.c.up)
)

# The history of a branch (its head ``id`` and what is before it) and the commits meant for it
# that are open or were aborted. Newest first.
LOG_OF_BRANCH: Rows = (
    select(commits)
    .where(
        or_(
            commits.c.id.in_(select(_chain.c.id)),
            and_(
                commits.c.repo == bindparam("repo"),
                commits.c.branch == bindparam("branch"),
                commits.c.state.in_(["open", "aborted"]),
            ),
        )
    )
    .order_by(*_NEWEST)
    .limit(bindparam("limit"))
)
