"""What a run of these tests leaves behind is ended, whatever becomes of the run."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

RUN = """
import os, runpy, subprocess, sys
guard = runpy.run_path({guard!r})["Guard"]()
subprocess.run([sys.executable, "-c", {daemon!r}], check=True)
{end}
"""
DAEMON = """
import subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(sleep, stdout=subprocess.DEVNULL, start_new_session=True).pid, flush=True)
"""
ENDS = {"as usual": "assert len(guard.close(0.1)) == 1", "killed": "os.kill(os.getpid(), 9)"}


@pytest.mark.parametrize("end", ENDS)
def test_a_daemon_without_a_parent_does_not_outlive_the_run_that_started_it(end):
    guard = str(Path(__file__).with_name("guard.py"))
    program = RUN.format(guard=guard, daemon=DAEMON, end=ENDS[end])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == (0 if end == "as usual" else -9), done.stderr
    daemon = int(done.stdout)
    if psutil.pid_exists(daemon):
        psutil.Process(daemon).wait(60)
