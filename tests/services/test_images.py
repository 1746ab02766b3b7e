"""Steps in container images: unpacked once by buildah, closed off by bubblewrap."""

import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from clew.base.errors import ClewError
from clew.base.settings import Settings
from clew.places import CommandDefinition, DatumOfProgram, Program, RuntimeDefinition, pin_image
from clew.places import images as images_room
from clew.store import Store
from clew.workspace import open_workspace

LACKS = [name for name in ("buildah", "bwrap") if not shutil.which(name)]
pytestmark = [
    pytest.mark.skipif(bool(LACKS), reason=f"{' and '.join(LACKS)} not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah mounts images as root only"),
]
PROGRAMS = ("sh", "cat", "ls", "head")


def tool(*line: str) -> str:
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def storage(tmp_path_factory):
    """Storage of its own for buildah, so that nothing of the machine is touched."""
    place = tmp_path_factory.mktemp("storage")
    (place / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{place}/graph"\nrunroot = "{place}/run"\n'
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CONTAINERS_STORAGE_CONF", str(place / "storage.conf"))
        patched.setenv("BUILDAH_ISOLATION", "chroot")
        yield
        subprocess.run(["buildah", "rm", "--all"], check=False, capture_output=True)
        subprocess.run(["buildah", "rmi", "--all", "--force"], check=False, capture_output=True)


def make_image(directory: Path, name: str, said: str) -> str:
    """An image of a shell and a few programs, in an OCI layout; how it is called."""
    root = directory / "root"
    shutil.rmtree(root, ignore_errors=True)
    for place in ("bin", "etc", "tmp"):
        (root / place).mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        path = str(shutil.which(program))
        shutil.copy(path, root / "bin" / program)
        for word in tool("ldd", path).split():
            if word.startswith("/"):
                (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, root / word[1:])
    (root / "etc" / "said").write_text(said)
    container = tool("buildah", "from", "scratch")
    tool("buildah", "add", "--quiet", container, str(root), "/")
    tool("buildah", "config", "--env", "FLAVOUR=vanilla", container)
    reference = f"oci:{directory}/layout:{name}"
    tool("buildah", "commit", "--quiet", container, reference)
    tool("buildah", "rm", container)
    return reference


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> str:
    return make_image(tmp_path_factory.mktemp("image"), "one", "in the image")


def run(directory: Path, text: str, runtime: RuntimeDefinition) -> dict[str, bytes]:
    store = Store.open(directory / "store")
    (directory / "project").mkdir(exist_ok=True)
    with store.writer() as writer:
        digest = writer.put(b"one")[0]
    program = Program(
        CommandDefinition(arguments=(text,), shell=True), runtime, store,
        root=directory / "files", project=directory / "project",
    )  # fmt: skip
    kept = program.run(DatumOfProgram(name="d", inputs={"raw": [("/1", digest)]}))
    return {path: store.read(digest) for path, digest, _ in kept}


def test_a_program_sees_the_image_and_its_inputs_and_no_network(tmp_path, image):
    pinned = pin_image(image)
    found = run(
        tmp_path,
        "cat /etc/said /pfs/raw/1 > /pfs/out/x; echo $FLAVOUR > $CLEW_OUTPUT/env;"
        " (echo > /etc/new) 2>/dev/null || echo > /pfs/out/read-only; echo > /tmp/mine;"
        " while read line; do echo $line; done < /proc/net/dev > /pfs/out/nets",
        RuntimeDefinition(image=image, pinned=pinned),
    )
    assert found["/x"] == b"in the imageone"
    assert found["/env"] == b"vanilla\n"
    assert "/read-only" in found
    assert len(found["/nets"].splitlines()) == 3  # two of head, and the loopback
    assert pin_image(image) == pinned


def test_an_image_that_is_not_there_is_told_in_the_words_of_the_tool(tmp_path):
    with pytest.raises(ClewError) as raised:
        pin_image(f"oci:{tmp_path}/none:tag")
    assert raised.value.code == "image.missing"


def test_an_image_that_has_changed_since_is_not_run(tmp_path):
    reference = make_image(tmp_path, "moving", "first")
    pinned = pin_image(reference)
    tool("buildah", "rmi", "--force", pinned)
    make_image(tmp_path, "moving", "second")
    images_room.root_of.cache_clear()
    with pytest.raises(ClewError) as raised:
        run(tmp_path, "true", RuntimeDefinition(image=reference, pinned=pinned))
    assert raised.value.code == "image.changed"


def test_the_digest_of_the_image_counts_for_results(tmp_path, image):
    other = make_image(tmp_path, "other", "in another")
    project = tmp_path / "project"
    project.mkdir()
    file = project / "im.py"

    def write(name: str) -> None:
        file.write_text(
            f"import clew\np = clew.Pipeline('im')\nraw = p.source('raw')\n"
            f"p.cmd('a', 'cat /etc/said $CLEW_FILE_raw', raw, stdout='x', image={name!r})\n"
        )

    write(image)
    settings = Settings(home=project / ".clew", workers=2)
    with closing(open_workspace(settings, create=True)) as workspace:
        workspace.apply(file)
        workspace.wait(workspace.put("im/raw", {"/x": b"!"}).global_id)
        assert workspace.read("im/a:/x") == b"in the image!"
        write(other)
        (plan,) = workspace.plan(file)
        assert [one.action for one in plan.datums] == ["run"]
        assert "image" in plan.datums[0].reason
        workspace.apply(file)
        workspace.wait()
        assert workspace.read("im/a:/x") == b"in another!"
