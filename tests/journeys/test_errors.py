"""Everything that can go wrong: a clear error with a stable code, nothing lost, and on it goes."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Place

PROJECTS = Path(__file__).parent / "projects"


@pytest.fixture(scope="module")
def trouble_once(tmp_path_factory: pytest.TempPathFactory, place_at: Callable[..., Place]) -> Path:
    place = place_at(tmp_path_factory.mktemp("trouble") / "here")
    place.clew("init", "--bare")
    shutil.copytree(PROJECTS / "trouble", place.directory, dirs_exist_ok=True)
    place.clew("apply", "trouble.py")
    return place.directory


@pytest.fixture
def trouble(trouble_once: Path, tmp_path: Path, place_at: Callable[..., Place]) -> Iterator[Place]:
    """A workspace with the pipeline of orders that can go wrong."""
    shutil.copytree(trouble_once, tmp_path / "here")
    place = place_at(tmp_path / "here")
    yield place
    place.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    target = tmp_path / "disk"
    target.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(target)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode != 0:
        pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()}")
    yield target
    subprocess.run(["umount", "--lazy", str(target)], check=True)


def fill(disk: Path, leave_bytes: int) -> Path:
    """Put a file there that leaves so much free."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(b"\0" * (shutil.disk_usage(disk).free - leave_bytes))
    return ballast


def order(place: Place, word: str, *, exits: int = 1) -> dict[str, Any]:
    """Commit an order; its job with its datums."""
    place.write("order.txt", word)
    put = place.json("put", "trouble/orders", "order.txt", exits=exits)
    assert place.clew("get", "trouble/orders:/order.txt", "-").out == word, "the commit is whole"
    job = next(job for job in put["jobs"] if job["step"] == "work")
    return place.json("job", job["id"])


# wrong names and wrong files --------------------------------------------------------------------


def test_what_is_not_there_is_named_with_what_is_near(trained: Place) -> None:
    unknown = trained.refused("put", "numbers/row", "data", exits=3)
    assert unknown["code"] == "repo.unknown"
    assert "numbers/raw" in unknown["hint"]
    for exits, code, *arguments in (
        (3, "file.missing", "put", "numbers/raw", "no.csv"),
        (3, "ref.unknown", "ls", "numbers/raw@nobranch"),
        (3, "file.unknown", "get", "numbers/raw:/no.csv", "-"),
        (3, "file.unknown", "apply", "no.py"),
        (3, "why.unknown", "why", "zzzzzzzz"),
        (3, "job.unknown", "job", "zzzzzzzz"),
        (3, "model.unknown", "model", "numbers/model@9"),
        (3, "endpoint.unknown", "predict", "larch", "[{}]"),
        (2, "predict.rows", "predict", "large", "[{"),
        (2, "predict.rows", "predict", "large", '[{"y": 1}]'),
        (5, "repo.derived", "put", "numbers/clean", "data"),
        (2, "put.nothing", "put", "numbers/raw"),
    ):
        error = trained.clew(*arguments, "--json", exits=exits).error
        assert (error["code"], bool(error["hint"])) == (code, True), arguments


def test_rows_that_are_the_name_of_a_file_are_asked_for_by_that_name(trained: Place) -> None:
    trained.write("rows.json", "[{}]")
    assert trained.refused("predict", "large", "rows.json", exits=2)["hint"].endswith(
        "write @rows.json."
    )
    assert "@rows.json" in trained.refused("predict", "large", "x" * 300, exits=2)["hint"]


def test_without_a_workspace_the_next_step_is_said(place: Place) -> None:
    missing = place.refused("status", exits=3)
    assert missing["code"] == "workspace.missing"
    assert "clew init" in missing["hint"]
    place.environ["CLEW_URL"] = "http://127.0.0.1:9"
    assert place.refused("status", exits=7)["code"] == "server.unreachable"


