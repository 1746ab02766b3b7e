"""What holds for worker processes: limits, crashes, cancelling, warmth, the parent's end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest

from clew.base.errors import Conflict, Unavailable
from clew.compute import Call, ProcessPool

MIB = 2**20
PROJECT = """
import ctypes, os, signal, subprocess, sys, threading, time
from pathlib import Path

def pid(payload, context):
    return os.getpid()

def modules(payload, context):
    return sorted(sys.modules)

def threads(payload, context):
    return [os.environ["OMP_NUM_THREADS"], os.environ["POLARS_MAX_THREADS"]]

def sleep(payload, context):
    context.send({"pid": os.getpid()})
    print("went to sleep")
    time.sleep(600)

def spin(payload, context):
    context.send({"pid": os.getpid()})
    while True:
        pass

def eat(payload, context):
    eaten = bytearray(payload["bytes"])
    time.sleep(600)

def feed_child(payload, context):
    code = f"import time; eaten = bytearray({payload['bytes']}); time.sleep(600)"
    subprocess.run([sys.executable, "-S", "-c", code])

def with_child(payload, context):
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    context.send({"pid": child.pid})
    if payload.get("die"):
        os._exit(3)
    time.sleep(600)

def with_daemon(payload, context):
    code = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE)
    context.send({"pid": int(child.stdout.readline())})
    if payload.get("wait"):
        time.sleep(600)

def fork(payload, context):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        print("the parent goes on")
    return [pid, context.call_id]

def send_much(payload, context):
    for number in range(payload["to"]):
        context.send({"number": number, "much": b"x" * 10_000})
    return payload["to"]

def recurse(payload, context):
    return recurse(payload, context)

def close_standard(payload, context):
    for number in range(3):
        os.close(number)
    print("into nothing")

def leave_thread(payload, context):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return threading.active_count()

def huge(payload, context):
    return bytes(payload["bytes"])

def print_much(payload, context):
    line = "x" * 99
    for _ in range(payload["lines"]):
        print(line)

def kill_self(payload, context):
    print("about to die")
    os.kill(os.getpid(), payload["signal"])
    time.sleep(600)

def crash(payload, context):
    ctypes.string_at(0)

def leave(payload, context):
    os._exit(payload["code"])

def close_all(payload, context):
    os.closerange(3, 4096)

def scribble(payload, context):
    for number in range(3, 4096):
        try:
            os.write(number, b"\\0\\0\\0\\2xx")
        except OSError:
            pass
    time.sleep(600)

def wait_for(payload, context):
    context.send({"started": True})
    while not Path(payload["path"]).exists():
        time.sleep(0.005)
    return payload.get("name")

def count(payload, context):
    for number in range(payload["to"]):
        context.send({"number": number})

def flood(payload, context):
    line = b"x" * 1023 + b"\\n"
    for _ in range(40 * 1024):
        os.write(1, line)
    context.send({"written": True})
    context.ask({})
    os.write(1, b"the end\\n")
"""


@pytest.fixture
def project(tmp_path):
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "calls.py").write_text(PROJECT)
    return str(directory)


@pytest.fixture
def pool(tmp_path):
    with ProcessPool(2, tmp_path / "scratch", tmp_path / "logs") as pool:
        yield pool


@pytest.fixture
def single(tmp_path):
    with ProcessPool(1, tmp_path / "scratch", tmp_path / "logs") as pool:
        yield pool


def call(project, name, payload=None, **more):
    more = {"label": name, "snapshot_dir": project, **more}
    return Call(entry=f"calls:{name}", payload=payload or {}, **more)


class Heard:
    """A listener that keeps the first message and lets one wait for it."""

    def __init__(self):
        self.message = {}
        self.event = threading.Event()

    def __call__(self, message):
        if not self.event.is_set():
            self.message = message
            self.event.set()

    def wait(self):
        assert self.event.wait(60)
        return self.message


def wait_gone(pid):
    """Wait until a process has ended (a zombie of somebody else counts as ended)."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} still runs")


