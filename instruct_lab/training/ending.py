"""The end of a run: the handling of signals, and the status in the run's record."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from instruct_lab.callbacks import Pruned
from instruct_lab.errors import InstructLabError, is_out_of_memory, one_line, started
from instruct_lab.experiment.rules.sharding import FSDP

if TYPE_CHECKING:
    from instruct_lab.experiment import Experiment
    from instruct_lab.records import RunRecord
    from instruct_lab.tracker.recorder import Recorder

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
REPEAT_SECONDS = 1.0
"""If a second signal follows within this time, both are one request, sent by the terminal and a parent process."""


class Interrupted(BaseException):
    """Raised when a signal stops the run; not an `Exception`, so that `except Exception` does not catch it."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number  # 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP
        super().__init__(signal.Signals(number).name)


class StopRequest:
    """Handler of signals that ask the run to stop; it delays the stop if work would otherwise be lost.

    - During training, the first signal stops the run after the current optimizer step, whose training state is then
      written. A second signal stops the run at once.
    - Between `hold` and `release`, while the start or the end of the run is recorded, a signal is only noted. At the
      start, it stops the run afterwards; at the end, the run is ending anyway.
    - At any other time, a signal stops the run at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None  # the signal that waits, or has stopped the run
        self.waits_for_step = False
        self._is_held = False
        self._received = -REPEAT_SECONDS

    def install(self) -> dict[int, Any]:
        """Install this object as the handler of SIGINT, SIGTERM and SIGHUP, and return the previous handlers.

        If SIGHUP is ignored, as it is under `nohup`, it stays ignored. Only the main thread can handle signals; in
        another thread, nothing is installed.
        """
        if threading.current_thread() is not threading.main_thread():
            return {}
        numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        ignored = [n for n in numbers[2:] if signal.getsignal(n) == signal.SIG_IGN]
        return {number: signal.signal(number, self.handle) for number in numbers if number not in ignored}

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: stop the run at once, or only note that it has to stop.

        Signals are only noted between `hold` and `release`. The first signal during training is also only noted, so
        that the current optimizer step can end. A signal within `REPEAT_SECONDS` after another one is ignored.

        Args:
            number: number of the signal.
            frame: the interrupted stack frame, which is not used.

        Raises:
            Interrupted: the run stops at once.
        """
        now = time.monotonic()
        is_repeated = now - self._received < REPEAT_SECONDS
        self._received = now
        if is_repeated and self.number is not None:
            return
        is_first, self.number = self.number is None, self.number or number
        if self._is_held:
            return
        if self.waits_for_step and is_first:
            name = signal.Signals(number).name
            text = f"\n{name}: the run stops after this optimizer step; a second signal stops it at once\n"
            with contextlib.suppress(OSError):
                os.write(2, text.encode())  # a signal can arrive within a `print`, which cannot be called again then
            return
        raise Interrupted(self.number)

    def raise_if_waiting(self) -> None:
        """Stop the run if a signal has arrived that did not stop it at once.

        Raises:
            Interrupted: such a signal has arrived.
        """
        if self.number is not None:
            raise Interrupted(self.number)

    def hold(self) -> None:
        """Until `release` is called, only note signals instead of stopping the run."""
        self._is_held = True

    def release(self) -> None:
        """Let signals stop the run again."""
        self._is_held = False


@contextlib.contextmanager
def raise_on_signals() -> Iterator[StopRequest]:
    """Raise `Interrupted` on SIGINT, SIGTERM and SIGHUP in the `with` block.

    Yields:
        The handler of these signals. It can be set to raise the exception later, so that no work is lost.
    """
    request = StopRequest()
    previous = request.install()
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def record_ending(recorder: Recorder, request: StopRequest) -> Iterator[None]:
    """Close the trackers of a run when the `with` block ends; if an exception ends it, write the run's status.

    The status in the run's record becomes `failed`, `interrupted` or `pruned`; for a failed run, the traceback is
    written too. If the record already has the status `finished`, this status is kept: a signal then only cuts short the
    printing of results and the closing of trackers.

    Raises:
        Interrupted: a signal arrived before the run was finished.
    """
    exit_code, is_finished = 1, False
    try:
        with started():
            yield
        exit_code = 0
    except BaseException as error:
        request.hold()
        request.waits_for_step = False  # no step follows, and Lightning does not end a training that raises
        is_finished = _is_finished(recorder.record)
        exit_code = 0 if is_finished else _exit_code(error)
        if not is_finished:
            with contextlib.suppress(InstructLabError, OSError):  # the folder is gone, or the disk is full
                _write_ending(recorder.record, error)
        if not (is_finished and isinstance(error, Interrupted)):
            raise
    finally:
        request.release()
        with contextlib.suppress(*([Interrupted] if exit_code == 0 else [])):
            recorder.finish(exit_code)


def _is_finished(record: RunRecord) -> bool:
    with contextlib.suppress(InstructLabError, OSError):
        return record.manifest.status == "finished"
    return False


def _exit_code(error: BaseException) -> int:
    """Return the exit code to pass to the trackers for the exception that ended the run."""
    if isinstance(error, Interrupted):
        return error.exit_code
    return 0 if isinstance(error, Pruned) else 1


def _write_ending(record: RunRecord, error: BaseException) -> None:
    if isinstance(error, Interrupted):
        record.write_manifest(status="interrupted")
    elif isinstance(error, Pruned):
        record.write_manifest(status="pruned")
        record.log(str(error))
    else:
        record.write_failure(error)


@contextlib.contextmanager
def memory_errors(experiment: Experiment) -> Iterator[None]:
    """Replace an error caused by exhausted memory by an error that names the settings to change.

    The run's record still shows the original error.

    Raises:
        InstructLabError: the memory of the machine or the GPU is exhausted.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        size, smaller = experiment.batching.batch_size, "set"
        if not experiment.objective.has_independent_examples:  # its batches are not divided when memory is exhausted
            smaller = f"lower batching.batch_size (now {size}) and raise trainer.accumulate_grad_batches as much, set"
        elif experiment.trainer.arguments.get("strategy") == FSDP:  # a rank cannot repeat its part of a step
            smaller = f"lower batching.micro_batch (now {experiment.batching.micro_batch}), set"
        exhausted = InstructLabError(
            f"The memory of the {'GPU' if 'CUDA' in str(error) else 'machine'} is exhausted ({one_line(error)})",
            where=f"model {type(experiment.model).__name__}, tuning {type(experiment.tuning).__name__}",
            do=f"{smaller} model.gradient_checkpointing=full, shorten the examples with batching.max_tokens (now "
            f"{experiment.batching.max_tokens}), or choose a smaller model or a method that trains fewer parameters",
        )
        exhausted.exit_code = 1
        raise exhausted from error