@pytest.mark.parametrize(
    ("text", "code", "shown"),
    [
        ("import clew\np = clew.Pipeline('p')\n\n1 / 0\n", "pipeline.import", "p.py"),
        ("import nosuchlibrary\n", "pipeline.import", "nosuchlibrary"),
        ("def f(:\n", "pipeline.import", "p.py"),
        ("x = 1\n", "pipeline.none", "clew.Pipeline"),
        (
            (
                "import clew\np = clew.Pipeline('p')\n@p.step(p.source('s'), per='row')\n"
                "def f(x: str) -> str:\n    return x\n"
            ),
            "pipeline.definition",
            "per='row'",
        ),
    ],
    ids=["raises", "import", "syntax", "empty", "definition"],
)
def test_a_file_that_defines_nothing_good_is_refused(
    trained: Place, text: str, code: str, shown: str
) -> None:
    trained.write("p.py", text)
    said = trained.clew("apply", "p.py", "--json", exits=2)
    assert said.error["code"] == code
    assert shown in said.error["message"] + said.error["hint"]
    assert "clew/compute" not in said.out, "frames of Clew do not help the reader"
    assert {p["name"] for p in trained.json("repos")} == {p["name"] for p in trained.json("ls")}


def test_a_bad_parquet_and_a_missing_column_are_named(trouble: Place) -> None:
    trouble.write("t.parquet", "PAR1 and no more")
    put = trouble.json("put", "trouble/tables", "t.parquet", exits=1)
    job = next(job for job in put["jobs"] if job["step"] == "doubled")
    (datum,) = trouble.json("job", job["id"])["datums"]
    assert datum["evidence"]["code"] == "file.unreadable"
    assert "/t.parquet" in datum["error"]
    assert "Parquet" in datum["error"]
    assert "Traceback" not in datum["error"]

    trouble.write("t.csv", "x,z\n1,2\n")
    put = trouble.json("put", "trouble/tables", "t.csv", "--replace", exits=1)
    job = next(job for job in put["jobs"] if job["step"] == "plain")
    assert job["state"] == "refused"
    assert "no column 'y'" in job["error"]

    trouble.write("t.csv", "x,y\n1,2\n")
    put = trouble.json("put", "trouble/tables", "t.csv", "--replace")
    assert {job["state"] for job in put["jobs"]} == {"done"}


def test_a_column_that_the_code_misses_shows_the_users_line(trained: Place) -> None:
    trained.write("c.csv", "id,y\na,1\n")
    put = trained.json("put", "numbers/raw", "c.csv", exits=1)
    job = next(job for job in put["jobs"] if job["step"] == "clean")
    assert job["state"] == "failed"
    assert '"x"' in job["error"]
    assert 'File "numbers.py", line' in job["error"]
    assert "in clean" in job["error"]


# steps ------------------------------------------------------------------------------------------


BROKEN = [
    ("raise", "step.raised", "ValueError: this order cannot be done"),
    ("hang", "step.timeout", "longer than 5 s"),
    ("eat", "step.memory", "381 MiB is the limit"),
    ("exit", "step.died", "exit code 3"),
    ("crash", "step.died", "SIGSEGV"),
]


def test_steps_that_break_say_how_and_the_next_commit_works(trouble: Place) -> None:
    for word, _, _ in BROKEN:
        trouble.write(f"orders/{word}.txt", word)
    put = trouble.json("put", "trouble/orders", "orders", exits=1)
    job = next(job for job in put["jobs"] if job["step"] == "work")
    assert (job["state"], job["failed"]) == ("failed", len(BROKEN))
    datums = trouble.json("job", job["id"])["datums"]
    by_word = {Path(datum["inputs"][0][0]).stem: datum for datum in datums}
    for word, code, shown in BROKEN:
        assert by_word[word]["evidence"]["code"] == code, word
        assert shown in by_word[word]["error"], word
        assert ('File "trouble.py", line' in by_word[word]["error"]) == (word == "raise")
    assert trouble.json("log", "trouble/work")[0]["state"] == "aborted"
    trouble.write("good.txt", "hello")
    put = trouble.json("put", "trouble/orders", "good.txt", "--replace")
    assert put["jobs"][0]["state"] == "done"
    assert trouble.clew("get", "trouble/work:/good.bin", "-").out == "HELLO"