# limits ------------------------------------------------------------------------------------------


def test_a_call_over_its_time_is_killed_and_its_worker_replaced(single, project):
    outcome = single.submit(call(project, "spin", timeout_s=0.2)).result(60)
    assert outcome.error.kind == "timeout"
    assert outcome.error.message == "spin did not end within 0.2 s."
    assert outcome.duration_s >= 0.2
    assert single.submit(call(project, "pid")).result(60).error is None


def test_what_was_printed_before_a_kill_is_in_the_log(single, project):
    outcome = single.submit(call(project, "sleep", timeout_s=0.3)).result(60)
    assert outcome.log == "went to sleep\n"


@pytest.mark.parametrize("name", ["eat", "feed_child"])
def test_a_call_over_its_memory_is_killed_with_its_children_counted(single, project, name):
    limited = call(project, name, {"bytes": 400 * MIB}, memory_bytes=200 * MIB)
    error = single.submit(limited).result(60).error
    assert error.kind == "memory"
    assert "200 MiB is the limit" in error.message
    assert isinstance(error.to_error(), Unavailable)


def test_a_call_within_its_limits_ends_as_any_other(single, project):
    within = call(project, "pid", timeout_s=60, memory_bytes=2000 * MIB)
    assert single.submit(within).result(60).error is None


# crashes -----------------------------------------------------------------------------------------


def test_only_sigkill_from_outside_is_blamed_on_memory(single, project):
    killed = single.submit(call(project, "kill_self", {"signal": signal.SIGKILL})).result(60)
    assert killed.error.kind == "died"
    assert "SIGKILL, likely out of memory" in killed.error.message
    assert killed.log == "about to die\n"
    ended = single.submit(call(project, "kill_self", {"signal": signal.SIGTERM})).result(60)
    assert ended.error.message == "The process of kill_self was killed by SIGTERM."


def test_a_crash_in_c_names_the_signal_and_shows_where(single, project):
    outcome = single.submit(call(project, "crash")).result(60)
    assert outcome.error.kind == "died"
    assert "SIGSEGV" in outcome.error.message
    assert "in crash" in outcome.log


def test_an_exit_of_the_process_names_its_code(single, project):
    error = single.submit(call(project, "leave", {"code": 3})).result(60).error
    assert (error.kind, error.message) == ("died", "The process of leave ended with exit code 3.")


@pytest.mark.parametrize("name", ["close_all", "scribble"])
def test_code_that_spoils_the_pipe_fails_alone(pool, project, name):
    outcome = pool.submit(call(project, name, timeout_s=30)).result(60)
    assert outcome.error.kind == "died"
    assert pool.submit(call(project, "pid")).result(60).error is None


def test_children_of_a_worker_end_with_it(pool, project):
    for payload in ({"die": True}, {}):
        heard = Heard()
        handle = pool.submit(call(project, "with_child", payload, timeout_s=1.0), heard)
        child = heard.wait()["pid"]
        assert handle.result(60).error.kind in {"died", "timeout"}
        wait_gone(child)


