"""Records that several threads meet at once are known before any of them does."""

from __future__ import annotations

import subprocess
import sys

MEETING = '''
import sys, threading, types
import msgspec
from clew.base.structs import Known

sys.setswitchinterval(1e-6)
TEXT = """
from __future__ import annotations
from datetime import datetime
from typing import Any, Literal
import msgspec
class Inner(msgspec.Struct, frozen=True):
    a: int = 0
    c: dict[str, Any] = {}
class Node(msgspec.Struct, frozen=True):
    kind: Literal["all", "any"] = "all"
    parts: tuple[Node, ...] = ()
    inner: Inner | None = None
    at: datetime | None = None
    within_s: float = 0.0
"""
TOLD = {"parts": [{"parts": [], "inner": {"a": 1}}], "inner": {"a": 2}, "within_s": 1.0}


def meet(number):
    module = types.ModuleType(f"clew.made{number}")
    sys.modules[module.__name__] = module
    exec(compile(TEXT, module.__name__, "exec"), module.__dict__)
    together, read = threading.Barrier(4), []

    def ask():
        together.wait()
        known.tell()
        read.append(msgspec.convert(TOLD, module.Node))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [one.parts[0].inner.a for one in read] == [1] * 4
    del sys.modules[module.__name__]


known = Known()
known.several_threads()
for number in range(400):
    meet(number)
'''

HALF = """
import sys, types
import msgspec
from clew.base.structs import Known

known = Known()
known.several_threads()
module = types.ModuleType("clew.half")
sys.modules["clew.half"] = module
text = "from __future__ import annotations\\nimport msgspec\\nclass A(msgspec.Struct):\\n    b: B"
exec(compile(text, "clew.half", "exec"), module.__dict__)
known.tell()
assert module.A not in known._classes
exec("class B(msgspec.Struct):\\n    c: int = 0", module.__dict__)
known.tell()
assert module.A in known._classes
class Odd(msgspec.Struct):
    d: type(sys.modules) | bytes
Odd.__module__ = "clew.half"
known.tell()
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )


def test_threads_that_meet_a_record_first_at_once_read_it():
    done = run(MEETING)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])


def test_what_is_not_whole_yet_is_looked_at_again_and_what_cannot_be_read_harms_nobody():
    done = run(HALF)
    assert done.returncode == 0, done.stderr


def test_a_server_and_its_doors_know_all_that_they_have_loaded():
    script = """
import clew.server.whole, clew.serving.worker, clew.workspace
from msgspec import Struct
from clew.base.structs import KNOWN, _below
KNOWN.several_threads()
import clew
from clew.monitoring import Monitoring  # a door
from clew.experiments import Experiments
lacking = [one.__qualname__ for one in _below(Struct)
           if one.__module__.startswith("clew.") and one not in KNOWN._classes]
assert len(KNOWN._classes) > 200, len(KNOWN._classes)
assert len(lacking) <= 3, lacking  # those whose types are loaded for type checkers alone
"""
    done = run(script)
    assert done.returncode == 0, done.stderr