@pytest.mark.slow  # each alone; all in one job above
@pytest.mark.parametrize(("word", "code", "shown"), BROKEN)
def test_a_step_that_breaks_says_how_and_the_next_commit_works(
    trouble: Place, word: str, code: str, shown: str
) -> None:
    broken = order(trouble, word)
    assert broken["job"]["state"] == "failed"
    (datum,) = broken["datums"]
    assert datum["evidence"]["code"] == code
    assert shown in datum["error"]
    assert ('File "trouble.py", line' in datum["error"]) == (word == "raise")
    assert trouble.json("log", "trouble/work")[0]["state"] == "aborted"
    good = order(trouble, "hello", exits=0)
    assert good["job"]["state"] == "done"
    assert trouble.clew("get", "trouble/work:/order.bin", "-").out == "HELLO"


def test_one_broken_file_does_not_keep_the_others_from_being_done_once(trouble: Place) -> None:
    for name in ("a", "b", "c"):
        trouble.write(f"orders/{name}.txt", name)
    trouble.write("orders/x.txt", "crash")
    put = trouble.json("put", "trouble/orders", "orders", exits=1)
    assert put["jobs"][0]["failed"] == 1
    trouble.write("orders/x.txt", "x")
    put = trouble.json("put", "trouble/orders", "orders")
    assert (put["jobs"][0]["done"], put["jobs"][0]["skipped"]) == (1, 3)


# ports, locks, disks ----------------------------------------------------------------------------


