"""The law of Compute as tests that every implementation passes.

Knows nothing of any implementation. Subclass ``ComputeConformance`` in a test module, with a name
that begins with ``Test``, and say in ``make`` how a pool is made.
"""

# ruff: noqa: D102 - a test's name is its sentence

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clew.base.errors import ClewError, Conflict, Denied, NotFound
from clew.compute import Call, Compute, Handle, Outcome

PROJECT = {
    "calls.py": """
import json, os, subprocess, sys, time
from pathlib import Path
from clew.base.errors import NotFound, ClewError
from clew.compute import load_function

kept = []

def add(payload, context):
    return payload["a"] + payload["b"]

def echo(payload, context):
    return payload

def fail(payload, context):
    json.loads("{")

def refuse(payload, context):
    raise NotFound("repo.unknown", "There is no repo 'x'.", hint="Create it.")

def leave(payload, context):
    sys.exit(3)

def interrupt(payload, context):
    raise KeyboardInterrupt

def speak(payload, context):
    print("from Python")
    print("from stderr", file=sys.stderr)
    os.write(1, b"from the system\\n")
    subprocess.run([sys.executable, "-S", "-c", "print('from a child')"], check=True)

def babble(payload, context):
    for number in range(20_000):
        print(f"line {number}")

def count(payload, context):
    for number in range(payload["to"]):
        context.send({"number": number})

def ask(payload, context):
    return context.ask(payload)

def ask_and_mend(payload, context):
    try:
        context.ask({})
    except ClewError as error:
        return {"kind": error.kind, "code": error.code, "hint": error.hint}

def keep(payload, context):
    kept.append(context)

def use_kept(payload, context):
    kept[0].send({"late": True})

def give_object(payload, context):
    return {"value": object()}

def scratch(payload, context):
    (context.scratch / "made.txt").write_text("x")
    (context.scratch / "below").mkdir()
    here = Path.cwd() == context.scratch.resolve()
    return {"path": str(context.scratch), "here": here, "held": len(os.listdir())}

def variable(payload, context):
    return os.environ.get(payload["name"])

def identity(payload, context):
    return context.call_id

def nap(payload, context):
    time.sleep(payload["s"])

def loaded(payload, context):
    return load_function(payload["snapshot"], "steps.py", "step")(payload["x"])
""",
    "helpers.py": "FACTOR = 10\n",
    "steps.py": "from helpers import FACTOR\ndef step(x):\n    return x * FACTOR\n",
}
"""The project that the calls of the suite are in."""


