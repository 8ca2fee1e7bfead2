"""Failures while a run is running: exit code 1, one paragraph, and a record that says what happened."""

import json
import os
import shutil

import pytest
import torch
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.errors import InstructLabError, is_out_of_memory, started, wrap_errors
from instruct_lab.objective import Supervised

QUICK = ["evaluation.before=false", "evaluation.baselines=false", "evaluation.during_examples=0", "metrics=perplexity"]
MEMORY = {
    "Python": MemoryError(),
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "the CPU's allocator": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    "a mapped file": OSError(12, "Cannot allocate memory"),
    "safetensors": RuntimeError("unable to mmap 9000 bytes from file <x>: Cannot allocate memory (12)"),
}


@pytest.fixture
def failing(monkeypatch):
    """Let the loss do something: of the second micro-batch, or of all from the second one on."""

    def install(act, again=False):
        calls = []
        original = Supervised.loss

        def loss(self, *arguments):
            calls.append(1)
            if len(calls) == 2 or (again and len(calls) > 2):
                act()
            return original(self, *arguments)

        monkeypatch.setattr(Supervised, "loss", loss)

    return install


@pytest.mark.slow
@pytest.mark.parametrize("error", MEMORY.values(), ids=MEMORY)
def test_exhausted_memory_is_named_with_what_to_change(lab, tiny, capsys, failing, error):
    def act():
        raise error

    failing(act, again=True)
    assert cli.main(["train", *tiny, *QUICK]) == 1
    message = capsys.readouterr().err
    for text in ("is exhausted", "batching.max_tokens (now 1024)", "set model.gradient_checkpointing=full"):
        assert text in message
    manifest = json.loads((newest_run(lab) / "manifest.json").read_text())
    assert [one["now"] for one in manifest["reduced_batches"]] == [4, 2, 1]
    assert ("The memory of the GPU" in message) == ("CUDA" in str(error))
    assert manifest["status"] == "failed"
    assert manifest["exception"]["type"] == type(error).__name__


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("size mismatch"), InstructLabError("x")])
def test_other_errors_are_not_taken_for_exhausted_memory(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", MEMORY.values(), ids=MEMORY)
def test_exhausted_memory_is_not_wrapped_as_something_else(error):
    with pytest.raises(type(error)), wrap_errors(what="The model cannot be loaded"):
        raise error


@pytest.mark.slow
@pytest.mark.parametrize("remove", [shutil.rmtree, lambda path: os.rename(path, path.with_name("moved"))])
def test_a_record_that_is_moved_or_deleted_while_it_is_written(lab, tiny, capsys, failing, remove):
    failing(lambda: remove(newest_run(lab)))
    assert cli.main(["train", *tiny, *QUICK, "batching.batch_size=4"]) == 1
    message = capsys.readouterr().err
    assert "its folder is gone: it was moved or deleted" in message
    assert "Traceback" not in message
    moved = list(lab.glob("runs/*/moved"))
    if moved:
        assert cli.main(["runs"]) == 0
        assert "interrupted (process gone)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_full_disk_while_running_is_no_refusal(lab, tiny, capsys, failing):
    def act():
        raise InstructLabError("The disk is full")

    failing(act)
    assert cli.main(["train", *tiny, *QUICK]) == 1
    assert "The disk is full" in capsys.readouterr().err
    assert cli.main(["train", *tiny, "tuning.r=-1"]) == 2


def test_only_the_errors_of_a_started_block_have_exit_code_1():
    with pytest.raises(InstructLabError) as error, started():
        raise InstructLabError("x")
    assert (error.value.exit_code, InstructLabError("y").exit_code) == (1, 2)