def test_ports_in_use_are_named(trained: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, code in (
            (("--port", port, "--serving-port", "0"), "server.port_in_use"),
            (("--port", "0", "--serving-port", port), "port.in_use"),
        ):
            said = trained.clew("server", *arguments, exits=7)
            assert code in said.err
            assert port in said.err
            assert "Traceback" not in said.err
    assert not (trained.home / "server.json").exists()
    assert trained.json("jobs")


def test_two_servers_do_not_work_on_one_workspace(trained: Place) -> None:
    server = trained.server()
    said = trained.clew("server", "--port", "0", "--serving-port", "0", exits=4)
    assert "workspace.served" in said.err
    assert server.url in said.err
    assert "Traceback" not in said.err
    assert trained.json("jobs"), "the first one works on"
    assert server.stop() == 0
    assert trained.server().url


def test_a_server_does_not_answer_strangers_without_a_token(trained: Place) -> None:
    said = trained.clew("server", "--host", "0.0.0.0", "--port", "0", exits=5)
    assert "server.no_auth" in said.err


def test_a_full_disk_is_said_and_the_same_command_goes_on(
    small_disk: Path, trouble_once: Path, place_at: Callable[..., Place]
) -> None:
    shutil.copytree(trouble_once, small_disk / "here")
    place = place_at(small_disk / "here")
    large = small_disk.parent / "large.dat"
    large.write_bytes(
        subprocess.run(["head", "-c", "5M", "/dev/urandom"], capture_output=True).stdout
    )
    ballast = fill(small_disk, 3_000_000)
    assert place.refused("put", "trouble/orders", large, exits=7)["code"] == "disk.full"
    assert place.refused("ls", "trouble/orders", exits=3)["code"] == "branch.empty"
    ballast.unlink()
    assert place.json("put", "trouble/orders", large)["commit"]["files"] == 1
    assert len(place.json("log", "trouble/orders")) == 1


def test_a_disk_that_fills_up_while_a_step_writes_loses_nothing(
    small_disk: Path, trouble_once: Path, place_at: Callable[..., Place]
) -> None:
    shutil.copytree(trouble_once, small_disk / "here")
    place = place_at(small_disk / "here")
    place.write("order.txt", "big")
    ballast = fill(small_disk, 4_000_000)
    job = place.json("put", "trouble/orders", "order.txt", exits=1)["jobs"][0]
    assert job["state"] == "failed"
    assert "is full" in job["error"]
    assert "Nothing has run yet" not in place.clew("status").out
    ballast.unlink()
    assert place.json("put", "trouble/orders", "order.txt")["jobs"] == []  # it is there already
    assert place.json("run", "trouble")["jobs"][0]["state"] == "done"
    assert len(place.json("ls", "trouble/work")) == 1


def test_a_disk_without_a_byte_left_is_called_full_by_every_command(
    small_disk: Path, trouble_once: Path, place_at: Callable[..., Place]
) -> None:
    """SQLite cannot make what readers share then, and speaks of a disk that fails."""
    shutil.copytree(trouble_once, small_disk / "here")
    place = place_at(small_disk / "here")
    ballast = fill(small_disk, 0)
    for command in ("status", "jobs", "repos"):
        assert place.refused(command, exits=7)["code"] == "disk.full"
    ballast.unlink()
    place.clew("status")


def test_a_server_outlives_a_full_disk(
    small_disk: Path, trouble_once: Path, place_at: Callable[..., Place]
) -> None:
    shutil.copytree(trouble_once, small_disk / "here")
    place = place_at(small_disk / "here")
    server = place.server()
    try:
        ballast = fill(small_disk, 0)
        place.environ["CLEW_URL"] = server.url
        elsewhere = small_disk.parent / "order.txt"
        elsewhere.write_text("hello " * 1000)
        assert place.refused("put", "trouble/orders", elsewhere, exits=7)["code"] == "disk.full"
        assert place.json("status")["running"] == []
        ballast.unlink()
        assert place.json("put", "trouble/orders", elsewhere)["jobs"][0]["state"] == "done"
    finally:
        server.stop()


def test_a_workspace_on_a_read_only_disk_is_said_to_be_so(
    small_disk: Path, trouble_once: Path, place_at: Callable[..., Place]
) -> None:
    shutil.copytree(trouble_once, small_disk / "here")
    place = place_at(small_disk / "here")
    place.write("order.txt", "hello")
    remount = ["mount", "-o", "remount,{}", str(small_disk)]
    subprocess.run([part.format("ro") for part in remount], check=True)
    try:
        refused = place.refused("put", "trouble/orders", "order.txt", exits=7)
        assert refused["code"] == "workspace.read_only"
        said = place.clew("server", "--port", "0", "--serving-port", "0", exits=7)
        assert "workspace.read_only" in said.err
    finally:
        subprocess.run([part.format("rw") for part in remount], check=True)
    assert place.json("put", "trouble/orders", "order.txt")["jobs"][0]["state"] == "done"


def test_a_stopped_command_leaves_work_that_the_next_one_does(trouble: Place) -> None:
    trouble.write("order.txt", "hang")
    trouble.json("put", "trouble/orders", "order.txt", "--no-wait")
    assert trouble.json("jobs")[0]["state"] == "waiting"
    late = trouble.refused("wait", "--timeout", "0.5", exits=6)
    assert late["code"] == "wait.timeout"
    trouble.clew("wait", exits=0)
    assert trouble.json("jobs")[0]["state"] == "failed"


def test_damaged_bytes_are_never_returned(trained: Place) -> None:
    packs = [path for path in (trained.home / "store").rglob("*") if path.is_file()]
    for pack in packs:
        content = bytearray(pack.read_bytes())
        for at in range(40, len(content), 97):
            content[at] ^= 0x40
        pack.write_bytes(content)
    said = trained.clew("get", "numbers/raw:/a.csv", "-", exits=8)
    assert "Traceback" not in said.err
