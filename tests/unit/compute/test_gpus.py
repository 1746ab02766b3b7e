"""GPUs are read as nvidia-smi prints them, and held by one group at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clew.base.errors import Unavailable
from clew.base.gpus import Gpu, gpus, read_gpus, visible
from clew.compute.gpus import lease
from clew.compute.rank_variables import Meeting, Seat, variables

# Written in the format of nvidia-smi: one H200; a workstation, one of whose two cards does
# not tell its load; a machine with a card that has fallen off the bus.
H200 = "0, GPU-5d1c3a4e-1f0b-7c2d-9e8f-0a1b2c3d4e5f, NVIDIA H200, 143771, 1, 0\n"
WORKSTATION = """\
0, GPU-aa11bb22-0000-1111-2222-333344445555, NVIDIA GeForce RTX 4090, 24564, 1024, 37
1, GPU-aa99cc33-0000-1111-2222-333344445556, Quadro P400, 2048, 0, [N/A]
"""
LOST = """\
Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error
1, GPU-ffee0011-0000-1111-2222-333344445557, NVIDIA A100-SXM4-80GB, 81920, 0, 0
"""
MIB = 1 << 20


def card(number: int) -> Gpu:
    return Gpu(
        index=number, uuid=f"GPU-{number}", name="A", memory_bytes=8 * MIB, used_bytes=0, load=0.0
    )


def program(directory: Path, text: str, status: int = 0) -> str:
    """A directory for PATH with a program of that name that prints a text."""
    directory.mkdir(exist_ok=True)
    file = directory / "nvidia-smi"
    file.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {status}\n")
    file.chmod(0o755)
    return str(directory)


def test_each_line_of_nvidia_smi_is_a_gpu() -> None:
    [one] = read_gpus(H200)
    assert (one.index, one.name, one.memory_bytes) == (0, "NVIDIA H200", 143771 * MIB)
    assert (one.used_bytes, one.load) == (MIB, 0.0)
    first, second = read_gpus(WORKSTATION)
    assert (first.used_bytes, first.load) == (1024 * MIB, 0.37)
    assert (second.name, second.load) == ("Quadro P400", None)


def test_what_is_no_gpu_is_passed_over() -> None:
    assert [one.index for one in read_gpus(LOST)] == [1]
    assert read_gpus("No devices were found\n") == []
    assert read_gpus("") == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        ("GPU-1", [1]),
        ("0,9,1", [0]),  # CUDA stops at the first that is not there
        (" 1 , 2 ", [1, 2]),
    ],
)
def test_cuda_visible_devices_says_which_and_in_which_order(
    wanted: str | None, found: list[int]
) -> None:
    assert [one.index for one in visible([card(n) for n in range(3)], wanted)] == found


def test_the_program_is_asked_and_its_failure_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    path = "/usr/bin:/bin"
    monkeypatch.setenv("PATH", f"{program(tmp_path / 'a', WORKSTATION)}:{path}")
    assert [one.index for one in gpus()] == [0, 1]
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []
    assert [one.index for one in gpus({"CUDA_VISIBLE_DEVICES": "1"})] == [1]
    broken = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"
    monkeypatch.setenv("PATH", f"{program(tmp_path / 'b', broken, 9)}:{path}")
    assert gpus() == []


HOLDER = """
import sys
from pathlib import Path
from clew.base.gpus import Gpu
from clew.compute.gpus import lease
cards = [Gpu(index=n, uuid=f"GPU-{n}", name="A", memory_bytes=0, used_bytes=0) for n in range(3)]
held = lease(2, among=lambda: cards, directory=Path(sys.argv[1]))
print([one.index for one in held.gpus], flush=True)
sys.stdin.read()
"""


def test_a_gpu_is_held_by_one_group_and_let_go_by_one_that_is_killed(tmp_path: Path) -> None:
    cards = [card(n) for n in range(3)]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "[0, 1]\n"
        one = lease(1, among=lambda: cards, directory=tmp_path)
        assert [gpu.index for gpu in one.gpus] == [2]
        one.close()
        other.kill()
        other.wait()
    all_of_them = lease(3, among=lambda: cards, directory=tmp_path)
    assert [gpu.index for gpu in all_of_them.gpus] == [0, 1, 2]
    all_of_them.close()


def test_more_gpus_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as raised:
        lease(2, among=lambda: [card(0)], directory=tmp_path)
    assert raised.value.code == "gpus.too_few"


def told(rank: int, size: int, cards: int, *, isolated: bool = False) -> dict[str, str]:
    seat = Seat(rank=rank, size=size, local=rank, beside=size)
    meeting = Meeting(run_id="r", attempt=1, host="127.0.0.1", port=1, addresses=())
    found = [card(n) for n in range(cards)]
    given = {"OMP_NUM_THREADS": "8", "GLOO_SOCKET_IFNAME": "eth7"}
    return variables(seat, meeting, given=given, gpus=found, isolated=isolated)


def test_ranks_see_the_gpus_of_their_group_or_where_they_are_isolated_their_own() -> None:
    assert told(1, 2, 2)["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert told(1, 2, 4, isolated=True)["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert told(0, 2, 0)["CUDA_VISIBLE_DEVICES"] == ""


def test_ranks_share_the_threads_and_keep_what_the_user_has_set() -> None:
    found = told(0, 4, 0)
    assert found["OMP_NUM_THREADS"] == "2"
    assert "GLOO_SOCKET_IFNAME" not in found
    assert found["NCCL_SOCKET_IFNAME"] in {"lo", "lo0"}
    assert found["TORCHELASTIC_RESTART_COUNT"] == "1"
