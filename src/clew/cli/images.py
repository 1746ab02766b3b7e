"""``clew image``: a model as a container image, or the build context of one.

Knows the verbs, files and ``buildah``; what belongs into the context is for the workspace.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clew.base.errors import Conflict, Corrupt, Invalid, Unavailable
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records.exports import ImageContext
    from clew.base.verbs import Verbs

RECIPE = "Containerfile"
_MARK = "# Made by `clew image`"
_TOLD_LINES = 4
_CODE = (".py", ".typed")
"""What serving needs of Clew's own files; pages and their pictures stay."""


def image(
    subject: Annotated[str, typer.Argument(help="An endpoint, or a version: shop/model@champion.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The build context; else image-NAME.")
    ] = None,
    base: Annotated[str, typer.Option("--base", help="The image below, with Python and pip.")] = "",
    name: Annotated[str, typer.Option("--name", help="Of the image.")] = "",
    port: Annotated[int, typer.Option("--port", help="Where it listens.")] = 8080,
    build: Annotated[bool, typer.Option("--build", help="Build it with buildah.")] = False,
    tag: Annotated[str, typer.Option("--tag", help="Else NAME:VERSION.")] = "",
    form: Annotated[
        str, typer.Option("--format", help="docker, or oci (which has no health checks).")
    ] = "docker",
    push: Annotated[
        str, typer.Option("--push", help="Where to push it: registry.example/shop:3.")
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="The registry to push to speaks plain HTTP.")
    ] = False,
    buildah: Annotated[
        list[str] | None,
        typer.Option("--buildah", help="An option of `buildah bud`, such as --secret=…"),
    ] = None,
    json: Json = False,
) -> None:
    """A container image that serves a model or a graph as the endpoint does: its context, or built.

    Example: clew image shop --build --tag shop:3 --push registry.example/shop:3
    """
    if form not in {"docker", "oci"}:
        raise Invalid("image.format", f"{form!r} is no format.", hint="Use docker or oci.")
    with workspace() as clew:
        made = import_module("clew.base.records.exports").ImageWish
        context = clew.export_image(subject, made(base=base, name=name, port=port))
        place = out or Path(f"image-{context.name}")
        digest = write_context(clew, context, place)
    tag = tag or f"{context.name}:{context.manifest.version}"
    found = {"context": str(place), "sha256": digest, "tag": "", "image": "", "pushed": ""}
    if build or push:
        found |= {"tag": tag, "image": _built(place, tag, form, buildah or [])}
    if push:
        found["pushed"] = _pushed(tag, push, insecure=insecure)
    if json:
        print_json(found)
        return
    say = console().print
    served = context.manifest.places.values()
    titles = ", ".join(f"{one.endpoint} ({one.title})" for one in served)
    say(f"[green]✓[/] {place}: {titles}, {sum(len(one.files) for one in served)} files")
    if found["image"]:
        say(f"[green]✓[/] {tag}: {found['image']}")
    else:
        say(
            f"  build it: clew image {subject} --build, or docker build -f {place}/{RECIPE} {place}"
        )
    if found["pushed"]:
        say(f"[green]✓[/] pushed to {found['pushed']}")


def write_context(clew: Verbs, context: ImageContext, place: Path) -> str:
    """Write a build context to ``place``, in place of one that was made before.

    Returns:
        SHA-256 over the paths and bytes of all its files: the same for the same version.

    Raises:
        Conflict: ``image.exists`` where something else is there; ``image.version`` where the
            server has another Clew than this process, whose code it would get.
        Corrupt: ``image.damaged`` where a file is not what was promised.
    """
    if context.clew != version_of("clew"):
        raise Conflict(
            "image.version",
            f"The server has Clew {context.clew}, and this is {version_of('clew')}.",
            hint=f'pip install "clew=={context.clew}"',
        )
    if place.exists() and any(place.iterdir()):
        recipe = place / RECIPE
        if not recipe.is_file() or not recipe.read_text().startswith(_MARK):
            raise Conflict(
                "image.exists",
                f"{place} holds something else than a build context of Clew's.",
                hint="Name another directory: --out DIRECTORY",
            )
        shutil.rmtree(place)
    files = {path: text.encode() for path, text in context.texts.items()}
    for one in _own_code():
        files[f"src/clew/{one.relative_to(_package()).as_posix()}"] = one.read_bytes()
    for directory, told in context.manifest.places.items():
        for file in told.files:
            content = clew.read(file.address)
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise Corrupt(
                    "image.damaged",
                    f"{file.path} of {told.title} came with other bytes.",
                    hint="Run `clew fsck`, then try again.",
                )
            files[f"model/{directory}{file.path}"] = content
    whole = hashlib.sha256()
    for path, content in sorted(files.items()):
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o644)
        whole.update(f"{path}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


def _package() -> Path:
    return Path(str(import_module("clew").__file__)).parent


def _own_code() -> list[Path]:
    """Clew's own files, as they are here: what serves is what judged."""
    return sorted(
        one
        for one in _package().rglob("*")
        if one.suffix in _CODE and one.is_file() and "__pycache__" not in one.parts
    )


def _built(place: Path, tag: str, form: str, options: Sequence[str]) -> str:
    """The id of the image. Raises Unavailable ``image.no_buildah``, Invalid ``image.build``."""
    if shutil.which("buildah") is None:
        raise Unavailable(
            "image.no_buildah",
            "There is no buildah here to build the image with.",
            hint=f"The context is complete: docker build -f {place}/{RECIPE} -t {tag} {place}, or "
            "install buildah (apt install buildah).",
        )
    identity = place.with_name(f".{place.name}.id")
    line = [
        "buildah", "bud", "--format", form, "--timestamp", "0", "--iidfile", str(identity),
        *options, "--tag", tag, "--file", str(place / RECIPE), str(place),
    ]  # fmt: skip
    try:
        _run(line, "image.build", f"The image {tag} cannot be built")
        return identity.read_text().strip()
    finally:
        identity.unlink(missing_ok=True)


def _pushed(tag: str, where: str, *, insecure: bool) -> str:
    target = where if "://" in where or where.startswith(("oci:", "dir:")) else f"docker://{where}"
    plain = ["--tls-verify=false"] if insecure else []
    _run(
        ["buildah", "push", *plain, tag, target],
        "image.push",
        f"{tag} cannot be pushed to {where}",
    )
    return target


def _run(line: list[str], code: str, what: str) -> None:
    """Run a tool whose words go to the error stream as they come."""
    done = subprocess.run(
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    said = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode:
        told = " / ".join(one.strip() for one in said[-_TOLD_LINES:])
        raise Invalid(
            code,
            f"{what}: {told or f'buildah ended with {done.returncode}'}",
            hint=f"Run it by hand to see more: {' '.join(line)}",
        )
