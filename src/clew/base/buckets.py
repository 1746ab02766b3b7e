"""Buckets and keys: how S3 clients name what Clew calls ``project/repo@ref:/path``.

Knows spellings only; whether there is such a repo or branch is for ``buckets`` to say.

A bucket is ``ref.repo`` or ``ref.repo.project``. Each part is its own name where that has
lower-case letters, digits and single hyphens alone; every other character is ``--`` and two
hexadecimal digits (``My_Repo.v2`` is ``--4dy--5f--52epo--2ev2``). So each name has one spelling
and each spelling one name, whatever repos there are.
"""

from __future__ import annotations

import re

from clew.base.address import Address, check_ref_name, check_repo_name, normal_path
from clew.base.errors import Invalid

_CODED = re.compile(r"--([0-9a-f]{2})")
_OTHER = re.compile(r"-{2,}|[^a-z0-9-]")
MAX_KEY_BYTES = 1024


def bucket_name(repo: str, ref: str) -> str:
    """The bucket of a branch or a commit."""
    project, _, name = repo.rpartition("/")
    return ".".join(_code(part) for part in (ref, name, project) if part)


def read_bucket(bucket: str) -> Address | None:
    """What a bucket names; None where it is not the name of one.

    Capitals and underscores are taken as they are, too: some clients let them pass.
    """
    parts = [_CODED.sub(_character, part) for part in bucket.split(".")]
    if len(parts) not in {2, 3}:
        return None
    ref, name, *project = parts
    repo = "/".join([*project, name])
    try:
        return Address(repo=check_repo_name(repo), ref=check_ref_name(ref))
    except Invalid:
        return None


def path_of(key: str) -> str | None:
    """The path of the file that a key names; None where no file of a commit can have that key."""
    try:
        path = normal_path(key)
    except Invalid:
        return None
    return path if path[1:] == key and key else None


def _code(part: str) -> str:
    return _OTHER.sub(lambda found: "".join(f"--{ord(c):02x}" for c in found[0]), part)


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))
