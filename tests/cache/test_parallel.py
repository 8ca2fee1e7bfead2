"""Work in several processes: the same results as in one, in order; errors, killed workers and endings."""

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.hanging import wait_until
from support.workers import start_workers_at_once

from instruct_lab.cache import Store, map_in_order, parallel, worker_processes
from instruct_lab.data import DataSet, Files, HashSplit, PromptCompletion
from instruct_lab.data.stages import audit_of
from instruct_lab.errors import ConfigError, InstructLabError, Problem
from instruct_lab.preprocessing import Clean, DeduplicateExact, Length, Normalize, Preprocessing, Redact

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers are started where file descriptors are inherited")
FILES = {name: f"{name}.arrow" for name in ("train", "validation", "test")}


@dataclasses.dataclass(frozen=True)
class PartAndProcess:
    """The part, and the id of the process that worked on it."""

    seconds: float = 0.0
    fails_at: int = -1

    def __call__(self, part: int) -> tuple[int, int]:
        time.sleep(self.seconds)
        if part == self.fails_at:
            raise InstructLabError(f"Part {part} is broken", where="here", do="correct it")
        return part, os.getpid()


@pytest.fixture
def shared(monkeypatch):
    """A worker is started at once and waited for; gives the numbers of the parts that it did."""
    return start_workers_at_once(monkeypatch)


@pytest.mark.slow
def test_results_of_several_processes_come_in_order(shared) -> None:
    with worker_processes():
        found = list(map_in_order(PartAndProcess(0.01), range(30)))
    assert [part for part, _ in found] == list(range(30))
    assert len({process for _, process in found}) == 2


def test_without_a_block_or_with_a_function_that_cannot_be_pickled_only_this_process_works(shared) -> None:
    assert {process for _, process in map_in_order(PartAndProcess(), range(5))} == {os.getpid()}
    with worker_processes():
        assert list(map_in_order(lambda part: part + 1, range(5))) == [1, 2, 3, 4, 5]


def test_little_work_starts_no_process(monkeypatch) -> None:
    monkeypatch.setattr(parallel, "num_processes", lambda: 2)
    monkeypatch.setattr(parallel, "_Worker", None)  # starting one would fail
    with worker_processes():
        assert len(list(map_in_order(PartAndProcess(), range(1000)))) == 1000


@pytest.mark.slow
@pytest.mark.parametrize("fails_at", [0, 7, 29])
def test_an_error_is_raised_after_the_results_before_it_in_whatever_process_it_occurred(shared, fails_at) -> None:
    found = []
    message = rf"Part {fails_at} is broken\. Where: here\."
    with worker_processes(), pytest.raises(InstructLabError, match=message) as error:
        found.extend(map_in_order(PartAndProcess(0.005, fails_at), range(30)))
    assert error.value.what == f"Part {fails_at} is broken"


@pytest.mark.slow
def test_an_error_in_reading_the_parts_is_raised_after_the_results_before_it(shared) -> None:
    def parts():
        yield from range(9)
        raise InstructLabError("The file breaks off")

    found = []
    with worker_processes(), pytest.raises(InstructLabError, match="breaks off"):
        found.extend(part for part, _ in map_in_order(PartAndProcess(0.01), parts()))
    assert found == list(range(9))


@pytest.mark.slow
def test_the_parts_of_a_killed_worker_are_done_in_this_process(shared) -> None:
    found = []
    with worker_processes():
        for part, process in map_in_order(PartAndProcess(0.02), range(30)):
            if process != os.getpid() and not any(one != os.getpid() for _, one in found):
                os.kill(process, signal.SIGKILL)
            found.append((part, process))
    assert [part for part, _ in found] == list(range(30))


@pytest.mark.slow
def test_no_worker_outlives_the_block(shared) -> None:
    with worker_processes():
        processes = {process for _, process in map_in_order(PartAndProcess(0.01), range(10))} - {os.getpid()}
        assert processes
    assert not any(is_alive(process) for process in processes)


@pytest.mark.slow
def test_abandoned_work_does_not_disturb_later_work(shared) -> None:
    with worker_processes():
        first = map_in_order(PartAndProcess(0.02), range(30))
        next(first)
        next(first)
        first.close()
        assert [part for part, _ in map_in_order(PartAndProcess(), range(100, 120))] == list(range(100, 120))


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes its background processes ignore it
from instruct_lab.cache import parallel
from instruct_lab.cache import map_in_order, worker_processes
sys.path[:0] = {folders!r}
from test_parallel import PartAndProcess
parallel.PATIENCE_SECONDS = 0.0
parallel.num_processes = lambda: 2
with worker_processes():
    for part, process in map_in_order(PartAndProcess(0.01), range({count})):
        if process != os.getpid():
            print(process, flush=True)
