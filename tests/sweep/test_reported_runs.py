"""A sweep in a pipe says how many of its runs have ended, while a run takes its time."""

import time
import types

import pytest

from instruct_lab.progress import reporter
from instruct_lab.sweep.table import LiveTable
from instruct_lab.sweep.task import Outcome
from instruct_lab.terminal import open_console


def a_sweep(num_runs, statuses=()):
    info = types.SimpleNamespace(num_runs=num_runs, dimensions=[], seeds=1, metrics=[], directions=[])
    runs = [types.SimpleNamespace(manifest=types.SimpleNamespace(status=status)) for status in statuses]
    ends = iter([runs])  # only the first question is about the runs before; the table has none
    return types.SimpleNamespace(info=info, id="s", path="p", run_ids=list, runs=lambda ids=None: next(ends, []))


@pytest.fixture
def fast(monkeypatch):
    for name, seconds in {"REDRAW_SECONDS": 0.01, "FIRST_LINE_SECONDS": 0.05, "LINE_SECONDS": 0.1}.items():
        monkeypatch.setattr(reporter, name, seconds)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statuses", "before", "after"),
    [
        ([], "0/3 runs", "1/3 runs"),
        (["finished", "running"], "1/3 runs", "2/3 runs"),
        (["failed", "pruned"], "2/3", "3/3"),
    ],
)
def test_the_runs_that_ended_are_counted(fast, capfd, statuses, before, after):
    with LiveTable(a_sweep(3, statuses), open_console(), 1) as table:
        time.sleep(0.5)
        table.print_outcome("0003", Outcome("finished"))
        time.sleep(0.5)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("running the sweep: ")]
    assert before in lines[0]
    assert after in lines[-1]
    assert "left" in lines[-1]
