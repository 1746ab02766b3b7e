"""How people name data: ``project/repo@ref^2:/path``.

Knows the grammar only; whether a repo or a ref exists is for ``repos`` to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from clew.base.errors import Invalid

DEFAULT_BRANCH = "main"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # the characters of Unicode's category Cc
_REF = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\^(?P<up>\d*))?")


@dataclass(frozen=True, kw_only=True)
class Address:
    """A place in the data: a repo, a ref in it (branch, commit or global id), a path in that."""

    repo: str
    ref: str = DEFAULT_BRANCH
    ancestors: int = 0
    path: str = "/"

    def __str__(self) -> str:
        up = f"^{self.ancestors}" if self.ancestors else ""
        path = f":{self.path}" if self.path != "/" else ""
        return f"{self.repo}@{self.ref}{up}{path}"


def parse_address(text: str) -> Address:
    """Read ``repo[@ref][^N][:/path]``; a missing ref is ``main``, ``^`` alone is ``^1``.

    Raises:
        Invalid: ``address.invalid`` where the text is none of that.
    """
    head, colon, path = text.partition(":")
    repo, at, ref = head.partition("@")
    if not at and "^" in repo:
        repo, _, generations = repo.partition("^")
        at, ref = "@", f"{DEFAULT_BRANCH}^{generations}"
    _check_no_path(repo, text)
    check_repo_name(repo)
    match = _REF.fullmatch(ref) if at else None
    if at and match is None:
        raise Invalid(
            "address.invalid",
            f"{ref!r} in {text!r} is not a branch, a commit or a global ID.",
            hint="Write project/repo@branch, project/repo@id or project/repo@branch^2.",
        )
    name = match["name"] if match else DEFAULT_BRANCH
    up = match["up"] if match else None
    return Address(
        repo=repo,
        ref=name,
        ancestors=0 if up is None else int(up or 1),
        path=normal_path(path) if colon else "/",
    )


def _check_no_path(repo: str, text: str) -> None:
    """A slash too many is a path that was meant."""
    parts = [part for part in repo.split("/") if part]
    if len(parts) > 2 and all(_NAME.fullmatch(part) for part in parts[:2]):
        at = text.partition("@")[1:] if "@" in text else ("", "")
        inner = "/".join(parts[2:])
        raise Invalid(
            "repo.name",
            f"{repo!r} is not the name of a repo.",
            hint=f"A path stands behind a colon: {parts[0]}/{parts[1]}{''.join(at)}:/{inner}",
        )


def with_path(address: str, path: str) -> str:
    """The address of a path that was given beside it ('': the address itself).

    Raises:
        Invalid: ``address.twice`` where the address names one too.
    """
    if not path:
        return address
    place, colon, inner = address.partition(":")
    if colon and inner.strip("/"):
        raise Invalid(
            "address.twice",
            f"{address} names a path, and {path} is another.",
            hint=f"Name one: {place}:/{path.lstrip('/')}",
        )
    return f"{place}:/{path.lstrip('/')}"


def check_repo_name(name: str) -> str:
    """The name itself, if it is one or two plain words with a slash between them.

    Raises:
        Invalid: ``repo.name``.
    """
    parts = name.split("/")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts) or len(name) > 200:
        raise Invalid(
            "repo.name",
            f"{name!r} is not the name of a repo.",
            hint="Use project/repo, each of letters, digits, '.', '_' and '-'.",
        )
    return name


def check_ref_name(name: str) -> str:
    """The name itself, if a branch may have it.

    Raises:
        Invalid: ``branch.name``.
    """
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise Invalid(
            "branch.name",
            f"{name!r} is not the name of a branch.",
            hint="Use letters, digits, '.', '_' and '-'.",
        )
    return name


def normal_path(path: str) -> str:
    """The one spelling of a path in a commit: absolute, single slashes, no slash at the end.

    Any UTF-8 name is kept byte for byte (no case or Unicode folding). The root is ``/``.

    Raises:
        Invalid: ``path.invalid`` for control characters, NUL, ``.`` or ``..`` parts, or text that
            is not UTF-8.
    """
    parts = [part for part in path.split("/") if part]
    try:
        path.encode()
    except UnicodeEncodeError:
        raise _bad_path(path, "is not UTF-8") from None
    if any(part in {".", ".."} for part in parts):
        raise _bad_path(path, "has a '.' or '..' part")
    if _CONTROL.search(path):
        raise _bad_path(path, "has a control character")
    return "/" + "/".join(parts)


def _bad_path(path: str, why: str) -> Invalid:
    return Invalid(
        "path.invalid",
        f"The path {path!r} {why}.",
        hint="Name files by plain UTF-8 paths below the root of the commit.",
    )
