"""A stream that cannot be written goes quiet, and never ends what writes to it."""

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_server import command as forked_command
from support.command_server import real_command
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.records import RunRecord
from instruct_lab.streams import QuietStream, quiet_streams

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def shell(command, **environment):
    """Run a line of bash, in which `lab` is the command; return the exit codes of its pipe's parts and the output.

    `forked` is the command in a process that has the libraries loaded already.
    """
    name = command.split()[0]
    started = shlex.join(forked_command() if name == "forked" else real_command())
    line = f'{name}() {{ {started} "$@"; }}\n{command}; echo "${{PIPESTATUS[@]}}" > codes'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env={**os.environ, **environment})
    return [int(code) for code in Path("codes").read_text().split()], done.stdout, done.stderr


RUNS = {
    "a reader that ends": "forked train {} | head -n 1",
    "a reader that never reads": "forked train {} | true",
    "both to a reader that ends": "forked train {} 2>&1 | head -n 1",
    "both to a reader that never reads": "forked train {} 2>&1 | true",
    "a full disk": "forked train {} > /dev/full",
    "both on a full disk": "forked train {} > /dev/full 2>&1",
    "closed streams": "lab train {} >&- 2>&-",
}


@pytest.mark.slow
@needs_full
@pytest.mark.parametrize("command", RUNS.values(), ids=RUNS)
def test_a_run_whose_output_is_lost_is_finished(lab, tiny, command):
    quick = "evaluation.baselines=false evaluation.during_examples=0 callbacks.progress.every_steps=1"
    codes, _, _ = shell(command.format(f"{' '.join(tiny)} {quick}"))
    assert codes[0] == 0
    record = RunRecord.open(newest_run(lab))
    assert record.manifest.status == "finished"
    assert record.summary.value("test/chrf") is not None
    assert len(record.read_predictions()) > 0


READERS = {
    "list | head": ("lab list | head -n 1", 0),
    "help | head": ("lab train --help | true", 0),
    "show | head": ("lab show model=tiny_random --all | head -n 1", 0),
    "a full disk": ("lab list --json > /dev/full", 1),
    "a closed stream": ("lab list >&-", 0),
    "refused, with a closed stream": ("lab list nothing 2>&-", 2),
}


@pytest.mark.slow
@needs_full
@pytest.mark.parametrize(("command", "code"), READERS.values(), ids=READERS)
def test_commands_that_only_print(lab, command, code):
    codes, _, errors = shell(command)
    assert codes[0] == code
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert ("No space left on device" in errors) == (code == 1)


@pytest.mark.slow
def test_characters_that_the_encoding_lacks_are_escaped(lab):
    codes, text, errors = shell("lab list data", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii:strict")
    assert codes == [0]
    assert errors == ""
    assert "stdlib_functions" in text


class Breaking(io.StringIO):
    """Fails at the second write, like a pipe without a reader."""

    count = 0

    def write(self, text):
        self.count += 1
        if self.count > 1:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)


def test_a_broken_stream_drops_what_follows():
    inner = Breaking()
    stream = QuietStream(inner)
    for word in ("one ", "two ", "three "):
        print(word, file=stream, end="", flush=True)
    assert inner.getvalue() == "one "
    assert inner.count == 2  # it is not tried again
    assert isinstance(stream.error, BrokenPipeError)


def test_a_closed_stream_is_quiet():
    inner = io.StringIO()
    inner.close()
    stream = QuietStream(inner)
    stream.writelines(["a", "b"])
    stream.flush()
    assert isinstance(stream.error, ValueError)


def test_rich_prints_to_a_broken_stream():
    from rich.console import Console

    console = Console(file=QuietStream(Breaking()))
    for _ in range(3):
        console.print("a line")


def test_the_descriptor_of_a_broken_pipe_leads_to_the_null_device():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        stream = QuietStream(pipe)
        stream.write("a")
        stream.flush()
        assert isinstance(stream.error, BrokenPipeError)
        assert os.write(writing, b"b") == 1  # as a child process would


def test_the_streams_are_restored(capsys):
    before = sys.stdout, sys.stderr
    with quiet_streams() as output:
        assert sys.stdout is output
        print("é", end="")
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "é"
    assert cli.main(["list", "tuning"]) == 0
    assert (sys.stdout, sys.stderr) == before