"""


def start(tmp_path, count):
    program = tmp_path / "program.py"  # without `if __name__ == "__main__"`: it cannot be imported by another process
    program.write_text(PROGRAM.format(folders=list(map(str, Path(__file__).parents[:2])), count=count))
    return subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_main_program_that_cannot_be_imported_shares_its_work(tmp_path) -> None:
    with start(tmp_path, 400) as program:
        out, err = program.communicate()
    assert (program.returncode, err) == (0, "")
    assert out.split()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_program_that_is_killed_leaves_no_worker_behind(tmp_path, number) -> None:
    with start(tmp_path, 100_000) as program:
        process = int(program.stdout.readline())
        program.send_signal(number)
        program.communicate()
    wait_until(lambda: not is_alive(process))


def test_errors_are_the_same_after_pickling() -> None:
    error = pickle.loads(pickle.dumps(InstructLabError("What", where="there", do="this")))
    assert (error.what, error.where, error.do, str(error)) == (
        "What",
        "there",
        "this",
        "What. Where: there. What to do: this.",
    )
    problem = Problem(key="a.b", value=1, reason="no", suggestion="2")
    assert str(pickle.loads(pickle.dumps(ConfigError([problem])))) == str(ConfigError([problem]))


def rows():
    """Rows of several batches that every step changes, drops or keeps, some of them broken."""
    for number in range(4000):
        if number % 701 == 700:
            yield {"prompt": number, "completion": "text was expected"}
            continue
        word = "cafe\u0301" if number % 7 == 0 else "tea"
        end = "  \x07 " if number % 5 == 0 else ""
        kept = number if number % 11 else number % 33
        completion = "" if number % 97 == 0 else f"Answer {kept} to a@mail.org {'x' * (number % 50)}"
        yield {"prompt": f"Question {kept} on {word}{end}", "completion": completion, "number": number % 10}


STEPS = {
    "normalize": Normalize(),
    "clean": Clean(),
    "redact": Redact(leave_examples=False),
    "length": Length(max_characters=75),
    "first": DeduplicateExact(),
    "longest": DeduplicateExact(by="prompt", keep="longest", splits=["train", "validation"]),
}


def prepare(path, cache):
    data = DataSet(
        train={"file": Files(path=str(path))},
        format=PromptCompletion(),
        split=HashSplit(validation=0.1, test=0.05),
    )
    stages = [data.stage(cache), *Preprocessing(steps=STEPS).stages(cache), data.stage_after_preprocessing()]
    store = Store(cache)
    return [store.result(stages[:number]) for number in range(1, len(stages) + 1)]


def write_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


@pytest.mark.slow
def test_every_stage_gives_the_same_bytes_and_audit_in_one_process_and_in_several(
    tmp_path, shared, monkeypatch
) -> None:
    path = write_rows(tmp_path)
    several = prepare(path, tmp_path / "several")
    assert len(shared) > len(STEPS), "a worker took part"
    monkeypatch.setattr(parallel, "num_processes", lambda: 1)
    single = prepare(path, tmp_path / "single")
    for mine, theirs in zip(single, several, strict=True):
        assert json.dumps(audit_of(mine)) == json.dumps(audit_of(theirs)), mine.manifest["name"]
        for name in FILES.values():
            assert (mine.path / name).read_bytes() == (theirs.path / name).read_bytes(), (mine.manifest["name"], name)


@pytest.mark.slow
def test_a_broken_row_gives_the_same_error_in_a_worker_as_in_this_process(tmp_path, shared, monkeypatch) -> None:
    path, errors = write_rows(tmp_path), []
    for number in (1, 2):
        data = DataSet(train={"file": Files(path=str(path))}, format=PromptCompletion(), max_broken_share=0)
        monkeypatch.setattr(parallel, "num_processes", lambda number=number: number)
        with pytest.raises(InstructLabError) as error:
            Store(tmp_path / str(number)).result([data.stage(tmp_path)])
        errors.append(str(error.value))
    assert errors[0] == errors[1]
    assert "rows.jsonl, line 701" in errors[0]