def test_a_worker_that_cannot_be_started_fails_the_call_and_not_the_pool(
    single, project, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/no/such/python")
        error = single.submit(call(project, "pid")).result(60).error
        assert error.kind == "died"
        assert "No such file" in error.message
    assert single.submit(call(project, "pid")).result(60).error is None


# cancelling and closing --------------------------------------------------------------------------


def test_a_running_call_is_cancelled_by_killing_its_process(single, project):
    heard = Heard()
    handle = single.submit(call(project, "spin"), heard)
    pid = heard.wait()["pid"]
    handle.cancel()
    outcome = handle.result(60)
    assert outcome.error.kind == "cancelled"
    assert isinstance(outcome.error.to_error(), Conflict)
    wait_gone(pid)


def test_a_queued_call_is_cancelled_without_running(single, project, tmp_path):
    heard = Heard()
    gate = tmp_path / "go"
    first = single.submit(call(project, "wait_for", {"path": str(gate)}), heard)
    heard.wait()
    second = single.submit(call(project, "pid"))
    second.cancel()
    assert second.result(60).error.kind == "cancelled"
    gate.touch()
    assert first.result(60).error is None


def test_closing_ends_all_calls_and_leaves_neither_process_nor_file(tmp_path, project):
    pool = ProcessPool(2, tmp_path / "scratch", tmp_path / "logs")
    idle = pool.submit(call(project, "pid")).result(60).value
    heard = Heard()
    running = pool.submit(call(project, "spin"), heard)
    busy = heard.wait()["pid"]
    also = pool.submit(call(project, "spin"), Heard())
    queued = pool.submit(call(project, "pid"))
    pool.close()
    for handle in (running, also, queued):
        assert handle.done()
        assert handle.result().error.kind == "cancelled"
    for pid in (idle, busy):
        assert not psutil.pid_exists(pid)
    assert not list((tmp_path / "scratch").iterdir())
    assert not list((tmp_path / "logs").iterdir())


PARENT = """
import os, sys
from pathlib import Path
from clew.compute import Call, ProcessPool
place, project = Path(sys.argv[1]), sys.argv[2]
pool = ProcessPool(2, place / "scratch", place / "logs")
idle = pool.submit(Call(entry="calls:pid", payload={}, label="pid", snapshot_dir=project)).result()
def tell(message):
    print(message["pid"], idle.value, flush=True)
handles = [
    pool.submit(Call(entry="calls:spin", payload={}, label="spin", snapshot_dir=project), tell)
    for _ in range(1)
]
handles[0].result()
"""


def test_workers_end_when_their_parent_is_killed_also_busy_ones(tmp_path, project):
    arguments = [sys.executable, "-c", PARENT, str(tmp_path), project]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    for pid in pids:
        wait_gone(pid)
    assert list((tmp_path / "scratch").iterdir())
    with ProcessPool(1, tmp_path / "scratch", tmp_path / "logs") as pool:
        assert pool.submit(call(project, "pid")).result(60).error is None
        assert len(list((tmp_path / "scratch").iterdir())) == 1, "what was left is swept"
        assert len(list((tmp_path / "logs").iterdir())) == 1


def test_two_pools_may_share_their_directories(tmp_path, project):
    places = tmp_path / "scratch", tmp_path / "logs"
    with ProcessPool(1, *places) as one, ProcessPool(1, *places) as two:
        pids = {p.submit(call(project, "pid")).result(60).value for p in (one, two)}
        assert len(pids) == 2
        assert len(list((tmp_path / "scratch").iterdir())) == 2


# warmth and order --------------------------------------------------------------------------------


def test_a_worker_is_reused_for_its_snapshot(pool, project, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "calls.py").write_text(PROJECT)
    mine, theirs = [], []
    for _ in range(4):
        mine.append(pool.submit(call(project, "pid")).result(60).value)
        theirs.append(pool.submit(call(str(other), "pid")).result(60).value)
    assert len(set(mine)) == 1
    assert len(set(theirs)) == 1
    assert mine[0] != theirs[0]


def test_a_worker_is_preferred_for_its_affinity(pool, project, tmp_path):
    gate, heard = tmp_path / "go", Heard()
    busy = pool.submit(call(project, "wait_for", {"path": str(gate)}), heard, "left")
    heard.wait()
    right = pool.submit(call(project, "pid"), affinity="right").result(60).value
    gate.touch()
    busy.result(60)
    again = [pool.submit(call(project, "pid"), affinity="right").result(60).value for _ in "abc"]
    left = pool.submit(call(project, "pid"), affinity="left").result(60).value
    assert set(again) == {right}
    assert left != right


def test_higher_priority_goes_first_and_then_who_came_first(single, project, tmp_path):
    gate, heard, order = tmp_path / "go", Heard(), []
    first = single.submit(call(project, "wait_for", {"path": str(gate)}), heard)
    heard.wait()
    handles = []
    for name, priority in [("a", 0), ("b", 0), ("urgent", 5), ("c", 0), ("idle", -1)]:
        payload = {"path": str(gate), "name": name}
        handles.append(
            single.submit(
                call(project, "wait_for", payload, priority=priority),
                lambda _message, name=name: order.append(name),
            )
        )
    gate.touch()
    for handle in [first, *handles]:
        assert handle.result(60).error is None
    assert order == ["urgent", "a", "b", "c", "idle"]


def test_a_call_of_another_snapshot_is_overtaken_only_a_few_times(single, project, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "calls.py").write_text(PROJECT)
    gate, heard, order = tmp_path / "go", Heard(), []
    first = single.submit(call(project, "wait_for", {"path": str(gate)}), heard)
    heard.wait()
    payload = {"path": str(gate)}
    strange = call(str(other), "wait_for", payload)
    handles = [single.submit(strange, lambda _m: order.append("strange"))]
    known = call(project, "wait_for", payload)
    handles += [single.submit(known, lambda _m: order.append("known")) for _ in range(20)]
    gate.touch()
    for handle in [first, *handles]:
        assert handle.result(60).error is None
    assert 0 < order.index("strange") <= 8


def test_a_slow_listener_holds_up_nobody_else(pool, project):
    free = threading.Event()
    slow = pool.submit(call(project, "count", {"to": 3}), lambda _m: free.wait(60) and None)
    for _ in range(5):
        assert pool.submit(call(project, "pid")).result(60).error is None
    assert not slow.done()
    free.set()
    assert slow.result(60).error is None


# what a worker is --------------------------------------------------------------------------------


def test_a_worker_imports_nothing_heavy_by_itself(single, project):
    heavy = {"numpy", "polars", "pandas", "pyarrow", "sqlalchemy", "psutil", "duckdb", "mlflow"}
    assert not heavy & set(single.submit(call(project, "modules")).result(60).value)


def test_libraries_share_the_cores_unless_the_user_says_otherwise(tmp_path, project):
    share = str(max(1, (os.cpu_count() or 1) // 2))
    places = tmp_path / "scratch", tmp_path / "logs"
    unset = {k: v for k, v in os.environ.items() if not k.endswith("_THREADS")}
    with ProcessPool(2, *places, environment=unset) as pool:
        assert pool.submit(call(project, "threads")).result(60).value == [share, share]
    with ProcessPool(2, *places, environment={**unset, "OMP_NUM_THREADS": "7"}) as pool:
        assert pool.submit(call(project, "threads")).result(60).value == ["7", share]


def test_an_endless_output_is_cut_while_it_grows(single, project, tmp_path):
    def when_cut(message):
        until = time.monotonic() + 30
        while "written" not in message and time.monotonic() < until:
            (log,) = Path(tmp_path / "logs").iterdir()
            if log.stat().st_size < MIB:
                return {}
            time.sleep(0.02)
        return {}

    outcome = single.submit(call(project, "flood"), when_cut).result(60)
    assert outcome.error is None
    assert outcome.log.endswith("x\nthe end\n")
    assert len(outcome.log) < 70_000


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_a_pool_that_is_started_ahead_runs_its_first_call_in_the_worker_that_waits(
    tmp_path, project
):
    others = _children()
    with ProcessPool(2, tmp_path / "scratch", tmp_path / "logs") as pool:
        pool.start()
        pool.start()
        deadline = time.monotonic() + 60
        while not (new := _children() - others) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert len(new) == 1
        assert {pool.submit(call(project, "pid")).result().value} == new


def test_a_new_worker_has_loaded_what_it_was_told_to(tmp_path, project):
    places = (tmp_path / "scratch", tmp_path / "logs")
    with ProcessPool(1, *places) as plain, ProcessPool(1, *places, preload=["csv"]) as told:
        assert "csv" not in plain.submit(call(project, "modules")).result().value
        assert "csv" in told.submit(call(project, "modules")).result().value


def test_a_closed_pool_cannot_be_started(tmp_path):
    pool = ProcessPool(1, tmp_path / "scratch", tmp_path / "logs")
    pool.close()
    with pytest.raises(Unavailable) as caught:
        pool.start()
    assert caught.value.code == "pool.closed"


def gone(pid: int) -> None:
    """Return when a process has ended."""
    until = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_daemons_end_with_the_worker_that_started_them(single, project):
    pids = SimpleQueue()
    handle = single.submit(
        call(project, "with_daemon", {"wait": True}), lambda m: pids.put(m["pid"])
    )
    pid = pids.get(timeout=60)
    handle.cancel()
    assert handle.result(60).error.kind == "cancelled"
    gone(pid)


def test_daemons_of_a_worker_that_ended_well_end_with_the_pool(tmp_path, project):
    pids = SimpleQueue()
    with ProcessPool(1, tmp_path / "scratch", tmp_path / "logs") as pool:
        pool.submit(call(project, "with_daemon"), lambda m: pids.put(m["pid"])).result(60).unwrap()
        pid = pids.get(timeout=60)
        assert psutil.pid_exists(pid)
    gone(pid)


def test_what_a_killed_pool_has_left_is_swept_by_the_next(tmp_path, project):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom clew.compute import Call, ProcessPool\n"
        "home = Path(sys.argv[1])\npool = ProcessPool(1, home / 'scratch', home / 'logs')\n"
        f"call = Call(entry='calls:with_daemon', payload={{'wait': True}}, label='x',"
        f" snapshot_dir={project!r})\n"
        "pool.submit(call, lambda m: print(m['pid'], flush=True)).result()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    assert psutil.pid_exists(pid)
    making = tmp_path / "scratch" / "new-pool-dead"  # of one that was killed a moment earlier
    making.mkdir()
    with ProcessPool(1, tmp_path / "scratch", tmp_path / "logs") as pool:
        pool.submit(call(project, "pid")).result(60).unwrap()
        assert len(list((tmp_path / "scratch").iterdir())) == 1
    gone(pid)


def test_a_child_that_comes_back_from_a_fork_ends_silently(single, project):
    for _ in range(2):
        outcome = single.submit(call(project, "fork")).result(60)
        pid, _ = outcome.unwrap()
        assert pid > 0
        assert outcome.log == "the parent goes on\n"


def test_a_flood_of_messages_is_held_back_until_it_is_heard(single, project):
    heard: list[int] = []
    go = threading.Event()

    def listen(message):
        go.wait(60)
        heard.append(message["number"])

    before = psutil.Process().memory_info().rss
    handle = single.submit(call(project, "send_much", {"to": 20_000}), listen)
    other = single.submit(call(project, "pid"))
    assert not handle.done()
    go.set()
    assert handle.result(120).unwrap() == 20_000
    assert heard == list(range(20_000))
    assert psutil.Process().memory_info().rss - before < 150 * MIB  # of 200 that were sent
    other.result(60).unwrap()


@pytest.mark.parametrize(
    ("name", "kind"), [("recurse", "raised"), ("close_standard", None), ("leave_thread", None)]
)
def test_a_worker_goes_on_after_what_code_does_to_its_process(single, project, name, kind):
    error = single.submit(call(project, name)).result(60).error
    assert (error.kind if error else None) == kind
    outcome = single.submit(call(project, "print_much", {"lines": 3})).result(60)
    assert outcome.error is None
    assert outcome.log == f"{'x' * 99}\n" * 3


def test_large_results_and_large_outputs_come_through(single, project):
    assert (
        len(single.submit(call(project, "huge", {"bytes": 64 * MIB})).result(60).unwrap())
        == 64 * MIB
    )
    log = single.submit(call(project, "print_much", {"lines": 20_000})).result(60).log
    assert log.startswith("[")
    assert len(log) < 70_000
