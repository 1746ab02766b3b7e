"""What a container image needs that serves a model, or a graph with all that it asks: files, a
lock file and a recipe.

Knows the commits of model versions and graphs, and the distributions of this installation; writes
no file and runs no tool. The same version gives the same texts.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct, structs

from clew.base.errors import Invalid, NotReady
from clew.base.records import ModelVersion, Revision
from clew.base.records.environments import OwnEnvironment
from clew.base.records.exports import (
    ImageContext,
    ImageEndpoint,
    ImageFile,
    ImageManifest,
    ImageWish,
)
from clew.base.records.graphs import GRAPH, Graph, needed_nodes
from clew.base.records.parity import Parity
from clew.base.records.processing import PROCESSING, Processing
from clew.base.untold import UNTOLD
from clew.workspace.inference_services import blessed
from clew.workspace.own_environments import check_elsewhere
from clew.workspace.rooms import Rooms

REQUIREMENTS = "/requirements.txt"
PARITY = "/clew/formats/onnx/parity.json"
TRAINING = "/clew/training.json"
ENVIRONMENT = "/clew/environment.json"
USER = "10001:10001"
"""A number: Kubernetes sees that it is not root, and the base image need not know it."""
_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?([^;]*)(?:;(.*))?")
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)")
_BELOW = frozenset({"python", "clew"})
"""What an image has anyway."""
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


class Served(Struct, frozen=True, kw_only=True):
    """An endpoint of an image with the bytes of its files; ``version`` None: it is a graph."""

    about: ImageEndpoint
    contents: dict[str, bytes]
    version: ModelVersion | None


def image_context(rooms: Rooms, subject: str, wish: ImageWish) -> ImageContext:
    """See :meth:`clew.base.export_verbs.ExportVerbs.export_image`."""
    if not 0 < wish.port < 65536:
        raise Invalid("export.port", f"{wish.port} is no port.", hint="Give one from 1 to 65535.")
    if "@" in subject:
        version = blessed(rooms.models.get(subject))
        served = [_served(rooms, version.model.rpartition("/")[2], version, None)]
    else:
        served = _asked(rooms, subject)
    first, *nodes = (one.about for one in served)
    name = _name(wish.name or first.endpoint)
    manifest = ImageManifest(**structs.asdict(first), nodes=tuple(nodes))
    lock, remarks = _lock(_all_needed(served))
    clew = importlib.metadata.version("clew")
    texts = {
        "Containerfile": _recipe(name, served[0].version, manifest, wish, _common_python(served)),
        "requirements.lock": _lock_text(lock, remarks, manifest),
        "model/image.json": msgspec.json.format(msgspec.json.encode(manifest)).decode() + "\n",
        f"src/clew-{clew}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: clew\nVersion: {clew}\n"
        ),
    }
    return ImageContext(name=name, clew=clew, manifest=manifest, texts=texts)


def _asked(rooms: Rooms, endpoint: str) -> list[Served]:
    """An endpoint, and where it is a graph all that it asks, each once.

    A node that serves nothing stays away, where the graph goes on without it.
    """
    found: dict[str, Served] = {}
    queue = [(endpoint, True)]
    while queue:
        name, needed = queue.pop(0)
        if name in found or (not needed and not _traffic(rooms.serving.live(name))):
            continue
        revision = _live(rooms, name)
        version = rooms.models.get(revision.model_version) if revision.model_version else None
        found[name] = _served(rooms, name, version, revision)
        if version is None:
            graph = _graph(found[name].contents)
            needs = needed_nodes(graph.root)
            queue += [(node, node in needs) for node in graph.endpoints]
    return list(found.values())


def _graph(contents: dict[str, bytes]) -> Graph:
    return msgspec.json.decode(contents[GRAPH], type=Graph)


def _traffic(revision: Revision | None) -> bool:
    return revision is not None and revision.traffic > 0


def _live(rooms: Rooms, endpoint: str) -> Revision:
    found = rooms.serving.live(endpoint)
    if found is None or not found.traffic:
        raise NotReady(
            "endpoint.empty",
            f"{endpoint} serves no model yet.",
            hint=f"Deploy one: clew deploy {endpoint} MODEL@VERSION",
        )
    return found


def _name(text: str) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
    if not _NAME.fullmatch(name):
        raise Invalid(
            "export.name",
            f"{text!r} makes no name of an image.",
            hint="Give one of small letters, digits, - and .: --name",
        )
    return name


def _served(
    rooms: Rooms, endpoint: str, version: ModelVersion | None, revision: Revision | None
) -> Served:
    """Every file that is served, each compared with its digest by the store; and their bytes.

    There is a version, a revision, or both.
    """
    around = revision.functions if revision else ""
    model = rooms.repos.commit_by_id(version.commit).tree if version else ""
    own = {one.path: one.digest for one in rooms.store.entries(model)} if version else {}
    tree = rooms.serving.tree(revision.id) if revision else model
    contents, files = {}, []
    for entry in sorted(rooms.store.entries(tree), key=lambda one: one.path):
        content = contents[entry.path] = rooms.store.read(entry.digest)
        of_model = version is not None and own.get(entry.path) == entry.digest
        place = f"{version.model}@{version.commit}" if version and of_model else around
        files.append(
            ImageFile(
                path=entry.path,
                sha256=hashlib.sha256(content).hexdigest(),
                size_bytes=len(content),
                address=f"{place}:{entry.path}",
            )
        )
    about = ImageEndpoint(
        endpoint=endpoint,
        revision=revision.id if revision else "",
        number=revision.number if revision else 0,
        model=version.model if version else "",
        model_version=version.id if version else "",
        version=str(version.version) if version else _graph(contents).version,
        commit=version.commit if version else around.rpartition("@")[2],
        global_id=revision.global_id if revision else version.global_id if version else "",
        files=tuple(files),
    )
    return Served(about=about, contents=contents, version=version)


# the lock file ----------------------------------------------------------------------------------


def _all_needed(served: list[Served]) -> dict[str, str]:
    """What all of them need together, in one process.

    Raises:
        Invalid: ``export.packages`` where two models need other versions of one distribution.
    """
    found: dict[str, str] = {}
    needing: dict[str, str] = {}
    for one in served:
        for name, version in _of_model(one.contents).items():
            if found.setdefault(name, version) != version:
                raise Invalid(
                    "export.packages",
                    f"{needing[name]} needs {name} {found[name]}, and {one.about.endpoint} "
                    f"{version}: one image cannot have both.",
                    hint="Train both with the packages of now, or make an image of each endpoint "
                    "that the graph asks.",
                )
            needing.setdefault(name, one.about.endpoint)
    around = {name: each for one in served for name, each in _around(one.contents).items()}
    return {**around, **found}


def _of_model(contents: dict[str, bytes]) -> dict[str, str]:
    """Distribution → version: what a model was packaged with, and what its served form needs.

    MLflow reads models of its own kind alone; ours are loaded without it.
    """
    if ENVIRONMENT in contents:
        return _of_form(contents)
    text = contents.get(REQUIREMENTS, b"").decode()
    found = {_plain(name): version for name, version in _PINNED.findall(text)}
    training = msgspec.json.decode(contents.get(TRAINING, b"{}"))
    flavour = (training.get("imported") or {}).get("flavour", "")
    if "mlflow" not in flavour:
        found.pop("mlflow", None)
    if PARITY in contents:
        report = msgspec.json.decode(contents[PARITY], type=Parity)
        if report.serves == "onnx" and "onnxruntime" in report.made_with:
            found["onnxruntime"] = report.made_with["onnxruntime"]
    return found


def _around(contents: dict[str, bytes]) -> dict[str, str]:
    """What functions around a model, or in a graph, need: what they import, and the frames that
    they are given.

    Rows reach them, and the model behind them, through Polars.
    """
    given: set[str] = set()
    packages: dict[str, str] = {}
    if PROCESSING in contents:
        about = msgspec.json.decode(contents[PROCESSING], type=Processing)
        given |= {"polars", *(one for one in (about.takes, about.gets) if one == "pandas")}
        packages |= about.packages
    if GRAPH in contents:
        given |= {"polars"}
        packages |= _graph(contents).packages
    frames = {name: version for name in sorted(given) if (version := _installed(name))}
    named = {_plain(name): version for name, version in packages.items()}
    return {**frames, **{name: one for name, one in named.items() if name not in _BELOW}}


def _of_form(contents: dict[str, bytes]) -> dict[str, str]:
    """What serves a model whose original has an environment of its own: beside that, or by ONNX."""
    known = {"pandas", "polars"} | ({"onnxruntime"} if _is_onnx(contents) else set())
    return {name: version for name in sorted(known) if (version := _installed(name))}


def _is_onnx(contents: dict[str, bytes]) -> bool:
    """Whether the ONNX form serves."""
    report = msgspec.json.decode(contents[PARITY], type=Parity) if PARITY in contents else None
    return report is not None and report.serves == "onnx"


def _common_python(served: list[Served]) -> str:
    """The Python that the image must have, '' where no model has an environment of its own.

    Raises:
        Invalid: ``export.environment`` where there is none for all of them.
    """
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    own = {one.about.endpoint: _own_python(one.contents) for one in served if one.version}
    wanted = sorted({each or ours for each in own.values()})
    if len(wanted) > 1:
        raise Invalid(
            "export.environment",
            f"The endpoints that it asks need Python {' and '.join(wanted)}: one image has one.",
            hint="Make an image of each endpoint that the graph asks.",
        )
    return wanted[0] if any(own.values()) else ""


def _own_python(contents: dict[str, bytes]) -> str:
    """The Python (``3.12``) that an image must have whose model serves from an environment of its
    own; '' for any other model.

    Raises:
        Invalid: ``export.environment`` where such an image cannot be made.
    """
    if ENVIRONMENT not in contents or _is_onnx(contents):
        return ""
    own = msgspec.json.decode(contents[ENVIRONMENT], type=OwnEnvironment)
    return check_elsewhere(own).packages["python"]


def _lock(needed: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Distribution → version of all that is needed, with what that needs itself; and remarks.

    Versions are those of the model first, then those of this installation, whose metadata tell what
    needs what.
    """
    locked: dict[str, str] = {}
    remarks: list[str] = []
    queue = [("clew", frozenset[str]()), *((name, frozenset[str]()) for name in sorted(needed))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while queue:
        name, extras = queue.pop(0)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        installed = _installed(name)
        version = needed.get(name, installed)
        if not version:
            continue  # of another system, or an extra that is not here
        if installed != version:
            remarks.append(f"{name} {version}: {installed or 'none'} is installed here")
        if name != "clew":
            locked[name] = version
        queue += _required(name, extras)
    return dict(sorted(locked.items())), sorted(set(remarks))


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _required(name: str, extras: Iterable[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """What an installed distribution needs, with the extras of it that are asked for."""
    try:
        told = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in told:
        match = _REQUIREMENT.match(text)
        if match is None:
            continue
        found, wanted, _, marker = match.groups()
        of_extra = _EXTRA.findall(marker or "")
        if of_extra and not set(of_extra) & set(extras):
            continue
        each = frozenset(_plain(one) for one in (wanted or "").split(",") if one.strip())
        yield _plain(found), each


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _lock_text(lock: dict[str, str], remarks: list[str], manifest: ImageManifest) -> str:
    named = [f"{one.endpoint} ({one.title})" for one in manifest.places.values()]
    lines = [
        f"# What {', '.join(named)} and Clew need, all of it: installed with",
        "# --no-deps. Versions of the model come first.",
        *(f"# Not the version of this installation: {one}" for one in remarks),
        *(f"{name}=={each}" for name, each in lock.items()),
    ]
    return "\n".join(lines) + "\n"


_OWN = """\
# What the model itself runs in, with the versions and hashes that it was trained with.
ENV CLEW_ENVIRONMENTS=/environments
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf,required=false \\
    python3 -m clew.serving.alone /model --environment
"""


# the recipe -------------------------------------------------------------------------------------


def _recipe(
    name: str,
    version: ModelVersion | None,
    manifest: ImageManifest,
    wish: ImageWish,
    own_python: str,
) -> str:
    python = own_python or f"{sys.version_info[0]}.{sys.version_info[1]}"
    base = wish.base or f"docker.io/library/python:{python}-slim"
    labels = {
        "org.opencontainers.image.title": name,
        "org.opencontainers.image.version": manifest.version,
        "org.opencontainers.image.revision": manifest.commit,
        **({"clew.model": manifest.model} if version else {"clew.graph": manifest.endpoint}),
        **({"clew.model-version": version.id} if version else {}),
        "clew.global-id": manifest.global_id,
        **({"clew.verdict": version.verdict} if version and version.verdict else {}),
    }
    told = " \\\n      ".join(f'{key}="{_quoted(each)}"' for key, each in labels.items())
    untold = " ".join(f"{key}={each}" for key, each in UNTOLD.items())
    return f"""\
# Made by `clew image`: {manifest.endpoint} serves {manifest.title}.
# buildah bud --format docker -t {name}:{manifest.version} .      docker build -f Containerfile .
ARG BASE={base}
FROM ${{BASE}}
LABEL {told}
ENV PYTHONPATH=/app/src PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \\
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 CLEW_PORT={wish.port} \\
    {untold}
COPY requirements.lock /app/requirements.lock
# An index with a password: --secret id=pip.conf,src=FILE; no layer keeps it.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf,required=false \\
    python3 -m pip install --no-cache-dir --no-deps --requirement /app/requirements.lock
COPY src /app/src
COPY model /model
{_OWN if own_python else ""}RUN python3 -m clew.serving.alone /model --check
USER {USER}
EXPOSE {wish.port}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \\
    CMD ["python3", "-m", "clew.serving.alone", "/model", "--probe"]
ENTRYPOINT ["python3", "-m", "clew.serving.alone", "/model"]
"""


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
