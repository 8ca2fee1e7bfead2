"""The Python interface: functions that do in notebooks and scripts what the commands do in a terminal.

`import instruct_lab as il` gives these names: `il.compose`, `il.check`, `il.train`, `il.sweep`, `il.load_run`,
`il.load_sweep` and `il.find_runs`. Overrides are a list of strings, each written as on the command line. Like the
commands, each call hides secrets in its output and writes files that only the user can read. An error that the user can
fix is an `InstructLabError`; no call ends the process.
"""

from instruct_lab.api.comparisons import ComparedRuns
from instruct_lab.api.configs import CheckResult, Config, check, compose
from instruct_lab.api.runs import Run, TunedModel, find_runs, load_run, train
from instruct_lab.api.sweeps import Sweep, load_sweep, sweep
from instruct_lab.errors import ConfigError, InstructLabError, Problem

__all__ = [
    "CheckResult",
    "ComparedRuns",
    "Config",
    "ConfigError",
    "InstructLabError",
    "Problem",
    "Run",
    "Sweep",
    "TunedModel",
    "check",
    "compose",
    "find_runs",
    "load_run",
    "load_sweep",
    "sweep",
    "train",
]
