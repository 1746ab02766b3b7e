"""Container images: which one a name means now, and its files as the root of a sandbox.

Knows ``buildah``, which unpacks an image once; programs then run in it by bubblewrap, so that
nothing has to be started or torn down for a datum. Docker's daemon is not needed, nor is Podman.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from clew.base.errors import ClewError, Conflict, Invalid, Unavailable

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Root(Struct, frozen=True, kw_only=True):
    """The files of an image on disk, to be read only, and the variables that it sets."""

    path: Path
    environment: Mapping[str, str]


class Unpacker(Protocol):
    """Gets images and lays them out on disk.

    Law: ``pin`` gives the same text for the same content, on every machine. ``unpack`` may be
    called by many processes at once, for the same image too; what it gives stays, complete and
    unchanged, and is made once.
    """

    def usable(self) -> bool:
        """Whether it works on this machine."""
        ...

    def pin(self, image: str) -> str:
        """The identity of what ``image`` means now; fetched where it is not here.

        Raises:
            Invalid: ``image.missing`` with the tool's own words.
        """
        ...

    def unpack(self, image: str, pinned: str) -> Root:
        """The files of an image that was pinned.

        Raises:
            Invalid: ``image.missing``. Conflict: ``image.changed``.
        """
        ...


class Buildah:
    """Unpacks into the storage of ``buildah``, where it finds what was unpacked before."""

    def usable(self) -> bool:
        """Whether the program is here, with the right to mount."""
        return shutil.which("buildah") is not None and os.geteuid() == 0

    def pin(self, image: str) -> str:
        """The digest of the image's configuration, which names all its layers."""
        if not image.startswith("sha256:") and (held := self._held(image)):
            return held
        return _identity(_tool(image, "buildah", "pull", "--quiet", image))

    def unpack(self, image: str, pinned: str) -> Root:
        """Layers in one directory; held by a working container that is named after the image."""
        name = f"clew-{pinned.partition(':')[2][:32]}"
        if not _works("buildah", "inspect", "--type", "container", name):
            self._make(name, image, pinned)
        mounted = _tool(image, "buildah", "mount", name).strip()
        with suppress(OSError):  # something that the host's own can be put upon
            Path(mounted, "etc", "resolv.conf").touch()
        plain = json.loads(_tool(image, "buildah", "inspect", "--type", "container", name))
        given = plain.get("OCIv1", {}).get("config", {}).get("Env") or []
        variables = dict(one.split("=", 1) for one in given if "=" in one)
        return Root(path=Path(mounted), environment={"PATH": _DEFAULT_PATH, **variables})

    def _make(self, name: str, image: str, pinned: str) -> None:
        if self._held(pinned) is None and self.pin(image) != pinned:
            raise Conflict(
                "image.changed",
                f"The image {image} is not what it was when the pipeline was applied.",
                hint="Apply the file again, or name the image by its digest.",
            )
        try:
            _tool(image, "buildah", "from", "--name", name, "--pull-never", pinned)
        except ClewError:
            if not _works("buildah", "inspect", "--type", "container", name):
                raise  # else another process was first

    def _held(self, image: str) -> str | None:
        found = subprocess.run(
            ["buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", image],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return _identity(found.stdout) if found.returncode == 0 else None


UNPACKERS: Sequence[Unpacker] = (Buildah(),)


def unpacker() -> Unpacker:
    """The first that works here. Raises Unavailable ``image.no_runtime``."""
    for one in UNPACKERS:
        if one.usable() and shutil.which("bwrap"):
            return one
    raise Unavailable(
        "image.no_runtime",
        "A step with an image needs buildah (as root) and bubblewrap where its workers are.",
        hint="Install them (apt install buildah bubblewrap), or use requirements= or sandbox=True.",
    )


def pin_image(image: str) -> str:
    """The identity of what the name of an image means now.

    Raises:
        Unavailable: ``image.no_runtime``.
        Invalid: ``image.missing``.
    """
    return unpacker().pin(image)


@lru_cache(maxsize=16)
def root_of(image: str, pinned: str) -> Root:
    """The files of an image, ready to be run in.

    Raises:
        Unavailable: ``image.no_runtime``.
        Invalid: ``image.missing``.
        Conflict: ``image.changed``.
    """
    return unpacker().unpack(image, pinned)


def _identity(text: str) -> str:
    last = text.strip().splitlines()[-1] if text.strip() else ""
    return last if last.startswith("sha256:") else f"sha256:{last}"


def _works(*line: str) -> bool:
    found = subprocess.run(line, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    return found.returncode == 0


def _tool(image: str, *line: str) -> str:
    found = subprocess.run(
        line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if found.returncode:
        words = found.stderr.strip().splitlines()
        raise Invalid(
            "image.missing",
            f"The image {image} cannot be used: {words[-1] if words else 'no reason given'}.",
            hint="Name it as `buildah pull` would: docker.io/library/r-base:4.4.1, "
            "or oci:/directory:tag for one on disk.",
        )
    return found.stdout