def write_project(directory: Path, files: dict[str, str]) -> str:
    """A snapshot with these files; its directory."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(directory)


class ComputeConformance:
    """What every place to run calls keeps, whatever it is made of."""

    def make(self, directory: Path) -> Compute:
        """A pool that may use ``directory``."""
        raise NotImplementedError

    @contextlib.contextmanager
    def pool(self, directory: Path) -> Iterator[_Caller]:
        """A pool with the suite's project, closed at the end."""
        compute = self.make(directory / "pool")
        try:
            yield _Caller(compute, write_project(directory / "project", PROJECT))
        finally:
            compute.close()

    def test_a_call_returns_what_its_function_returns(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            outcome = pool.outcome("add", {"a": 2, "b": 3})
            assert (outcome.value, outcome.error, outcome.unwrap()) == (5, None, 5)
            assert outcome.duration_s >= 0

    def test_plain_data_travels_unchanged_both_ways(self, tmp_path: Path) -> None:
        payload = {
            "none": None, "yes": True, "int": -(2**63), "large": 2**64 - 1, "float": 1.5,
            "text": "ü", "bytes": b"\0\xff", "list": [1, [2.0, "3"]], "dict": {"a": {"b": None}},
            "infinite": float("inf"), "much": b"x" * 3_000_000,
        }  # fmt: skip
        with self.pool(tmp_path) as pool:
            assert pool.outcome("echo", payload).unwrap() == payload

    def test_an_exception_comes_back_with_the_users_frames_only(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            error = pool.error("fail")
            assert (error.kind, error.type) == ("raised", "JSONDecodeError")
            assert error.message.startswith("JSONDecodeError: Expecting")
            assert 'File "calls.py"' in error.traceback
            assert error.traceback.count("File ") == 1
            assert str(tmp_path) not in error.traceback

    def test_an_error_of_clew_keeps_its_kind_code_and_hint(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            error = pool.error("refuse")
            assert error.kind == "clew"
            raised = error.to_error()
            assert isinstance(raised, NotFound)
            assert (raised.code, raised.message, raised.hint) == (
                "repo.unknown", "There is no repo 'x'.", "Create it.",
            )  # fmt: skip

    def test_exits_and_interrupts_of_user_code_end_only_the_call(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            assert pool.error("leave").type == "SystemExit"
            assert pool.error("interrupt").type == "KeyboardInterrupt"
            assert pool.outcome("add", {"a": 1, "b": 1}).value == 2

    def test_an_entry_that_is_not_there_is_said_to_be_unknown(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            assert pool.error("no_such").code == "call.entry"
            call = Call(entry="no_such_module:f", payload={}, label="lost")
            error = pool.compute.submit(call).result().error
            assert error is not None
            assert error.code == "call.entry"

    def test_all_that_is_printed_is_in_the_log_of_its_call(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            log = pool.outcome("speak").log
            said = ["from Python", "from stderr", "from the system", "from a child"]
            assert log.splitlines() == said
            assert pool.outcome("add", {"a": 1, "b": 1}).log == ""

    def test_of_a_long_log_the_end_is_kept(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            log = pool.outcome("babble").log
            assert log.endswith("line 19999\n")
            assert len(log) < 70_000
            assert "not kept" in log.splitlines()[0]

    def test_messages_are_heard_in_order_before_the_result_is_there(self, tmp_path: Path) -> None:
        heard: list[object] = []
        with self.pool(tmp_path) as pool:
            pool.submit("count", {"to": 200}, lambda m: heard.append(m["number"])).result()
            assert heard == list(range(200))

    def test_messages_of_one_call_are_heard_one_at_a_time(self, tmp_path: Path) -> None:
        lock, clashes = threading.Lock(), []

        def listen(message: dict[str, object]) -> None:
            if not lock.acquire(blocking=False):
                clashes.append(message)
                return
            lock.release()

        with self.pool(tmp_path) as pool:
            assert pool.submit("count", {"to": 50}, listen).result().error is None
        assert not clashes

    def test_ask_gets_the_answer_of_the_listener(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            handle = pool.submit("ask", {"x": 1}, lambda m: {"seen": m})
            assert handle.result().value == {"seen": {"x": 1}}

    def test_an_error_of_the_listener_is_raised_where_it_was_asked(self, tmp_path: Path) -> None:
        def deny(_message: dict[str, object]) -> dict[str, object]:
            raise Denied("no.way", "No.", hint="Ask later.")

        with self.pool(tmp_path) as pool:
            handle = pool.submit("ask_and_mend", {}, deny)
            assert handle.result().value == {
                "kind": "denied", "code": "no.way", "hint": "Ask later.",
            }  # fmt: skip

    def test_an_error_of_the_listener_on_a_sent_message_is_the_calls(self, tmp_path: Path) -> None:
        def stumble(_message: dict[str, object]) -> None:
            raise ZeroDivisionError("oops")

        with self.pool(tmp_path) as pool:
            error = pool.submit("count", {"to": 3}, stumble).result().error
            assert error is not None
            assert error.code == "call.listener"
            assert "oops" in error.message

    def test_without_a_listener_asking_fails_and_sending_does_not(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            assert pool.outcome("count", {"to": 3}).error is None
            assert pool.error("ask").code == "call.unanswered"

    def test_a_context_is_mute_when_its_call_has_ended(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            pool.submit("keep", affinity="one").result()
            error = pool.submit("use_kept", affinity="one").result().error
            assert error is not None
            assert error.code == "call.ended"

    def test_a_result_that_cannot_travel_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            error = pool.error("give_object")
            assert error.code == "call.result"
            assert "builtins.object" in error.message

    def test_a_payload_that_cannot_travel_is_refused_at_once(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            raised = _raised_by(lambda: pool.submit("echo", {"x": object()}))
            assert raised.code == "call.payload"

    def test_scratch_is_empty_current_and_gone_afterwards(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            for _ in range(2):
                seen: Any = pool.outcome("scratch").unwrap()
                assert seen["here"]
                assert seen["held"] == 2
                place = Path(seen["path"])
                assert not place.exists() or not list(place.iterdir())

    def test_the_environment_is_set_for_the_time_of_the_call(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            name = {"name": "CLEW_SUITE_VARIABLE"}
            handle = pool.submit("variable", name, environment={"CLEW_SUITE_VARIABLE": "here"})
            assert handle.result().value == "here"
            assert pool.outcome("variable", name).value is None

    def test_calls_of_different_snapshots_do_not_see_each_other(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            main = "import helpers\ndef value(payload, context):\n    return helpers.NAME\n"
            for turn in (1, 2):
                for name in ("one", "two", "three"):
                    project = write_project(
                        tmp_path / name, {"main.py": main, "helpers.py": f"NAME = {name!r}\n"}
                    )
                    call = Call(entry="main:value", payload={}, label=name, snapshot_dir=project)
                    assert pool.compute.submit(call).result().unwrap() == name, turn

    def test_a_function_is_loaded_with_the_files_around_it(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            payload = {"snapshot": pool.project, "x": 4}
            assert pool.outcome("loaded", payload).unwrap() == 40

    def test_each_call_has_an_id_of_its_own_on_both_sides(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            first, second = pool.submit("identity"), pool.submit("identity")
            assert first.id != second.id
            assert (first.result().value, second.result().value) == (first.id, second.id)

    def test_a_call_that_takes_too_long_ends_with_timeout(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            error = pool.submit("nap", {"s": 0.2}, timeout_s=0.05).result().error
            assert error is not None
            assert error.kind == "timeout"
            assert "0.05 s" in error.message

    def test_whoever_asked_is_told_once_when_a_call_is_done(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            handle = pool.submit("add", {"a": 1, "b": 2})
            told = threading.Semaphore(0)
            handle.when_done(told.release)
            assert told.acquire(timeout=30)
            assert handle.done()
            handle.when_done(told.release)
            assert told.acquire(timeout=30)
            assert not told.acquire(blocking=False)

    def test_cancelling_what_has_ended_changes_nothing(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            handle = pool.submit("add", {"a": 1, "b": 2})
            handle.result()
            handle.cancel()
            assert handle.result().value == 3

    def test_a_closed_pool_refuses_calls_and_can_be_closed_again(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            pool.outcome("add", {"a": 1, "b": 2})
            pool.compute.close()
            pool.compute.close()
            assert _raised_by(lambda: pool.submit("add")).code == "pool.closed"

    def test_many_threads_may_submit(self, tmp_path: Path) -> None:
        with self.pool(tmp_path) as pool:
            sums: dict[int, object] = {}

            def work(number: int) -> None:
                for step in range(10):
                    payload = {"a": number, "b": step}
                    sums[number * 100 + step] = pool.outcome("add", payload).value

            threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sums == {n * 100 + s: n + s for n in range(8) for s in range(10)}


class _Caller:
    """A pool and the suite's project, with short ways to call."""

    def __init__(self, compute: Compute, project: str) -> None:
        self.compute = compute
        self.project = project

    def submit(
        self,
        name: str,
        payload: dict[str, Any] | None = None,
        listener: Any = None,
        *,
        affinity: str = "",
        **more: Any,
    ) -> Handle:
        call = Call(
            entry=f"calls:{name}", payload=payload or {}, label=name, snapshot_dir=self.project,
            **more,
        )  # fmt: skip
        return self.compute.submit(call, listener, affinity)

    def outcome(self, name: str, payload: dict[str, Any] | None = None, **more: Any) -> Outcome:
        return self.submit(name, payload, **more).result()

    def error(self, name: str, payload: dict[str, Any] | None = None) -> Any:
        error = self.outcome(name, payload).error
        assert error is not None
        return error


def _raised_by(act: Any) -> ClewError:
    try:
        act()
    except ClewError as error:
        return error
    raise Conflict("suite.nothing_raised", "Nothing was raised.")
