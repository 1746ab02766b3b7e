"""Which branch or commit a bucket is, what it holds now, and whether it may be written.

Knows repos; nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct

from clew.base.address import DEFAULT_BRANCH, Address
from clew.base.buckets import bucket_name, read_bucket
from clew.base.errors import ClewError, Invalid
from clew.base.records import RepoInfo
from clew.repos import Repos
from clew.server.s3.committing import Rooms
from clew.server.s3.errors import S3Error
from clew.store import EMPTY_TREE


class Place(Struct, frozen=True, kw_only=True):
    """A bucket as it is now. ``tree`` is what it holds, ``at`` since when.

    ``branch`` is '' for a commit; ``closed`` says why it cannot be written, '' where it can.
    """

    bucket: str
    repo: str
    branch: str
    tree: str
    at: datetime
    closed: str


def find(rooms: Rooms, bucket: str) -> Place:
    """The bucket of this name.

    Raises:
        S3Error: ``NoSuchBucket``.
    """
    repos, address = rooms.repos, read_bucket(bucket)
    if address is None:
        raise _unknown(bucket, "Buckets are called BRANCH.REPO.PROJECT, or BRANCH.REPO.")
    try:
        info = repos.get(address.repo)
        is_branch = address.ref in _branches(info)
        return (
            _branch(rooms, bucket, info, address) if is_branch else _commit(repos, bucket, address)
        )
    except ClewError as error:
        if error.kind in {"not_found", "invalid", "not_ready", "conflict"}:
            raise _unknown(bucket, str(error)) from None
        raise


def find_open(rooms: Rooms, bucket: str) -> Place:
    """The bucket, if it may be written.

    Raises:
        S3Error: ``NoSuchBucket``, ``AccessDenied`` saying why.
    """
    place = find(rooms, bucket)
    if place.closed:
        raise S3Error("AccessDenied", place.closed, 403)
    return place


def every(repos: Repos) -> Iterator[tuple[str, datetime]]:
    """All branches of all repos as buckets, by name, each with the time its repo was made."""
    found = [
        (bucket_name(info.name, branch), info.created_at)
        for info in repos.list()
        for branch in _branches(info)
    ]
    return iter(sorted(found))


def create(repos: Repos, bucket: str) -> None:
    """A new branch, and a new source repo where there is none; a branch starts as ``main`` is.

    Raises:
        S3Error: ``InvalidBucketName``, ``BucketAlreadyOwnedByYou``, ``AccessDenied``.
    """
    address = read_bucket(bucket)
    if address is None:
        raise S3Error(
            "InvalidBucketName",
            f"{bucket!r} is no name: buckets are called BRANCH.REPO.PROJECT, or BRANCH.REPO.",
        )
    known = {info.name: info for info in repos.list()}
    info = known.get(address.repo) or repos.create(address.repo)
    if info.name in known and address.ref in _branches(info):
        raise S3Error("BucketAlreadyOwnedByYou", f"There is a bucket {bucket} already.", 409)
    if info.kind != "source":
        raise S3Error("AccessDenied", _derived(info), 403)
    try:
        repos.create_branch(info.name, address.ref, at=info.branches.get(DEFAULT_BRANCH))
    except Invalid as error:
        raise S3Error("InvalidBucketName", str(error)) from None


def _branches(info: RepoInfo) -> list[str]:
    return list(info.branches) or [DEFAULT_BRANCH]


def _branch(rooms: Rooms, bucket: str, info: RepoInfo, address: Address) -> Place:
    head = rooms.present(info.name, address.ref) or rooms.repos.head(info.name, address.ref)
    return Place(
        bucket=bucket,
        repo=info.name,
        branch=address.ref,
        tree=EMPTY_TREE if head is None else head.tree,
        at=info.created_at if head is None else head.finished_at or head.started_at,
        closed="" if info.kind == "source" else _derived(info),
    )


def _commit(repos: Repos, bucket: str, address: Address) -> Place:
    commit = repos.resolve(address)
    if commit.state != "finished":
        raise _unknown(bucket, f"Commit {commit.id} is {commit.state}.")
    return Place(
        bucket=bucket,
        repo=commit.repo,
        branch="",
        tree=commit.tree,
        at=commit.finished_at or commit.started_at,
        closed=f"{bucket} is commit {commit.id}, and commits never change. "
        f"Write to a branch: {bucket_name(commit.repo, commit.branch)}.",
    )


def _derived(info: RepoInfo) -> str:
    return (
        f"{info.name} is written by Clew (kind: {info.kind}), from what is in other repos; "
        "write to one of kind source."
    )


def _unknown(bucket: str, why: str) -> S3Error:
    return S3Error("NoSuchBucket", f"There is no bucket {bucket!r}. {why}", 404)
