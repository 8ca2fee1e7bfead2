"""A few kills of the storm in tests/benchmarks/kill_storm.py: the resumed runs equal the undisturbed one."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "kill_storm.py"


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_killed_and_resumed_runs_equal_the_undisturbed_one():
    command = [sys.executable, str(SCRIPT), "--kills", "3", "--seed", "7", "--steps", "14"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "3 of 3 equal" in done.stdout
